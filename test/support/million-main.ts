// A million random comparisons of a build of the engine with node:crypto: half of them sealed, half opened. In a process of its own, so that
// it can run on other Node versions: `node million-main.js narrow|narrow-stored|wide|wide-stored`.

import assert from "node:assert/strict";
import { createCipheriv } from "node:crypto";
import { randomBelow } from "../../src/base/random.js";
import { ENGINES, loadAead } from "./aead-module.js";
import { seededRandom } from "./random.js";

const COMPARISONS = 1_000_000;
const BATCH = 16;
const SCRATCH = 0x10000;
const KEY = 0x1f000;
const SEAL_DESCRIPTORS = 0x1f100;
const OPEN_DESCRIPTORS = 0x1f200;
const PACKETS = 0x20000;
const TAG = 16;
/** Random bytes that plaintexts are taken from. */
const POOL = 1 << 20;

const engine = ENGINES.find((name) => name === process.argv[2]);
assert.ok(engine !== undefined, `usage: million-main.js ${ENGINES.join("|")}`);
const { exports: aead, bytes, view } = loadAead(engine);
const memory = Buffer.from(bytes.buffer);
const seed = Number(process.argv[3] ?? Date.now() % 2 ** 31);
const random = seededRandom(seed);
const pool = Buffer.from(random.bytes(POOL));
const nonce = Buffer.alloc(12);

/** Mostly short, because tails are where mistakes would be; now and then as long as the tunnel's packets, and longer. */
function randomLength(): number {
  const kind = randomBelow(random, 64);
  return randomBelow(random, kind === 0 ? 2001 : kind < 8 ? 600 : 140);
}

for (let done = 0; done < COMPARISONS; done += 2 * BATCH) {
  const at = randomBelow(random, POOL - 64);
  const key = pool.subarray(at, at + 32);
  // The counter runs over 2^32 now and then.
  const first = BigInt(pool.readUInt32LE(at + 32)) + (BigInt(randomBelow(random, 3)) << 32n) - 8n;
  const equal = randomBelow(random, 4) === 0 ? randomLength() : -1;
  memory.set(key, KEY);
  let address = PACKETS + randomBelow(random, 64);
  const packets = Array.from({ length: BATCH }, (_, i) => {
    const length = equal >= 0 ? equal : randomLength();
    const from = randomBelow(random, POOL - length);
    const plaintext = pool.subarray(from, from + length);
    const counter = BigInt.asUintN(64, first + BigInt(i));
    const packet = { address, plaintext, counter };
    memory.set(plaintext, address);
    view.setUint32(SEAL_DESCRIPTORS + 8 * i, address, true);
    view.setUint32(SEAL_DESCRIPTORS + 8 * i + 4, length, true);
    const open = OPEN_DESCRIPTORS + 24 * i;
    view.setUint32(open, address, true);
    view.setUint32(open + 4, address, true);
    view.setUint32(open + 8, length, true);
    view.setUint32(open + 12, 0, true);
    view.setBigUint64(open + 16, counter, true);
    address += length + TAG + 16;
    return packet;
  });
  const what = (i: number) => `seed ${seed}, comparison ${done}, packet ${i} of ${packets[i]?.plaintext.length} bytes`;
  aead.sealPackets(BATCH, KEY, BigInt.asUintN(64, first), SEAL_DESCRIPTORS, SCRATCH);
  for (const [i, { address, plaintext, counter }] of packets.entries()) {
    nonce.writeBigUInt64LE(counter, 4);
    const cipher = createCipheriv("chacha20-poly1305", key, nonce, { authTagLength: TAG });
    const end = address + plaintext.length;
    const isRight =
      cipher.update(plaintext).equals(memory.subarray(address, end)) &&
      cipher.final().length === 0 &&
      cipher.getAuthTag().equals(memory.subarray(end, end + TAG));
    assert.ok(isRight, `seal: ${what(i)}`);
  }
  // One in eight is forged.
  const forged = randomBelow(random, 8) === 0 ? randomBelow(random, BATCH) : -1;
  if (forged >= 0) {
    const { address, plaintext } = packets[forged] ?? { address: 0, plaintext: key };
    const bit = randomBelow(random, 8 * (plaintext.length + TAG));
    memory[address + (bit >> 3)] = (memory[address + (bit >> 3)] ?? 0) ^ (1 << (bit & 7));
  }
  aead.openPackets(BATCH, KEY, OPEN_DESCRIPTORS, SCRATCH);
  for (const [i, { address, plaintext }] of packets.entries()) {
    const ok = view.getUint32(OPEN_DESCRIPTORS + 24 * i + 12, true);
    assert.equal(ok, i === forged ? 0 : 1, `open: ${what(i)}`);
    if (i !== forged)
      assert.ok(plaintext.equals(memory.subarray(address, address + plaintext.length)), `open: ${what(i)}`);
  }
}
process.stdout.write(`${COMPARISONS} comparisons, seed ${seed}\n`);
