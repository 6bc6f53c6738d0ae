// Poly1305 (RFC 8439, section 2.5), scalar, in four limbs of 32 bits.
//
// The accumulator h = h0 + h1*2^32 + h2*2^64 + h3*2^96 is kept modulo 2^130 - 5 but not fully reduced. The clamped r has four
// limbs below 2^28 whose upper three are multiples of 4, so 2^128 * r_i = 2^130 * r_i/4 = 5 * r_i/4 =: s_i. With a block of the
// message added to h, which gives t, one step is a product of matrix and vector, and a carry from each d to the next:
//
//    | d0 |   | r0 s3   s2 s1 |   | t0 |
//    | d1 |   | r1 r0   s3 s2 |   | t1 |      | middle  upper  |   | x |
//    | d2 | = | r2 r1   r0 s3 | * | t2 |  =:  | lower   middle | * | y |
//    | d3 |   | r3 r2   r1 r0 |   | t3 |
//
// Bounds, in units of 2^60: h0 < 2^32 + 5*2^30, h1 and h2 < 2^32, h3 < 2^34; with the message added, d0 < 3.25 + 2.5 + 2.5 +
// 7.5 = 15.75 and the other sums are smaller, so nothing exceeds 64 bits.
//
// Each diagonal of the matrix holds one value (it is a Toeplitz matrix), which saves multiplications: with
// q = middle * (x + y) its upper half is q + (upper - middle) * y and the lower one q + (lower - middle) * x, three products of
// blocks for four. The differences are of that form too, so that each product of a block takes three multiplications for four
// in the same way, with the three constants a, b - a and c - a of a block
//
//    | a b |
//    | c a |
//
// That makes nine multiplications and fifteen additions of what were sixteen and twelve, and on x86-64, where a multiplication
// overwrites a factor and an addition need not, a sixth fewer instructions. Constants may be negative: everything is modulo 2^64, and
// the sums that come out are less, as the bounds say.
//
// State in scratch memory:
//
//    0                 24               48               72   80       96           128
//    | middle 3 x u64 | upper 3 x u64 | lower 3 x u64 |    | pad   | h0..h3 u64 |

/** Bytes of a Poly1305 state. */
export const POLY_STATE_SIZE: u32 = 128;
const MIDDLE: u32 = 0;
const UPPER: u32 = 24;
const LOWER: u32 = 48;
const PAD: u32 = 80;
const H: u32 = 96;

/** 2^128 in the limb of h3: the bit that RFC 8439 appends to every full block. */
export const HIGH_BIT: u64 = 1 << 32;

/** What h3 has room for below 2^130. */
export const MASK34: u64 = 0x3ffffffff;

const MASK32: u64 = 0xffffffff;

/** Sets up the one-time key (32 bytes: r, then the pad) and h = 0. */
export function polyInit(state: u32, oneTimeKey: u32): void {
  const r0 = <u64>(load<u32>(oneTimeKey) & 0x0fffffff);
  const r1 = <u64>(load<u32>(oneTimeKey, 4) & 0x0ffffffc);
  const r2 = <u64>(load<u32>(oneTimeKey, 8) & 0x0ffffffc);
  const r3 = <u64>(load<u32>(oneTimeKey, 12) & 0x0ffffffc);
  const s1 = r1 + (r1 >> 2);
  const s2 = r2 + (r2 >> 2);
  const s3 = r3 + (r3 >> 2);
  setBlock(state + MIDDLE, r0, s3, r1);
  setBlock(state + UPPER, s2 - r0, s1 - s3, s3 - r1);
  setBlock(state + LOWER, r2 - r0, r1 - s3, r3 - r1);
  v128.store(state, v128.load(oneTimeKey, 16), PAD);
  v128.store(state, i64x2.splat(0), H);
  v128.store(state, i64x2.splat(0), H + 16);
}

/** The constants of the block of the matrix with `a` in its diagonal, `b` above and `c` below. */
function setBlock(at: u32, a: u64, b: u64, c: u64): void {
  store<u64>(at, a);
  store<u64>(at, b - a, 8);
  store<u64>(at, c - a, 16);
}

