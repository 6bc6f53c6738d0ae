// Exceptions: packets and notices for the control plane, and the ring they travel in.

import assert from "node:assert/strict";
import { test } from "node:test";
import { IpPrefix } from "../../src/base/address.js";
import { toHex } from "../../src/base/bytes.js";
import { Engine, Exception, RouteTarget } from "../../src/engine/index.js";
import { connect, EnginePeer, INDEX_A, ip, SMALL_CONFIG, SOCKET_B, socket } from "../support/engine-peer.js";
import { frameOf, tcpGsoFrame, tcpSegments, udpGsoFrame, udpPacket, udpSegments } from "../support/ip-packets.js";

const SELF = ip("100.64.0.1");
const PEER = ip("100.96.0.1");
const ENDS = { source: SELF, destination: PEER, sourcePort: 1, destinationPort: 2 };
/** An address that no path leads to. */
const ELSEWHERE = socket("203.0.113.77:1");
const PACKET = udpPacket({ ...ENDS, payload: Uint8Array.of(1, 2, 3) });

function handshake(marker: number, length = 148) {
  const bytes = new Uint8Array(length).fill(marker);
  bytes.set([1, 0, 0, 0]);
  return { from: SOCKET_B, bytes };
}

test("a destination without route is counted, one with a special route is handed over or dropped", async () => {
  const peer = await EnginePeer.create();
  peer.outbound(frameOf(PACKET));
  assert.deepEqual(peer.drops(), { NoRoute: 1 });
  peer.tables.setRoute(IpPrefix.of(PEER, 11), RouteTarget.Exception);
  peer.outbound(frameOf(PACKET));
  assert.deepEqual(
    peer.exceptions().map(({ reason, connection, family, payload }) => [reason, connection, family, toHex(payload)]),
    [[Exception.RouteException, undefined, undefined, toHex(PACKET)]],
  );
  peer.tables.setRoute(IpPrefix.host(PEER), RouteTarget.Drop);
  peer.outbound(frameOf(PACKET));
  assert.deepEqual(peer.drops(), { NoRoute: 2 });
  assert.deepEqual(peer.exceptions(), []);
});

test("packets for a connection without session, or without path, are handed over", async () => {
  const peer = await EnginePeer.create();
  const connection = connect(peer, [IpPrefix.host(PEER)]);
  peer.tables.setCurrentSession(connection, undefined);
  peer.outbound(frameOf(PACKET));
  assert.equal(peer.engine.sealKeepalive(connection, 0), false);
  peer.tables.setCurrentSession(connection, INDEX_A);
  peer.tables.setPath(connection, undefined);
  peer.outbound(frameOf(PACKET));
  assert.equal(peer.engine.sealKeepalive(connection, 0), false);
  assert.deepEqual(
    peer.exceptions().map(({ reason, connection: slot, payload }) => [reason, slot, toHex(payload)]),
    Array.from({ length: 2 }, () => [Exception.NoSession, connection, toHex(PACKET)]),
  );
  assert.deepEqual(peer.drops(), { NoPath: 2 });
});

test("a large frame is handed over as its packets, complete, ready to be sent later", async () => {
  const peer = await EnginePeer.create();
  peer.tables.setRoute(IpPrefix.host(PEER), RouteTarget.Exception);
  const payload = Uint8Array.from({ length: 5000 }, (_, i) => i & 255);
  const tcp = { ...ENDS, sequence: 9, payload };
  peer.outbound(tcpGsoFrame(tcp, 1240));
  peer.outbound(udpGsoFrame({ ...ENDS, payload }, 1200));
  assert.deepEqual(
    peer.exceptions().map(({ payload }) => toHex(payload)),
    [...tcpSegments(tcp, 1240), ...udpSegments({ ...ENDS, payload }, 1200)].map(toHex),
  );
});

test("malformed frames are counted, nothing else", async () => {
  const peer = await EnginePeer.create();
  connect(peer, [IpPrefix.host(PEER)]);
  const good = tcpGsoFrame({ ...ENDS, sequence: 1, payload: new Uint8Array(3000) }, 1000);
  const broken = (change: (frame: Uint8Array, view: DataView) => void, frame = good) => {
    const copy = frame.slice();
    change(copy, new DataView(copy.buffer));
    return copy;
  };
  const frames = [
    new Uint8Array(0),
    good.slice(0, 9),
    good.slice(0, 29),
    frameOf(PACKET.slice(0, PACKET.length - 1)),
    broken((frame) => frame.set([0x55], 10)),
    broken((frame) => frame.set([0x44], 10)),
    // No checksum wanted; unknown or wrong kind; no size.
    broken((frame) => frame.set([0], 0)),
    broken((frame) => frame.set([3], 1)),
    broken((frame) => frame.set([4], 1)),
    broken((frame) => frame.set([5], 1)),
    broken((_, view) => view.setUint16(4, 0, true)),
    // The checksum is elsewhere than it can be.
    broken((_, view) => view.setUint16(6, 19, true)),
    broken((_, view) => view.setUint16(6, 24, true)),
    broken((_, view) => view.setUint16(6, 3039, true)),
    broken((_, view) => view.setUint16(8, 6, true)),
    broken((_, view) => view.setUint16(8, 65535, true)),
    // A TCP header that is too short, or longer than the packet.
    broken((frame) => frame.set([0x40], 10 + 20 + 12)),
    broken((_, view) => {
      view.setUint16(12, 20 + 20 + 3);
      view.setUint8(10 + 20 + 12, 0xf0);
    }),
  ];
  for (const frame of frames) peer.outbound(frame);
  assert.deepEqual(peer.drops(), { MalformedPacket: frames.length });
  assert.deepEqual(peer.exceptions(), []);
  assert.equal(peer.engine.transmitCount(4), 0);
});

