// Two nodes over a simulated network: offers, answers, candidates, handshakes, and what ends a connection.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { SocketAddress } from "../../src/base/address.js";
import { MAX_HELD_MESSAGES } from "../../src/connection/selected-path.js";
import { UseCandidate } from "../../src/stun/attributes.js";
import { parseStunMessage } from "../../src/stun/message.js";
import { nodeCrypto } from "../../src/system/crypto.js";
import { LocalIdentity } from "../../src/wireguard/identity.js";
import { PeerIndices } from "../../src/wireguard/indices.js";
import { encodeTransport, parseMessage } from "../../src/wireguard/messages.js";
import { Peer } from "../../src/wireguard/peer.js";
import { Tai64nClock } from "../../src/wireguard/tai64n.js";
import { CLIENT_ID, clientNode, GATEWAY_ID, NodePair } from "../support/node-network.js";
import { SimulatedHost, socketAddress, UNIX_TIME } from "../support/simulated-host.js";

const DUAL_STACK = {
  clientAddresses: ["192.0.2.1:51820", "[2001:db8:1::1]:51820"],
  gatewayAddresses: ["198.51.100.1:51820", "[2001:db8:2::1]:51820"],
};

/** WireGuard's message type of a datagram. */
function wireguardType(payload: Uint8Array): string | undefined {
  return parseMessage(payload)?.type;
}

function countSent(pair: NodePair, from: string, type: string): number {
  return pair.network.sent.filter((entry) => entry.from === from && wireguardType(entry.payload) === type).length;
}

/** A peer of its own with the keys of one side and the session key of an offer: what an implementation without our restraint does. */
function rawPeer(pair: NodePair, side: "client" | "gateway", presharedKey: Uint8Array): Peer {
  const [own, remote] = side === "client" ? [1, pair.gateway] : [2, pair.client];
  const { random } = pair.network;
  return new Peer(
    {
      identity: new LocalIdentity(new Uint8Array(32).fill(own), nodeCrypto),
      remotePublicKey: remote.machine.publicKey,
      presharedKey,
      mayInitiate: true,
      crypto: nodeCrypto,
      random,
      indices: new PeerIndices(random),
      // Later than the node's own timestamps, which its replay protection remembers.
      clock: new Tai64nClock(0, UNIX_TIME + 500_000),
    },
    pair.now,
  );
}

function addressOf(host: { readonly addresses: readonly SocketAddress[] }): SocketAddress {
  const [address] = host.addresses;
  assert.ok(address);
  return address;
}

// ---- Making a connection

test("spec 02, 6.7: offer, answer and candidates make a connection, and packets pass both ways", () => {
  const pair = new NodePair();
  pair.connect();
  const packet = Uint8Array.of(0x45, 7);
  pair.network.wait(50);
  // There is no session yet: the node keeps the packet.
  pair.client.send(GATEWAY_ID, packet, pair.now);
  pair.network.wait(1000);
  assert.deepEqual(
    pair.gateway.delivered.map((delivery) => delivery.packet),
    [packet],
  );
  assert.equal(pair.client.of("send-packet").length, 1);
  pair.assertPasses();
  assert.equal(pair.client.of("connection-established").length, 1);
  assert.equal(pair.gateway.of("connection-established").length, 1);
  assert.equal(pair.client.path(GATEWAY_ID)?.remote.toString(), "198.51.100.1:51820");
  assert.equal(pair.gateway.path(CLIENT_ID)?.remote.toString(), "192.0.2.1:51820");
});

test("the message that lets the gateway send follows the news that the connection is established: then the client's routes are in place", () => {
  const pair = new NodePair();
  pair.establish();
  const order = pair.client.events
    .map(({ event }) => event.type)
    .filter((type) => ["session-current", "connection-established", "send-keepalive"].includes(type));
  assert.deepEqual(order.slice(0, 3), ["session-current", "connection-established", "send-keepalive"]);
});

