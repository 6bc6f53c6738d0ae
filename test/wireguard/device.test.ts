// A plain WireGuard device: configuration, cryptokey routing, endpoints and roaming.

import assert from "node:assert/strict";
import { test } from "node:test";
import { IpAddress, IpPrefix, SocketAddress } from "../../src/base/address.js";
import { toHex } from "../../src/base/bytes.js";
import { SECOND } from "../../src/base/time.js";
import { nodeCrypto } from "../../src/system/crypto.js";
import type { DeviceChange, PeerChange } from "../../src/wireguard/configuration.js";
import { WireGuardDevice } from "../../src/wireguard/device.js";
import type { DeviceEvent } from "../../src/wireguard/device-events.js";
import { LocalIdentity } from "../../src/wireguard/identity.js";
import { parseMessage } from "../../src/wireguard/messages.js";
import { Tai64nClock } from "../../src/wireguard/tai64n.js";
import { repeated } from "../support/hex.js";
import { seededRandom } from "../support/random.js";

const START = 10_000;
const UNIX_TIME = 1_724_716_800_000;

function address(text: string): SocketAddress {
  const parsed = SocketAddress.parse(text);
  assert.ok(parsed);
  return parsed;
}

function prefix(text: string): IpPrefix {
  const parsed = IpPrefix.parse(text);
  assert.ok(parsed);
  return parsed;
}

const allow = (...texts: string[]) => texts.map((text) => ({ prefix: prefix(text), remove: false }));

const publicKey = (byte: number) => new LocalIdentity(repeated(byte, 32), nodeCrypto).publicKey;

/** A device with a fixed address; `now` is shared by all of them in a test. */
class TestDevice {
  readonly device: WireGuardDevice;
  readonly name: string;
  readonly publicKey: Uint8Array;
  local: SocketAddress;

  constructor(byte: number, local: string, limits: { maxPeers?: number; maxAllowedIps?: number } = {}) {
    this.device = new WireGuardDevice({
      crypto: nodeCrypto,
      random: seededRandom(byte),
      clock: new Tai64nClock(START, UNIX_TIME),
      maxPeers: limits.maxPeers ?? 10,
      maxAllowedIps: limits.maxAllowedIps ?? 10,
    });
    this.publicKey = publicKey(byte);
    this.name = toHex(this.publicKey);
    this.local = address(local);
    this.device.configure({ privateKey: repeated(byte, 32), peers: [] }, START);
    this.device.handleBound(this.local.port);
    this.events();
  }

  configure(change: Partial<DeviceChange>, now = START) {
    return this.device.configure({ peers: [], ...change }, now);
  }

  /** One peer with the rest of its change. */
  configurePeer(key: Uint8Array, change: Partial<PeerChange> = {}, now = START) {
    return this.configure({ peers: [{ publicKey: key, allowedIps: [], ...change }] }, now);
  }

  events(): DeviceEvent[] {
    const events: DeviceEvent[] = [];
    for (let event = this.device.pollEvent(); event !== undefined; event = this.device.pollEvent()) events.push(event);
    return events;
  }

  types(): string[] {
    return this.events().map(({ type }) => type);
  }

  transmits() {
    const transmits = [];
    for (let next = this.device.pollTransmit(); next !== undefined; next = this.device.pollTransmit())
      transmits.push(next);
    return transmits;
  }

  /** Sends everything that waits to `to`. */
  deliver(to: TestDevice, now: number): void {
    for (const { destination, payload } of this.transmits()) {
      assert.ok(destination.equals(to.local), `sent to ${destination}`);
      to.device.handleDatagram(to.local, this.local, payload, now);
    }
  }

  peer(key: Uint8Array) {
    return this.device.configuration().peers.find((peer) => toHex(peer.publicKey) === toHex(key));
  }
}

/** `left` knows where `right` is, not the other way round. */
function pair() {
  const left = new TestDevice(1, "192.0.2.1:51820");
  const right = new TestDevice(2, "192.0.2.2:51820");
  left.configurePeer(right.publicKey, { endpoint: right.local, allowedIps: allow("10.0.0.2/32") });
  right.configurePeer(left.publicKey, { allowedIps: allow("10.0.0.1/32") });
  left.events();
  right.events();
  return { left, right };
}