/**
 * Absorbs one block of 16 bytes at `address`; `highBit` is `HIGH_BIT` unless the message ends within the block. Many are absorbed
 * by the kernels, which do the same.
 */
export function polyBlock(state: u32, address: u32, highBit: u64): void {
  const t0 = load<u64>(state, H) + <u64>load<u32>(address);
  const t1 = load<u64>(state, H + 8) + <u64>load<u32>(address, 4);
  const t2 = load<u64>(state, H + 16) + <u64>load<u32>(address, 8);
  const t3 = load<u64>(state, H + 24) + <u64>load<u32>(address, 12) + highBit;
  const sum0 = t0 + t2;
  const sum1 = t1 + t3;
  const middle = load<u64>(state, MIDDLE) * (sum0 + sum1);
  const middle0 = middle + load<u64>(state, MIDDLE + 8) * sum1;
  const middle1 = middle + load<u64>(state, MIDDLE + 16) * sum0;
  const upper = load<u64>(state, UPPER) * (t2 + t3);
  const lower = load<u64>(state, LOWER) * (t0 + t1);
  const d0 = middle0 + upper + load<u64>(state, UPPER + 8) * t3;
  const d1 = middle1 + upper + load<u64>(state, UPPER + 16) * t2 + (d0 >> 32);
  const d2 = middle0 + lower + load<u64>(state, LOWER + 8) * t1 + (d1 >> 32);
  const d3 = middle1 + lower + load<u64>(state, LOWER + 16) * t0 + (d2 >> 32);
  store<u64>(state, (d0 & MASK32) + 5 * (d3 >> 34), H);
  store<u64>(state, d1 & MASK32, H + 8);
  store<u64>(state, d2 & MASK32, H + 16);
  store<u64>(state, d3 & MASK34, H + 24);
}

/** Writes the tag (16 bytes) to `tag`. */
export function polyFinish(state: u32, tag: u32): void {
  let h0 = load<u64>(state, H);
  let h1 = load<u64>(state, H + 8) + (h0 >> 32);
  let h2 = load<u64>(state, H + 16) + (h1 >> 32);
  let h3 = load<u64>(state, H + 24) + (h2 >> 32);
  let h4 = h3 >> 32;
  // What lies above 2^130 comes back in at the bottom, times 5; then every limb has 32 bits and h4 at most 3, or 4 when
  // the rest is all but zero.
  h0 = (h0 & MASK32) + 5 * (h4 >> 2);
  h1 = (h1 & MASK32) + (h0 >> 32);
  h2 = (h2 & MASK32) + (h1 >> 32);
  h3 = (h3 & MASK32) + (h2 >> 32);
  h4 = (h4 & 3) + (h3 >> 32);
  h0 &= MASK32;
  h1 &= MASK32;
  h2 &= MASK32;
  h3 &= MASK32;
  // h - p is h + 5 without bit 130; it is the result when h + 5 has that bit, that is, when h >= p.
  const g0 = h0 + 5;
  const g1 = h1 + (g0 >> 32);
  const g2 = h2 + (g1 >> 32);
  const g3 = h3 + (g2 >> 32);
  const takeG = <u64>0 - ((h4 + (g3 >> 32)) >> 2);
  const keepH = ~takeG;
  // Adding the pad, modulo 2^128.
  h0 = (h0 & keepH) + (g0 & takeG & MASK32) + <u64>load<u32>(state, PAD);
  h1 = (h1 & keepH) + (g1 & takeG & MASK32) + <u64>load<u32>(state, PAD + 4) + (h0 >> 32);
  h2 = (h2 & keepH) + (g2 & takeG & MASK32) + <u64>load<u32>(state, PAD + 8) + (h1 >> 32);
  h3 = (h3 & keepH) + (g3 & takeG & MASK32) + <u64>load<u32>(state, PAD + 12) + (h2 >> 32);
  store<u32>(tag, <u32>h0);
  store<u32>(tag, <u32>h1, 4);
  store<u32>(tag, <u32>h2, 8);
  store<u32>(tag, <u32>h3, 12);
}
