// A rehearsal before the first packet comes: portal, client and gateway play the way from an intent to a session and to a second resource
// in memory, eight times, with the very code of the programs.
//
// Why: the first connection runs code that the engine has never compiled, key agreement, hashes, message schemas, and costs some
// 50 ms more than the next one. The first packet waits for it, and its sender with it.
//
//   ClientState ─ adapter ─ PhoenixChannel ══ text ══ PortalState ══ text ══ PhoenixChannel ─ adapter ─ GatewayState
//        └────────────────────────────────── STUN, handshakes ─────────────────────────────────────────────┘

import { IpAddress, SocketAddress } from "../../base/address.js";
import type { StateMachine } from "../../base/state-machine.js";
import type { Instant, UnixTime } from "../../base/time.js";
import { ClientNode } from "../../connection/client-node.js";
import { GatewayNode } from "../../connection/gateway-node.js";
import { PhoenixChannel } from "../../portal/phoenix-channel.js";
import { parseConfiguration } from "../../portal/server/configuration.js";
import { AddressBook } from "../../portal/server/identity.js";
import { PortalState, type Session } from "../../portal/server/state.js";
import { encodeKey } from "../../portal/values.js";
import { monotonicNow } from "../../system/clock.js";
import { nodeCrypto, systemRandom } from "../../system/crypto.js";
import { ClientState } from "../../tunnel/client-state.js";
import type { ClientEvent, GatewayEvent } from "../../tunnel/events.js";
import { GatewayState } from "../../tunnel/gateway-state.js";
import { LocalIdentity } from "../../wireguard/identity.js";
import { Tai64nClock } from "../../wireguard/tai64n.js";
import { ClientAdapter, isSignallingRequest } from "../client/adapter.js";
import { GatewayAdapter } from "../gateway/adapter.js";
import type { TargetLog } from "./log.js";

/** Performances: after so many the times do not fall any more. */
export const PERFORMANCES = 8;
/** Simulated time of one performance in milliseconds. */
const DURATION = 1000;
/** Milliseconds after which the event loop has its turn. */
const SLICE = 2;
/** Steps of a performance at most; a few hundred are usual. */
const MAX_STEPS = 10_000;

const CONFIGURATION = `
sites: [{ name: site, tokens: [rehearsal-gateway] }]
actors: [{ name: actor, tokens: [rehearsal-client] }]
resources:
  - { name: one, type: cidr, address: 192.0.2.0/24, sites: [site] }
  - { name: two, type: cidr, address: 198.51.100.0/24, sites: [site] }
policies: [{ actor: actor, resource: one }, { actor: actor, resource: two }]
`;

const CLIENT_ADDRESS = socketAddress("203.0.113.1:1000");
const GATEWAY_ADDRESS = socketAddress("203.0.113.2:2000");
const RESOURCES = ["192.0.2.1", "198.51.100.1"].map(ipAddress);

const SILENT: TargetLog = {
  error: () => undefined,
  warn: () => undefined,
  info: () => undefined,
  debug: () => undefined,
  trace: () => undefined,
  isEnabled: () => false,
};

/**
 * Performs until the code is warm, in slices of some milliseconds between which the event loop does what is really to be done.
 *
 * @param isCancelled whether the program has come to its end.
 */
export async function rehearse(isCancelled: () => boolean): Promise<void> {
  for (let performance = 0; performance < PERFORMANCES; performance++) {
    let sliceEnd = monotonicNow() + SLICE;
    for (const _step of new Stage().steps()) {
      if (monotonicNow() < sliceEnd) continue;
      await new Promise((resolve) => setImmediate(resolve));
      if (isCancelled()) return;
      sliceEnd = monotonicNow() + SLICE;
    }
  }
}

/** What a performance came to. */
export interface Performance {
  /** Connections that client and gateway reported. */
  connected: number;
  /** Packets that were let into the tunnel. */
  packets: number;
}

/** One performance, from sign-in to a packet to a second resource over the same connection. */
export function perform(): Performance {
  const stage = new Stage();
  for (const _step of stage.steps());
  return stage.result;
}

