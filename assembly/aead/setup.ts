// Telling the kernels what to do: key, nonce and block counters (RFC 8439, section 2.3), and which text is whose.

import { LANES } from "../../build/generated/aead-lanes";
import { POLY_STATE_SIZE } from "./poly1305";
import {
  COUNTER_STEPS,
  COUNTERS,
  DESTINATIONS,
  IDLE,
  INITIAL,
  KEY_BLOCK,
  LANE_AREA_SIZE,
  LANE_AREAS,
  NONCES,
  NULL_STATE,
  PAIR_WORDS,
  POLY_TARGETS,
  POLY_TEXTS,
  ROW,
  SOURCES,
  STATE,
} from "./scratch";
import { wipe } from "./tail";

/** Writes another key for one lane than for the others, after `setKeyRows`. */
export function setLaneKey(scratch: u32, lane: u32, key: u32): void {
  const words = scratch + INITIAL + 4 * ROW + (lane << 2);
  for (let i: u32 = 0; i < 8; i++) store<u32>(words + i * ROW, load<u32>(key + (i << 2)));
}

/** The constants "expand 32-byte k" and the key: of the pair kernel, and of the lanes after `setKeyRows`. */
export function setKey(scratch: u32, key: u32): void {
  v128.store(scratch, i32x4(0x61707865, 0x3320646e, 0x79622d32, 0x6b206574), STATE);
  v128.store(scratch, v128.load(key), STATE + 16);
  v128.store(scratch, v128.load(key, 16), STATE + 32);
}

/** Gives all lanes what `setKey` set. */
export function setKeyRows(scratch: u32): void {
  setRow(scratch + INITIAL, 0x61707865);
  setRow(scratch + INITIAL + ROW, 0x3320646e);
  setRow(scratch + INITIAL + 2 * ROW, 0x79622d32);
  setRow(scratch + INITIAL + 3 * ROW, 0x6b206574);
  for (let word: u32 = 4; word < 12; word += 2) {
    setRow(scratch + INITIAL + word * ROW, load<u32>(scratch + (word << 2), STATE));
    setRow(scratch + INITIAL + (word + 1) * ROW, load<u32>(scratch + (word << 2), STATE + 4));
  }
}

/** One nonce in all lanes: its first four bytes and the other eight, little-endian. */
export function setNonce(scratch: u32, head: u32, tail: u64): void {
  setRow(scratch + NONCES, head);
  setRow(scratch + NONCES + ROW, <u32>tail);
  setRow(scratch + NONCES + 2 * ROW, <u32>(tail >> 32));
}

/** WireGuard's nonce, 0 || counter, in one lane. */
export function setLaneNonce(scratch: u32, lane: u32, counter: u64): void {
  const column = scratch + (lane << 2);
  store<u32>(column, 0, NONCES);
  store<u32>(column, <u32>counter, NONCES + ROW);
  store<u32>(column, <u32>(counter >> 32), NONCES + 2 * ROW);
}

/** The next kernel's block counter is 0 in all lanes, and goes up by one from kernel to kernel. */
export function setBlockOfEach(scratch: u32): void {
  setRow(scratch + COUNTERS, -1);
  setRow(scratch + COUNTER_STEPS, 1);
}

/**
 * The next kernel's block counters ascend, `lane0` in lane 0 and `lane1` from lane 1 on, and the following kernels go on from
 * there.
 */
export function setBlocks(scratch: u32, lane0: u32, lane1: u32): void {
  const first = i32x4.add(i32x4.splat(lane1 - LANES), i32x4(-1, 0, 1, 2));
  lane0 -= LANES;
  setRow(scratch + COUNTER_STEPS, LANES);
  v128.store(scratch, i32x4.replace_lane(first, 0, lane0), COUNTERS);
  if (LANES > 4) v128.store(scratch, i32x4.add(first, i32x4.splat(4)), COUNTERS + 16);
}

