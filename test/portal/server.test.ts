// The portal with real sockets on the loopback interface (spec 01, sections 11, 12 and 15.8).

import assert from "node:assert/strict";
import { connect, type Socket } from "node:net";
import { type TestContext, test } from "node:test";
import WebSocket from "ws";
import { loginUrl } from "../../src/portal/login-url.js";
import { type ChannelEvent, PhoenixChannel } from "../../src/portal/phoenix-channel.js";
import { parseConfiguration } from "../../src/portal/server/configuration.js";
import { AddressBook } from "../../src/portal/server/identity.js";
import { type PortalLimits, type PortalLogEvent, PortalServer } from "../../src/portal/server/server.js";
import { PortalState } from "../../src/portal/server/state.js";
import { PortalSocket } from "../../src/portal/websocket.js";
import { keyOf, member, type PortalFrame } from "../support/portal-programs.js";
import { seededRandom } from "../support/random.js";

const LAN = "11111111-1111-4111-8111-111111111111";
const ICE = { username: "aB3d", password: "0123456789abcdefghijkl" };
const USER_AGENT = "Debian/12.0.0 connlib/1.2.1 (x86_64; 6.1)";
/** Nothing on the loopback interface takes longer, milliseconds. */
const SOON = 5000;

function configuration(extra = "", aliceToken = "alice-token"): string {
  return `
sites: [{ name: office, tokens: [gateway-token] }]
actors: [{ name: alice, tokens: [${aliceToken}] }]
resources: [{ name: lan, type: cidr, address: 10.20.0.0/16, sites: [office], id: ${LAN} }]
policies: [{ actor: alice, resource: lan }]
relays: { tokens: [relay-token] }
${extra}`;
}

interface Running {
  readonly server: PortalServer;
  readonly state: PortalState;
  readonly port: number;
  readonly log: PortalLogEvent[];
  configure(text: string): void;
}

async function startPortal(
  t: TestContext,
  text = configuration(),
  limits: Partial<PortalLimits> = {},
): Promise<Running> {
  const random = seededRandom(1);
  const state = new PortalState(parseConfiguration(text, "portal.yaml"), random, new AddressBook(random));
  const log: PortalLogEvent[] = [];
  const server = new PortalServer(state, (event) => log.push(event), limits);
  const { port } = await server.listen("127.0.0.1", 0);
  t.after(() => server.stop());
  return {
    server,
    state,
    port,
    log,
    configure: (next) => void server.setConfiguration(parseConfiguration(next, "portal.yaml")),
  };
}

/** A WebSocket whose frames and end can be waited for. */
class Peer {
  readonly socket: WebSocket;
  readonly frames: PortalFrame[] = [];
  pings = 0;
  readonly closed: Promise<number>;
  readonly #waiting = new Set<() => void>();

  constructor(socket: WebSocket) {
    this.socket = socket;
    socket.on("message", (data) => {
      this.frames.push(JSON.parse(data.toString()) as PortalFrame);
      for (const wake of this.#waiting) wake();
    });
    socket.on("ping", () => this.pings++);
    this.closed = new Promise((resolve) => socket.on("close", (code) => resolve(code)));
  }

  send(topic: string, event: string, payload: unknown, ref: unknown = 0): void {
    this.socket.send(JSON.stringify({ topic, event, payload, ref }));
  }

  /** Removes and returns the first frame with this event. */
  async receive(event: string): Promise<PortalFrame> {
    for (;;) {
      const index = this.frames.findIndex((frame) => frame.event === event);
      const [frame] = index < 0 ? [] : this.frames.splice(index, 1);
      if (frame !== undefined) return frame;
      await within(
        `a frame "${event}"`,
        new Promise<void>((resolve) => {
          const wake = () => {
            this.#waiting.delete(wake);
            resolve();
          };
          this.#waiting.add(wake);
        }),
      );
    }
  }
}

function within<T>(what: string, promise: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} did not come`)), SOON);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

interface SignIn {
  readonly role?: string;
  readonly query?: Readonly<Record<string, string>>;
  readonly headers?: Readonly<Record<string, string>>;
}

/** Opens a socket; the HTTP status and text when the portal refuses. */
function open(port: number, { role = "client", query = {}, headers = {} }: SignIn = {}): Promise<Peer | string> {
  const parameters = new URLSearchParams(query);
  const socket = new WebSocket(`ws://127.0.0.1:${port}/${role}/websocket?${parameters}`, {
    headers: { "user-agent": USER_AGENT, ...headers },
  });
  return within(
    "the upgrade",
    new Promise((resolve, reject) => {
      // Made before anything can arrive.
      const peer = new Peer(socket);
      socket.on("open", () => resolve(peer));
      socket.on("unexpected-response", (_request, response) => {
        let text = "";
        response.on("data", (data: Buffer) => {
          text += data.toString();
        });
        response.on("end", () => resolve(`${response.statusCode} ${text}`));
      });
      socket.on("error", reject);
    }),
  );
}

