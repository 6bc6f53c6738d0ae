// Poly1305 (RFC 8439, section 2.5), scalar, in four limbs of 32 bits.
//
// The accumulator h = h0 + h1*2^32 + h2*2^64 + h3*2^96 is kept modulo 2^130 - 5 but not fully reduced. The clamped r has four
// limbs below 2^28 whose upper three are multiples of 4, so 2^128 * r_i = 2^130 * r_i/4 = 5 * r_i/4 =: s_i. One block is
// 16 multiplications and one carry pass. Bounds, in units of 2^60: h0 < 2^32 + 5*2^30, h1 and h2 < 2^32, h3 < 2^34; with the
// message added, d0 < 3.25 + 2.5 + 2.5 + 7.5 = 15.75 and the other sums are smaller, so nothing exceeds 64 bits.
//
// State in scratch memory:
//
//    0            16           32               48 (44 unused)       80
//    | r0..r3 u32 | pad u128   | s1 s2 s3 u32   | h0 h1 h2 h3 u64    |

import { wipe } from "./tail";

/** Bytes of a Poly1305 state. */
export const POLY_STATE_SIZE: u32 = 80;
const PAD: u32 = 16;
const S: u32 = 28;
const H: u32 = 48;

/** 2^128 in the limb of h3: the bit that RFC 8439 appends to every full block. */
export const HIGH_BIT: u64 = 1 << 32;

/** What h3 has room for below 2^130. */
export const MASK34: u64 = 0x3ffffffff;

const MASK32: u64 = 0xffffffff;

/** Sets up the one-time key (32 bytes: r, then the pad) and h = 0. */
export function polyInit(state: u32, oneTimeKey: u32): void {
  const r0 = load<u32>(oneTimeKey) & 0x0fffffff;
  const r1 = load<u32>(oneTimeKey, 4) & 0x0ffffffc;
  const r2 = load<u32>(oneTimeKey, 8) & 0x0ffffffc;
  const r3 = load<u32>(oneTimeKey, 12) & 0x0ffffffc;
  store<u32>(state, r0);
  store<u32>(state, r1, 4);
  store<u32>(state, r2, 8);
  store<u32>(state, r3, 12);
  v128.store(state, v128.load(oneTimeKey, 16), PAD);
  store<u32>(state, r1 + (r1 >> 2), S + 4);
  store<u32>(state, r2 + (r2 >> 2), S + 8);
  store<u32>(state, r3 + (r3 >> 2), S + 12);
  v128.store(state, i64x2.splat(0), H);
  v128.store(state, i64x2.splat(0), H + 16);
}

/** Absorbs `count` blocks of 16 bytes at `address`; `highBit` is `HIGH_BIT` unless the message ends within the block. */
export function polyBlocks(state: u32, address: u32, count: u32, highBit: u64): void {
  const r0 = <u64>load<u32>(state);
  const r1 = <u64>load<u32>(state, 4);
  const r2 = <u64>load<u32>(state, 8);
  const r3 = <u64>load<u32>(state, 12);
  const s1 = <u64>load<u32>(state, S + 4);
  const s2 = <u64>load<u32>(state, S + 8);
  const s3 = <u64>load<u32>(state, S + 12);
  let h0 = load<u64>(state, H);
  let h1 = load<u64>(state, H + 8);
  let h2 = load<u64>(state, H + 16);
  let h3 = load<u64>(state, H + 24);
  for (const end = address + (count << 4); address != end; address += 16) {
    const t0 = h0 + <u64>load<u32>(address);
    const t1 = h1 + <u64>load<u32>(address, 4);
    const t2 = h2 + <u64>load<u32>(address, 8);
    const t3 = h3 + <u64>load<u32>(address, 12) + highBit;
    const d0 = t1 * s3 + t2 * s2 + t3 * s1 + t0 * r0;
    const d1 = t1 * r0 + t2 * s3 + t3 * s2 + t0 * r1 + (d0 >> 32);
    const d2 = t0 * r2 + t1 * r1 + t2 * r0 + t3 * s3 + (d1 >> 32);
    const d3 = t0 * r3 + t1 * r2 + t2 * r1 + t3 * r0 + (d2 >> 32);
    h0 = (d0 & MASK32) + 5 * (d3 >> 34);
    h1 = d1 & MASK32;
    h2 = d2 & MASK32;
    h3 = d3 & MASK34;
  }
  store<u64>(state, h0, H);
  store<u64>(state, h1, H + 8);
  store<u64>(state, h2, H + 16);
  store<u64>(state, h3, H + 24);
}

/** Writes the tag (16 bytes) to `tag` and wipes the state. */
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
  wipe(state, state + POLY_STATE_SIZE);
}
