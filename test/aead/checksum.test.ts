// The internet checksum of the engine against RFC 1071 read word by word.

import assert from "node:assert/strict";
import { test } from "node:test";
import { randomBelow } from "../../src/base/random.js";
import { loadAead } from "../support/aead-module.js";
import { seededRandom } from "../support/random.js";

const { exports: aead, bytes } = loadAead("narrow", 4);

/** RFC 1071, section 1: the ones' complement sum of 16-bit words, an odd last byte padded with zero; not inverted. */
function reference(data: Uint8Array, initial = 0): number {
  let sum = initial;
  for (let i = 0; i < data.length; i += 2) {
    sum += ((data[i] ?? 0) << 8) | (data[i + 1] ?? 0);
    if (sum > 0xffff) sum -= 0xffff;
  }
  return sum;
}

test("RFC 1071, section 3: the numerical example", () => {
  bytes.set([0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7], 1000);
  assert.equal(aead.checksumFold(aead.checksumSum(1000, 8, 0n)), 0xddf2);
});

test("RFC 1071: 20 000 random stretches of any alignment and length agree with the word-by-word sum", () => {
  const random = seededRandom(1071);
  bytes.set(random.bytes(5000), 0);
  for (let round = 0; round < 20_000; round++) {
    const address = randomBelow(random, 512);
    const length = randomBelow(random, round % 4 === 0 ? 4000 : 200);
    const sum = aead.checksumSum(address, length, 0n);
    assert.equal(
      aead.checksumFold(sum),
      reference(bytes.subarray(address, address + length)),
      `${length} at ${address}`,
    );
  }
});

test("RFC 1071: pieces of even length sum up to the whole", () => {
  const random = seededRandom(2);
  for (let round = 0; round < 1000; round++) {
    const length = randomBelow(random, 3000);
    const cut = randomBelow(random, (length >> 1) + 1) * 2;
    bytes.set(random.bytes(length), 4000);
    const parts = aead.checksumSum(4000 + cut, length - cut, aead.checksumSum(4000, cut, 0n));
    assert.equal(aead.checksumFold(parts), reference(bytes.subarray(4000, 4000 + length)));
  }
});

test("RFC 1071: the largest sum, 65 535 bytes of ones, does not overflow", () => {
  bytes.fill(0xff, 0, 0x10000);
  assert.equal(aead.checksumFold(aead.checksumSum(0, 65_534, 0n)), 0xffff);
  assert.equal(aead.checksumFold(aead.checksumSum(1, 65_535, 0n)), 0xff00);
  assert.equal(aead.checksumFold(aead.checksumSum(0, 0, 0n)), 0);
});
