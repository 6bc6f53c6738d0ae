// The AEAD's region of a thread's scratch memory: what the generated kernels (scripts/generate-aead.mjs) and the code around
// them agree on. The lane kernel works on LANES lanes: a ChaCha20 block each, of one packet or of several. The Poly1305 blocks
// that it absorbs on the side come in as many groups of 64 bytes.
//
//      | INITIAL | WORKING | STATE | PAIR_WORDS | IDLE | lane area 0 | 1 | 2 | ... | NULL_STATE | addresses |
//
// Everything before NULL_STATE may hold secrets and is wiped after use. One message alone uses lane area 0 and, when it is
// opened, the start of those behind it.

import { LANES } from "../../build/generated/aead-lanes";
import { POLY_STATE_SIZE } from "./poly1305";

/** A row: one u32 for each lane. */
export const ROW: u32 = 4 * LANES;

/** ChaCha20's initial state (RFC 8439, section 2.3): 16 rows, row i being word i of all lanes. */
export const INITIAL: u32 = 0;
/** Row 12: the block counters of the kernel before; each kernel adds COUNTER_STEPS first. */
export const COUNTERS: u32 = INITIAL + 12 * ROW;
/** Rows 13 to 15: the nonces. */
export const NONCES: u32 = INITIAL + 13 * ROW;
/** As much again: the state amid the rounds, where a kernel keeps it in memory, and after them, or the keystream made of it. */
export const WORKING: u32 = INITIAL + 16 * ROW;
/** Words 0 to 11 of the state once, 48 bytes, */
export const STATE: u32 = WORKING + 16 * ROW;
/** and words 12 to 15 for each of the two blocks of the pair kernel. */
export const PAIR_WORDS: u32 = STATE + 48;
/** Where lanes without a block read and write; 64 bytes. */
export const IDLE: u32 = PAIR_WORDS + 32;

/** Lane area: what belongs to one packet. */
export const LANE_AREAS: u32 = IDLE + 64;
/** In a lane area: the Poly1305 state; */
export const POLY: u32 = 0;
/** the tag as computed; */
export const TAG: u32 = POLY + POLY_STATE_SIZE;
/** the keystream block of counter 0, whose first 32 bytes are Poly1305's one-time key; */
export const KEY_BLOCK: u32 = TAG + 16;
/** the end of the text that fills no block of 64, zero-padded to whole Poly1305 blocks, then the block of lengths; */
export const TAIL: u32 = KEY_BLOCK + 64;
/** output that must not go to its destination yet: one block, of a single message one for each lane but the first. */
export const HELD_BACK: u32 = TAIL + 96;
/** Bytes from one lane area to the next. */
export const LANE_AREA_SIZE: u32 = HELD_BACK + 64;

/** A Poly1305 state that is all zeros: with r = 0 the accumulator stays 0 whatever is absorbed. */
export const NULL_STATE: u32 = LANE_AREAS + LANES * LANE_AREA_SIZE;

/** A row of addresses: the 64 bytes that each lane is to encrypt or decrypt, */
export const SOURCES: u32 = NULL_STATE + POLY_STATE_SIZE;
/** and where the result goes. */
export const DESTINATIONS: u32 = SOURCES + ROW;
/** A row of addresses: the 64 bytes (four blocks) that each group absorbs, */
export const POLY_TEXTS: u32 = DESTINATIONS + ROW;
/** and the state that absorbs them; NULL_STATE for none. */
export const POLY_TARGETS: u32 = POLY_TEXTS + ROW;

/**
 * How far the block counters go from one kernel to the next. The kernels count by themselves because a vector of 256 bits that
 * is loaded right after its halves were stored waits until both stores have reached the cache, a twentieth of a kernel's time.
 */
export const COUNTER_STEPS: u32 = POLY_TARGETS + ROW;

/** Two u64 for the lane kernel, HIGH_BIT and MASK34 of poly1305.ts: the generator says why it loads them. */
export const POLY_CONSTANTS: u32 = COUNTER_STEPS + ROW;

/** End of what is used; index.ts checks that it fits AEAD_SCRATCH_SIZE. */
export const SCRATCH_END: u32 = POLY_CONSTANTS + 16;
