// SipHash-1-3: one compression round, three finalization rounds (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012).
// Only for the foundation of candidates, a few bytes now and then: 64-bit arithmetic is BigInt's.

import { viewOf } from "../base/bytes.js";

/** Length of the key in bytes. */
export const SIPHASH_KEY_LENGTH = 16;

const WORD_LENGTH = 8;

const truncate = (value: bigint): bigint => BigInt.asUintN(64, value);

const rotateLeft = (value: bigint, bits: bigint): bigint => truncate((value << bits) | (value >> (64n - bits)));

/** The 64-bit hash of `message` under a key of 16 bytes. */
export function sipHash13(key: Uint8Array, message: Uint8Array): bigint {
  const keyView = viewOf(key);
  const k0 = keyView.getBigUint64(0, true);
  const k1 = keyView.getBigUint64(8, true);
  let v0 = k0 ^ 0x736f6d6570736575n;
  let v1 = k1 ^ 0x646f72616e646f6dn;
  let v2 = k0 ^ 0x6c7967656e657261n;
  let v3 = k1 ^ 0x7465646279746573n;

  const round = (): void => {
    v0 = truncate(v0 + v1);
    v1 = rotateLeft(v1, 13n) ^ v0;
    v0 = rotateLeft(v0, 32n);
    v2 = truncate(v2 + v3);
    v3 = rotateLeft(v3, 16n) ^ v2;
    v0 = truncate(v0 + v3);
    v3 = rotateLeft(v3, 21n) ^ v0;
    v2 = truncate(v2 + v1);
    v1 = rotateLeft(v1, 17n) ^ v2;
    v2 = rotateLeft(v2, 32n);
  };

  for (const word of words(message)) {
    v3 ^= word;
    round();
    v0 ^= word;
  }
  v2 ^= 0xffn;
  round();
  round();
  round();
  return v0 ^ v1 ^ v2 ^ v3;
}

/** The message as little-endian words; the last one is filled with zeros and has the message's length in its highest byte. */
function* words(message: Uint8Array): IterableIterator<bigint> {
  const whole = Math.floor(message.length / WORD_LENGTH);
  const view = viewOf(message);
  for (let i = 0; i < whole; i++) yield view.getBigUint64(i * WORD_LENGTH, true);
  const last = new Uint8Array(WORD_LENGTH);
  last.set(message.subarray(whole * WORD_LENGTH));
  last[WORD_LENGTH - 1] = message.length & 0xff;
  yield viewOf(last).getBigUint64(0, true);
}
