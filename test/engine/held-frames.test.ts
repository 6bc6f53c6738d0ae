// Frames of the TUN device that are read before the first of them is handled (assembly/outbound.ts, "hold").

import assert from "node:assert/strict";
import { test } from "node:test";
import { FRAME_PLACE, HELD_FRAMES } from "../../assembly/regions.js";
import { IpPrefix } from "../../src/base/address.js";
import { RouteTarget } from "../../src/engine/index.js";
import { connect, datagramsOf, EnginePeer, ip, socket } from "../support/engine-peer.js";
import { frameOf, tcpGsoFrame, udpPacket } from "../support/ip-packets.js";

const CONNECTIONS = 12;
const SELF = { 4: ip("100.64.0.1"), 6: ip("fd00:2021:1111::1") } as const;

/** A connection for each even destination, a connection that has no session for the odd ones of the first six, no route behind the last. */
async function sender(): Promise<EnginePeer> {
  const peer = await EnginePeer.create();
  for (let i = 0; i < CONNECTIONS; i++) {
    connect(peer, [IpPrefix.host(destination(i, 4)), IpPrefix.host(destination(i, 6))], {
      localIndex: 0xa00 + i,
      remoteIndex: 0xb00 + i,
      sendKey: new Uint8Array(32).fill(i),
      receiveKey: new Uint8Array(32).fill(0x80 + i),
      remote: socket(`203.0.113.${i + 1}:51820`),
    });
  }
  peer.tables.removeSession(0xa00 + 3);
  peer.tables.setRoute(IpPrefix.host(destination(CONNECTIONS, 4)), RouteTarget.Exception);
  return peer;
}

const destination = (i: number, family: 4 | 6) =>
  family === 4 ? ip(`100.96.0.${i + 1}`) : ip(`fd00:2021:1111:8000::${i + 1}`);

function packet(to: number, family: 4 | 6, length: number): Uint8Array {
  const payload = new Uint8Array(length).fill(to);
  return frameOf(
    udpPacket({
      source: SELF[family],
      destination: destination(to, family),
      sourcePort: to,
      destinationPort: 9,
      payload,
    }),
  );
}

/** Frames to all connections in an irregular order, among them what is dropped and what the control plane gets. */
function mixture(): Uint8Array[] {
  const frames: Uint8Array[] = [];
  for (let n = 0; n < 200; n++)
    frames.push(packet((n * n + (n >> 3)) % (CONNECTIONS + 2), n % 3 === 0 ? 6 : 4, (n * 53) % 1200));
  frames.splice(20, 0, Uint8Array.of(1, 2, 3));
  frames.splice(40, 0, new Uint8Array(60));
  frames.splice(60, 0, new Uint8Array(60).fill(0xff));
  const payload = new Uint8Array(9000);
  const train = {
    source: SELF[4],
    destination: destination(2, 4),
    sourcePort: 1,
    destinationPort: 2,
    sequence: 1,
    payload,
  };
  frames.splice(80, 0, tcpGsoFrame(train, 1240));
  frames.splice(90, 0, packet(5, 4, 3000));
  return frames;
}

test("frames that are held leave as if they had been handled one by one", async () => {
  const [alone, together] = [await sender(), await sender()];
  for (const frame of mixture()) alone.outbound(frame);
  together.outboundTogether(mixture());
  const sent = (peer: EnginePeer) =>
    peer.send(4).flatMap((message) => datagramsOf(message).map((bytes) => ({ to: `${message.to}`, bytes })));
  const expected = sent(alone);
  assert.ok(expected.length > 150);
  assert.deepEqual(sent(together), expected);
  assert.deepEqual(together.drops(), alone.drops());
  assert.deepEqual(Object.keys(alone.drops()).sort(), ["MalformedPacket", "NoRoute"]);
  const exceptions = alone.exceptions();
  assert.ok(exceptions.length > 10);
  assert.deepEqual(together.exceptions(), exceptions);
});

test("small frames are held behind each other; a large one, one to be cut and the last there is place for are not waited with", async () => {
  const peer = await sender();
  const hold = (frame: Uint8Array) => {
    peer.bytes.set(frame, peer.engine.tunReadAddress);
    const more = peer.engine.hold(frame.length);
    if (!more) peer.engine.outboundHeld(0);
    return more;
  };
  const first = peer.engine.tunReadAddress;
  for (let i = 1; i < HELD_FRAMES; i++) {
    assert.equal(hold(packet(0, 4, 100)), true);
    assert.equal(peer.engine.tunReadAddress, first + FRAME_PLACE * i);
  }
  assert.equal(peer.sendDatagrams(4).length, 0);
  assert.equal(hold(packet(0, 4, 100)), false);
  assert.equal(peer.engine.tunReadAddress, first);
  assert.equal(peer.sendDatagrams(4).length, HELD_FRAMES);

  assert.equal(hold(packet(0, 4, FRAME_PLACE - 38)), true);
  assert.equal(hold(packet(0, 4, FRAME_PLACE - 37)), false);
  const segmented = { source: SELF[4], destination: destination(0, 4), sourcePort: 1, destinationPort: 2, sequence: 1 };
  assert.equal(hold(tcpGsoFrame({ ...segmented, payload: new Uint8Array(200) }, 100)), false);
  assert.equal(peer.sendDatagrams(4).length, 4);
});

test("all frames that can be held fit into a queue that is not full, whatever the last one is", async () => {
  const peer = await sender();
  peer.engine.setSegmentationOffload(false);
  const payload = new Uint8Array(65535 - 40);
  const last = {
    source: SELF[4],
    destination: destination(0, 4),
    sourcePort: 1,
    destinationPort: 2,
    sequence: 1,
    payload,
  };
  // One message more than a queue has that is not full.
  while (!peer.engine.transmitFull) peer.outbound(packet(1, 4, 10));
  const waiting = peer.engine.transmitCount(4);
  const small = Array.from({ length: HELD_FRAMES - 1 }, () => packet(1, 4, 1900));
  peer.outboundTogether([...small, tcpGsoFrame(last, 48)]);
  assert.equal(peer.engine.transmitCount(4), waiting + small.length + Math.ceil(payload.length / 48));
  assert.deepEqual(peer.drops(), {});
});
