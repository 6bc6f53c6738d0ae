// Randomness that follows from a number, for tests of a whole relay (spec 03, section 4.1, `--rng-seed`): SHA-256 of the seed and a counter.

import { createHash } from "node:crypto";
import type { Random } from "../../base/random.js";

/** Bytes of a block. */
const BLOCK_LENGTH = 32;

/** @param seed 64 bits. */
export function seededRandom(seed: bigint): Random {
  let counter = 0n;
  return {
    bytes(length) {
      const bytes = new Uint8Array(length);
      for (let at = 0; at < length; at += BLOCK_LENGTH) {
        const block = createHash("sha256").update(`${seed}:${counter++}`).digest();
        bytes.set(block.subarray(0, Math.min(BLOCK_LENGTH, length - at)), at);
      }
      return bytes;
    },
  };
}
