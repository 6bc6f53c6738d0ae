// The AEAD against node:crypto: batches of random packets, sealed and opened, forged ones among them. Around every packet
// lies a pattern that must stay as it is.

import assert from "node:assert/strict";
import { createCipheriv } from "node:crypto";
import { before, describe, test } from "node:test";
import { AEAD_SCRATCH_SIZE } from "../../assembly/aead/abi.js";
import { type Random, randomBelow } from "../../src/base/random.js";
import { type AeadExports, ENGINES, loadAead } from "../support/aead-module.js";
import { seededRandom } from "../support/random.js";

// The build under test, set before its tests run.
let aead: AeadExports;
let bytes: Uint8Array;
let view: DataView;
let lanes: number;

const SCRATCH = 0x10000;
const KEY = 0x1f000;
const DESCRIPTORS = 0x1f100;
const KEY_ADDRESSES = 0x1e000;
const COUNTERS = 0x1e200;
const MIXED_KEYS = 0x1e400;
const PACKETS = 0x20000;
const PLAINTEXTS = 0x60000;
const AREA = 0x40000;
const TAG = 16;
/** As in a segmented datagram: a tag, then the next message's 16-byte header. */
const GAP = 16;
const FILLER = 0xc3;

/** RFC 8439, section 2.8, with the nonce of WireGuard and no additional data: ciphertext, then tag. */
function reference(key: Uint8Array, counter: bigint, plaintext: Uint8Array): Buffer {
  const nonce = Buffer.alloc(12);
  nonce.writeBigUInt64LE(counter, 4);
  const cipher = createCipheriv("chacha20-poly1305", key, nonce, { authTagLength: TAG });
  return Buffer.concat([cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
}

interface Packet {
  /** Where ciphertext and tag lie. */
  readonly address: number;
  readonly counter: bigint;
  readonly plaintext: Uint8Array;
  readonly sealed: Uint8Array;
}

/** A batch of packets laid out back to back, as a segmented datagram holds them, in an area full of filler. */
function makeBatch(random: Random, key: Uint8Array, lengths: readonly number[], firstCounter: bigint): Packet[] {
  let address = PACKETS + GAP + randomBelow(random, 64);
  return lengths.map((length, i) => {
    const plaintext = random.bytes(length);
    const counter = BigInt.asUintN(64, firstCounter + BigInt(i));
    const packet = { address, counter, plaintext, sealed: reference(key, counter, plaintext) };
    address += length + TAG + GAP;
    return packet;
  });
}

/** The whole area as it must look when `content(i)` lies at `address(i)` and filler everywhere else. */
function assertArea(start: number, pieces: readonly (readonly [address: number, content: Uint8Array])[], what: string) {
  const expected = Buffer.alloc(AREA, FILLER);
  for (const [address, content] of pieces) expected.set(content, address - start);
  const actual = Buffer.from(bytes.buffer, start, AREA);
  if (actual.equals(expected)) return;
  const at = expected.findIndex((byte, i) => byte !== actual[i]);
  assert.fail(
    `${what}: byte ${at} of the area differs; pieces at ${pieces.map(([a, c]) => `${a - start}+${c.length}`)}`,
  );
}

function checkSeal(key: Uint8Array, packets: readonly Packet[], firstCounter: bigint, what: string): void {
  bytes.fill(FILLER, PACKETS, PACKETS + AREA);
  bytes.set(key, KEY);
  for (const [i, { address, plaintext }] of packets.entries()) {
    bytes.set(plaintext, address);
    view.setUint32(DESCRIPTORS + 8 * i, address, true);
    view.setUint32(DESCRIPTORS + 8 * i + 4, plaintext.length, true);
  }
  withScratch(() => aead.sealPackets(packets.length, KEY, firstCounter, DESCRIPTORS, SCRATCH));
  assertArea(
    PACKETS,
    packets.map(({ address, sealed }) => [address, sealed]),
    `seal, ${what}`,
  );
}

/** Opens the batch in place or into another area; `forge(i)` is the bit of packet i to flip, or -1. */
function checkOpen(
  key: Uint8Array,
  packets: readonly Packet[],
  inPlace: boolean,
  forge: (packet: Packet) => number,
  what: string,
): void {
  bytes.fill(FILLER, PACKETS, PACKETS + AREA);
  bytes.fill(FILLER, PLAINTEXTS, PLAINTEXTS + AREA);
  bytes.set(key, KEY);
  const sources: [number, Uint8Array][] = [];
  const results: [number, Uint8Array][] = [];
  const expectedOk: number[] = [];
  for (const [i, packet] of packets.entries()) {
    const { address, counter, plaintext, sealed } = packet;
    const length = plaintext.length;
    const received = Uint8Array.from(sealed);
    const bit = forge(packet);
    if (bit >= 0) received[bit >> 3] = (received[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    const destination = inPlace ? address : address - PACKETS + PLAINTEXTS;
    const result = bit >= 0 ? new Uint8Array(length) : plaintext;
    bytes.set(received, address);
    const descriptor = DESCRIPTORS + 24 * i;
    view.setUint32(descriptor, address, true);
    view.setUint32(descriptor + 4, destination, true);
    view.setUint32(descriptor + 8, length, true);
    view.setUint32(descriptor + 12, 0xffffffff, true);
    view.setBigUint64(descriptor + 16, counter, true);
    sources.push([address, received]);
    results.push([destination, result]);
    expectedOk.push(bit >= 0 ? 0 : 1);
  }
  withScratch(() => aead.openPackets(packets.length, KEY, DESCRIPTORS, SCRATCH));
  const ok = packets.map((_, i) => view.getUint32(DESCRIPTORS + 24 * i + 12, true));
  assert.deepEqual(ok, expectedOk, `open, ${what}`);
  if (inPlace) {
    assertArea(PACKETS, [...sources, ...results], `open in place, ${what}`);
  } else {
    assertArea(PACKETS, sources, `open, source, ${what}`);
    assertArea(PLAINTEXTS, results, `open, destination, ${what}`);
  }
}

/** What is in scratch memory before a call: anything. */
const GARBAGE = 0xff;

/** Calls `work`, which must neither trust what is in scratch memory nor leave there anything secret. */
function withScratch(work: () => void): void {
  bytes.fill(GARBAGE, SCRATCH, SCRATCH + AEAD_SCRATCH_SIZE);
  work();
  // NULL_STATE included; behind it lie addresses only (assembly/aead/scratch.ts).
  const scratch = bytes.subarray(SCRATCH, SCRATCH + 128 * lanes + 144 + 368 * lanes + 128);
  assert.ok(!scratch.some((byte) => byte !== 0 && byte !== GARBAGE), "scratch holds no secrets afterwards");
}

const notForged = () => -1;

/** One batch through everything. */
function checkBatch(random: Random, lengths: readonly number[], what: string): void {
  const key = random.bytes(32);
  const firstCounter = Buffer.from(random.bytes(8)).readBigUInt64LE();
  const packets = makeBatch(random, key, lengths, firstCounter);
  checkSeal(key, packets, firstCounter, what);
  const shuffled = packets.map((packet) => ({ packet, order: randomBelow(random, 1 << 20) }));
  const inOrder = shuffled.sort((a, b) => a.order - b.order).map(({ packet }) => packet);
  checkOpen(key, randomBelow(random, 2) === 0 ? packets : inOrder, randomBelow(random, 2) === 0, notForged, what);
  const forge = ({ sealed }: Packet) => (randomBelow(random, 2) === 0 ? -1 : randomBelow(random, 8 * sealed.length));
  checkOpen(key, packets, randomBelow(random, 2) === 0, forge, `forged, ${what}`);
}

for (const engine of ENGINES) {
  describe(`the ${engine} engine`, () => {
    before(() => {
      ({ exports: aead, bytes, view } = loadAead(engine));
      lanes = engine.startsWith("narrow") ? 4 : 8;
    });

    test("every length from 0, the empty message of spec 02, 15.4.7, to 2000, one packet", () => {
      const random = seededRandom(1);
      for (let length = 0; length <= 2000; length++) checkBatch(random, [length], `length ${length}`);
    });

    test("every length from 0 to 520, batches of equal packets", () => {
      const random = seededRandom(2);
      for (let length = 0; length <= 520; length++) {
        const count = 2 + (length % 8);
        checkBatch(random, new Array<number>(count).fill(length), `${count} packets of ${length}`);
      }
    });

    test("segments as offload makes them: equal packets and a shorter last one", () => {
      const random = seededRandom(3);
      for (let round = 0; round < 1000; round++) {
        const lengths = new Array<number>(randomBelow(random, 14)).fill(randomBelow(random, 2001));
        lengths.push(randomBelow(random, (lengths[0] ?? 100) + 1));
        checkBatch(random, lengths, `${lengths}`);
      }
    });

    test("batches of 1 to 18 packets of unequal length", () => {
      const random = seededRandom(4);
      for (let round = 0; round < 2000; round++) {
        const longest = [64, 300, 1500, 2000][round % 4] ?? 64;
        const lengths = Array.from({ length: 1 + randomBelow(random, 18) }, () => randomBelow(random, longest + 1));
        checkBatch(random, lengths, `${lengths}`);
      }
    });

    test("the longest packets", () => {
      const random = seededRandom(5);
      for (const length of [16_384, 65_535, 65_534, 65_520, 65_473]) checkBatch(random, [length], `length ${length}`);
      checkBatch(random, [40_000, 40_000, 40_001, 40_000], "four long ones");
    });

    test("the counter runs over from 2^32 - 1 and 2^64 - 1 within a batch", () => {
      const random = seededRandom(6);
      for (const first of [0xffff_fffdn, 0xffff_ffff_ffff_fffdn]) {
        const key = random.bytes(32);
        const packets = makeBatch(random, key, new Array<number>(9).fill(100), first);
        checkSeal(key, packets, first, `from counter ${first}`);
        checkOpen(key, packets, true, notForged, `from counter ${first}`);
      }
    });

    test("ciphertexts of ones and zeros, which drive Poly1305's limbs to their bounds", () => {
      const random = seededRandom(7);
      for (let round = 0; round < 500; round++) {
        const key = random.bytes(32);
        const length = randomBelow(random, 2001);
        const count = 1 + randomBelow(random, 5);
        const first = Buffer.from(random.bytes(8)).readBigUInt64LE();
        const packets = makeBatch(random, key, new Array<number>(count).fill(length), first).map((packet) => {
          // The plaintext that encrypts to the pattern: the keystream, xored with it.
          const keystream = reference(key, packet.counter, new Uint8Array(length));
          const plaintext = keystream.subarray(0, length).map((byte, i) => byte ^ (round % 3 === 0 ? 0 : pattern(i)));
          return { ...packet, plaintext, sealed: reference(key, packet.counter, plaintext) };
        });
        checkSeal(key, packets, first, `pattern, ${length}`);
        checkOpen(key, packets, true, notForged, `pattern, ${length}`);
      }
      function pattern(i: number): number {
        return (i & 15) === 0 ? 0xfb : 0xff;
      }
    });

    test("every bit of a short packet is authenticated", () => {
      const random = seededRandom(8);
      const key = random.bytes(32);
      for (const length of [0, 1, 15, 16, 17, 40]) {
        const [packet] = makeBatch(random, key, [length], 7n);
        assert.ok(packet);
        for (let bit = 0; bit < 8 * packet.sealed.length; bit++) {
          checkOpen(key, [packet], bit % 2 === 0, () => bit, `bit ${bit} of ${length}`);
        }
      }
    });

    test("packets with keys and counters of their own, in batches of 1 to 40", () => {
      const random = seededRandom(9);
      for (let round = 0; round < 1500; round++) {
        const count = 1 + randomBelow(random, 40);
        const longest = [64, 300, 1500][round % 3] ?? 64;
        const equal = randomBelow(random, 2) === 0 ? randomBelow(random, longest + 1) : -1;
        const keys = Array.from({ length: 1 + randomBelow(random, 4) }, () => random.bytes(32));
        const ofPacket = Array.from({ length: count }, () => randomBelow(random, keys.length));
        for (const [i, key] of keys.entries()) bytes.set(key, MIXED_KEYS + 32 * i);
        let address = PACKETS + GAP;
        const packets = ofPacket.map((key, i) => {
          const plaintext = random.bytes(equal >= 0 ? equal : randomBelow(random, longest + 1));
          const counter = Buffer.from(random.bytes(8)).readBigUInt64LE();
          const sealed = reference(keys[key] ?? new Uint8Array(32), counter, plaintext);
          const packet = { address, counter, plaintext, sealed };
          view.setUint32(KEY_ADDRESSES + 4 * i, MIXED_KEYS + 32 * key, true);
          view.setBigUint64(COUNTERS + 8 * i, counter, true);
          view.setUint32(DESCRIPTORS + 8 * i, address, true);
          view.setUint32(DESCRIPTORS + 8 * i + 4, plaintext.length, true);
          address += plaintext.length + TAG + GAP;
          return packet;
        });
        const what = `${count} packets of ${keys.length} keys, round ${round}`;
        bytes.fill(FILLER, PACKETS, PACKETS + AREA);
        for (const { address: at, plaintext } of packets) bytes.set(plaintext, at);
        withScratch(() => aead.sealMixed(count, KEY_ADDRESSES, COUNTERS, DESCRIPTORS, SCRATCH));
        const sealed = packets.map(({ address: at, sealed: text }) => [at, text] as const);
        assertArea(PACKETS, sealed, `seal, ${what}`);
        const forged = randomBelow(random, count + 1);
        for (const [i, { address: at, plaintext, counter }] of packets.entries()) {
          const descriptor = DESCRIPTORS + 24 * i;
          view.setUint32(descriptor, at, true);
          view.setUint32(descriptor + 4, at, true);
          view.setUint32(descriptor + 8, plaintext.length, true);
          view.setUint32(descriptor + 12, 0xffffffff, true);
          // Another counter is a forgery like any other.
          view.setBigUint64(descriptor + 16, i === forged ? counter ^ 1n : counter, true);
        }
        withScratch(() => aead.openMixed(count, KEY_ADDRESSES, DESCRIPTORS, SCRATCH));
        const opened = packets.map(({ address: at, plaintext }, i) => {
          assert.equal(view.getUint32(DESCRIPTORS + 24 * i + 12, true), i === forged ? 0 : 1, what);
          return [at, i === forged ? new Uint8Array(plaintext.length) : plaintext] as const;
        });
        assertArea(PACKETS, [...sealed, ...opened], `open, ${what}`);
      }
    });

    test("an empty batch touches nothing", () => {
      bytes.fill(FILLER, PACKETS, PACKETS + AREA);
      aead.sealPackets(0, KEY, 1n, DESCRIPTORS, SCRATCH);
      aead.openPackets(0, KEY, DESCRIPTORS, SCRATCH);
      assertArea(PACKETS, [], "no packets");
    });
  });
}