test("spec 02, 14: only the client initiates, once, in the turn in which the path is found", () => {
  const pair = new NodePair();
  pair.establish();
  assert.equal(countSent(pair, "client", "initiation"), 1);
  assert.equal(countSent(pair, "gateway", "initiation"), 0);
  const selected = pair.client.events.find(({ event }) => event.type === "path-selected");
  const initiation = pair.network.sent.find(({ payload }) => wireguardType(payload) === "initiation");
  assert.equal(initiation?.at, selected?.at);
  // The check that tells the gateway of the nomination is ahead of the initiation.
  const nominating = pair.network.sent.findIndex(({ payload }) => {
    const message = parseStunMessage(payload);
    return typeof message !== "string" && message.get(UseCandidate) === true;
  });
  assert.ok(initiation !== undefined && nominating < pair.network.sent.indexOf(initiation) && nominating >= 0);
});

test("spec 02, 15.5.8: connections come about in spite of latency, loss and one-sided stacks", () => {
  for (const seed of [1, 2, 3, 4, 5, 6]) {
    const pair = new NodePair({ ...DUAL_STACK, seed });
    pair.network.latency = 150;
    pair.network.loss = 20;
    pair.connect();
    pair.network.wait(15_000);
    assert.ok(pair.client.of("connection-established").length > 0, `seed ${seed}`);
    pair.network.loss = 0;
    pair.assertPasses(`seed ${seed}`);
  }
  for (const index of [0, 1]) {
    const pair = new NodePair({ ...DUAL_STACK, clientAddresses: DUAL_STACK.clientAddresses.slice(index, index + 1) });
    pair.establish();
    pair.assertPasses();
  }
});

test("spec 02, 15.1.5: host candidates are signalled when the answer was accepted, exactly once", () => {
  const pair = new NodePair();
  const offer = pair.client.machine.newConnection(GATEWAY_ID, pair.now);
  pair.client.drain(pair.now);
  assert.deepEqual(pair.client.of("new-ice-candidate"), []);
  pair.connectWith(offer);
  pair.network.wait(1000);
  assert.deepEqual(
    pair.client.of("new-ice-candidate").map(({ candidate }) => candidate.replace(/ufrag.*/, "").replace(/:\S+ /, ": ")),
    [`candidate: 1 udp 2130706175 192.0.2.1 51820 typ host`],
  );
});

test("spec 02, 2.3: a host candidate that is found later is signalled to all connections, and one that is gone, too", () => {
  const pair = new NodePair();
  pair.establish();
  const address = socketAddress("192.0.2.77:51820");
  pair.client.machine.addLocalHostCandidate(address, pair.now);
  pair.client.machine.addLocalHostCandidate(address, pair.now);
  pair.client.machine.removeLocalHostCandidate(address, pair.now);
  pair.client.drain(pair.now);
  const isIt = (event: { readonly candidate: string }) => event.candidate.includes("192.0.2.77");
  assert.equal(pair.client.of("new-ice-candidate").filter(isIt).length, 1);
  assert.equal(pair.client.of("invalidate-ice-candidate").filter(isIt).length, 1);
});

test("spec 02, 4.1: addresses that cannot be candidates are refused, and datagrams that came there dropped", () => {
  const pair = new NodePair();
  for (const text of ["0.0.0.0:51820", "169.254.0.1:51820", "192.0.2.5:0", "224.0.0.1:51820"])
    assert.equal(pair.client.machine.addLocalHostCandidate(socketAddress(text), pair.now), false, text);
  const { badLocalAddress } = pair.client.machine.counters;
  pair.client.receive(socketAddress("0.0.0.0:51820"), addressOf(pair.gateway), Uint8Array.of(1, 0, 0, 0), pair.now);
  assert.equal(pair.client.machine.counters.badLocalAddress, badLocalAddress + 1);
  assert.equal(pair.client.machine.counters.unhandledPacket, 0);
});

// ---- Ends

