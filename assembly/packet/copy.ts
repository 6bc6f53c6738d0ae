// Copies of packets in 128-bit pieces. Payload that moves is summed on the way: reading it once is cheaper than twice.

/** Bytes that one turn of the wide loop moves. */
const CHUNK: u32 = 64;

/**
 * Copies `length` bytes between areas that do not overlap and returns their partial checksum (assembly/checksum.ts), with an
 * odd last byte padded with zero. Writes nothing outside of the destination.
 */
export function copyAndSum(target: u32, source: u32, length: u32): u64 {
  let result: u64 = 0;
  if (length >= CHUNK) {
    let sum0 = i32x4.splat(0);
    let sum1 = i32x4.splat(0);
    let sum2 = i32x4.splat(0);
    let sum3 = i32x4.splat(0);
    // At most 1023 turns, each of which adds at most 2 * 65535 to a lane: no overflow.
    for (const end = source + (length & ~(CHUNK - 1)); source != end; source += CHUNK, target += CHUNK) {
      const a = v128.load(source);
      const b = v128.load(source, 16);
      const c = v128.load(source, 32);
      const d = v128.load(source, 48);
      v128.store(target, a);
      v128.store(target, b, 16);
      v128.store(target, c, 32);
      v128.store(target, d, 48);
      sum0 = i32x4.add(sum0, i32x4.extadd_pairwise_i16x8_u(a));
      sum1 = i32x4.add(sum1, i32x4.extadd_pairwise_i16x8_u(b));
      sum2 = i32x4.add(sum2, i32x4.extadd_pairwise_i16x8_u(c));
      sum3 = i32x4.add(sum3, i32x4.extadd_pairwise_i16x8_u(d));
    }
    const low = i64x2.add(
      i64x2.add(i64x2.extend_low_i32x4_u(sum0), i64x2.extend_low_i32x4_u(sum1)),
      i64x2.add(i64x2.extend_low_i32x4_u(sum2), i64x2.extend_low_i32x4_u(sum3)),
    );
    const high = i64x2.add(
      i64x2.add(i64x2.extend_high_i32x4_u(sum0), i64x2.extend_high_i32x4_u(sum1)),
      i64x2.add(i64x2.extend_high_i32x4_u(sum2), i64x2.extend_high_i32x4_u(sum3)),
    );
    const total = i64x2.add(low, high);
    result = <u64>i64x2.extract_lane(total, 0) + <u64>i64x2.extract_lane(total, 1);
    length &= CHUNK - 1;
  }
  for (; length >= 8; length -= 8, source += 8, target += 8) {
    const piece = load<u64>(source);
    store<u64>(target, piece);
    result += (piece & 0xffffffff) + (piece >> 32);
  }
  if (length & 4) {
    const piece = load<u32>(source);
    store<u32>(target, piece);
    result += <u64>piece;
    source += 4;
    target += 4;
  }
  if (length & 2) {
    const piece = load<u16>(source);
    store<u16>(target, piece);
    result += <u64>piece;
    source += 2;
    target += 2;
  }
  if (length & 1) {
    const piece = load<u8>(source);
    store<u8>(target, piece);
    result += <u64>piece;
  }
  return result;
}

/** Copies headers in pieces of 16 bytes: reads and writes up to 15 bytes more than `length`. */
export function copyHeaders(target: u32, source: u32, length: u32): void {
  for (let i: u32 = 0; i < length; i += 16) v128.store(target + i, v128.load(source + i));
}
