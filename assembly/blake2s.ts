// BLAKE2s (RFC 7693), keyed, with 16 bytes of output: WireGuard's MAC. The four rows of the state are vectors, so that the four
// columns, and then the four diagonals, are mixed at once.

/** Bytes of a block. */
export const BLOCK_SIZE: u32 = 64;

/** The first half of the initialization vector (RFC 7693, section 2.6), and the second. */
const IV_LOW = i32x4(0x6a09e667, <i32>0xbb67ae85, 0x3c6ef372, <i32>0xa54ff53a);
const IV_HIGH = i32x4(0x510e527f, <i32>0x9b05688c, 0x1f83d9ab, 0x5be0cd19);

/** Parameter block (section 2.5) of a hash of 16 bytes under a key of 32: digest length, key length, fan-out 1, depth 1. */
const PARAMETERS: u32 = 0x01012010;

/** Order of the message words in the ten rounds (section 2.7). */
const SIGMA = memory.data<u8>([
  0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3, 11, 8, 12,
  0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4, 7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8, 9, 0, 5, 7, 2, 4, 10,
  15, 14, 1, 11, 12, 6, 8, 3, 13, 2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9, 12, 5, 1, 15, 14, 13, 4, 10, 0,
  7, 6, 3, 9, 2, 8, 11, 13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10, 6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7,
  1, 4, 10, 5, 10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0,
]);

/** Writes to `state` (32 bytes) what follows the block of the key: `key` points to that block, 32 bytes and 32 zeros. */
export function keyState(state: u32, key: u32): void {
  v128.store(state, v128.xor(IV_LOW, i32x4(PARAMETERS, 0, 0, 0)));
  v128.store(state, IV_HIGH, 16);
  compress(state, key, BLOCK_SIZE, 0);
}

/** Mixes a block into the state (section 3.2). `counter` counts the bytes up to its end; `last` is -1 for the last block. */
export function compress(state: u32, block: u32, counter: u32, last: i32): void {
  const low = v128.load(state);
  const high = v128.load(state, 16);
  let a = low;
  let b = high;
  let c = IV_LOW;
  let d = v128.xor(IV_HIGH, i32x4.replace_lane(i32x4.replace_lane(i32x4.splat(0), 0, counter), 2, last));
  for (let sigma: u32 = <u32>SIGMA, end = sigma + 160; sigma != end; sigma += 16) {
    a = i32x4.add(i32x4.add(a, b), words(block, sigma));
    d = rotate16(v128.xor(d, a));
    c = i32x4.add(c, d);
    b = rotate(v128.xor(b, c), 12);
    a = i32x4.add(i32x4.add(a, b), words(block, sigma + 1));
    d = rotate8(v128.xor(d, a));
    c = i32x4.add(c, d);
    b = rotate(v128.xor(b, c), 7);

    // Diagonals become columns, and columns again.
    b = i32x4.shuffle(b, b, 1, 2, 3, 0);
    c = i32x4.shuffle(c, c, 2, 3, 0, 1);
    d = i32x4.shuffle(d, d, 3, 0, 1, 2);
    a = i32x4.add(i32x4.add(a, b), words(block, sigma + 8));
    d = rotate16(v128.xor(d, a));
    c = i32x4.add(c, d);
    b = rotate(v128.xor(b, c), 12);
    a = i32x4.add(i32x4.add(a, b), words(block, sigma + 9));
    d = rotate8(v128.xor(d, a));
    c = i32x4.add(c, d);
    b = rotate(v128.xor(b, c), 7);
    b = i32x4.shuffle(b, b, 3, 0, 1, 2);
    c = i32x4.shuffle(c, c, 2, 3, 0, 1);
    d = i32x4.shuffle(d, d, 1, 2, 3, 0);
  }
  v128.store(state, v128.xor(low, v128.xor(a, c)));
  v128.store(state, v128.xor(high, v128.xor(b, d)), 16);
}

/** The message words that every second entry of `order` names, from its first on. */
function words(block: u32, order: u32): v128 {
  let result = v128.load32_zero(block + ((<u32>load<u8>(order)) << 2));
  result = i32x4.replace_lane(result, 1, load<u32>(block + ((<u32>load<u8>(order, 2)) << 2)));
  result = i32x4.replace_lane(result, 2, load<u32>(block + ((<u32>load<u8>(order, 4)) << 2)));
  return i32x4.replace_lane(result, 3, load<u32>(block + ((<u32>load<u8>(order, 6)) << 2)));
}

function rotate(x: v128, right: i32): v128 {
  return v128.or(i32x4.shr_u(x, right), i32x4.shl(x, 32 - right));
}

function rotate16(x: v128): v128 {
  return i8x16.shuffle(x, x, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
}

function rotate8(x: v128): v128 {
  return i8x16.shuffle(x, x, 1, 2, 3, 0, 5, 6, 7, 4, 9, 10, 11, 8, 13, 14, 15, 12);
}