test("a peer is a connection, its endpoint a path, its allowed IPs routes", () => {
  const own = new TestDevice(1, "192.0.2.1:51820");
  const key = publicKey(2);
  const name = toHex(key);
  const endpoint = address("[2001:db8::2]:51820");
  own.configurePeer(key, { endpoint, allowedIps: allow("10.0.0.0/8", "2001:db8:1::/48") });
  const local = new SocketAddress(IpAddress.fromBytes(new Uint8Array(16)), 0);
  const target = { type: "connection", connection: name };
  assert.deepEqual(own.events(), [
    { type: "connection-added", connection: name },
    { type: "path-selected", connection: name, path: { local, remote: endpoint } },
    { type: "endpoint-changed", connection: name, remote: endpoint },
    { type: "route-set", prefix: prefix("10.0.0.0/8"), target },
    { type: "route-set", prefix: prefix("2001:db8:1::/48"), target },
  ]);
});

test("an allowed IP given to another peer moves to it; a nested one stays where it is", () => {
  const own = new TestDevice(1, "192.0.2.1:51820");
  const [first, second] = [publicKey(2), publicKey(3)];
  own.configurePeer(first, { allowedIps: allow("10.0.0.0/8", "10.1.0.0/16") });
  own.events();
  own.configurePeer(second, { allowedIps: allow("10.0.0.0/8") });
  assert.deepEqual(own.events(), [
    { type: "connection-added", connection: toHex(second) },
    { type: "route-set", prefix: prefix("10.0.0.0/8"), target: { type: "connection", connection: toHex(second) } },
  ]);
  assert.deepEqual(own.peer(first)?.allowedIps, [prefix("10.1.0.0/16")]);
  assert.deepEqual(own.peer(second)?.allowedIps, [prefix("10.0.0.0/8")]);

  // Its removal from the first, which does not have it any more, changes nothing.
  own.configurePeer(first, { allowedIps: [{ prefix: prefix("10.0.0.0/8"), remove: true }] });
  assert.deepEqual(own.events(), []);
  own.configurePeer(second, { allowedIps: [{ prefix: prefix("10.0.0.0/8"), remove: true }] });
  assert.deepEqual(own.events(), [{ type: "route-removed", prefix: prefix("10.0.0.0/8") }]);

  own.configurePeer(first, { replaceAllowedIps: true, allowedIps: allow("10.1.0.0/16", "10.2.0.0/16") });
  assert.deepEqual(own.types(), ["route-set"], "what comes again at once is not taken away in between");
  own.configurePeer(first, { replaceAllowedIps: true });
  assert.deepEqual(own.types(), ["route-removed", "route-removed"]);
});

test("peers are updated, removed and replaced as wg(8) asks", () => {
  const own = new TestDevice(1, "192.0.2.1:51820");
  const key = publicKey(2);
  own.configurePeer(key, { updateOnly: true, allowedIps: allow("10.0.0.0/8") });
  assert.deepEqual(own.events(), [], "update_only adds nobody");
  own.configurePeer(key, {
    presharedKey: repeated(9, 32),
    persistentKeepaliveInterval: 25,
    allowedIps: allow("10.0.0.0/8"),
  });
  own.configurePeer(key, { updateOnly: true, persistentKeepaliveInterval: 20 });
  assert.deepEqual(own.peer(key), {
    publicKey: key,
    presharedKey: repeated(9, 32),
    rxBytes: 0,
    txBytes: 0,
    persistentKeepaliveInterval: 20,
    allowedIps: [prefix("10.0.0.0/8")],
  });
  own.events();
  own.configurePeer(key, { remove: true });
  assert.deepEqual(own.types(), ["route-removed", "connection-removed"]);
  own.configurePeer(key, { remove: true });
  assert.deepEqual(own.types(), []);

  own.configurePeer(key);
  own.configurePeer(publicKey(3));
  own.configure({ replacePeers: true, peers: [{ publicKey: publicKey(4), allowedIps: [] }], fwmark: 7 });
  const { peers, fwmark, listenPort } = own.device.configuration();
  assert.deepEqual([peers.map((peer) => toHex(peer.publicKey)), fwmark, listenPort], [[toHex(publicKey(4))], 7, 51820]);
});

test("the tables' capacity bounds the configuration", () => {
  const own = new TestDevice(1, "192.0.2.1:51820", { maxPeers: 2, maxAllowedIps: 2 });
  assert.equal(
    own.configurePeer(publicKey(2), { allowedIps: allow("10.0.0.0/8", "10.0.0.0/8", "10.1.0.0/16") }),
    undefined,
  );
  assert.equal(own.configurePeer(publicKey(3), { allowedIps: allow("10.2.0.0/16") }), "too-many-allowed-ips");
  assert.equal(
    own.configurePeer(publicKey(3), { allowedIps: allow("10.1.0.0/16") }),
    undefined,
    "moving one is possible",
  );
  assert.equal(own.configurePeer(publicKey(4)), "too-many-peers");
  own.configurePeer(publicKey(2), { remove: true });
  assert.equal(own.configurePeer(publicKey(4)), undefined);
});