const CLIENT = { token: "alice-token", public_key: keyOf(1), external_id: "c1", name: "laptop" };
const GATEWAY = { token: "gateway-token", public_key: keyOf(2), external_id: "g1" };

/** Signs in and joins; `init` is taken. */
async function join(port: number, role: string, query: Readonly<Record<string, string>>, payload: unknown = null) {
  const peer = await open(port, { role, query });
  assert.ok(peer instanceof Peer, String(peer));
  peer.send(role, "phx_join", payload);
  assert.equal((await peer.receive("phx_reply")).ref, 0);
  const init = (await peer.receive("init")).payload;
  return Object.assign(peer, { init });
}

/** Sends bytes as they are; resolves with the answer when the socket ends. */
function raw(port: number, text: string): Promise<string> {
  return within(
    "the answer",
    new Promise((resolve) => {
      let answer = "";
      const socket: Socket = connect(port, "127.0.0.1", () => socket.write(text));
      socket.on("data", (data) => {
        answer += data.toString();
      });
      socket.on("error", () => socket.destroy());
      socket.on("close", () => resolve(answer));
    }),
  );
}

test("spec 01, 11.1: /healthz answers, everything else is 404", async (t) => {
  const { port } = await startPortal(t);
  const health = await fetch(`http://127.0.0.1:${port}/healthz`);
  assert.deepEqual([health.status, await health.json()], [200, { status: "ok" }]);
  assert.equal((await fetch(`http://127.0.0.1:${port}/`)).status, 404);
  assert.equal((await fetch(`http://127.0.0.1:${port}/healthz`, { method: "POST" })).status, 404);
});

test("spec 01, 15.8.64: the door: 404, 401, 422", async (t) => {
  const { port, log, state } = await startPortal(t);
  assert.equal(await open(port, { role: "browser", query: CLIENT }), "404 Not found");
  assert.equal(await open(port, { query: { ...CLIENT, token: "" } }), "401 Missing token");
  assert.equal(await open(port, { query: { ...CLIENT, token: "wrong" } }), "401 Invalid token");
  assert.equal(await open(port, { role: "gateway", query: CLIENT }), "401 Invalid token");
  const { public_key: _, ...keyless } = CLIENT;
  assert.match(String(await open(port, { query: keyless })), /^422 Invalid or missing .*public_key: is invalid/);
  assert.match(String(await open(port, { query: CLIENT, headers: { "user-agent": "curl/8" } })), /^422 .*user_agent/);
  assert.ok(log.every((event) => event.type === "refused" && !JSON.stringify(event).includes("wrong")));
  assert.equal(log.length, 5);
  assert.equal(state.sessions.size, 0);
});

test("requests that are no upgrades to a WebSocket leave nothing behind, and nothing breaks", async (t) => {
  const { port, state } = await startPortal(t);
  const query = new URLSearchParams(CLIENT);
  const upgrade = (target: string, key: string) =>
    `GET ${target} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n` +
    `User-Agent: connlib/1.2.1\r\n${key}\r\n\r\n`;
  const key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
  assert.match(await raw(port, upgrade(`/client/websocket?${query}`, "Sec-WebSocket-Key: short")), /^HTTP\/1\.1 400/);
  for (const target of ["//", "http://[", "//[::", "/client/websocket/", "*", "/%zz"])
    assert.match(await raw(port, upgrade(target, key)), /^HTTP\/1\.1 40[04]/, target);
  assert.match(await raw(port, "nonsense\r\n\r\n"), /^HTTP\/1\.1 400/);
  assert.equal(state.sessions.size, 0);
  await join(port, "client", CLIENT);
});