test("spec 02, 15.1.1 and 15.1.4: no answer within 20 s; one that comes when the connection has gone is ignored", () => {
  const pair = new NodePair();
  const offer = pair.client.machine.newConnection(GATEWAY_ID, pair.now);
  pair.client.drain(pair.now);
  pair.network.wait(19_999);
  assert.ok(pair.client.machine.isExpectingAnswer(GATEWAY_ID));
  assert.deepEqual(pair.failures().client, []);
  pair.network.wait(1);
  assert.deepEqual(pair.failures().client, ["no-answer"]);
  assert.ok(!pair.client.machine.isExpectingAnswer(GATEWAY_ID));
  pair.client.machine.acceptAnswer(GATEWAY_ID, pair.gateway.machine.publicKey, offer, pair.now);
  pair.client.drain(pair.now);
  assert.deepEqual(pair.client.connections, []);
  assert.equal(pair.client.machine.pollTimeout(), undefined);
});

test("spec 02, 15.1.2: no candidate within 10 s, on either side", () => {
  const pair = new NodePair();
  pair.passesCandidates = () => false;
  pair.connect();
  pair.network.wait(20 + 9_999);
  assert.deepEqual(pair.failures(), { client: [], gateway: [] });
  pair.network.wait(1);
  assert.deepEqual(pair.failures(), { client: [], gateway: ["no-candidates"] });
  pair.network.wait(20);
  assert.deepEqual(pair.failures().client, ["no-candidates"]);
});

test("spec 02, 15.1.3: with a candidate on each side nothing has failed after 10 s; later, as no path works, it does", () => {
  const pair = new NodePair({ clientAddresses: ["10.0.0.2:4444"], gatewayAddresses: ["10.0.0.1:4444"] });
  pair.network.isBlocked = () => true;
  pair.connect();
  pair.network.wait(40 + 10_000);
  assert.deepEqual(pair.failures(), { client: [], gateway: [] });
  pair.network.wait(2000);
  assert.deepEqual(pair.failures(), { client: ["no-path"], gateway: ["no-path"] });
});

test("spec 02, 6.8: a dead path is given up, after ICE's time and 2 s of grace", () => {
  const pair = new NodePair();
  pair.establish();
  pair.network.isBlocked = () => true;
  const since = pair.now;
  pair.network.wait(30_000);
  assert.deepEqual(pair.failures(), { client: ["no-path"], gateway: ["no-path"] });
  const failed = pair.client.events.find(({ event }) => event.type === "connection-failed");
  assert.ok(failed !== undefined && failed.at - since > 5_000 && failed.at - since < 16_000, `${failed?.at} ${since}`);
  assert.deepEqual([pair.client.connections, pair.client.sessions], [[], 0]);
});

test("spec 02, 6.8 (later changed): a candidate that comes within the 2 s of grace saves the connection", () => {
  const pair = new NodePair();
  pair.establish();
  const before = addressOf(pair.gateway);
  const after = socketAddress("203.0.113.9:51820");
  // The gateway's address is gone, and all its pairs with it.
  pair.gateway.addresses.splice(0, 1, after);
  pair.gateway.machine.removeLocalHostCandidate(before, pair.now);
  pair.gateway.drain(pair.now);
  pair.network.wait(1900);
  assert.deepEqual(pair.failures(), { client: [], gateway: [] });
  pair.gateway.machine.addLocalHostCandidate(after, pair.now);
  pair.gateway.drain(pair.now);
  pair.network.wait(5000);
  assert.deepEqual(pair.failures(), { client: [], gateway: [] });
  assert.ok(pair.client.path(GATEWAY_ID)?.remote.equals(after));
  pair.assertPasses();
});