test("a device is not its own peer, neither before nor after it has its key", () => {
  const own = new TestDevice(1, "192.0.2.1:51820");
  assert.equal(own.configurePeer(own.publicKey), undefined);
  own.configurePeer(publicKey(2));
  own.configure({ privateKey: repeated(2, 32) });
  assert.deepEqual(own.device.configuration().peers, []);
});

test("a handshake: the responder learns where the initiator is, from the initiation", () => {
  const { left, right } = pair();
  left.device.handlePacket(right.name, Uint8Array.of(0x45), START);
  assert.deepEqual(left.types(), ["handshake-initiated"]);
  left.deliver(right, START);
  const learned = right.events();
  assert.deepEqual(learned[0], {
    type: "path-selected",
    connection: left.name,
    path: { local: right.local, remote: left.local },
  });
  assert.deepEqual(
    learned.slice(1).map(({ type }) => type),
    ["endpoint-changed", "session-established"],
  );
  const [response] = right.transmits();
  assert.ok(response);
  assert.ok(response.source?.equals(right.local), "the answer comes from the address that was asked");
  left.device.handleDatagram(left.local, right.local, response.payload, START + 20);
  const types = left.types();
  assert.deepEqual(types, [
    "path-selected",
    "session-established",
    "session-current",
    "handshake-complete",
    "send-packet",
  ]);
  assert.equal(left.peer(right.publicKey)?.lastHandshakeAt, UNIX_TIME + 20);
  assert.deepEqual([left.peer(right.publicKey)?.txBytes, left.peer(right.publicKey)?.rxBytes], [148, 92]);

  const activity = { sentAt: 0, receivedAt: 0, sentDataAt: 0, receivedDataAt: 0, txBytes: 1000, rxBytes: 2000 };
  left.device.handleActivity(right.name, activity, START + 30);
  assert.deepEqual([left.peer(right.publicKey)?.txBytes, left.peer(right.publicKey)?.rxBytes], [1148, 2092]);
});

test("whitepaper, 2.1: a peer is where its last authenticated message came from", () => {
  const { left, right } = pair();
  left.device.handlePacket(right.name, Uint8Array.of(0x45), START);
  const [initiation] = left.transmits();
  assert.ok(initiation);
  right.device.handleDatagram(right.local, left.local, initiation.payload, START);
  right.transmits();

  const elsewhere = address("198.51.100.9:4000");
  right.device.handleEndpointMoved(left.name, right.local, elsewhere, START + 5);
  assert.deepEqual(right.peer(left.publicKey)?.endpoint, elsewhere);

  // A replay of the initiation from a third place moves nothing.
  right.events();
  right.device.handleDatagram(right.local, address("203.0.113.66:66"), initiation.payload, START + SECOND);
  assert.deepEqual(right.events(), [
    { type: "handshake-refused", from: address("203.0.113.66:66"), error: "WrongTai64nTimestamp" },
  ]);
  assert.deepEqual(right.peer(left.publicKey)?.endpoint, elsewhere);
  // The same move again rewrites the path: the datapath reports once per path.
  right.device.handleEndpointMoved(left.name, right.local, elsewhere, START + SECOND);
  assert.deepEqual(right.types(), ["path-selected"]);
});

test("field notes, 4.3: a cookie reply must not move the peer's endpoint", () => {
  const { left, right } = pair();
  left.device.handlePacket(right.name, Uint8Array.of(0x45), START);
  const [initiation] = left.transmits();
  assert.ok(initiation);
  // Keep the responder busy until it asks for a cookie.
  for (let host = 0; host < 250; host++)
    right.device.handleDatagram(right.local, address(`198.51.100.${host}:1`), initiation.payload, START);
  const reply = right.transmits().find(({ payload }) => parseMessage(payload)?.type === "cookie-reply");
  assert.ok(reply);
  assert.ok(reply.source?.equals(right.local));
  left.events();
  left.device.handleDatagram(left.local, address("203.0.113.66:66"), reply.payload, START);
  assert.deepEqual(left.events(), []);
  assert.deepEqual(left.peer(right.publicKey)?.endpoint, right.local);
});

