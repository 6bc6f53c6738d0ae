// The transmit queues: which datagrams share a message, and what becomes of messages that the kernel refuses.

import assert from "node:assert/strict";
import { test } from "node:test";
import { SESSION_SEND_COUNTER } from "../../assembly/records.js";
import { TRANSMIT_MESSAGES, TRANSMIT_RESERVE_MESSAGES } from "../../assembly/regions.js";
import { IpPrefix } from "../../src/base/address.js";
import { viewOf } from "../../src/base/bytes.js";
import { Exception } from "../../src/engine/index.js";
import {
  connect,
  datagramsOf,
  EnginePeer,
  INDEX_A,
  ip,
  KEY_A_TO_B,
  openMessage,
  SIDE_B,
  SOCKET_B,
  socket,
} from "../support/engine-peer.js";
import { frameOf, tcpGsoFrame, udpPacket } from "../support/ip-packets.js";

const SELF = ip("100.64.0.1");
const PEERS = [ip("100.96.0.1"), ip("100.96.0.2")] as const;

async function sender() {
  const peer = await EnginePeer.create();
  const first = connect(peer, [IpPrefix.host(PEERS[0])]);
  const second = connect(peer, [IpPrefix.host(PEERS[1])], {
    ...SIDE_B,
    sendKey: KEY_A_TO_B,
    remote: socket("203.0.113.3:7000"),
  });
  return { peer, first, second };
}

/** A UDP packet of `length` bytes to one of the peers. */
function packet(length: number, to: 0 | 1 = 0): Uint8Array {
  return frameOf(
    udpPacket({
      source: SELF,
      destination: PEERS[to],
      sourcePort: 1,
      destinationPort: 2,
      payload: new Uint8Array(length - 28),
    }),
  );
}

/** A frame of `segments` TCP segments of 1280 bytes each and one more of `rest` bytes of payload. */
function train(segments: number, rest = 0): Uint8Array {
  const payload = new Uint8Array(segments * 1240 + rest);
  return tcpGsoFrame(
    { source: SELF, destination: PEERS[0], sourcePort: 1, destinationPort: 2, sequence: 1, payload },
    1240,
  );
}

/** Segment size and datagram lengths of every waiting message. */
function shapes(peer: EnginePeer) {
  return peer.waiting(4).map((message) => [message.segmentSize, datagramsOf(message).map(({ length }) => length)]);
}

const repeat = (n: number, length: number) => Array.from({ length: n }, () => length);

test("a train of segments is one message; only its last datagram may be shorter", async () => {
  const { peer } = await sender();
  peer.outbound(train(48, 7));
  assert.deepEqual(shapes(peer), [[1312, [...repeat(48, 1312), 40 + 7 + 32]]]);
});

test("a message holds at most 65507 bytes, and at most 64 datagrams", async () => {
  const { peer } = await sender();
  peer.outbound(train(52));
  assert.deepEqual(shapes(peer), [
    [1312, repeat(49, 1312)],
    [1312, repeat(3, 1312)],
  ]);
  peer.send(4);
  for (let i = 0; i < 65; i++) peer.outbound(packet(100));
  assert.deepEqual(shapes(peer), [
    [132, repeat(64, 132)],
    [undefined, [132]],
  ]);
});

test("frames of equal stride append to the message, a shorter one closes it, a longer one begins the next", async () => {
  const { peer } = await sender();
  for (const length of [500, 500, 400, 400, 600]) peer.outbound(packet(length));
  assert.deepEqual(shapes(peer), [
    [532, [532, 532, 432]],
    [undefined, [432]],
    [undefined, [632]],
  ]);
});

test("a message has datagrams of one connection and one path", async () => {
  const { peer, first } = await sender();
  peer.outbound(packet(500, 0));
  peer.outbound(packet(500, 1));
  peer.outbound(packet(500, 1));
  peer.outbound(packet(500, 0));
  peer.tables.setPath(first, { local: undefined, remote: socket("203.0.113.9:1") });
  peer.outbound(packet(500, 0));
  assert.deepEqual(
    peer.waiting(4).map((message) => [message.to.toString(), datagramsOf(message).length]),
    [
      [SOCKET_B.toString(), 1],
      ["203.0.113.3:7000", 2],
      [SOCKET_B.toString(), 1],
      ["203.0.113.9:1", 1],
    ],
  );
});

