// Packets of one connection that several threads seal and open (assembly/jobs.ts): what comes out is what one thread would make, in
// order, and what is forged or replayed is dropped.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Helper } from "../../bench/engine/helper.js";
import { IpPrefix } from "../../src/base/address.js";
import {
  asReceived,
  connect,
  datagramsOf,
  EnginePeer,
  ip,
  KEY_A_TO_B,
  openMessage,
  type SentMessage,
  SIDE_B,
  SMALL_CONFIG,
  SOCKET_A,
} from "../support/engine-peer.js";
import { packetsOfFrame, type TcpFields, tcpGsoFrame, tcpSegments } from "../support/ip-packets.js";

const A4 = ip("100.64.0.1");
const B4 = ip("100.96.0.1");
const SEGMENT = 1200;
const SEGMENTS = 48;

let a: EnginePeer;
let b: EnginePeer;
let helper: Helper;

before(async () => {
  a = await EnginePeer.create({ ...SMALL_CONFIG, workers: 2 });
  b = await EnginePeer.create({ ...SMALL_CONFIG, workers: 2 });
  connect(a, [IpPrefix.host(B4)]);
  connect(b, [IpPrefix.host(A4)], SIDE_B);
  helper = await Helper.start(a.layout, [a.memory, b.memory], "narrow");
  helper.setActive(true);
  a.engine.shareJobs(true);
  b.engine.shareJobs(true);
});

after(() => helper.stop());

let sequence = 0;

/** A TCP frame of `SEGMENTS` segments with a payload of its own. */
function train(): TcpFields {
  const payload = new Uint8Array(SEGMENT * SEGMENTS);
  for (let i = 0; i < payload.length; i++) payload[i] = (sequence + i * 31) >>> (i & 3);
  const id = (sequence / SEGMENT) & 0xffff;
  const fields = { source: A4, destination: B4, sourcePort: 5000, destinationPort: 5001, id, sequence, payload };
  sequence += payload.length;
  return fields;
}

/** Seals trains, shared; returns their messages and the packets they stand for. */
function sealTrains(count: number): { messages: SentMessage[]; packets: Uint8Array[] } {
  const messages: SentMessage[] = [];
  const packets: Uint8Array[] = [];
  for (let i = 0; i < count; i++) {
    const fields = train();
    a.outbound(tcpGsoFrame(fields, SEGMENT));
    packets.push(...tcpSegments(fields, SEGMENT));
    // What is sealed leaves while the rest is being sealed.
    messages.push(...a.send(4));
  }
  a.engine.finishSealing();
  messages.push(...a.send(4));
  return { messages, packets };
}

test("packets that several threads seal are sealed with their counters and leave in order", () => {
  const before = helper.jobs;
  let counter: bigint | undefined;
  for (let round = 0; round < 40; round++) {
    const { messages, packets } = sealTrains(8);
    const datagrams = messages.flatMap(datagramsOf);
    assert.equal(datagrams.length, packets.length);
    for (const [i, datagram] of datagrams.entries()) {
      const opened = openMessage(KEY_A_TO_B, datagram);
      assert.equal(opened.counter, counter ?? opened.counter);
      counter = opened.counter + 1n;
      assert.ok(Buffer.from(opened.packet).equals(packets[i] ?? new Uint8Array(0)), `packet ${i} of round ${round}`);
    }
  }
  assert.ok(helper.jobs > before, "the helper did nothing");
});

test("packets that several threads open reach the device in order", () => {
  const before = helper.jobs;
  for (let round = 0; round < 40; round++) {
    const { messages, packets } = sealTrains(8);
    const received = b.receive(4, asReceived(messages, SOCKET_A)).flatMap(packetsOfFrame);
    assert.equal(received.length, packets.length);
    for (const [i, packet] of packets.entries())
      assert.ok(Buffer.from(received[i] ?? new Uint8Array(0)).equals(packet), `packet ${i} of round ${round}`);
  }
  assert.ok(helper.jobs > before, "the helper did nothing");
  assert.deepEqual(b.drops(), {});
});

test("forged and repeated packets among those that several threads open are dropped, and no others", () => {
  const { messages, packets } = sealTrains(8);
  const [first, ...rest] = messages;
  assert.ok(first !== undefined && first.segmentSize !== undefined);
  const forged = first.bytes.slice();
  // A bit of the third datagram.
  const at = 2 * first.segmentSize + 100;
  forged[at] = (forged[at] ?? 0) ^ 1;
  const sent = [{ ...first, bytes: forged }, ...rest, ...messages.slice(1)];
  const received = b.receive(4, asReceived(sent, SOCKET_A)).flatMap(packetsOfFrame);
  packets.splice(2, 1);
  assert.equal(received.length, packets.length);
  for (const [i, packet] of packets.entries())
    assert.ok(Buffer.from(received[i] ?? new Uint8Array(0)).equals(packet), `packet ${i}`);
  assert.equal(b.drops().BadTag, 1);
  assert.equal(b.drops().Replayed, rest.flatMap(datagramsOf).length);
});

test("the queue fills up while others seal, and empties without a loss", () => {
  const packets: Uint8Array[] = [];
  const messages: SentMessage[] = [];
  for (let i = 0; i < 60; i++) {
    const fields = train();
    a.outbound(tcpGsoFrame(fields, SEGMENT));
    packets.push(...tcpSegments(fields, SEGMENT));
    if (a.engine.transmitFull) messages.push(...a.send(4));
  }
  a.engine.finishSealing();
  messages.push(...a.send(4));
  const opened = messages.flatMap(datagramsOf).map((datagram) => openMessage(KEY_A_TO_B, datagram).packet);
  assert.equal(opened.length, packets.length);
  for (const [i, packet] of packets.entries()) assert.ok(Buffer.from(opened[i] ?? new Uint8Array(0)).equals(packet));
});
