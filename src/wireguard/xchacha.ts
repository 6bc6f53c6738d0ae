// XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03): ChaCha20-Poly1305 with a nonce of 24 bytes, long enough to be drawn at
// random. WireGuard uses it for cookies only. HChaCha20 derives a subkey, RFC 8439's AEAD does the rest.

import { viewOf } from "../base/bytes.js";
import type { Crypto } from "../base/crypto.js";
import { KEY_LENGTH } from "./constants.js";

/** "expand 32-byte k" as four little-endian words (RFC 8439, section 2.3). */
const CONSTANTS = [0x61707865, 0x3320646e, 0x79622d32, 0x6b206574] as const;

/** Double rounds of ChaCha20. */
const DOUBLE_ROUNDS = 10;

/** Bytes of the nonce that go into the subkey. */
const HCHACHA_NONCE_LENGTH = 16;

/** XAEAD: ciphertext and tag of `plaintext`. `key` has 32 bytes, `nonce` 24. */
export function xchacha20Poly1305Seal(
  crypto: Crypto,
  key: Uint8Array,
  nonce: Uint8Array,
  plaintext: Uint8Array,
  additional: Uint8Array,
): Uint8Array {
  const subkey = hchacha20(key, nonce.subarray(0, HCHACHA_NONCE_LENGTH));
  const sealed = crypto.chacha20Poly1305Seal(subkey, innerNonce(nonce), plaintext, additional);
  subkey.fill(0);
  return sealed;
}

/** Reverses {@link xchacha20Poly1305Seal}; `undefined` when the tag does not verify. */
export function xchacha20Poly1305Open(
  crypto: Crypto,
  key: Uint8Array,
  nonce: Uint8Array,
  sealed: Uint8Array,
  additional: Uint8Array,
): Uint8Array | undefined {
  const subkey = hchacha20(key, nonce.subarray(0, HCHACHA_NONCE_LENGTH));
  const plaintext = crypto.chacha20Poly1305Open(subkey, innerNonce(nonce), sealed, additional);
  subkey.fill(0);
  return plaintext;
}

/** Four zero bytes and the rest of the long nonce. */
function innerNonce(nonce: Uint8Array): Uint8Array {
  const inner = new Uint8Array(12);
  inner.set(nonce.subarray(HCHACHA_NONCE_LENGTH), 4);
  return inner;
}

/** HChaCha20 (draft, section 2.2): a subkey of 32 bytes out of a key of 32 bytes and a nonce of 16. */
export function hchacha20(key: Uint8Array, nonce: Uint8Array): Uint8Array {
  const state = new Uint32Array(16);
  state.set(CONSTANTS);
  const keyView = viewOf(key);
  for (let i = 0; i < 8; i++) state[4 + i] = keyView.getUint32(4 * i, true);
  const nonceView = viewOf(nonce);
  for (let i = 0; i < 4; i++) state[12 + i] = nonceView.getUint32(4 * i, true);

  for (let i = 0; i < DOUBLE_ROUNDS; i++) {
    quarterRound(state, 0, 4, 8, 12);
    quarterRound(state, 1, 5, 9, 13);
    quarterRound(state, 2, 6, 10, 14);
    quarterRound(state, 3, 7, 11, 15);
    quarterRound(state, 0, 5, 10, 15);
    quarterRound(state, 1, 6, 11, 12);
    quarterRound(state, 2, 7, 8, 13);
    quarterRound(state, 3, 4, 9, 14);
  }

  // First and last row, without the addition of the initial state that the block function ends with.
  const subkey = new Uint8Array(KEY_LENGTH);
  const view = viewOf(subkey);
  for (let i = 0; i < 4; i++) {
    view.setUint32(4 * i, state[i] ?? 0, true);
    view.setUint32(16 + 4 * i, state[12 + i] ?? 0, true);
  }
  state.fill(0);
  return subkey;
}

/** The quarter round on four words of the state (RFC 8439, section 2.1). */
function quarterRound(state: Uint32Array, a: number, b: number, c: number, d: number): void {
  addXorRotate(state, a, b, d, 16);
  addXorRotate(state, c, d, b, 12);
  addXorRotate(state, a, b, d, 8);
  addXorRotate(state, c, d, b, 7);
}

/** `x += y; z ^= x; z <<<= bits`. */
function addXorRotate(state: Uint32Array, x: number, y: number, z: number, bits: number): void {
  const sum = ((state[x] ?? 0) + (state[y] ?? 0)) >>> 0;
  const mixed = (state[z] ?? 0) ^ sum;
  state[x] = sum;
  state[z] = (mixed << bits) | (mixed >>> (32 - bits));
}