test("a path slot that was freed and reused is another path", async () => {
  const { peer, first } = await sender();
  peer.outbound(packet(500));
  for (let port = 1; port <= 64; port++) {
    peer.tables.reclaim();
    assert.equal(peer.tables.setPath(first, { local: undefined, remote: socket(`203.0.113.9:${port}`) }), true);
  }
  peer.outbound(packet(500));
  assert.deepEqual(
    peer.waiting(4).map(({ to }) => to.toString()),
    [SOCKET_B.toString(), "203.0.113.9:64"],
  );
});

test("sent messages leave, the rest moves up, counters stay in order", async () => {
  const { peer } = await sender();
  for (const length of [900, 100, 200, 300]) peer.outbound(packet(length));
  assert.equal(peer.waiting(4).length, 3);
  peer.engine.transmitDone(4, 2);
  peer.outbound(packet(300));
  assert.deepEqual(shapes(peer), [[332, [332, 332]]]);
  const counters = peer.sendDatagrams(4).map((datagram) => openMessage(KEY_A_TO_B, datagram).counter);
  assert.deepEqual(counters, [3n, 4n]);
  assert.equal(peer.engine.transmitCount(4), 0);
});

test("without segmentation offload every message is one datagram", async () => {
  const { peer } = await sender();
  peer.engine.setSegmentationOffload(false);
  peer.outbound(train(3));
  peer.outbound(packet(1280));
  assert.deepEqual(
    shapes(peer),
    repeat(4, 1312).map((length) => [undefined, [length]]),
  );
});

test("a refused train is split into single datagrams, in order, before what follows", async () => {
  const { peer } = await sender();
  peer.outbound(train(4, 100));
  peer.outbound(packet(900));
  peer.engine.transmitSplitFirst(4);
  assert.deepEqual(
    shapes(peer),
    [...repeat(4, 1312), 172].map((length) => [undefined, [length]]),
  );
  const [message] = peer.waiting(4);
  assert.equal(message?.from?.toString(), "192.0.2.1");
  peer.engine.transmitDone(4, 2);
  peer.engine.transmitSplitFirst(4);
  peer.outbound(packet(900));
  const counters = peer.sendDatagrams(4).map((datagram) => openMessage(KEY_A_TO_B, datagram).counter);
  assert.deepEqual(counters, [2n, 3n, 4n, 5n, 6n]);
});

test("a message that waits while another is appended to was not split behind its back", async () => {
  const { peer } = await sender();
  peer.outbound(train(2));
  peer.engine.transmitSplitFirst(4);
  peer.outbound(train(2));
  assert.equal(peer.sendDatagrams(4).length, 4);
});

test("a message that is refused for good is dropped and its datagrams are counted", async () => {
  const { peer } = await sender();
  peer.outbound(train(5));
  peer.outbound(packet(1281));
  peer.engine.transmitDropFirst(4);
  assert.deepEqual(peer.drops(), { UdpSendFailed: 5 });
  assert.deepEqual(shapes(peer), [[undefined, [1313]]]);
  peer.engine.transmitDone(4, 1);
  peer.outbound(train(3));
  peer.engine.transmitSplitFirst(4);
  peer.engine.transmitDropFirst(4);
  assert.deepEqual(peer.drops(), { UdpSendFailed: 6 });
  assert.equal(peer.sendDatagrams(4).length, 2);
  peer.engine.transmitDropFirst(4);
  peer.engine.transmitSplitFirst(4);
  assert.deepEqual(peer.drops(), { UdpSendFailed: 6 });
});

test("a full queue says so, refuses and counts what does not fit, and works again when it is empty", async () => {
  const { peer } = await sender();
  let frames = 0;
  while (!peer.engine.transmitFull) {
    peer.outbound(train(50));
    frames++;
  }
  assert.ok(frames >= 11 && frames <= 16, `${frames} frames`);
  // A caller that ignores it: nothing is overwritten.
  let dropped = 0;
  for (let i = 0; i < 10; i++) {
    peer.outbound(train(50));
    dropped = peer.drops().UdpSendFailed ?? 0;
  }
  assert.ok(dropped > 0);
  const datagrams = peer.sendDatagrams(4);
  assert.equal(datagrams.length, 50 * (frames + 10) - dropped);
  for (const datagram of datagrams) openMessage(KEY_A_TO_B, datagram);
  assert.equal(peer.engine.transmitFull, false);
  peer.outbound(packet(100));
  assert.equal(peer.sendDatagrams(4).length, 1);
});

test("a queue of many single messages is full before its message headers run out", async () => {
  const { peer } = await sender();
  peer.engine.setSegmentationOffload(false);
  while (!peer.engine.transmitFull) peer.outbound(packet(100));
  assert.equal(peer.engine.transmitCount(4), TRANSMIT_MESSAGES - TRANSMIT_RESERVE_MESSAGES + 1);
});