test("spec 01, 9.1: a connection from intent to candidates, between real sockets", async (t) => {
  const { port, log } = await startPortal(t);
  const gateway = await join(port, "gateway", GATEWAY);
  const client = await join(port, "client", CLIENT);
  assert.equal(member(client.init, "resources", 0, "id"), LAN);

  client.send("client", "prepare_connection", { resource_id: LAN, connected_gateway_ids: [] }, 1);
  const details = member((await client.receive("phx_reply")).payload, "response");
  assert.equal(member(details, "gateway_remote_ip"), "127.0.0.1");
  const gateway_id = member(details, "gateway_id");
  const client_payload = { ice_parameters: ICE, domain: null };
  const request = { gateway_id, resource_id: LAN, client_preshared_key: keyOf(9), client_payload };
  client.send("client", "request_connection", request, 2);
  const asked = (await gateway.receive("request_connection")).payload;
  const gateway_payload = { ConnectionAccepted: { ice_parameters: ICE, domain_response: null } };
  gateway.send("gateway", "connection_ready", { ref: member(asked, "ref"), gateway_payload }, 1);
  gateway.send(
    "gateway",
    "broadcast_ice_candidates",
    { client_ids: [member(asked, "client", "id")], candidates: ["c"] },
    2,
  );
  const connected = await client.receive("phx_reply");
  assert.equal(connected.ref, 2);
  assert.deepEqual(member(connected.payload, "response", "gateway_payload"), gateway_payload);
  assert.deepEqual((await client.receive("ice_candidates")).payload, { gateway_id, candidates: ["c"] });
  assert.deepEqual(
    log.map((event) => `${event.type} ${event.type === "refused" ? "" : event.session.role}`),
    ["connected gateway", "connected client"],
  );
});

test("spec 01, 15.8.78: a token that is taken out of the file closes the socket; the next attempt gets 401", async (t) => {
  const { port, configure } = await startPortal(t);
  const client = await join(port, "client", CLIENT);
  configure(configuration("", "other-token"));
  assert.equal(await within("the close", client.closed), 1005);
  assert.deepEqual(client.frames, []);
  assert.equal(await open(port, { query: CLIENT }), "401 Invalid token");
});

test("spec 01, 11.10: changes of the file are pushed in order", async (t) => {
  const { port, configure } = await startPortal(t);
  const client = await join(port, "client", CLIENT);
  configure(configuration("upstream_dns: [192.0.2.53]").replace("10.20.0.0", "10.21.0.0"));
  assert.equal(
    member((await client.receive("config_changed")).payload, "interface", "upstream_dns", 0, "address"),
    "192.0.2.53:53",
  );
  assert.equal(member((await client.receive("resource_created_or_updated")).payload, "address"), "10.21.0.0/16");
  configure(configuration().replace("policies: [{ actor: alice, resource: lan }]", ""));
  assert.equal((await client.receive("resource_deleted")).payload, LAN);
});

test("spec 01, 15.8.73: a token that expires in 25 ms: disconnect, phx_close, close; one decades ahead sets a timer", async (t) => {
  const token = (at: number) => `{ token: alice-token, expires_at: "${new Date(at).toISOString()}" }`;
  const warnings: string[] = [];
  const warn = ({ name }: Error) => void warnings.push(name);
  process.on("warning", warn);
  t.after(() => process.off("warning", warn));
  const far = await startPortal(t, configuration("", token(Date.UTC(2090, 0, 1))));
  const patient = await join(far.port, "client", CLIENT);
  const near = await startPortal(t, configuration("", token(Date.now() + 400)));
  const client = await join(near.port, "client", CLIENT);
  assert.deepEqual((await client.receive("disconnect")).payload, { reason: "token_expired" });
  await client.receive("phx_close");
  await within("the close", client.closed);
  assert.equal(await open(near.port, { query: CLIENT }), "401 Invalid token");
  assert.equal(patient.socket.readyState, WebSocket.OPEN);
  assert.ok(
    !warnings.includes("TimeoutOverflowWarning"),
    "a timer that is too long for Node fires at once, again and again",
  );
});

