// A gateway with ten thousand connections that are idle: what one of them causes is work for that one only.

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import type { SocketAddress } from "../../src/base/address.js";
import type { Crypto } from "../../src/base/crypto.js";
import { SECOND } from "../../src/base/time.js";
import { ClientNode } from "../../src/connection/client-node.js";
import { Connection } from "../../src/connection/connection.js";
import { ConnectionIndex } from "../../src/connection/connection-index.js";
import type { NodeEvent } from "../../src/connection/events.js";
import { GatewayNode } from "../../src/connection/gateway-node.js";
import type { ConnectionNode } from "../../src/connection/node.js";
import { IceAgent } from "../../src/ice/agent.js";
import { nodeCrypto } from "../../src/system/crypto.js";
import { LocalIdentity } from "../../src/wireguard/identity.js";
import { parseMessage } from "../../src/wireguard/messages.js";
import { Peer } from "../../src/wireguard/peer.js";
import { HandshakeRateLimiter } from "../../src/wireguard/rate-limit.js";
import { Tai64nClock } from "../../src/wireguard/tai64n.js";
import { CLIENT_ID, NodePair } from "../support/node-network.js";
import { seededRandom } from "../support/random.js";
import { START, socketAddress, UNIX_TIME } from "../support/simulated-host.js";

const MANY = 10_000;
const GATEWAY_ADDRESS = socketAddress("198.51.100.1:51820");

/** Both sides find the same secret, which is all that matters here, and quickly. */
const quickCrypto: Crypto = {
  ...nodeCrypto,
  x25519PublicKey: (privateKey) => privateKey.map((byte) => byte ^ 0x55),
  x25519: (privateKey, publicKey) => privateKey.map((byte, i) => byte ^ (publicKey[i] ?? 0)),
};

function nodeOptions(seed: number) {
  const random = seededRandom(seed);
  const identity = LocalIdentity.generate(random, quickCrypto);
  return { identity, crypto: quickCrypto, random, clock: new Tai64nClock(START, UNIX_TIME) };
}

/** A client that has its answer. */
interface Client {
  readonly id: string;
  readonly node: ClientNode;
  readonly address: SocketAddress;
}

/** A client with a session. */
interface ConnectedClient extends Client {
  /** What it began the handshake with. */
  readonly initiation: Uint8Array;
}

/** One connection in so many has a session, the others have been signalled only: ten thousand handshakes would take twenty seconds. */
const SHARE = 5;

/** A gateway with `count` connections, made at {@link START}, and one of the clients that have a session. */
function gatewayWith(count: number): { readonly gateway: GatewayNode; readonly client: ConnectedClient } {
  const gateway = new GatewayNode(nodeOptions(0));
  gateway.addLocalHostCandidate(GATEWAY_ADDRESS, START);
  let connected: ConnectedClient | undefined;
  for (let i = 0; i < count; i++) {
    const client = signal(gateway, i);
    if (i % SHARE === 0) connected = connect(gateway, client);
  }
  assert.ok(connected);
  return { gateway, client: connected };
}

function signal(gateway: GatewayNode, i: number): Client {
  const address = socketAddress(`10.${i >> 16}.${(i >> 8) & 255}.${i & 255}:51820`);
  const node = new ClientNode(nodeOptions(1 + i));
  const id = `client-${i}`;
  node.addLocalHostCandidate(address, START);
  const answer = gateway.acceptConnection(id, node.newConnection("gateway", START), node.publicKey, START);
  assert.ok(answer);
  node.acceptAnswer("gateway", gateway.publicKey, answer, START);
  const candidatesOf = (of: ConnectionNode) => eventsOf(of).filter((event) => event.type === "new-ice-candidate");
  for (const { candidate } of candidatesOf(gateway)) node.addRemoteCandidate("gateway", candidate, START);
  for (const { candidate } of candidatesOf(node)) gateway.addRemoteCandidate(id, candidate, START);
  turnOf(gateway);
  return { id, node, address };
}

