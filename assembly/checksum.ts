// The internet checksum (RFC 1071): ones' complement sums over 16-bit words in network byte order. Sums stay unfolded u64
// values while they are being put together; `fold` makes the 16-bit sum of them. SIMD for the long stretches.

/** Bytes that one turn of the widest loop sums up. */
const CHUNK: u32 = 64;

/**
 * Adds the 16-bit words of `length` bytes at `address` (any alignment) to the partial sum `initial`. An odd last byte counts
 * as a word padded with zero, as RFC 1071 has it: only the last piece of what is summed may have an odd length.
 *
 * Sums are in the byte order of the machine until `fold`; `word` brings single header fields in.
 */
export function sum(address: usize, length: u32, initial: u64): u64 {
  let result = initial;
  if (length >= CHUNK) {
    // Pairs of 16-bit words are added into 32-bit lanes: at most 2 * 65535 a turn, so 32767 turns (2 MiB) cannot overflow.
    let sum0 = i32x4.splat(0);
    let sum1 = i32x4.splat(0);
    let sum2 = i32x4.splat(0);
    let sum3 = i32x4.splat(0);
    for (const end = address + (length & ~(CHUNK - 1)); address != end; address += CHUNK) {
      sum0 = i32x4.add(sum0, i32x4.extadd_pairwise_i16x8_u(v128.load(address)));
      sum1 = i32x4.add(sum1, i32x4.extadd_pairwise_i16x8_u(v128.load(address, 16)));
      sum2 = i32x4.add(sum2, i32x4.extadd_pairwise_i16x8_u(v128.load(address, 32)));
      sum3 = i32x4.add(sum3, i32x4.extadd_pairwise_i16x8_u(v128.load(address, 48)));
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
    result += <u64>i64x2.extract_lane(total, 0) + <u64>i64x2.extract_lane(total, 1);
    length &= CHUNK - 1;
  }
  for (; length >= 4; length -= 4, address += 4) result += <u64>load<u32>(address);
  if (length & 2) {
    result += <u64>load<u16>(address);
    address += 2;
  }
  if (length & 1) result += <u64>load<u8>(address);
  return result;
}

/** A 16-bit value of a header, given as a number, as it counts in a partial sum. */
export function word(value: u32): u64 {
  return <u64>bswap<u16>(<u16>value);
}

/** The 16-bit ones' complement sum of a partial sum, as a number (network byte order resolved), not inverted. */
export function fold(sum: u64): u16 {
  let s = (sum & 0xffffffff) + (sum >> 32);
  s = (s & 0xffff) + (s >> 16);
  s = (s & 0xffff) + (s >> 16);
  s = (s & 0xffff) + (s >> 16);
  return bswap<u16>(<u16>s);
}