test("spec 02, 14: handshakes that nobody answers, though the path works, end the connection after 20 s", () => {
  const pair = new NodePair();
  pair.network.isBlocked = (_source, _destination, payload) => wireguardType(payload) === "response";
  pair.connect();
  pair.network.wait(60);
  const since = pair.client.events.find(({ event }) => event.type === "path-selected")?.at;
  pair.network.wait(30_000);
  const failed = pair.client.events.find(({ event }) => event.type === "connection-failed");
  assert.deepEqual(pair.failures().client, ["no-handshake"]);
  assert.equal(failed?.at, (since ?? 0) + 20_000);
  assert.ok(countSent(pair, "client", "initiation") >= 4);
});

test("spec 02, 15.6.5 and 14: other session keys are noticed within seconds", () => {
  const pair = new NodePair();
  const offer = pair.client.machine.newConnection(GATEWAY_ID, pair.now);
  pair.connectWith({ ...offer, sessionKey: new Uint8Array(32).fill(9) });
  pair.network.wait(20_000);
  assert.deepEqual(pair.failures().client, ["wrong-keys"]);
  assert.equal(pair.client.machine.counters.refusedHandshakes.InvalidAeadTag, 3);
});

test("spec 02, 15.6.5: an initiation from a foreign static key reaches no connection", () => {
  const pair = new NodePair();
  const offer = pair.client.machine.newConnection(GATEWAY_ID, pair.now);
  const stranger = clientNode(pair.network.random, 5).publicKey;
  const answer = pair.gateway.machine.acceptConnection(CLIENT_ID, offer, stranger, pair.now);
  assert.ok(answer);
  pair.gateway.drain(pair.now);
  pair.client.machine.acceptAnswer(GATEWAY_ID, pair.gateway.machine.publicKey, answer, pair.now);
  pair.client.drain(pair.now);
  pair.network.wait(25_000);
  assert.deepEqual(pair.failures().client, ["no-handshake"]);
  assert.equal(pair.gateway.sessions, 0);
  assert.ok(pair.gateway.machine.counters.unhandledPacket >= 4);
});

test("spec 02, 6.2: keys and credentials that cannot be used", () => {
  const pair = new NodePair();
  const offer = pair.client.machine.newConnection(GATEWAY_ID, pair.now);
  const { publicKey } = pair.client.machine;
  const { credentials, sessionKey } = offer;
  const bad = { username: "a:b", password: "" };
  const accept = (...[first, key]: [typeof offer, Uint8Array]) =>
    pair.gateway.machine.acceptConnection(CLIENT_ID, first, key, pair.now);
  assert.equal(accept(offer, publicKey.subarray(1)), undefined);
  assert.equal(accept({ credentials, sessionKey: sessionKey.subarray(1) }, publicKey), undefined);
  assert.equal(accept({ credentials: bad, sessionKey }, publicKey), undefined);
  pair.client.machine.acceptAnswer(GATEWAY_ID, pair.gateway.machine.publicKey, { credentials: bad }, pair.now);
  pair.client.drain(pair.now);
  assert.deepEqual(pair.failures().client, ["invalid-parameters"]);
});

test("spec 02, 6.1 and 6.3: a new connection silently takes the place of the old one", () => {
  const pair = new NodePair();
  pair.establish();
  pair.establish();
  assert.deepEqual(pair.failures(), { client: [], gateway: [] });
  assert.deepEqual([pair.client.of("connection-removed").length, pair.gateway.of("connection-removed").length], [1, 1]);
  pair.assertPasses();
});

test("spec 02, 2.3: a removed connection is gone without an event, and packets for it are counted", () => {
  const pair = new NodePair();
  pair.establish();
  assert.equal(pair.client.machine.connectionId(pair.gateway.machine.publicKey), GATEWAY_ID);
  pair.client.machine.removeConnection(GATEWAY_ID, pair.now);
  pair.client.drain(pair.now);
  assert.deepEqual([pair.client.connections, pair.client.sessions, pair.failures().client], [[], 0, []]);
  pair.client.send(GATEWAY_ID, Uint8Array.of(0x45), pair.now);
  assert.equal(pair.client.machine.counters.notConnected, 1);
  assert.equal(pair.client.machine.connectionId(pair.gateway.machine.publicKey), undefined);
  assert.equal(pair.client.machine.pollTimeout(), undefined);
});

