// Packets of several connections in one batch: sealed and opened together, each with its own key, and in order.

import assert from "node:assert/strict";
import { test } from "node:test";
import { IpPrefix } from "../../src/base/address.js";
import {
  asReceived,
  connect,
  datagramsOf,
  EnginePeer,
  ip,
  openMessage,
  type SentMessage,
  SOCKET_A,
  SOCKET_B,
} from "../support/engine-peer.js";
import { frameOf, packetsOfFrame, udpPacket } from "../support/ip-packets.js";

const CONNECTIONS = 5;
const address = (i: number) => ip(`100.96.0.${i + 1}`);
const keyOf = (i: number, way: number) => new Uint8Array(32).fill(0x10 * way + i);

/** Two peers with a connection for each of B's addresses. */
async function tunnels() {
  const a = await EnginePeer.create();
  const b = await EnginePeer.create();
  for (let i = 0; i < CONNECTIONS; i++) {
    const [localIndex, remoteIndex] = [0xa00 + i, 0xb00 + i];
    const ends = { local: SOCKET_A, remote: SOCKET_B };
    connect(a, [IpPrefix.host(address(i))], {
      ...{ localIndex, remoteIndex, sendKey: keyOf(i, 1), receiveKey: keyOf(i, 2) },
      ...ends,
    });
    // The source of what B receives is routed to the connection that it comes from.
    connect(b, [IpPrefix.host(ip(`100.64.1.${i + 1}`))], {
      ...{ localIndex: remoteIndex, remoteIndex: localIndex, sendKey: keyOf(i, 2), receiveKey: keyOf(i, 1) },
      ...{ local: SOCKET_B, remote: SOCKET_A },
    });
  }
  return { a, b };
}

/** The `n`-th packet, to the address of connection `to`. */
function packet(n: number, to: number, length = 20 + ((n * 37) % 1200)): Uint8Array {
  const payload = new Uint8Array(length).fill(n);
  const source = ip(`100.64.1.${to + 1}`);
  return udpPacket({ source, destination: address(to), sourcePort: 1000 + n, destinationPort: 9, payload });
}

const order = Array.from({ length: 60 }, (_, n) => (n * n + (n >> 3)) % CONNECTIONS);

test("packets of several connections are sealed each with its own key and counter, and leave in order", async () => {
  const { a } = await tunnels();
  for (const [n, to] of order.entries()) a.outbound(frameOf(packet(n, to)));
  const datagrams = a.send(4).flatMap(datagramsOf);
  assert.equal(datagrams.length, order.length);
  const counters = new Array<bigint>(CONNECTIONS).fill(0n);
  for (const [n, to] of order.entries()) {
    const { index, counter, packet: inner } = openMessage(keyOf(to, 1), datagrams[n] ?? new Uint8Array(0));
    assert.equal(index, 0xb00 + to);
    assert.equal(counter, counters[to]);
    counters[to] = counter + 1n;
    assert.deepEqual(inner, packet(n, to));
  }
  assert.deepEqual(a.drops(), {});
});

test("packets of several connections that come together are opened, checked and delivered in order", async () => {
  const { a, b } = await tunnels();
  b.engine.setTunOffloads({ checksum: false, tso: false, uso: false });
  for (const [n, to] of order.entries()) a.outbound(frameOf(packet(n, to)));
  const messages: SentMessage[] = a
    .send(4)
    .flatMap((message) =>
      datagramsOf(message).map((bytes) => ({ to: message.to, from: message.from, segmentSize: undefined, bytes })),
    );
  // One is forged, one comes twice, within the batch.
  const forged = 7;
  const repeated = 11;
  const sent: SentMessage[] = messages.map(({ bytes, ...rest }, n) => {
    const copy = bytes.slice();
    if (n === forged) copy[20] = (copy[20] ?? 0) ^ 1;
    return { ...rest, bytes: copy };
  });
  sent.splice(repeated + 3, 0, ...messages.slice(repeated, repeated + 1));
  const received = b.receive(4, asReceived(sent, SOCKET_A)).flatMap(packetsOfFrame);
  const expected = order.map((to, n) => packet(n, to)).filter((_, n) => n !== forged);
  assert.deepEqual(received, expected);
  assert.deepEqual(b.drops(), { BadTag: 1, Replayed: 1 });
});

test("a packet whose source belongs to another connection of the batch is dropped", async () => {
  const { a, b } = await tunnels();
  a.outbound(frameOf(packet(1, 0)));
  // From an address that B routes to connection 2, through connection 1.
  const stranger = { source: ip("100.64.1.3"), destination: address(1), sourcePort: 1, destinationPort: 9 };
  a.outbound(frameOf(udpPacket({ ...stranger, payload: new Uint8Array(64) })));
  a.outbound(frameOf(packet(3, 2)));
  const received = b.receive(4, asReceived(a.send(4), SOCKET_A)).flatMap(packetsOfFrame);
  assert.deepEqual(received, [packet(1, 0), packet(3, 2)]);
  assert.deepEqual(b.drops(), { SourceNotAllowed: 1 });
});
