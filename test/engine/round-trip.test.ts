// Two engines and a wire: what goes into one TUN device comes out of the other.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { IpPrefix } from "../../src/base/address.js";
import { toHex } from "../../src/base/bytes.js";
import {
  asReceived,
  connect,
  EnginePeer,
  INDEX_B,
  ip,
  KEY_A_TO_B,
  openMessage,
  SIDE_B,
  SOCKET_A,
} from "../support/engine-peer.js";
import {
  echoPacket,
  frameOf,
  packetsOfFrame,
  TCP_ACK,
  TCP_CWR,
  TCP_ECE,
  TCP_FIN,
  TCP_PSH,
  TCP_SYN,
  type TcpFields,
  tcpGsoFrame,
  tcpPacket,
  tcpSegments,
  type UdpFields,
  udpGsoFrame,
  udpPacket,
  udpSegments,
  withPartialChecksum,
} from "../support/ip-packets.js";

const A4 = ip("100.64.0.1");
const B4 = ip("100.96.0.1");
const A6 = ip("2001:db8:a::1");
const B6 = ip("2001:db8:b::1");
const A = [IpPrefix.host(A4), IpPrefix.host(A6)];
const B = [IpPrefix.host(B4), IpPrefix.host(B6)];

async function tunnel() {
  const a = await EnginePeer.create();
  const b = await EnginePeer.create();
  connect(a, B);
  connect(b, A, SIDE_B);
  return { a, b };
}

/** A frame, the packets it stands for, and the packets' family. */
interface Sample {
  readonly name: string;
  readonly frame: Uint8Array;
  readonly packets: readonly Uint8Array[];
}

const ends = fc.boolean().map((v4) => (v4 ? { source: A4, destination: B4 } : { source: A6, destination: B6 }));
const ipFields = fc.record({
  id: fc.nat(65535),
  tos: fc.nat(255),
  ttl: fc.integer({ min: 1, max: 255 }),
  fragment: fc.constantFrom(0, 0x4000),
  flowLabel: fc.nat(0xfffff),
});
const ports = fc.record({ sourcePort: fc.nat(65535), destinationPort: fc.nat(65535) });
const bytes = (maxLength: number) =>
  fc.tuple(fc.integer({ min: 0, max: maxLength }), fc.nat()).map(([length, seed]) => {
    const result = new Uint8Array(length);
    let state = seed | 1;
    for (let i = 0; i < length; i++) {
      state = (Math.imul(state, 1103515245) + 12345) >>> 0;
      result[i] = state >>> 16;
    }
    return result;
  });
const options = fc.uint8Array({ maxLength: 10 }).map((words) => new Uint8Array(words.length * 4).fill(words[0] ?? 1));
const flags = fc
  .subarray([TCP_ACK, TCP_PSH, TCP_FIN, TCP_SYN, TCP_CWR, TCP_ECE])
  .map((set) => set.reduce((a, b) => a | b, 0));
const tcpFields: fc.Arbitrary<TcpFields> = fc
  .record({
    ends,
    ip: ipFields,
    ports,
    sequence: fc.nat(0xffffffff),
    acknowledgement: fc.nat(0xffffffff),
    flags,
    window: fc.nat(65535),
    tcpOptions: options,
    payload: bytes(65000 - 40 - 60 - 40),
  })
  .map(({ ends, ip, ports, ...rest }) => ({ ...ends, ...ip, ...ports, ...rest }));
const udpFields: fc.Arbitrary<UdpFields> = fc
  .record({ ends, ip: ipFields, ports, payload: bytes(64000) })
  .map(({ ends, ip, ports, payload }) => ({ ...ends, ...ip, ...ports, payload }));
const short = <T extends { readonly payload: Uint8Array }>(fields: T): T => ({
  ...fields,
  payload: fields.payload.subarray(0, 1400),
});
const gsoSize = fc.integer({ min: 48, max: 9000 });

const samples: fc.Arbitrary<Sample> = fc.oneof(
  fc
    .tuple(tcpFields, gsoSize)
    .map(([f, size]) => ({ name: `tcp gso ${size}`, frame: tcpGsoFrame(f, size), packets: tcpSegments(f, size) })),
  fc
    .tuple(udpFields, gsoSize)
    .map(([f, size]) => ({ name: `udp gso ${size}`, frame: udpGsoFrame(f, size), packets: udpSegments(f, size) })),
  tcpFields.map(short).map((f) => ({ name: "tcp", frame: frameOf(tcpPacket(f)), packets: [tcpPacket(f)] })),
  udpFields.map(short).map((f) => ({ name: "udp", frame: frameOf(udpPacket(f)), packets: [udpPacket(f)] })),
  tcpFields.map(short).map((f) => {
    const packet = tcpPacket(f);
    const start = packet.length - f.payload.length - 20 - (f.tcpOptions?.length ?? 0);
    const vnet = { flags: 1, gsoType: 0, headerLength: 0, gsoSize: 0, checksumStart: start, checksumOffset: 16 };
    return {
      name: "tcp with partial checksum",
      frame: frameOf(withPartialChecksum(packet, f, 6), vnet),
      packets: [packet],
    };
  }),
  udpFields.map(short).map((f) => {
    const packet = udpPacket(f);
    const start = packet.length - f.payload.length - 8;
    const vnet = { flags: 1, gsoType: 0, headerLength: 0, gsoSize: 0, checksumStart: start, checksumOffset: 6 };
    return {
      name: "udp with partial checksum",
      frame: frameOf(withPartialChecksum(packet, f, 17), vnet),
      packets: [packet],
    };
  }),
  udpFields.map(short).map((f) => ({ name: "echo", frame: frameOf(echoPacket(f)), packets: [echoPacket(f)] })),
);

test("outbound: segments equal an independent segmentation, sealed as node:crypto opens them", async () => {
  const { a } = await tunnel();
  let counter = 0n;
  fc.assert(
    fc.property(samples, fc.boolean(), ({ name, frame, packets }, offload) => {
      a.engine.setSegmentationOffload(offload);
      a.outbound(frame);
      const datagrams = a.sendDatagrams(4);
      assert.equal(datagrams.length, packets.length, name);
      for (const [i, datagram] of datagrams.entries()) {
        const opened = openMessage(KEY_A_TO_B, datagram);
        assert.equal(opened.index, INDEX_B);
        assert.equal(opened.counter, counter++);
        assert.equal(toHex(opened.packet), toHex(packets[i] ?? new Uint8Array(0)), name);
      }
    }),
    { numRuns: 400, seed: 1 },
  );
  assert.deepEqual(a.drops(), {});
  assert.deepEqual(a.exceptions(), []);
});

test("round trip: the frames at the other end stand for the same packets in the same order", async () => {
  const { a, b } = await tunnel();
  fc.assert(
    fc.property(
      fc.array(samples, { minLength: 1, maxLength: 4 }),
      fc.record({ checksum: fc.boolean(), tso: fc.boolean(), uso: fc.boolean() }),
      (list, offloads) => {
        b.engine.setTunOffloads(offloads);
        const messages = list.flatMap(({ frame }) => {
          a.outbound(frame);
          return a.engine.transmitFull ? a.send(4) : [];
        });
        messages.push(...a.send(4));
        const frames = b.receive(4, asReceived(messages, SOCKET_A));
        const received = frames.flatMap(packetsOfFrame).map(toHex);
        const sent = list.flatMap(({ packets }) => packets).map(toHex);
        assert.deepEqual(received, sent);
      },
    ),
    { numRuns: 300, seed: 2 },
  );
  assert.deepEqual(b.drops(), {});
});
