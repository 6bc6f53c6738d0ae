// The hash functions of WireGuard under the whitepaper's names (section 5.4; spec 02, section 11.1): all BLAKE2s (RFC 7693).

import { blake2s } from "@noble/hashes/blake2.js";
import { hmac } from "@noble/hashes/hmac.js";
import { concatBytes } from "../base/bytes.js";
import { KEY_LENGTH, MAC_LENGTH } from "./constants.js";

/** HASH: BLAKE2s-256 of the concatenation of `parts`. */
export function hash(...parts: readonly Uint8Array[]): Uint8Array {
  return blake2s(concatBytes(...parts), { dkLen: KEY_LENGTH });
}

/** MAC: keyed BLAKE2s with an output of 16 bytes. */
export function mac(key: Uint8Array, input: Uint8Array): Uint8Array {
  return blake2s(input, { key, dkLen: MAC_LENGTH });
}

/** HMAC (RFC 2104) over BLAKE2s-256; not the same as keyed BLAKE2s. */
export function hmacHash(key: Uint8Array, input: Uint8Array): Uint8Array {
  return hmac(blake2s, key, input);
}

/** KDF_1: one key of 32 bytes out of `key` and `input` (HKDF, RFC 5869, with {@link hmacHash}). */
export function kdf1(key: Uint8Array, input: Uint8Array): Uint8Array {
  const [output] = kdf(key, input, 1);
  return output;
}

/** KDF_2: two keys of 32 bytes. */
export function kdf2(key: Uint8Array, input: Uint8Array): [Uint8Array, Uint8Array] {
  const [first, second] = kdf(key, input, 2);
  return [first, second];
}

/** KDF_3: three keys of 32 bytes. */
export function kdf3(key: Uint8Array, input: Uint8Array): [Uint8Array, Uint8Array, Uint8Array] {
  return kdf(key, input, 3);
}

/** The first `count` outputs of the chain; the others are empty. */
function kdf(key: Uint8Array, input: Uint8Array, count: 1 | 2 | 3): [Uint8Array, Uint8Array, Uint8Array] {
  const secret = hmacHash(key, input);
  const empty = new Uint8Array(0);
  const first = hmacHash(secret, Uint8Array.of(1));
  const second = count > 1 ? hmacHash(secret, concatBytes(first, Uint8Array.of(2))) : empty;
  const third = count > 2 ? hmacHash(secret, concatBytes(second, Uint8Array.of(3))) : empty;
  secret.fill(0);
  return [first, second, third];
}