/** One side's part. */
interface Actor {
  readonly session: Session;
  readonly channel: PhoenixChannel;
  readonly machine: StateMachine<unknown>;
  readonly address: SocketAddress;
  /** Hands over an event of the state. */
  readonly handle: (now: Instant) => boolean;
  /** Takes a datagram. */
  readonly receive: (from: SocketAddress, datagram: Uint8Array, now: Instant) => void;
  /** Takes what the channel hands on. */
  readonly push: (event: string, payload: unknown, now: Instant) => void;
  readonly reply: (ref: number, response: unknown, now: Instant) => void;
}

class Stage {
  readonly result: Performance = { connected: 0, packets: 0 };
  #now: Instant = 0;
  readonly #unixNow: UnixTime = 0;
  readonly #portal: PortalState;
  readonly #actors: readonly Actor[];
  readonly #client: ClientState;
  #clientIp: IpAddress | undefined;
  /** Local index of the session that the gateway has installed last. */
  #gatewaySession = 0;
  readonly #gateway: GatewayState;
  #clientId = "";

  constructor() {
    this.#portal = new PortalState(
      parseConfiguration(CONFIGURATION, "rehearsal"),
      systemRandom,
      new AddressBook(systemRandom),
    );
    const clock = new Tai64nClock(0, 0);
    const options = () => ({
      identity: LocalIdentity.generate(systemRandom, nodeCrypto),
      crypto: nodeCrypto,
      random: systemRandom,
      clock,
    });
    const clientNode = new ClientNode(options());
    const gatewayNode = new GatewayNode(options());
    this.#client = new ClientState(clientNode);
    this.#gateway = new GatewayState(gatewayNode);
    // The gateway first: an intent finds it online.
    this.#actors = [this.#castGateway(gatewayNode.publicKey), this.#castClient(clientNode.publicKey)];
  }

  /** The performance, one message or event after the other. */
  *steps(): Generator<void> {
    for (const { channel } of this.#actors) {
      channel.handleTimeout(this.#now);
      channel.handleOpened(this.#now);
    }
    this.#client.addLocalHostCandidate(CLIENT_ADDRESS, this.#now);
    this.#gateway.addLocalHostCandidate(GATEWAY_ADDRESS, this.#now);
    yield* this.#settle();
    for (const resource of RESOURCES) {
      if (this.#clientIp !== undefined)
        this.#client.handlePacket(undefined, packet(this.#clientIp, resource), this.#now);
      yield* this.#settle();
      this.#now += DURATION / RESOURCES.length;
      yield* this.#settle();
    }
  }

  #castClient(publicKey: Uint8Array): Actor {
    const state = this.#client;
    const { session, channel } = this.#signIn("client", publicKey);
    this.#clientId = session.id;
    const adapter = new ClientAdapter(state, (message) => channel.send(message.event, message.payload), SILENT);
    return {
      session,
      channel,
      machine: state,
      address: CLIENT_ADDRESS,
      handle: () => {
        const event = state.pollEvent();
        if (event !== undefined) this.#handleClientEvent(event, adapter);
        return event !== undefined;
      },
      receive: (from, datagram, now) => state.handleInput(CLIENT_ADDRESS, from, datagram, now),
      push: (event, payload, now) => adapter.handlePush(event, payload, now),
      reply: (ref, response, now) => adapter.handleReply(ref, response, now),
    };
  }

  #castGateway(publicKey: Uint8Array): Actor {
    const state = this.#gateway;
    const { session, channel } = this.#signIn("gateway", publicKey);
    const adapter = new GatewayAdapter({
      state,
      send: (message) => channel.send(message.event, message.payload),
      onInterface: () => undefined,
      log: SILENT,
    });
    return {
      session,
      channel,
      machine: state,
      address: GATEWAY_ADDRESS,
      handle: () => {
        const event = state.pollEvent();
        if (event !== undefined) this.#handleGatewayEvent(event, adapter);
        return event !== undefined;
      },
      receive: (from, datagram, now) => state.handleInput(GATEWAY_ADDRESS, from, datagram, now),
      push: (event, payload, now) => adapter.handlePush(event, payload, now, this.#unixNow),
      reply: () => undefined,
    };
  }

  #signIn(role: "client" | "gateway", publicKey: Uint8Array): { session: Session; channel: PhoenixChannel } {
    const login = this.#portal.login(
      role,
      { token: `rehearsal-${role}`, externalId: role, publicKey: encodeKey(publicKey), remoteIp: "203.0.113.1" },
      this.#unixNow,
    );
    if (login.type !== "accepted") throw new Error(`the rehearsal's ${role} was refused: ${login.text}`);
    const channel = new PhoenixChannel({ topic: role, joinPayload: null, random: systemRandom }, this.#now);
    return { session: login.session, channel };
  }

  #handleClientEvent(event: ClientEvent, adapter: ClientAdapter): void {
    if (isSignallingRequest(event)) {
      adapter.handleRequest(event);
      return;
    }
    switch (event.type) {
      case "tun-interface-updated":
        this.#clientIp = event.configuration.ipv4;
        return;
      case "gateway-connected":
        this.result.connected++;
        return;
      case "send-packet":
        this.result.packets++;
        // What the gateway's datapath reports of the first message that it decrypts.
        this.#gateway.handleSessionConfirmed(this.#clientId, this.#gatewaySession, this.#now);
        return;
      default:
        return;
    }
  }

  #handleGatewayEvent(event: GatewayEvent, adapter: GatewayAdapter): void {
    switch (event.type) {
      case "added-ice-candidates":
      case "removed-ice-candidates":
        adapter.handleCandidates(event);
        return;
      case "session-established":
        this.#gatewaySession = event.session.localIndex;
        return;
      case "client-connected":
        this.result.connected++;
        return;
      default:
        return;
    }
  }

  /** Passes on everything that is under way until nothing is, at the present time. */
  *#settle(): Generator<void> {
    for (let step = 0; step < MAX_STEPS; step++) {
      let busy = this.#runPortal();
      yield;
      for (const actor of this.#actors) {
        busy = this.#runActor(actor) || busy;
        yield;
      }
      if (!busy) return;
    }
  }

  #runPortal(): boolean {
    const output = this.#portal.pollOutput();
    if (output === undefined) return false;
    const actor = this.#actors.find(({ session }) => session === output.session);
    if (output.type === "send") actor?.channel.handleText(output.text, this.#now);
    return true;
  }

  #runActor(actor: Actor): boolean {
    const { channel, machine, session } = actor;
    const event = channel.pollEvent();
    if (event !== undefined) {
      if (event.type === "send") this.#portal.handleText(session, event.text);
      else if (event.type === "push") actor.push(event.event, event.payload, this.#now);
      else if (event.type === "reply") actor.reply(event.ref, event.response, this.#now);
      return true;
    }
    if (actor.handle(this.#now)) return true;
    const transmit = machine.pollTransmit();
    if (transmit !== undefined) {
      const other = this.#actors.find(({ address }) => address.equals(transmit.destination));
      other?.receive(actor.address, transmit.payload, this.#now);
      return true;
    }
    const deadline = machine.pollTimeout();
    if (deadline === undefined || deadline > this.#now) return false;
    machine.handleTimeout(this.#now);
    return true;
  }
}

/** An IPv4 packet with nothing in it. */
function packet(source: IpAddress, destination: IpAddress): Uint8Array {
  const bytes = new Uint8Array(20);
  bytes[0] = 0x45;
  bytes[3] = bytes.length;
  bytes[8] = 64;
  bytes[9] = 59;
  bytes.set(source.bytes, 12);
  bytes.set(destination.bytes, 16);
  return bytes;
}

function socketAddress(text: string): SocketAddress {
  const address = SocketAddress.parse(text);
  if (address === undefined) throw new RangeError(`"${text}" is not a socket address`);
  return address;
}

function ipAddress(text: string): IpAddress {
  const address = IpAddress.parse(text);
  if (address === undefined) throw new RangeError(`"${text}" is not an address`);
  return address;
}