test("a packet for a connection without answer is counted, not lost silently", () => {
  const pair = new NodePair();
  pair.client.machine.newConnection(GATEWAY_ID, pair.now);
  pair.client.send(GATEWAY_ID, Uint8Array.of(0x45), pair.now);
  assert.equal(pair.client.machine.counters.notConnected, 1);
});

test("spec 02, 15.6.21: reset closes each connection once and leaves nothing queued", () => {
  const pair = new NodePair();
  const offer = pair.establish();
  pair.client.machine.newConnection("other", pair.now);
  pair.client.drain(pair.now);
  pair.client.machine.addLocalHostCandidate(socketAddress("192.0.2.99:1"), pair.now);
  pair.client.drain(pair.now);
  pair.client.outbox.length = 0;
  const before = pair.client.events.length;
  // Checks of the new pairs are queued.
  pair.client.machine.handleTimeout(pair.now);
  pair.client.machine.reset(pair.now);
  assert.equal(pair.client.machine.pollTransmit(), undefined);
  pair.client.drain(pair.now);
  const events = pair.client.events.slice(before).map(({ event }) => event);
  const closed = events.filter(({ type }) => type === "connection-closed");
  assert.deepEqual(closed, [
    { type: "connection-closed", connection: GATEWAY_ID, reason: "reset" },
    { type: "connection-closed", connection: "other", reason: "reset" },
  ]);
  assert.deepEqual(
    events.filter(({ type }) => !["connection-closed", "connection-removed", "session-removed"].includes(type)),
    [],
  );
  assert.equal(pair.client.machine.pollTimeout(), undefined);
  // A late answer is ignored.
  pair.client.machine.acceptAnswer("other", pair.gateway.machine.publicKey, offer, pair.now);
  pair.client.drain(pair.now);
  assert.deepEqual(pair.client.connections, []);
  // The addresses are forgotten; once they are found again everything works.
  const signalled = pair.client.of("new-ice-candidate").length;
  for (const address of pair.client.addresses) pair.client.machine.addLocalHostCandidate(address, pair.now);
  pair.establish();
  assert.equal(pair.client.of("new-ice-candidate").length, signalled + 1);
  pair.assertPasses();
});

// ---- Paths

test("spec 02, 15.6.11: a better path is taken at once, without loss, and a handshake follows", () => {
  const pair = new NodePair(DUAL_STACK);
  pair.network.isBlocked = (source) => source.family === 6;
  pair.establish();
  assert.equal(pair.client.path(GATEWAY_ID)?.remote.family, 4);
  pair.network.isBlocked = () => false;
  const initiations = countSent(pair, "client", "initiation");
  const sent = 200;
  for (let i = 0; i < sent; i++) {
    pair.client.send(GATEWAY_ID, Uint8Array.of(0x45, i), pair.now);
    pair.gateway.send(CLIENT_ID, Uint8Array.of(0x45, i), pair.now);
    pair.network.wait(25);
  }
  pair.network.wait(100);
  assert.equal(pair.client.path(GATEWAY_ID)?.remote.family, 6);
  assert.equal(pair.gateway.path(CLIENT_ID)?.remote.family, 6);
  assert.deepEqual([pair.client.delivered.length, pair.gateway.delivered.length], [sent, sent]);
  assert.equal(countSent(pair, "client", "initiation"), initiations + 1);
  assert.equal(pair.client.of("connection-established").length, 1);
});

test("spec 02, 15.6.13: when the other side invalidates the candidate in use, the next best path is taken at once", () => {
  const pair = new NodePair(DUAL_STACK);
  pair.establish();
  assert.equal(pair.client.path(GATEWAY_ID)?.remote.family, 6);
  const gone = pair.gateway.addresses.splice(1, 1)[0];
  assert.ok(gone);
  pair.gateway.machine.removeLocalHostCandidate(gone, pair.now);
  pair.gateway.drain(pair.now);
  pair.network.wait(200);
  assert.equal(pair.client.path(GATEWAY_ID)?.remote.family, 4);
  assert.equal(pair.gateway.path(CLIENT_ID)?.remote.family, 4);
  pair.assertPasses();
});