/** Block 0 and another one in the pair kernel, and their nonce. */
export function setPair(scratch: u32, head: u32, tail: u64, block: u32): void {
  const words = i64x2.replace_lane(i64x2.splat((<u64>head) << 32), 1, tail);
  v128.store(scratch, words, PAIR_WORDS);
  v128.store(scratch, i32x4.replace_lane(words, 0, block), PAIR_WORDS + 16);
}

/** What a lane reads and where it writes: 64 bytes each. */
export function setLane(scratch: u32, lane: u32, source: u32, destination: u32): void {
  const column = scratch + (lane << 2);
  store<u32>(column, source, SOURCES);
  store<u32>(column, destination, DESTINATIONS);
}

/** Lane after lane works on consecutive text. */
export function setLanes(scratch: u32, source: u32, destination: u32): void {
  setConsecutive(scratch + SOURCES, source);
  setConsecutive(scratch + DESTINATIONS, destination);
}

/** All lanes go on to the next 64 bytes. */
export function advanceLanes(scratch: u32): void {
  addToRow(scratch + SOURCES, 64);
  addToRow(scratch + DESTINATIONS, 64);
}

/** The lane makes Poly1305's one-time key, the start of the keystream block 0 (RFC 8439, section 2.6). */
export function setKeyLane(scratch: u32, lane: u32): void {
  const key = scratch + LANE_AREAS + lane * LANE_AREA_SIZE + KEY_BLOCK;
  v128.store(key, i64x2.splat(0));
  v128.store(key, i64x2.splat(0), 16);
  setLane(scratch, lane, key, key);
}

/** What a group absorbs, and into which state. */
export function setPoly(scratch: u32, group: u32, text: u32, state: u32): void {
  const column = scratch + (group << 2);
  store<u32>(column, text, POLY_TEXTS);
  store<u32>(column, state, POLY_TARGETS);
}

/** Group after group absorbs consecutive text; `setPolyTarget` says into which state. */
export function setPolyTexts(scratch: u32, text: u32): void {
  setConsecutive(scratch + POLY_TEXTS, text);
}

/** Each group absorbs what the lane of its number reads. */
export function setPolyTextsToSources(scratch: u32): void {
  const low = v128.load(scratch, SOURCES);
  if (LANES > 4) v128.store(scratch, v128.load(scratch, SOURCES + 16), POLY_TEXTS + 16);
  v128.store(scratch, low, POLY_TEXTS);
}

/** All groups absorb into one state. */
export function setPolyTarget(scratch: u32, state: u32): void {
  setRow(scratch + POLY_TARGETS, state);
}

/** From here on NULL_STATE may be a group's state. */
export function setNullState(scratch: u32): void {
  wipe(scratch + NULL_STATE, scratch + NULL_STATE + POLY_STATE_SIZE);
}

/** Nothing is absorbed. */
export function setPolyIdle(scratch: u32): void {
  setNullState(scratch);
  setRow(scratch + POLY_TEXTS, scratch + IDLE);
  setRow(scratch + POLY_TARGETS, scratch + NULL_STATE);
}

// A row is one vector of four lanes, or two of them: the second is stored first, for the reason that `wipe` gives.

function setRow(row: u32, value: u32): void {
  if (LANES > 4) v128.store(row, i32x4.splat(value), 16);
  v128.store(row, i32x4.splat(value));
}

function addToRow(row: u32, value: u32): void {
  const low = i32x4.add(v128.load(row), i32x4.splat(value));
  if (LANES > 4) v128.store(row, i32x4.add(v128.load(row, 16), i32x4.splat(value)), 16);
  v128.store(row, low);
}

function setConsecutive(row: u32, address: u32): void {
  const first = i32x4.add(i32x4.splat(address), i32x4(0, 64, 128, 192));
  if (LANES > 4) v128.store(row, i32x4.add(first, i32x4.splat(256)), 16);
  v128.store(row, first);
}
