// Ends of messages that fill no whole ChaCha20 block. They go through scratch memory, so that nothing outside of a message is
// read into the computation or written.

/** Copies `length` < 64 bytes between areas that do not overlap. */
export function copyShort(destination: u32, source: u32, length: u32): void {
  if (length >= 16) {
    const first = v128.load(source);
    const last = v128.load(source + length - 16);
    if (length > 32) {
      const second = v128.load(source, 16);
      const lastButOne = v128.load(source + length - 32);
      v128.store(destination, second, 16);
      v128.store(destination + length - 32, lastButOne);
    }
    v128.store(destination, first);
    v128.store(destination + length - 16, last);
  } else if (length >= 8) {
    const first = load<u64>(source);
    store<u64>(destination + length - 8, load<u64>(source + length - 8));
    store<u64>(destination, first);
  } else if (length >= 4) {
    const first = load<u32>(source);
    store<u32>(destination + length - 4, load<u32>(source + length - 4));
    store<u32>(destination, first);
  } else if (length > 0) {
    store<u8>(destination, load<u8>(source));
    store<u8>(destination + (length >> 1), load<u8>(source + (length >> 1)));
    store<u8>(destination + length - 1, load<u8>(source + length - 1));
  }
}

/**
 * Zeros from `address` up to `end`; both multiples of 16. For the short stretches where `memory.fill` is slow. Of two adjacent
 * stores the higher comes first: V8 merges them to one of 256 bits then, and would write the lower half twice otherwise.
 */
export function wipe(address: u32, end: u32): void {
  const zero = i64x2.splat(0);
  for (const last = end - 128; address <= last; address += 128) {
    v128.store(address, zero, 16);
    v128.store(address, zero);
    v128.store(address, zero, 48);
    v128.store(address, zero, 32);
    v128.store(address, zero, 80);
    v128.store(address, zero, 64);
    v128.store(address, zero, 112);
    v128.store(address, zero, 96);
  }
  for (; address != end; address += 16) v128.store(address, zero);
}

/**
 * Completes a tail that holds `length` < 64 bytes of ciphertext: zero padding, then the lengths of additional data and text
 * (RFC 8439, section 2.8). Returns the number of Poly1305 blocks in it.
 */
export function completeTail(tail: u32, length: u32, aadLength: u32, textLength: u32): u32 {
  const blocks = (length + 15) >> 4;
  v128.store(tail + length, i64x2.splat(0));
  const lengths = tail + (blocks << 4);
  store<u64>(lengths, aadLength);
  store<u64>(lengths, textLength, 8);
  return blocks + 1;
}
