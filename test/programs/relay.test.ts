// `wirelane relay`: its command line, and its life between a portal, a client and a peer on this host (spec 03, sections 4 and 8.3).

import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { type TestContext, test } from "node:test";
import { fileURLToPath } from "node:url";
import { type RawData, type WebSocket, WebSocketServer } from "ws";
import { formatBytes, formatThroughput } from "../../src/programs/relay/throughput.js";
import {
  ChannelNumber,
  Lifetime,
  Nonce,
  Realm,
  RequestedTransport,
  Username,
  XorPeerAddress,
  XorRelayedAddress,
} from "../../src/stun/attributes.js";
import { StunBuilder } from "../../src/stun/builder.js";
import { encodeChannelData } from "../../src/stun/channel-data.js";
import { Method } from "../../src/stun/header.js";
import { longTermKey } from "../../src/stun/integrity.js";
import { parseStunMessage, type StunMessage } from "../../src/stun/message.js";
import { nodeCrypto, systemRandom } from "../../src/system/crypto.js";
import { PORTAL_REALM, relayPassword } from "../../src/turn/credentials.js";
import { member } from "../support/portal-programs.js";
import { socketAddress } from "../support/simulated-host.js";

const MAIN = fileURLToPath(new URL("../../src/programs/main.js", import.meta.url));
/** Milliseconds for everything that a process does: the machine may be busy. */
const SOON = 20_000;
/** How soon the portal is to know that a relay leaves (spec 03, 8.3.36). */
const LEAVE_TIME = 2000;
const DATA = Buffer.from("data");
const CHANNEL = 0x4000;

test("spec 03, 8.3.31: throughput as people read it", () => {
  for (const [bytes, text] of [
    [0, "0.00 B/s"],
    [42, "42.00 B/s"],
    [1234, "1.23 kB/s"],
    [955_333_999, "955.33 MB/s"],
    [1e11, "100.00 GB/s"],
    [1e15, "1000.00 TB/s"],
  ] as const)
    assert.equal(formatThroughput(bytes), text);
});

test("spec 02, 15.1.6: bytes as people read them", () => {
  assert.deepEqual([0, 1000, 12_500_000].map(formatBytes), ["0.00 B", "1.00 kB", "12.50 MB"]);
});

test("spec 03, 8.3.35: without a public address the start is an error that says so", () => {
  const { status, output } = run();
  assert.equal(status, 1);
  assert.match(output, /Must listen on at least one of IPv4 or IPv6/);
});

test("spec 03, 8.3.33: --otlp-grpc-endpoint takes an address or a name with a port", () => {
  // It comes to what is wrong all the same, and to nothing else.
  const outputOf = (...given: Parameters<typeof run>) => run(...given).output.replace(/^\S+/gm, "");
  const expected = outputOf();
  for (const endpoint of ["127.0.0.1:4317", "localhost:4317"]) {
    assert.equal(outputOf(["--otlp-grpc-endpoint", endpoint]), expected);
    assert.equal(outputOf([], { OTLP_GRPC_ENDPOINT: endpoint }), expected);
  }
});

test("a listen port that is taken is an error that names the port and the option that chooses another", async (t) => {
  const port = String((await open(t, "0.0.0.0")).address().port);
  // Above all listen ports.
  const ports = { LOWEST_PORT: "65535", HIGHEST_PORT: "65535", HEALTH_CHECK_ADDR: "127.0.0.1:0" };
  const { status, output } = run(["--public-ip4-addr", "127.0.0.1", "--listen-port", port], ports);
  assert.equal(status, 1);
  assert.match(output, new RegExp(`:${port}: EADDRINUSE, .*--listen-port or LISTEN_PORT`));
});

for (const [title, end] of [
  ["a second SIGTERM ends the process", (relay, _client) => relay.signal("SIGTERM")],
  [
    "it ends by itself with the last allocation",
    (_relay, client) => client.request(Method.Refresh, (m) => m.add(Lifetime, 0)),
  ],
] satisfies readonly [string, (relay: Relay, client: TurnClient) => unknown][]) {
  test(`spec 03, 8.3.36: SIGTERM with a relayed connection: the portal is left within 2 s, relayed traffic goes on; ${title}`, async (t) => {
    const portal = await Portal.listen(t);
    const relay = await Relay.start(t, portal.url);
    const secret = await portal.secret;
    const client = await TurnClient.connect(t, relay.port, secret);
    const peer = await open(t, "127.0.0.2");
    await client.bind(`127.0.0.2:${peer.address().port}`);
    await pingPong(client, peer);

    const left = once(portal.socket, "close", { signal: AbortSignal.timeout(SOON) });
    const signalledAt = Date.now();
    relay.signal("SIGTERM");
    await left;
    assert.ok(Date.now() - signalledAt < LEAVE_TIME, `${Date.now() - signalledAt} ms until the portal knew`);
    await pingPong(client, peer);
    assert.equal((await client.request(Method.Refresh)).class, "success", "and the allocation is refreshed");
    assert.equal(relay.exitCode, null);

    await end(relay, client);
    assert.equal(await relay.ended, 0);
  });
}

/** Runs the relay to an end that is near. */
function run(args: readonly string[] = [], variables: Readonly<Record<string, string>> = {}) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [MAIN, "relay", ...args], {
    env: { PATH: process.env["PATH"], ...variables },
    encoding: "utf8",
    timeout: SOON,
  });
  return { status, output: stdout + stderr };
}

/** A portal that lets everybody join. */
class Portal {
  /** The secret that the relay has joined with. */
  readonly secret: Promise<string>;
  readonly #server: WebSocketServer;
  #socket: WebSocket | undefined;