test("spec 02, 15.6.12: a local address that is gone while in use: told, and replaced", () => {
  const pair = new NodePair(DUAL_STACK);
  pair.establish();
  const gone = pair.client.addresses.splice(1, 1)[0];
  assert.ok(gone);
  pair.client.machine.removeLocalHostCandidate(gone, pair.now);
  pair.client.drain(pair.now);
  assert.equal(pair.client.of("invalidate-ice-candidate").length, 1);
  pair.network.wait(200);
  assert.equal(pair.client.path(GATEWAY_ID)?.local.family, 4);
  assert.equal(pair.gateway.path(CLIENT_ID)?.remote.family, 4);
  pair.assertPasses();
});

test("spec 02, 13.4: before the nomination nothing but STUN leaves", () => {
  const pair = new NodePair();
  pair.network.isBlocked = () => true;
  pair.connect();
  pair.network.wait(50);
  pair.client.send(GATEWAY_ID, Uint8Array.of(0x45), pair.now);
  pair.gateway.send(CLIENT_ID, Uint8Array.of(0x45), pair.now);
  pair.network.wait(12_000);
  assert.ok(pair.network.sent.length > 0);
  for (const { payload } of pair.network.sent) assert.notEqual(typeof parseStunMessage(payload), "string");
});

// ---- Handshakes

/** Connects without the gateway learning of the nomination. */
function connectingGateway(): { readonly pair: NodePair; readonly peer: Peer } {
  const pair = new NodePair();
  pair.network.isBlocked = (_source, _destination, payload) => {
    const message = parseStunMessage(payload);
    if (typeof message === "string") return true;
    return message.class === "request" && message.get(UseCandidate) === true;
  };
  const offer = pair.connect();
  pair.network.wait(200);
  assert.equal(pair.gateway.path(CLIENT_ID), undefined);
  return { pair, peer: rawPeer(pair, "client", offer.sessionKey) };
}

test("spec 02, 15.6.2: responses to initiations before the nomination wait for it; the eleventh pushes out the first", () => {
  for (const initiations of [1, MAX_HELD_MESSAGES + 1]) {
    const { pair, peer } = connectingGateway();
    const accepted: number[] = [];
    for (let i = 0; i < initiations; i++) {
      if (i === 0) peer.initiate(pair.now);
      else peer.handlePathChanged(pair.now);
      const initiation = peer.pollTransmit();
      assert.ok(initiation);
      pair.gateway.receive(addressOf(pair.gateway), addressOf(pair.client), initiation, pair.now);
      const message = parseMessage(initiation);
      assert.ok(message?.type === "initiation");
      accepted.push(message.senderIndex);
      pair.network.wait(21);
    }
    assert.deepEqual(pair.gateway.machine.counters.refusedHandshakes, {});
    assert.equal(countSent(pair, "gateway", "response"), 0);
    pair.network.isBlocked = () => false;
    pair.network.wait(3000);
    const responses = pair.network.sent
      .filter(({ from }) => from === "gateway")
      .map(({ payload }) => parseMessage(payload))
      .filter((message) => message?.type === "response")
      .map((message) => message.receiverIndex);
    assert.deepEqual(responses.slice(0, MAX_HELD_MESSAGES), accepted.slice(-MAX_HELD_MESSAGES));
  }
});