function connect(gateway: GatewayNode, client: Client): ConnectedClient {
  const { id, node, address } = client;
  let initiation: Uint8Array | undefined;
  let session: number | undefined;
  let isConfirmed = false;
  for (let turn = 0; turn < 20 && !isConfirmed; turn++) {
    for (const event of eventsOf(gateway)) if (event.type === "session-established") session = event.session.localIndex;
    isConfirmed = session !== undefined && eventsOf(node).some(({ type }) => type === "send-keepalive");
    for (const datagram of turnOf(node)) {
      if (parseMessage(datagram)?.type === "initiation") initiation = datagram;
      gateway.handleInput(GATEWAY_ADDRESS, address, datagram, START);
    }
    for (const datagram of turnOf(gateway)) node.handleInput(address, GATEWAY_ADDRESS, datagram, START);
  }
  assert.ok(isConfirmed && session !== undefined && initiation, `${id} has a session`);
  gateway.handleSessionConfirmed(id, session, START);
  return { ...client, initiation };
}

/** Does what is due, and returns what is to be sent. */
function turnOf(node: ConnectionNode): Uint8Array[] {
  while ((node.pollTimeout() ?? Number.POSITIVE_INFINITY) <= START) node.handleTimeout(START);
  const datagrams: Uint8Array[] = [];
  for (let transmit = node.pollTransmit(); transmit !== undefined; transmit = node.pollTransmit())
    datagrams.push(transmit.payload);
  return datagrams;
}

function eventsOf(node: ConnectionNode): NodeEvent[] {
  const events: NodeEvent[] = [];
  for (let event = node.pollEvent(); event !== undefined; event = node.pollEvent()) events.push(event);
  return events;
}

/** How often connections are looked at while `act` runs. */
function looks(t: TestContext, act: () => void): number {
  const mocks = [
    t.mock.method(Connection.prototype, "handleTimeout"),
    t.mock.method(Connection.prototype, "handleActivity"),
    t.mock.getter(Connection.prototype, "remotePublicKey"),
    t.mock.getter(Connection.prototype, "hasSession"),
    t.mock.method(IceAgent.prototype, "pollTimeout"),
    t.mock.method(Peer.prototype, "pollTimeout"),
    t.mock.method(ConnectionIndex.prototype, "values"),
  ];
  act();
  const count = mocks.reduce((sum, mock) => sum + mock.mock.callCount(), 0);
  for (const mock of mocks) mock.mock.restore();
  return count;
}

/** Everything that one connection of many causes while the others are idle. */
function serveOne(gateway: GatewayNode, { id, node, address, initiation }: ConnectedClient): void {
  for (let i = 1; i <= 10; i++) {
    const now = START + 10 * i;
    const activity = { sentAt: now, receivedAt: now, sentDataAt: now, receivedDataAt: now };
    gateway.handleActivity(id, activity, now);
    gateway.handleTimeout(now);
    gateway.handlePacket(id, Uint8Array.of(0x45), now);
    gateway.handleInput(GATEWAY_ADDRESS, address, initiation, now);
    assert.equal(gateway.connectionId(node.publicKey), id);
    const next = gateway.pollTimeout();
    assert.ok(next !== undefined && next > now);
    eventsOf(gateway);
    while (gateway.pollTransmit() !== undefined);
  }
  assert.equal(gateway.counters.refusedHandshakes.WrongTai64nTimestamp, 10, "the initiation has found its connection");
}

test("issue 4: a turn of a gateway with 10 000 idle connections looks at as many of them as one of a gateway with one", (t) => {
  // Ten thousand handshakes in one instant are a flood, elsewhere.
  t.mock.method(HandshakeRateLimiter.prototype, "admit", () => true);
  const one = gatewayWith(1);
  const many = gatewayWith(MANY);
  const expected = looks(t, () => serveOne(one.gateway, one.client));
  assert.ok(expected >= 10, "the connection is looked at");
  assert.equal(
    looks(t, () => serveOne(many.gateway, many.client)),
    expected,
  );
});

test("issue 4: an idle connection is woken for what it has to do, not every second", (t) => {
  const pair = new NodePair();
  pair.establish();
  pair.network.wait(30 * SECOND);
  const { mock } = t.mock.method(Connection.prototype, "handleTimeout");
  pair.network.wait(60 * SECOND);
  assert.ok(pair.gateway.sessions > 0 && pair.gateway.path(CLIENT_ID) !== undefined, "the connection lives");
  // A keepalive every 10 s, its going, that of the other side's, and a check every 25 s, on each of two sides.
  assert.ok(mock.callCount() < 60, `${mock.callCount()} times in a minute`);
});