test("the smallest segments that the kernel makes fit into a queue that is not full", async () => {
  const { peer } = await sender();
  const payload = new Uint8Array(65535 - 40);
  const frame = tcpGsoFrame(
    { source: SELF, destination: PEERS[0], sourcePort: 1, destinationPort: 2, sequence: 1, payload },
    48,
  );
  for (const offload of [true, false]) {
    peer.engine.setSegmentationOffload(offload);
    peer.outbound(frame);
    assert.equal(peer.sendDatagrams(4).length, Math.ceil(payload.length / 48));
  }
  // A frame that could never fit is too large.
  viewOf(frame).setUint16(4, 1, true);
  peer.outbound(frame);
  assert.deepEqual(peer.drops(), { TooLarge: payload.length });
  assert.deepEqual(peer.exceptions(), []);
});

test("a packet that makes a datagram of more than 65507 bytes is too large", async () => {
  const { peer } = await sender();
  peer.outbound(packet(65507 - 32));
  assert.equal(peer.sendDatagrams(4)[0]?.length, 65507);
  peer.outbound(packet(65507 - 31));
  assert.deepEqual(peer.drops(), { TooLarge: 1 });
});

test("counters are 64 bits and end at REJECT_AFTER_MESSAGES; new keys are wanted from 2^60 on", async () => {
  const { peer, first } = await sender();
  const counterAddress = peer.layout.sessions + SESSION_SEND_COUNTER;
  const setCounter = (value: bigint) => peer.view.setBigUint64(counterAddress, value, true);
  const sendOne = () => {
    peer.outbound(packet(100));
    return peer.sendDatagrams(4).map((datagram) => openMessage(KEY_A_TO_B, datagram).counter);
  };

  setCounter(2n ** 53n + 1n);
  assert.deepEqual(sendOne(), [2n ** 53n + 1n]);
  assert.deepEqual(peer.exceptions(), []);

  setCounter(2n ** 60n - 2n);
  assert.deepEqual([...sendOne(), ...sendOne(), ...sendOne()], [2n ** 60n - 2n, 2n ** 60n - 1n, 2n ** 60n]);
  assert.deepEqual(
    peer.exceptions().map(({ reason, connection, localIndex }) => [reason, connection, localIndex]),
    [[Exception.RekeyNeeded, first, INDEX_A]],
  );

  const limit = 2n ** 64n - 2n ** 13n - 1n;
  setCounter(limit - 1n);
  assert.deepEqual([...sendOne(), ...sendOne()], [limit - 1n]);
  assert.equal(peer.engine.sealKeepalive(first, 0), false);
  assert.deepEqual(
    peer.exceptions().map(({ reason, connection }) => [reason, connection]),
    [[Exception.NoSession, first]],
  );
  // A train that would run over the limit takes no counter at all.
  setCounter(limit - 1n);
  peer.outbound(train(2));
  assert.equal(peer.exceptions().length, 2);
  assert.equal(peer.view.getBigUint64(counterAddress, true), limit - 1n);
});

test("packets that wait to be sealed keep their keys when the session changes", async () => {
  const { peer, first } = await sender();
  const next = new Uint8Array(32).fill(0x55);
  peer.outbound(packet(100));
  peer.tables.installSession({
    connection: first,
    localIndex: 0xa02,
    remoteIndex: 0xb02,
    sendKey: next,
    receiveKey: next,
    confirmed: true,
    createdAt: 0,
  });
  peer.tables.setCurrentSession(first, 0xa02);
  peer.outbound(packet(100));
  peer.tables.removeSession(INDEX_A);
  const [old, young] = peer.sendDatagrams(4);
  assert.equal(openMessage(KEY_A_TO_B, old ?? new Uint8Array(0)).counter, 0n);
  assert.equal(openMessage(next, young ?? new Uint8Array(0)).counter, 0n);
});

test("going to sleep seals what waits, so that the session may be reused", async () => {
  const { peer } = await sender();
  peer.engine.leaveQuiescent();
  peer.outbound(packet(100));
  peer.tables.removeSession(INDEX_A);
  peer.tables.reclaim();
  peer.engine.enterQuiescent();
  peer.tables.reclaim();
  const [datagram] = peer.sendDatagrams(4);
  assert.equal(openMessage(KEY_A_TO_B, datagram ?? new Uint8Array(0)).counter, 0n);
});