test("spec 02, 15.6.1: a message of type 1 is no STUN, one of type 64 is tried as WireGuard", () => {
  const pair = new NodePair();
  pair.establish();
  const [local, from] = [addressOf(pair.gateway), addressOf(pair.client)];
  const before = { ...pair.gateway.machine.counters.refusedHandshakes };
  pair.gateway.receive(local, from, Uint8Array.of(1, 0, 0, 0, ...new Uint8Array(144)), pair.now);
  assert.notDeepEqual(pair.gateway.machine.counters.refusedHandshakes, before);
  pair.gateway.receive(local, from, Uint8Array.of(0x40, 0, 0, 0, ...new Uint8Array(28)), pair.now);
  pair.gateway.receive(local, from, new Uint8Array(0), pair.now);
  assert.equal(pair.gateway.machine.counters.unhandledStun, 0);
  pair.assertPasses();
});

test("spec 02, 15.6.5: a replayed initiation", () => {
  const pair = new NodePair();
  pair.establish();
  const initiation = pair.network.sent.find(({ payload }) => wireguardType(payload) === "initiation");
  assert.ok(initiation);
  const sessions = pair.gateway.sessions;
  pair.gateway.receive(initiation.destination, initiation.source, initiation.payload, pair.now);
  assert.equal(pair.gateway.machine.counters.refusedHandshakes.WrongTai64nTimestamp, 1);
  assert.equal(pair.gateway.sessions, sessions);
});

test("spec 02, 15.6.10: handshakes from where no check has come from are dropped unread", () => {
  const pair = new NodePair();
  const offer = pair.establish();
  const peer = rawPeer(pair, "client", offer.sessionKey);
  peer.initiate(pair.now);
  const initiation = peer.pollTransmit();
  assert.ok(initiation);
  pair.gateway.receive(addressOf(pair.gateway), socketAddress("203.0.113.66:51820"), initiation, pair.now);
  assert.equal(pair.gateway.machine.counters.unhandledPacket, 1);
  assert.deepEqual(pair.gateway.machine.counters.refusedHandshakes, {});
  // The same from the client's address is answered.
  pair.gateway.receive(addressOf(pair.gateway), addressOf(pair.client), initiation, pair.now);
  assert.equal(pair.gateway.machine.counters.unhandledPacket, 1);
  assert.equal(pair.gateway.of("session-established").length, 2);
});

test("spec 02, 15.6.3 and 14: a gateway that also initiates is answered, and its session used", () => {
  const pair = new NodePair();
  const offer = pair.establish();
  const old = rawPeer(pair, "gateway", offer.sessionKey);
  // Both at once: the client is about to renew, too.
  old.initiate(pair.now);
  const initiation = old.pollTransmit();
  assert.ok(initiation);
  pair.client.receive(addressOf(pair.client), addressOf(pair.gateway), initiation, pair.now);
  const response = pair.client.outbox
    .map(({ payload }) => parseMessage(payload))
    .find((message) => message?.type === "response");
  assert.ok(response);
  assert.equal(old.handleResponse(response, pair.now), undefined);
  let session: { readonly sendKey: Uint8Array; readonly remoteIndex: number } | undefined;
  for (let event = old.pollEvent(); event !== undefined; event = old.pollEvent())
    if (event.type === "session-established") session = event.session;
  assert.ok(session);
  // Data on the old session still pass; the first message on the new one makes it the client's current one.
  pair.assertPasses();
  const { remoteIndex, sendKey } = session;
  const encryptedPacket = nodeCrypto.chacha20Poly1305Seal(
    sendKey,
    new Uint8Array(12),
    Uint8Array.of(0x45, 3),
    new Uint8Array(),
  );
  const data = encodeTransport({ receiverIndex: remoteIndex, counter: 0n, encryptedPacket });
  pair.client.receive(addressOf(pair.client), addressOf(pair.gateway), data, pair.now);
  assert.deepEqual(pair.client.delivered.at(-1)?.packet, Uint8Array.of(0x45, 3));
  assert.equal(pair.client.of("session-current").at(-1)?.localIndex, remoteIndex);
  assert.equal(pair.client.of("connection-established").length, 1);
});