test("spec 01, 5.4 and 12.1: silence closes the socket, heartbeats keep it, and the portal never pings", async (t) => {
  const idle = 400;
  const { port, log } = await startPortal(t, configuration(), {
    idleTimeout: { client: idle, gateway: idle, relay: idle },
  });
  const silent = await join(port, "gateway", GATEWAY);
  const lively = await join(port, "client", CLIENT);
  const beat = setInterval(() => lively.send("phoenix", "heartbeat", {}, 7), idle / 4);
  t.after(() => clearInterval(beat));
  await within("the close", silent.closed);
  assert.equal((await lively.receive("phx_reply")).ref, 7);
  await new Promise((resolve) => setTimeout(resolve, idle * 1.5));
  assert.equal(lively.socket.readyState, WebSocket.OPEN);
  assert.equal(silent.pings + lively.pings, 0);
  assert.ok(log.some((event) => event.type === "dropped" && event.session.role === "gateway"));
});

test("frames that are too large or no messages end the socket that sent them, and no other", async (t) => {
  const { port, state } = await startPortal(t, configuration(), { maxFrame: 1024 });
  const [large, wrong, innocent] = await Promise.all(
    ["a", "b", "c"].map((external_id) => join(port, "client", { ...CLIENT, external_id })),
  );
  assert.ok(large !== undefined && wrong !== undefined && innocent !== undefined);
  large.socket.send(" ".repeat(2000));
  wrong.socket.send("nonsense");
  assert.equal(await within("the close", large.closed), 1009);
  await within("the close", wrong.closed);
  innocent.send("phoenix", "heartbeat", {}, 8);
  assert.equal((await innocent.receive("phx_reply")).ref, 8);
  assert.equal(state.sessions.size, 1);
});

test("there is a limit on sockets, and on what waits for who does not read", async (t) => {
  const { port, log, configure } = await startPortal(t, configuration(), { maxSockets: 2, maxBuffered: 64 * 1024 });
  const lazy = await join(port, "client", CLIENT);
  const other = await join(port, "client", { ...CLIENT, external_id: "c2" });
  other.socket.terminate();
  lazy.socket.pause();
  const long = "x".repeat(255);
  for (let round = 0; round < 200 && !log.some(({ type }) => type === "dropped"); round++) {
    const resources = Array.from(
      { length: 200 },
      (_, i) => `  - { name: "${round}-${i}-${long.slice(10)}", type: internet, sites: [office] }`,
    ).join("\n");
    const policies = Array.from(
      { length: 200 },
      (_, i) => `  - { actor: alice, resource: "${round}-${i}-${long.slice(10)}" }`,
    ).join("\n");
    configure(
      configuration()
        .replace(/resources: .*/, `resources:\n${resources}`)
        .replace(/policies: .*/, `policies:\n${policies}`),
    );
    await new Promise((resolve) => setImmediate(resolve));
  }
  assert.ok(log.some((event) => event.type === "dropped" && event.reason.includes("does not read")));
});

test("sockets beyond the limit are refused with 503", async (t) => {
  const { port } = await startPortal(t, configuration(), { maxSockets: 1 });
  const first = await join(port, "client", CLIENT);
  assert.equal(await open(port, { query: { ...CLIENT, external_id: "c2" } }), "503 Too many sockets");
  first.send("phoenix", "heartbeat", {}, 1);
  assert.equal((await first.receive("phx_reply")).ref, 1);
});

test("spec 01, 15.8.75: a relay's end is announced once it has been quiet, its return too", async (t) => {
  const { port } = await startPortal(t, configuration(), { relayQuietTime: 50 });
  const query = { token: "relay-token", ipv4: "192.0.2.50", port: "3478" };
  const relay = await join(port, "relay", query, { stamp_secret: "s1" });
  const client = await join(port, "client", CLIENT);
  const id = member(client.init, "relays", 0, "id");
  relay.socket.close();
  assert.deepEqual((await client.receive("relays_presence")).payload, { disconnected_ids: [id], connected: [] });
  await join(port, "relay", query, { stamp_secret: "s2" });
  const back = (await client.receive("relays_presence")).payload;
  assert.deepEqual(member(back, "disconnected_ids"), []);
  assert.equal(member(back, "connected", 0, "addr"), "192.0.2.50:3478");
});

