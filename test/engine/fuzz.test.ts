// Hostile bytes at both entries: nothing throws, everything is accounted for, and nothing outside of the slot's own region is
// touched. Field notes, section 4.3: "oversized, truncated, GRO-merged datagram never throws".

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  FRAMES,
  HANDSHAKE_BUDGET_SIZE,
  HANDSHAKE_SOURCE_BUDGETS,
  HANDSHAKE_SOURCES,
  HELD_LENGTHS,
  JOBS_POSTED,
  JOBS_STALLED,
  MAX_RUNS,
  MERGED,
  MERGED_SIZE,
  PLAN,
  RECEIVE_4,
  RECEIVE_6,
  RECEIVE_AREA_SIZE,
  RUN_SIZE,
  RUNS,
  SCRATCH,
  TRANSMIT_4,
  TRANSMIT_6,
  TRANSMIT_AREA_SIZE,
  TUN_FRAME,
  TUN_FRAME_CAPACITY,
} from "../../assembly/regions.js";
import { IpPrefix } from "../../src/base/address.js";
import { RouteTarget } from "../../src/engine/index.js";
import {
  connect,
  EnginePeer,
  INDEX_B,
  ip,
  KEY_A_TO_B,
  KEY_B_TO_A,
  openMessage,
  type ReceivedMessage,
  SIDE_B,
  SMALL_CONFIG,
  SOCKET_A,
  sealMessage,
} from "../support/engine-peer.js";
import {
  frameOf,
  ipPacket,
  packetsOfFrame,
  TCP_ACK,
  tcpGsoFrame,
  tcpPacket,
  udpGsoFrame,
  udpPacket,
} from "../support/ip-packets.js";
import { assertProperty } from "../support/property.js";

const A4 = ip("100.64.0.1");
const B4 = ip("100.96.0.1");
const A6 = ip("2001:db8:a::1");
const B6 = ip("2001:db8:b::1");

const CANARY = 0xa5;

/** A peer whose other slots, and the unused parts of its own region, are filled with canaries. */
async function guardedPeer() {
  const peer = await EnginePeer.create({ ...SMALL_CONFIG, workers: 2 });
  const connection = connect(peer, [IpPrefix.host(A4), IpPrefix.host(A6)], { ...SIDE_B, filtered: true });
  peer.tables.setFilters(connection, [
    {
      prefix: IpPrefix.host(B4),
      rules: [
        { protocol: "tcp", first: 0, last: 40000 },
        { protocol: "udp", first: 7, last: 9 },
      ],
    },
    { prefix: IpPrefix.host(B6), rules: "allow-all" },
  ]);
  peer.tables.setRoute(IpPrefix.of(ip("10.0.0.0"), 8), RouteTarget.Exception);
  const { layout, bytes } = peer;
  const own = layout.regions[1] ?? 0;
  const guarded = ([layout.regions[0] ?? 0, layout.regions[2] ?? 0] as const).map(
    // From behind the counters and the ring's positions, which are read.
    (region) => [region + PLAN, region + layout.regionBytes] as const,
  );
  for (const [from, to] of [
    [RUNS + RUN_SIZE * MAX_RUNS, JOBS_POSTED],
    [JOBS_STALLED + 4, HELD_LENGTHS],
    [HANDSHAKE_SOURCE_BUDGETS + HANDSHAKE_BUDGET_SIZE * HANDSHAKE_SOURCES, SCRATCH],
    [TUN_FRAME + TUN_FRAME_CAPACITY, FRAMES],
    [RECEIVE_4 + RECEIVE_AREA_SIZE - 4096, RECEIVE_4 + RECEIVE_AREA_SIZE],
    [RECEIVE_6 + RECEIVE_AREA_SIZE - 4096, RECEIVE_6 + RECEIVE_AREA_SIZE],
    [TRANSMIT_4 + TRANSMIT_AREA_SIZE - 4096, TRANSMIT_4 + TRANSMIT_AREA_SIZE],
    [TRANSMIT_6 + TRANSMIT_AREA_SIZE - 4096, TRANSMIT_6 + TRANSMIT_AREA_SIZE],
    [MERGED + MERGED_SIZE - 64, MERGED + MERGED_SIZE],
  ] as const)
    guarded.push([own + from, own + to]);
  for (const [from, to] of guarded) bytes.fill(CANARY, from, to);
  /** The tables that workers only read. */
  const tables = [
    [layout.routes, layout.sessions],
    [layout.paths, layout.regions[0] ?? 0],
  ] as const;
  const before = tables.map(([from, to]) => bytes.slice(from, to));

  const check = () => {
    for (const [from, to] of guarded) {
      const damage = bytes.subarray(from, to).findIndex((byte) => byte !== CANARY);
      assert.equal(damage, -1, `byte ${from + damage - own} of the region was written`);
    }
    for (const [i, [from, to]] of tables.entries())
      assert.equal(Buffer.compare(bytes.subarray(from, to), before[i] ?? new Uint8Array(0)), 0, "a table was written");
  };
  return { peer, connection, check };
}

function total(counts: object): number {
  return Object.values(counts).reduce((sum: number, count: number) => sum + count, 0);
}

/** Random bytes, cheap for any length. */
const noise = (maxLength: number) =>
  fc.tuple(fc.nat(maxLength), fc.integer(), fc.constantFrom(0, 1, 0xff)).map(([length, seed, mask]) => {
    let state = seed | 1;
    return Uint8Array.from({ length }, () => {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      return (state & 0xff) | (mask === 1 ? 0 : mask);
    });
  });