test("messages of strangers are refused and leave nothing behind", () => {
  const { left, right } = pair();
  const stranger = new TestDevice(9, "192.0.2.9:51820");
  stranger.configurePeer(right.publicKey, { endpoint: right.local });
  stranger.device.handlePacket(right.name, Uint8Array.of(0x45), START);
  stranger.deliver(right, START);
  assert.deepEqual(right.events(), [{ type: "handshake-refused", from: stranger.local, error: "WrongKey" }]);
  assert.deepEqual(right.transmits(), []);
  assert.equal(right.peer(left.publicKey)?.rxBytes, 0);

  left.device.handlePacket(right.name, Uint8Array.of(0x45), START);
  const [initiation] = left.transmits();
  assert.ok(initiation);
  const nobody = new TestDevice(2, "192.0.2.2:51820");
  nobody.device.configure({ privateKey: new Uint8Array(32), peers: [] }, START);
  assert.deepEqual(nobody.types(), ["identity-changed"]);
  nobody.device.handleDatagram(right.local, left.local, initiation.payload, START);
  assert.deepEqual([nobody.events(), nobody.transmits()], [[], []], "without a private key, a device answers nobody");
});

test("packets for a peer without endpoint, or of a device without key, are dropped and counted", () => {
  const { left, right } = pair();
  right.device.handlePacket(left.name, Uint8Array.of(0x45), START);
  assert.deepEqual([right.device.droppedPackets, right.transmits()], [1, []]);
  left.configure({ privateKey: new Uint8Array(32) });
  left.device.handlePacket(right.name, Uint8Array.of(0x45), START);
  left.device.handlePacket("no such peer", Uint8Array.of(0x45), START);
  assert.equal(left.device.droppedPackets, 2);
});

test("a new private key ends all sessions; the same one again does not", () => {
  const { left, right } = pair();
  left.device.handlePacket(right.name, Uint8Array.of(0x45), START);
  left.deliver(right, START);
  right.deliver(left, START);
  left.events();
  left.configure({ privateKey: repeated(1, 32) });
  assert.deepEqual(left.types(), []);
  left.configure({ privateKey: repeated(7, 32) });
  assert.deepEqual(left.types(), ["session-removed", "identity-changed"]);
  assert.deepEqual(left.peer(right.publicKey)?.endpoint, right.local, "the configuration stays");
  left.device.handlePacket(right.name, Uint8Array.of(0x45), START);
  left.deliver(right, START + 50);
  assert.deepEqual(right.events().at(-1), { type: "handshake-refused", from: left.local, error: "WrongKey" });
});

test("an unanswered initiation is repeated without a remembered source address, and so is everything after a new bind", () => {
  const { left, right } = pair();
  left.device.handlePacket(right.name, Uint8Array.of(0x45), START);
  left.deliver(right, START);
  right.deliver(left, START);
  left.events();
  // A new session is wanted; the remembered address is used at first.
  left.device.handleRekeyNeeded(right.name, START + 6 * SECOND);
  assert.ok(left.transmits()[0]?.source?.equals(left.local));
  left.events();
  left.device.handleTimeout(START + 12 * SECOND);
  assert.deepEqual(left.types(), ["path-selected", "handshake-initiated"]);
  assert.equal(left.transmits()[0]?.source, undefined);

  right.events();
  right.device.handleBound(4444);
  assert.deepEqual(right.types(), ["path-selected"]);
  assert.equal(right.device.configuration().listenPort, 4444);
});

test("persistent keepalive switched on starts a handshake at once; a peer that does not answer is reported after 90 s", () => {
  const { left, right } = pair();
  left.configurePeer(right.publicKey, { persistentKeepaliveInterval: 25 });
  assert.deepEqual(left.types(), ["handshake-initiated"]);
  let now = START;
  for (let next = left.device.pollTimeout(); next !== undefined && next < START + 100 * SECOND; ) {
    now = next;
    left.device.handleTimeout(now);
    next = left.device.pollTimeout();
    assert.ok(next === undefined || next > now);
  }
  const expired = left.events().filter(({ type }) => type === "peer-expired");
  assert.deepEqual(expired, [{ type: "peer-expired", connection: right.name, reason: "no-answer" }]);
  assert.ok(left.transmits().length >= 17);
  left.device.close(now);
  assert.equal(left.device.pollTimeout(), undefined);
});

test("once connected, switching persistent keepalive on sends one; packets that wait are released", () => {
  const { left, right } = pair();
  left.device.handlePacket(right.name, Uint8Array.of(0x45), START);
  left.deliver(right, START);
  right.deliver(left, START);
  left.events();
  left.configurePeer(right.publicKey, { persistentKeepaliveInterval: 25 }, START + 10);
  assert.deepEqual(left.types(), ["send-keepalive"]);

  right.device.handlePacket(left.name, Uint8Array.of(0x46), START + 20);
  const established = right.events().find((event) => event.type === "session-established");
  assert.ok(established?.type === "session-established");
  right.device.handleSessionConfirmed(left.name, established.session.localIndex, START + 30);
  assert.deepEqual(right.types(), ["session-current", "handshake-complete", "send-packet"]);
});
