// Many clients that want the same thing at the same moment, as when a company's line comes back, as a program:
//
//   node crowd-main.js ADDRESS PORTAL-URL TOKEN COUNT DESTINATION
//
// They are at ADDRESS (IPv4), each on a port of its own, sign in, and when all have, each sends an echo request to DESTINATION. Prints one JSON
// object: how many had their reply, and after how many milliseconds the median and the last one had, once all have or after some seconds.

import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import type { IpAddress, SocketAddress } from "../../src/base/address.js";
import { ClientNode } from "../../src/connection/client-node.js";
import { loginUrl } from "../../src/portal/login-url.js";
import { ClientAdapter, isSignallingRequest } from "../../src/programs/client/adapter.js";
import { Log } from "../../src/programs/common/log.js";
import { PortalConnection } from "../../src/programs/common/portal-connection.js";
import { monotonicNow, unixNow } from "../../src/system/clock.js";
import { nodeCrypto, systemRandom } from "../../src/system/crypto.js";
import { ClientState } from "../../src/tunnel/client-state.js";
import type { ClientEvent } from "../../src/tunnel/events.js";
import { LocalIdentity } from "../../src/wireguard/identity.js";
import { Tai64nClock } from "../../src/wireguard/tai64n.js";
import { echoRequest } from "./icmp.js";
import { SimulatedHost, socketAddress } from "./simulated-host.js";

/** How long to wait, in ms. */
const LIMIT = 15_000;

/** One client: the product's state and adapter, a small datapath, and a socket. */
class Member {
  /** Resolves when it knows its tunnel address. */
  readonly signedIn: Promise<void>;
  /** Resolves with the time of the first packet that reaches it. */
  readonly replied: Promise<number>;
  readonly #socket: Socket;
  readonly #host: SimulatedHost<ClientEvent, ClientState>;
  #adapter: ClientAdapter | undefined;
  #tunnelAddress: IpAddress | undefined;
  #timer: NodeJS.Timeout | undefined;

  private constructor(socket: Socket, address: SocketAddress, state: ClientState) {
    this.#socket = socket;
    this.#host = new SimulatedHost("member", state, [address]);
    state.addLocalHostCandidate(address, monotonicNow());
    this.signedIn = new Promise((resolve) => {
      this.#host.onEvent = (event) => {
        if (isSignallingRequest(event)) this.#adapter?.handleRequest(event);
        if (event.type !== "tun-interface-updated") return;
        this.#tunnelAddress = event.configuration.ipv4;
        resolve();
      };
    });
    this.replied = new Promise((resolve) => {
      this.#host.onPacket = ({ at }) => resolve(at);
    });
    socket.on("message", (datagram, { address: from, port }) =>
      this.#input((now) =>
        this.#host.receive(address, socketAddress(`${from}:${port}`), new Uint8Array(datagram), now),
      ),
    );
  }

  static async create(local: string, portal: string, token: string, number: number): Promise<Member> {
    const socket = createSocket("udp4");
    socket.bind({ address: local });
    await once(socket, "listening");
    const identity = LocalIdentity.generate(systemRandom, nodeCrypto);
    const clock = new Tai64nClock(monotonicNow(), unixNow());
    const state = new ClientState(new ClientNode({ identity, crypto: nodeCrypto, random: systemRandom, clock }));
    const member = new Member(socket, socketAddress(`${local}:${socket.address().port}`), state);
    const name = `member-${number}`;
    const externalId = name.padStart(64, "0");
    const log = new Log({ directives: "off", format: "json" }).target("crowd");
    const connection = await PortalConnection.start({
      url: loginUrl(portal, { role: "client", token, publicKey: identity.publicKey, externalId, name }),
      userAgent: "Debian/12.0.0 connlib/1.2.1 (x86_64; 6.1)",
      topic: "client",
      mark: undefined,
      onEvent: (event) =>
        member.#input((now) => {
          if (event.type === "push") adapter.handlePush(event.event, event.payload, now);
          else if (event.type === "reply") adapter.handleReply(event.ref, event.response, now);
          else if (event.type === "error-reply") adapter.handleErrorReply(event.ref, event.reason, now);
        }),
    });
    const adapter = new ClientAdapter(state, (message) => connection.send(message), log);
    member.#adapter = adapter;
    return member;
  }

  /** Sends an echo request, as an application does. */
  ping(destination: string): void {
    const packet = echoRequest(String(this.#tunnelAddress), destination);
    this.#input((now) => this.#host.machine.handlePacket(undefined, packet, now));
  }

  #input(feed: (now: number) => void): void {
    feed(monotonicNow());
    this.#host.drain(monotonicNow());
    for (const { destination, payload } of this.#host.outbox.splice(0))
      this.#socket.send(payload, destination.port, destination.ip.toString());
    clearTimeout(this.#timer);
    const deadline = this.#host.machine.pollTimeout();
    if (deadline === undefined) return;
    const delay = Math.max(0, deadline - monotonicNow());
    this.#timer = setTimeout(() => this.#input((now) => this.#host.handleTimeout(now)), delay);
  }
}

const [local = "", portal = "", token = "", count = "", destination = ""] = process.argv.slice(2);
const members: Member[] = [];
for (let i = 0; i < Number(count); i++) members.push(await Member.create(local, portal, token, i));
await Promise.all(members.map(({ signedIn }) => signedIn));
const start = monotonicNow();
const times: number[] = [];
const replies = members.map(async ({ replied }) => times.push((await replied) - start));
for (const member of members) member.ping(destination);
await Promise.race([Promise.all(replies), new Promise((resolve) => setTimeout(resolve, LIMIT))]);
times.sort((a, b) => a - b);
console.log(JSON.stringify({ replies: times.length, median: times[times.length >> 1], last: times.at(-1) }));
process.exit(0);