/** Some bytes changed at random places, and the length perhaps. */
const mutated = (base: fc.Arbitrary<Uint8Array>) =>
  fc
    .tuple(base, fc.array(fc.tuple(fc.nat(120), fc.nat(255)), { maxLength: 4 }), fc.oneof(fc.constant(0), fc.nat(100)))
    .map(([bytes, changes, cut]) => {
      const copy = bytes.slice(0, Math.max(0, bytes.length - cut));
      for (const [at, value] of changes) if (at < copy.length) copy[at] = value;
      return copy;
    });

const payload = noise(3000);
const ports = fc.constantFrom(7, 8, 9, 10, 40000, 40001);
const ends = fc.constantFrom(
  { source: A4, destination: B4 },
  { source: B4, destination: A4 },
  { source: A6, destination: B6 },
  { source: B6, destination: A6 },
  { source: B4, destination: ip("10.1.1.1") },
);
const fields = fc
  .record({ ends, sourcePort: ports, destinationPort: ports, payload, sequence: fc.nat(10) })
  .map(({ ends, sequence, ...rest }) => ({ ...ends, ...rest, sequence: sequence * 100, flags: TCP_ACK }));

test("50 000 frames at the TUN entry", async () => {
  const { peer, connection, check } = await guardedPeer();
  const frames = fc.oneof(
    noise(200),
    mutated(fields.map((f) => frameOf(tcpPacket(f)))),
    mutated(fields.map((f) => tcpGsoFrame(f, 500))),
    mutated(fields.map((f) => udpGsoFrame(f, 700))),
    mutated(fields.map((f) => frameOf(ipPacket(f, 17, f.payload)))),
  );
  let exceptions = 0;
  assertProperty(
    fc.property(
      fc.array(frames, { minLength: 50, maxLength: 50 }),
      fc.boolean(),
      fc.boolean(),
      (list, offload, held) => {
        peer.engine.setSegmentationOffload(offload);
        const together = held ? 5 : 1;
        for (let i = 0; i < list.length; i += together) {
          const before = total(peer.drops()) + peer.tables.activity(connection).txPackets;
          peer.outboundTogether(list.slice(i, i + together));
          const handled = total(peer.drops()) + peer.tables.activity(connection).txPackets - before;
          const pushed = peer.exceptions().length;
          exceptions += pushed;
          assert.ok(handled + pushed >= together, "a frame vanished");
        }
        for (const datagram of peer.sendDatagrams(4)) openMessage(KEY_B_TO_A, datagram);
      },
    ),
    { numRuns: 1000, seed: 3 },
  );
  assert.ok(exceptions > 100);
  assert.ok(peer.tables.activity(connection).txPackets > 10_000);
  check();
});

test("50 000 messages at the UDP entry", async () => {
  const { peer, connection, check } = await guardedPeer();
  let counter = 0n;
  const seal = (packet: Uint8Array) => sealMessage(KEY_A_TO_B, INDEX_B, counter++, packet);
  const datagrams = fc.oneof(
    noise(200),
    mutated(fields.map((f) => seal(tcpPacket(f)))),
    mutated(noise(100).map(seal)),
    mutated(fields.map((f) => tcpPacket(f))).map(seal),
    mutated(fields.map((f) => udpPacket(f))).map(seal),
    mutated(noise(150).map((bytes) => Uint8Array.of(1, 0, 0, 0, ...bytes))),
  );
  const messages: fc.Arbitrary<ReceivedMessage> = fc.record({
    from: fc.constant(SOCKET_A),
    bytes: fc.oneof({ weight: 40, arbitrary: datagrams }, { weight: 1, arbitrary: noise(65507) }),
    segmentSize: fc.oneof({ weight: 6, arbitrary: fc.constant(0) }, fc.nat(70000), fc.nat(60)),
    flags: fc.constantFrom(0, 0, 0, 0, 0, 0, 0, 0x20),
  });
  let packets = 0;
  let exceptions = 0;
  assertProperty(
    fc.property(fc.array(messages, { minLength: 50, maxLength: 50 }), fc.boolean(), (list, offload) => {
      peer.engine.setTunOffloads({ checksum: offload, tso: offload, uso: offload });
      const before = total(peer.drops()) + peer.tables.activity(connection).rxPackets;
      const frames = peer.receive(4, list);
      const pushed = peer.exceptions().length;
      const handled = total(peer.drops()) + peer.tables.activity(connection).rxPackets - before;
      assert.ok(handled + pushed >= list.length, "a message vanished");
      for (const frame of frames) packets += packetsOfFrame(frame).length;
      exceptions += pushed;
    }),
    { numRuns: 1000, seed: 4 },
  );
  assert.ok(packets > 1000, `${packets} packets`);
  assert.ok(exceptions > 100, `${exceptions} exceptions`);
  check();
});

test("kernel structures that lie: lengths and control messages out of bounds", async () => {
  const { peer, check } = await guardedPeer();
  assertProperty(
    fc.property(
      fc.nat(40),
      fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
      fc.nat(0xffffffff),
      fc.array(fc.nat(0xffffffff), { maxLength: 32 }),
      fc.nat(200),
      (count, controlLength, messageLength, control, size) => {
        for (const family of [4, 6] as const) {
          peer.engine.prepareReceive(family);
          const first = peer.engine.receiveMessagesAddress(family);
          for (let i = 0; i < 3; i++) {
            const header = first + 64 * i;
            peer.view.setBigUint64(header + 40, i === 0 ? BigInt(size) : controlLength, true);
            peer.view.setUint32(header + 56, messageLength >>> (8 * i), true);
            const address = Number(peer.view.getBigUint64(header + 32, true));
            for (const [k, word] of control.entries()) peer.view.setUint32(address + 4 * k, word, true);
          }
          const frames = peer.engine.inbound(family, count, 1, 0);
          assert.equal(frames, 0);
          peer.exceptions();
        }
      },
    ),
    { numRuns: 2000, seed: 7 },
  );
  check();
});