test("the ring: full is counted, reading makes room, records wrap around its end", async () => {
  const peer = await EnginePeer.create({ ...SMALL_CONFIG, ringBytes: 256 * 1024 });
  const perRing = Math.floor((256 * 1024 - 64) / (64 + 152));
  // A handshake message every ten milliseconds is within what the engine passes on.
  for (let i = 0; i < perRing + 10; i++) peer.receive(4, [handshake(i & 255)], 10 * i);
  assert.deepEqual(peer.drops(), { ExceptionRingFull: 10 });
  const read = (count: number, from: number) => {
    for (let i = 0; i < count; i++) {
      const record = peer.reader.next();
      assert.equal(record?.payload[100], (from + i) & 255);
      assert.equal(record?.payload.length, 148);
    }
  };
  read(500, 0);
  // 499 are free again: the one that was read last is still held.
  for (let i = 0; i < 500; i++) peer.receive(4, [handshake(i & 255)], 10 * (perRing + 10 + i));
  assert.ok((peer.drops().ExceptionRingFull ?? 0) <= 13);
  read(perRing - 500, 500);
  read(490, 0);
  while (peer.reader.next() !== undefined);

  // Many turns, of many sizes, checked byte for byte.
  for (let i = 0; i < 4000; i++) {
    const length = (i * 977) % 60000;
    const stun = new Uint8Array(20 + length).fill(i & 255);
    stun.set([0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42]);
    peer.receive(4, [{ from: SOCKET_B, bytes: stun }]);
    if (i % 3 !== 0) continue;
    for (let record = peer.reader.next(); record !== undefined; record = peer.reader.next()) {
      assert.equal(record.reason, Exception.Stun);
      assert.ok(record.payload.subarray(8).every((byte) => byte === record.payload[8]));
    }
  }
  assert.equal(peer.reader.next(), undefined);
});

test("floods of packets and unknown messages leave room for handshakes", async () => {
  const peer = await EnginePeer.create();
  peer.tables.setRoute(IpPrefix.host(PEER), RouteTarget.Exception);
  const unknown = new Uint8Array(64);
  unknown.set([4, 0, 0, 0]);
  for (let i = 0; i < 3000; i++) peer.receive(4, [{ from: SOCKET_B, bytes: unknown }]);
  const frame = frameOf(udpPacket({ ...ENDS, payload: new Uint8Array(1200) }));
  for (let i = 0; i < 300; i++) peer.outbound(frame);
  const before = peer.drops().ExceptionRingFull ?? 0;
  assert.ok(before > 2000 && before < 3300);
  for (let i = 0; i < 100; i++) peer.receive(4, [handshake(i)]);
  assert.equal(peer.drops().ExceptionRingFull, before);
  const reasons = peer.exceptions().map(({ reason }) => reason);
  assert.ok(reasons.includes(Exception.UnknownIndex) && reasons.includes(Exception.RouteException));
  assert.equal(reasons.filter((reason) => reason === Exception.WireGuardHandshake).length, 100);
});

test("a confirmation that finds the ring full is reported later", async () => {
  const peer = await EnginePeer.create();
  const connection = connect(peer, [IpPrefix.host(PEER)], { learnEndpoint: true });
  // Records of 72 bytes fill it to the last.
  const channelData = { from: SOCKET_B, bytes: Uint8Array.of(0x40, 0, 0, 0) };
  while ((peer.drops().ExceptionRingFull ?? 0) === 0) peer.receive(4, [channelData]);
  const other = await EnginePeer.create();
  connect(other, [IpPrefix.host(PEER)]);
  const keepalives = [0, 1].map(() => {
    other.engine.sealKeepalive(0, 0);
    return other.sendDatagrams(4)[0] ?? new Uint8Array(0);
  });
  peer.tables.installSession({
    connection,
    localIndex: 0xb01,
    remoteIndex: 1,
    sendKey: new Uint8Array(32),
    receiveKey: new Uint8Array(32).fill(0x11),
    confirmed: false,
    createdAt: 0,
  });
  const receive = (i: number) => peer.receive(4, [{ from: ELSEWHERE, bytes: keepalives[i] ?? new Uint8Array(0) }]);
  receive(0);
  assert.ok(peer.exceptions().every(({ reason }) => reason === Exception.Relay));
  receive(1);
  assert.deepEqual(
    peer.exceptions().map(({ reason }) => reason),
    [Exception.SessionConfirmed, Exception.EndpointMoved],
  );
});

test("every slot has its own ring, and the reader takes turns", async () => {
  const peer = await EnginePeer.create({ ...SMALL_CONFIG, workers: 2 });
  const { memory, layout } = peer;
  const engines = [peer.engine];
  for (const slot of [0, 2]) engines.push(await Engine.create({ memory, layout, slot }));
  peer.tables.setRoute(IpPrefix.host(PEER), RouteTarget.Exception);
  const frame = frameOf(PACKET);
  for (const engine of engines) {
    for (let i = 0; i < 2; i++) {
      peer.bytes.set(frame, engine.tunReadAddress);
      engine.outbound(frame.length, 0);
    }
    assert.equal(engine.exceptionsPending(), true);
  }
  assert.deepEqual(
    peer.exceptions().map(({ slot }) => slot),
    [0, 1, 2, 0, 1, 2],
  );
});
