// One message at a time (RFC 8439, section 2.8), its blocks in the lanes of a kernel; here for four lanes.
//
// Sealing. Poly1305 follows one kernel behind, over ciphertext that is complete. The first kernel makes the one-time key beside
// the lanes, in the scalar units, which have nothing to absorb yet:
//
//    kernel   ChaCha20 blocks (counter)          meanwhile
//      0      text 0 1 2 3                       one-time key
//      1      text 4 5 6 7                       Poly1305 of text 0 1 2 3
//      2      text 8 9 10 11                     Poly1305 of text 4 5 6 7
//     ...                                        then, alone: what is left and the lengths
//
// A text that leaves a lane free in the one kernel it needs has the key made there, and one of a single block in the pair kernel.
//
// Opening. The ciphertext is there from the start, so Poly1305 absorbs the blocks that the same kernel decrypts: it reads them
// before the kernel writes, hence source and destination may be one. So that the blocks come out even, the first kernel
// decrypts those at the end, which it holds back in scratch:
//
//      0      one-time key, the last (n mod 4)   nothing                  (the pair kernel, if they are two together at most)
//      1      text 0 1 2 3                       Poly1305 of text 0 1 2 3
//     ...                                        then, alone: the last (n mod 4) and the lengths

import { absorb, keyKernel, laneKernel, pairKernel, plainKernel, textKernel } from "../../build/generated/aead-kernels";
import { LANES } from "../../build/generated/aead-lanes";
import { polyFinish, polyInit } from "./poly1305";
import { HELD_BACK, IDLE, KEY_BLOCK, LANE_AREAS, NULL_STATE, POLY, TAG, TAIL } from "./scratch";
import {
  setBlocks,
  setKeyLane,
  setKeyRows,
  setLane,
  setLanes,
  setNonce,
  setNullState,
  setPair,
  setPoly,
  setPolyTarget,
  setPolyTexts,
} from "./setup";
import { completeTail, copyShort } from "./tail";

/** Bytes of one lane's block, and of all lanes' blocks. */
export const BLOCK: u32 = 64;
const STRIDE: u32 = BLOCK * LANES;

/**
 * Encrypts `length` bytes from `source` to `destination` (equal, or not overlapping) and writes the tag to `tag`. The nonce
 * is `nonceHead` (four bytes) and `nonceTail`. The key has been set.
 */
export function sealSingle(
  nonceHead: u32,
  nonceTail: u64,
  aad: u32,
  aadLength: u32,
  source: u32,
  destination: u32,
  length: u32,
  tag: u32,
  scratch: u32,
): void {
  const poly = scratch + LANE_AREAS + POLY;
  const tail = scratch + LANE_AREAS + TAIL;
  const rest = length & (BLOCK - 1);
  const full = length - rest;
  copyShort(tail, source + full, rest);

  // Kernel 0.
  let done: u32;
  if (length > BLOCK) {
    setKeyRows(scratch);
    setNonce(scratch, nonceHead, nonceTail);
  }
  if (length <= BLOCK) {
    setKeyLane(scratch, 0);
    setPair(scratch, nonceHead, nonceTail, 1);
    setTextLane(scratch, 1, source, destination, 0, full, length);
    pairKernel(scratch);
    done = BLOCK;
  } else if (length <= STRIDE - BLOCK) {
    setKeyLane(scratch, 0);
    setBlocks(scratch, 0, 1);
    for (let lane: u32 = 1; lane < LANES; lane++) {
      setTextLane(scratch, lane, source, destination, (lane - 1) * BLOCK, full, length);
    }
    plainKernel(scratch);
    done = STRIDE - BLOCK;
  } else {
    setPair(scratch, nonceHead, nonceTail, 0);
    setBlocks(scratch, 1, 2);
    setTextLanes(scratch, source, destination, 0, full, length);
    keyKernel(scratch);
    done = STRIDE;
  }
  polyInit(poly, scratch + LANE_AREAS + KEY_BLOCK);
  if (aadLength) polyAdditional(poly, aad, aadLength, scratch);

  // The other kernels: `absorbed` runs behind `done`.
  let absorbed: u32 = 0;
  for (; done < length; done += STRIDE) {
    setTextLanes(scratch, source, destination, done, full, length);
    setPoly(scratch, 0, destination + absorbed, poly);
    textKernel(scratch);
    absorbed = done;
  }

  // The end, alone.
  if (absorbed < full) absorb(poly, destination + absorbed, (full - absorbed) >> 4);
  absorb(poly, tail, completeTail(tail, rest, aadLength, length));
  copyShort(destination + full, tail, rest);
  polyFinish(poly, tag);
}

