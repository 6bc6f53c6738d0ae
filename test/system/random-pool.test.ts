// Random bytes in small pieces, by a generator that counts: whoever got a piece is the only one to have it.

import assert from "node:assert/strict";
import { test } from "node:test";
import { MAX_POOLED, RandomPool } from "../../src/system/random-pool.js";

/** A pool of 40 bytes that are filled with 1, 2, 3 and so on, and where it keeps them. */
function countingPool(): { readonly pool: RandomPool; readonly kept: Uint8Array } {
  let next = 1;
  const kept = new Uint8Array(40);
  const fill = (bytes: Uint8Array) => {
    for (let i = 0; i < bytes.length; i++) bytes[i] = next++;
  };
  return { pool: new RandomPool(fill, kept), kept };
}

test("pieces follow each other, and no byte is given away twice", () => {
  const { pool } = countingPool();
  const taken = [3, 12, 0, MAX_POOLED, 8].flatMap((length) => [...pool.take(length)]);
  assert.deepEqual(
    taken,
    Array.from({ length: 39 }, (_, i) => i + 1),
  );
  // One byte is left, which is too few: it is dropped.
  assert.deepEqual([...pool.take(2)], [41, 42]);
});

test("what was given away is gone from the pool, and belongs to who took it", () => {
  const { pool, kept } = countingPool();
  const piece = pool.take(12);
  assert.deepEqual([...kept.subarray(0, 13)], [...new Uint8Array(12), 13]);
  piece.fill(0xff);
  assert.deepEqual([...pool.take(2)], [13, 14]);
});
