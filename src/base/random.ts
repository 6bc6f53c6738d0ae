// Randomness as the sans-IO layers see it: an object handed in, cryptographic in programs and seeded in tests.

/** A source of uniformly distributed bits. */
export interface Random {
  /** `length` fresh random bytes, owned by the caller. */
  bytes(length: number): Uint8Array;
}

/** A uniform integer in `[0, bound)`; `bound` at most 2^32. */
export function randomBelow(random: Random, bound: number): number {
  // Rejection sampling: the topmost incomplete multiple of `bound` would favour small results.
  const limit = 2 ** 32 - (2 ** 32 % bound);
  for (;;) {
    const value = randomUint32(random);
    if (value < limit) return value % bound;
  }
}

/** A uniform 32-bit unsigned integer. */
export function randomUint32(random: Random): number {
  const bytes = random.bytes(4);
  return new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0);
}

/** A string of `length` characters drawn uniformly from `alphabet`. */
export function randomString(random: Random, alphabet: string, length: number): string {
  let text = "";
  for (let i = 0; i < length; i++) text += alphabet.charAt(randomBelow(random, alphabet.length));
  return text;
}

/** A random (version 4) UUID in lower-case hyphenated form (RFC 9562, section 5.4). */
export function randomUuid(random: Random): string {
  const bytes = random.bytes(16);
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}