/**
 * Decrypts `length` bytes from `source` to `destination` (equal, or not overlapping). Returns whether the tag at `tag` is
 * right; if not, the destination is all zeros. Otherwise as `sealSingle`.
 */
export function openSingle(
  nonceHead: u32,
  nonceTail: u64,
  aad: u32,
  aadLength: u32,
  source: u32,
  destination: u32,
  length: u32,
  tag: u32,
  scratch: u32,
): bool {
  const poly = scratch + LANE_AREAS + POLY;
  const tail = scratch + LANE_AREAS + TAIL;
  const heldBack = scratch + LANE_AREAS + HELD_BACK;
  const rest = length & (BLOCK - 1);
  const full = length - rest;
  const blocks = (length + BLOCK - 1) / BLOCK;
  const main = (blocks - (blocks % LANES)) * BLOCK;
  copyShort(tail, source + full, rest);

  // Kernel 0.
  setKeyLane(scratch, 0);
  for (let lane: u32 = 1; lane < LANES; lane++) {
    const at = main + (lane - 1) * BLOCK;
    const from = at < full ? source + at : at < length ? tail : scratch + IDLE;
    setLane(scratch, lane, from, heldBack + (lane - 1) * BLOCK);
  }
  if (blocks > 1) {
    setKeyRows(scratch);
    setNonce(scratch, nonceHead, nonceTail);
  }
  // For the key's block and at most one more the pair kernel takes less time.
  if (blocks % LANES <= 1) {
    setPair(scratch, nonceHead, nonceTail, main / BLOCK + 1);
    pairKernel(scratch);
  } else {
    setBlocks(scratch, 0, main / BLOCK + 1);
    plainKernel(scratch);
  }
  polyInit(poly, scratch + LANE_AREAS + KEY_BLOCK);
  if (aadLength) polyAdditional(poly, aad, aadLength, scratch);

  // All lanes at a time.
  if (main) setBlocks(scratch, 1, 2);
  for (let done: u32 = 0; done < main; done += STRIDE) {
    setLanes(scratch, source + done, destination + done);
    if (done + STRIDE <= length) {
      setPoly(scratch, 0, source + done, poly);
      textKernel(scratch);
    } else {
      // The last block is not full.
      setNullState(scratch);
      setPolyTexts(scratch, source + done);
      setPolyTarget(scratch, poly);
      setLane(scratch, LANES - 1, tail, heldBack);
      setPoly(scratch, LANES - 1, scratch + IDLE, scratch + NULL_STATE);
      laneKernel(scratch);
    }
  }

  // The end, alone.
  if (main < full) absorb(poly, source + main, (full - main) >> 4);
  absorb(poly, tail, completeTail(tail, rest, aadLength, length));
  polyFinish(poly, scratch + LANE_AREAS + TAG);
  if (v128.any_true(v128.xor(v128.load(tag), v128.load(scratch, LANE_AREAS + TAG)))) {
    memory.fill(destination, 0, length);
    return false;
  }
  let from = heldBack;
  for (let at = main; at < full; at += BLOCK, from += BLOCK) copyBlock(destination + at, from);
  copyShort(destination + full, from, rest);
  return true;
}

/** Absorbs the additional data, zero-padded. */
function polyAdditional(poly: u32, aad: u32, aadLength: u32, scratch: u32): void {
  const rest = aadLength & 15;
  absorb(poly, aad, aadLength >> 4);
  if (rest == 0) return;
  v128.store(scratch + IDLE, i64x2.splat(0));
  copyShort(scratch + IDLE, aad + (aadLength - rest), rest);
  absorb(poly, scratch + IDLE, 1);
}

/** The blocks from offset `at` on go into the lanes. */
function setTextLanes(scratch: u32, source: u32, destination: u32, at: u32, full: u32, length: u32): void {
  if (at + STRIDE <= full) {
    setLanes(scratch, source + at, destination + at);
    return;
  }
  for (let lane: u32 = 0; lane < LANES; lane++) {
    setTextLane(scratch, lane, source, destination, at + lane * BLOCK, full, length);
  }
}

/** The block at offset `at` goes into a lane: in place, by way of the tail when it is not full, or not at all. */
function setTextLane(scratch: u32, lane: u32, source: u32, destination: u32, at: u32, full: u32, length: u32): void {
  const tail = scratch + LANE_AREAS + TAIL;
  if (at < full) setLane(scratch, lane, source + at, destination + at);
  else if (at < length) setLane(scratch, lane, tail, tail);
  else setLane(scratch, lane, scratch + IDLE, scratch + IDLE);
}

function copyBlock(destination: u32, source: u32): void {
  v128.store(destination, v128.load(source));
  v128.store(destination, v128.load(source, 16), 16);
  v128.store(destination, v128.load(source, 32), 32);
  v128.store(destination, v128.load(source, 48), 48);
}