  static async listen(t: TestContext): Promise<Portal> {
    const server = new WebSocketServer({ host: "127.0.0.1", port: 0 });
    t.after(() => {
      for (const client of server.clients) client.terminate();
      server.close();
    });
    await once(server, "listening");
    return new Portal(server);
  }

  private constructor(server: WebSocketServer) {
    this.#server = server;
    this.secret = new Promise((resolve) => {
      server.on("connection", (socket) => {
        this.#socket = socket;
        socket.on("message", (data: RawData) => {
          const frame: unknown = JSON.parse(String(data));
          const [topic, ref] = [member(frame, "topic"), member(frame, "ref")];
          socket.send(JSON.stringify({ topic, event: "phx_reply", ref, payload: { status: "ok", response: {} } }));
          const secret = member(frame, "payload", "stamp_secret");
          if (typeof secret === "string") resolve(secret);
        });
      });
    });
  }

  get url(): string {
    return `ws://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  get socket(): WebSocket {
    return this.#socket ?? assert.fail("nobody has connected");
  }
}

/** A relay on this host. */
class Relay {
  readonly port: number;
  readonly ended: Promise<number | null>;
  readonly #process: ChildProcess;

  static async start(t: TestContext, portal: string): Promise<Relay> {
    const [listen, allocation] = [await freePort(), await freePort()];
    const [low, high] = [allocation, allocation].map(String);
    const args = ["--public-ip4-addr", "127.0.0.1", "--listen-port", String(listen), "--allow-loopback-peers"];
    const options = ["--lowest-port", low ?? "", "--highest-port", high ?? "", "--health-check-addr", "127.0.0.1:0"];
    const child = spawn(process.execPath, [MAIN, "relay", ...args, ...options, "--api-url", portal], {
      env: { PATH: process.env["PATH"], FIREZONE_TOKEN: "token" },
      stdio: ["ignore", "pipe", "inherit"],
    });
    t.after(() => child.kill("SIGKILL"));
    return new Relay(child, listen);
  }

  private constructor(child: ChildProcess, port: number) {
    this.#process = child;
    this.port = port;
    child.stdout?.resume();
    this.ended = new Promise((resolve) => child.once("exit", resolve));
  }

  get exitCode(): number | null {
    return this.#process.exitCode;
  }

  signal(signal: NodeJS.Signals): void {
    this.#process.kill(signal);
  }
}

/** A client with an allocation. */
class TurnClient {
  readonly socket: Socket;
  /** The address that the relay lends. */
  relayed = socketAddress("0.0.0.0:0");
  readonly #relay: number;
  readonly #username = `${Math.floor(Date.now() / 1000) + 3600}:salt`;
  readonly #password: string;
  #nonce: string | undefined;

  static async connect(t: TestContext, relay: number, secret: string): Promise<TurnClient> {
    const client = new TurnClient(await open(t, "127.0.0.1"), relay, secret);
    const transport = (message: StunBuilder) => message.add(RequestedTransport, 17);
    client.#nonce = (await client.request(Method.Allocate, transport)).get(Nonce);
    client.relayed = (await client.request(Method.Allocate, transport)).get(XorRelayedAddress) ?? client.relayed;
    assert.equal(client.relayed.ip.toString(), "127.0.0.1", "there is an allocation");
    return client;
  }

  private constructor(socket: Socket, relay: number, secret: string) {
    this.socket = socket;
    this.#relay = relay;
    const [expiry = "", salt = ""] = this.#username.split(":");
    this.#password = relayPassword(secret, Number(expiry), salt, nodeCrypto);
  }

  send(datagram: Uint8Array): void {
    this.socket.send(datagram, this.#relay, "127.0.0.1");
  }

  async request(method: number, add: (message: StunBuilder) => unknown = () => undefined): Promise<StunMessage> {
    const message = new StunBuilder("request", method, systemRandom.bytes(12));
    add(message);
    message.add(Username, this.#username).add(Realm, PORTAL_REALM);
    if (this.#nonce !== undefined) message.add(Nonce, this.#nonce);
    message.addIntegrity(longTermKey(this.#username, PORTAL_REALM, this.#password, nodeCrypto), nodeCrypto);
    this.send(message.finish());
    const answer = parseStunMessage(await next(this.socket));
    assert.ok(typeof answer !== "string");
    return answer;
  }

  async bind(peer: string): Promise<void> {
    const answer = await this.request(Method.ChannelBind, (message) =>
      message.add(ChannelNumber, CHANNEL).add(XorPeerAddress, socketAddress(peer)),
    );
    assert.equal(answer.class, "success");
  }
}

/** From the client over its channel to the peer, and back. */
async function pingPong(client: TurnClient, peer: Socket): Promise<void> {
  client.send(encodeChannelData(CHANNEL, DATA));
  assert.deepEqual(await next(peer), DATA);
  peer.send(DATA, client.relayed.port, "127.0.0.1");
  assert.deepEqual(new Uint8Array(await next(client.socket)), encodeChannelData(CHANNEL, DATA));
}

async function next(socket: Socket): Promise<Buffer> {
  const [datagram] = (await once(socket, "message", { signal: AbortSignal.timeout(SOON) })) as [Buffer];
  return datagram;
}

async function open(t: TestContext, address: string): Promise<Socket> {
  const socket = createSocket("udp4");
  t.after(() => socket.close());
  socket.bind(0, address);
  await once(socket, "listening");
  return socket;
}

async function freePort(): Promise<number> {
  const socket = createSocket("udp4").bind(0, "127.0.0.1");
  await once(socket, "listening");
  const { port } = socket.address();
  await new Promise<void>((resolve) => socket.close(resolve));
  return port;
}