test("spec 02, 15.6.15: checks with a bad password or a foreign user fragment belong to no agent", () => {
  const pair = new NodePair();
  pair.establish();
  const request = pair.network.sent.find(({ from, payload }) => {
    const message = parseStunMessage(payload);
    return from === "client" && typeof message !== "string" && message.class === "request";
  });
  assert.ok(request);
  const { unhandledStun } = pair.gateway.machine.counters;
  // The same bytes at another gateway, and with another connection in the place of the one they were for.
  pair.establish();
  pair.gateway.receive(request.destination, request.source, request.payload, pair.now);
  assert.equal(pair.gateway.machine.counters.unhandledStun, unhandledStun + 1);
});

test("spec 02, 15.6.19: two clients from one public address and port both work", () => {
  const pair = new NodePair();
  pair.establish();
  // A NAT has given the port to another client, while the gateway still holds the connection of the first.
  const second = new SimulatedHost("second", clientNode(pair.network.random, 3), pair.client.addresses);
  const { gateway, network } = pair;
  for (const address of second.addresses) second.machine.addLocalHostCandidate(address, pair.now);
  const offer = second.machine.newConnection(GATEWAY_ID, pair.now);
  second.drain(pair.now);
  const answer = gateway.machine.acceptConnection("second", offer, second.machine.publicKey, pair.now);
  assert.ok(answer);
  second.onEvent = (event, now) => {
    if (event.type === "new-ice-candidate") gateway.machine.addRemoteCandidate("second", event.candidate, now);
  };
  gateway.drain(pair.now);
  second.machine.acceptAnswer(GATEWAY_ID, gateway.machine.publicKey, answer, pair.now);
  for (const { connection, candidate } of gateway.of("new-ice-candidate"))
    if (connection === "second") second.machine.addRemoteCandidate(GATEWAY_ID, candidate, pair.now);
  second.drain(pair.now);
  // What comes to the shared address reaches both; each takes what is its own.
  const { receive } = pair.client;
  pair.client.receive = (...args) => {
    receive.apply(pair.client, args);
    second.receive(...args);
  };
  network.add(second);
  network.wait(2000);
  assert.equal(second.of("connection-established").length, 1);
  assert.deepEqual(gateway.connections, [CLIENT_ID, "second"]);
  second.send(GATEWAY_ID, Uint8Array.of(0x45, 9), pair.now);
  gateway.send("second", Uint8Array.of(0x45, 8), pair.now);
  network.wait(100);
  pair.assertPasses();
  assert.deepEqual(
    gateway.delivered.map(({ connection }) => connection),
    ["second", CLIENT_ID],
  );
  assert.deepEqual(
    second.delivered.map(({ packet }) => packet),
    [Uint8Array.of(0x45, 8)],
  );
});

// ---- Time

test("spec 02, 15.6.22: keepalives every 10 to 11 s on each side of an idle connection, and a new session before the old one ends", () => {
  const pair = new NodePair();
  pair.establish();
  const [client, gateway] = [pair.client.keepalives, pair.gateway.keepalives];
  pair.network.wait(100_000);
  for (const count of [pair.client.keepalives - client, pair.gateway.keepalives - gateway])
    assert.ok(count >= 8 && count <= 11, `${count} keepalives in 100 s`);
  pair.network.wait(500_000);
  assert.deepEqual(pair.failures(), { client: [], gateway: [] });
  assert.ok(countSent(pair, "client", "initiation") >= 4);
  assert.equal(countSent(pair, "gateway", "initiation"), 0);
  assert.equal(pair.client.of("connection-established").length, 1);
  assert.ok(pair.client.sessions <= 3 && pair.gateway.sessions <= 3);
  pair.assertPasses();
});

test("a node without connections sleeps", () => {
  const pair = new NodePair();
  assert.equal(pair.client.machine.pollTimeout(), undefined);
  pair.establish();
  pair.client.machine.removeConnection(GATEWAY_ID, pair.now);
  assert.equal(pair.client.machine.pollTimeout(), undefined);
  pair.network.wait(30_000);
  assert.equal(pair.gateway.machine.pollTimeout(), undefined);
});