test("spec 01, 11.1: who forwards is believed only if the file says so", async (t) => {
  const headers = {
    "x-forwarded-for": "203.0.113.66, 192.0.2.44, 127.0.0.2",
    "x-geo-location-coordinates": "52.5,13.4",
  };
  const remote = async (extra: string) => {
    const { port, state } = await startPortal(t, configuration(extra));
    const peer = await open(port, { query: CLIENT, headers });
    assert.ok(peer instanceof Peer);
    return [...state.sessions].map(({ remoteIp, location }) => ({ remoteIp, location }));
  };
  assert.deepEqual(await remote(""), [{ remoteIp: "127.0.0.1", location: undefined }]);
  assert.deepEqual(await remote("trusted_proxies: [127.0.0.0/8]"), [
    { remoteIp: "192.0.2.44", location: { latitude: 52.5, longitude: 13.4 } },
  ]);
});

test("stop() closes the sockets in good order and frees the port; a second portal finds its programs again", async (t) => {
  const first = await startPortal(t);
  const client = await join(first.port, "client", CLIENT);
  await first.server.stop();
  assert.equal(await within("the close", client.closed), 1001);
  const random = seededRandom(1);
  const state = new PortalState(parseConfiguration(configuration(), "f"), random, new AddressBook(random));
  const second = new PortalServer(state, () => undefined);
  await second.listen("127.0.0.1", first.port);
  t.after(() => second.stop());
  await join(first.port, "client", CLIENT);
  await assert.rejects(new PortalServer(state, () => undefined).listen("127.0.0.1", first.port), /EADDRINUSE/);
});

test("spec 01, 15.4.28 and 15.4.34: the channel with its socket: joined; 401 and an expired token end it", async (t) => {
  const expiry = new Date(Date.now() + 700).toISOString();
  const { port } = await startPortal(t, configuration("", `{ token: alice-token, expires_at: "${expiry}" }`));
  const run = (token: string) => {
    const url = loginUrl(`http://127.0.0.1:${port}`, {
      role: "client",
      token,
      publicKey: new Uint8Array(32).fill(1),
      externalId: "c1",
      name: "Ada's laptop",
    });
    const seen: ChannelEvent[] = [];
    const done = new Promise<ChannelEvent[]>((resolve) => {
      const channel = new PhoenixChannel({ topic: "client", joinPayload: null, random: seededRandom(1) }, 0);
      let socket: PortalSocket | undefined;
      const drain = () => {
        for (let event = channel.pollEvent(); event !== undefined; event = channel.pollEvent()) {
          seen.push(event);
          if (event.type === "send") socket?.send(event.text);
          else if (event.type === "disconnect") socket?.abandon();
          else if (event.type === "failed") resolve(seen);
          else if (event.type === "connect")
            socket = new PortalSocket(
              url,
              { userAgent: USER_AGENT },
              {
                opened: () => void [channel.handleOpened(performance.now()), drain()],
                failed: (failure) => void [channel.handleFailure(failure, performance.now()), drain()],
                text: (text) => void [channel.handleText(text, performance.now()), drain()],
                closed: (reason) => void [channel.handleClosed(reason, performance.now()), drain()],
              },
            );
        }
      };
      channel.handleTimeout(performance.now());
      drain();
    });
    return within("the end", done);
  };
  const kinds = (events: readonly ChannelEvent[]) =>
    events.map((event) => (event.type === "push" ? event.event : event.type));
  assert.deepEqual(kinds(await run("wrong")), ["connect", "disconnect", "failed"]);
  const events = await run("alice-token");
  assert.deepEqual(kinds(events), ["connect", "send", "joined", "init", "disconnect", "failed"]);
  const last = events.at(-1);
  assert.ok(last?.type === "failed" && last.authentication);
});
