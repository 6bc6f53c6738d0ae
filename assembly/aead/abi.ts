// What callers of the AEAD must know about its memory: descriptors and scratch. Compiled twice, by AssemblyScript and by
// TypeScript (src/engine/layout.ts sizes the scratch regions), so: plain constants only.

/** Bytes of one thread's scratch region of the AEAD. Must be aligned to 64; content need not be initialised. */
export const AEAD_SCRATCH_SIZE = 4608;

// Descriptor of one packet to seal:
//
//    0       4        8
//    | text  | length |

/** Bytes of a seal descriptor. */
export const SEAL_DESCRIPTOR_SIZE = 8;
/** u32: address of the plaintext; the ciphertext replaces it and the 16-byte tag is written behind it. */
export const SEAL_TEXT = 0;
/** u32: bytes of plaintext, 0 to 65535. */
export const SEAL_LENGTH = 4;

// Descriptor of one packet to open (aligned to 8):
//
//    0        4             8        12   16        24
//    | source | destination | length | ok | counter |

/** Bytes of an open descriptor. */
export const OPEN_DESCRIPTOR_SIZE = 24;
/** u32: address of the ciphertext, with the 16-byte tag right behind it. */
export const OPEN_SOURCE = 0;
/** u32: address for the plaintext: equal to the source, or not overlapping it. */
export const OPEN_DESTINATION = 4;
/** u32: bytes of ciphertext without the tag, 0 to 65535. */
export const OPEN_LENGTH = 8;
/** u32, written: 1 when the tag verified, else 0 (and the destination was wiped). */
export const OPEN_OK = 12;
/** u64: the packet's counter, the low eight bytes of its nonce. */
export const OPEN_COUNTER = 16;

/** Bytes of a key. */
export const KEY_SIZE = 32;
/** Bytes of a tag. */
export const TAG_SIZE = 16;
