// Several packets at a time, one in each lane: kernel j encrypts or decrypts block j - 1 of all of them, kernel 0 makes their
// one-time keys. Poly1305 works on all of them too: when sealing on the blocks of the kernel before, when opening on the same
// blocks, which it reads before they are overwritten. Packets may differ in length; a lane whose packet has ended idles.

import { absorb, absorbPair, laneKernel, plainKernel } from "../../build/generated/aead-kernels";
import { LANES } from "../../build/generated/aead-lanes";
import {
  OPEN_COUNTER,
  OPEN_DESCRIPTOR_SIZE,
  OPEN_DESTINATION,
  OPEN_LENGTH,
  OPEN_OK,
  OPEN_SOURCE,
  SEAL_DESCRIPTOR_SIZE,
  SEAL_LENGTH,
  SEAL_TEXT,
} from "./abi";
import { polyFinish, polyInit } from "./poly1305";
import {
  HELD_BACK,
  IDLE,
  KEY_BLOCK,
  LANE_AREA_SIZE,
  LANE_AREAS,
  NULL_STATE,
  POLY,
  POLY_TEXTS,
  TAG,
  TAIL,
} from "./scratch";
import {
  advanceLanes,
  setBlockOfEach,
  setKeyLane,
  setLane,
  setLaneNonce,
  setPoly,
  setPolyIdle,
  setPolyTextsToSources,
} from "./setup";
import { completeTail, copyShort } from "./tail";

/** Bytes of one lane's block. */
const BLOCK: u32 = 64;

/** Whether to absorb the ends of two packets at a time: with V8 11, which runs the engine of four lanes, it is slower (measured). */
const PAIR_PAYS: bool = LANES > 4;

// What messages cost, measured, in blocks of several together: a message by itself beyond the blocks of its kernels, since with many
// lanes a good part of Poly1305 is left to the end, when no ChaCha20 runs beside it; one that the pair kernel does; and what
// several together cost beyond their blocks.
const SINGLE_EXTRA: u32 = LANES > 4 ? 5 : 4;
const SINGLE_SHORT: u32 = LANES > 4 ? 7 : 5;
const TOGETHER_EXTRA: u32 = 2 * LANES;

/**
 * How many of the `count` packets whose lengths are at `lengths`, `stride` bytes apart, to put into the lanes together:
 * 0 when it is cheaper to take the first by itself.
 */
export function packetsTogether(count: u32, lengths: u32, stride: u32): u32 {
  if (count == 1) return 0;
  const together = min<u32>(count, LANES);
  let longest: u32 = 0;
  let costSingly: u32 = 0;
  for (let i: u32 = 0; i < together; i++) {
    const blocks = (load<u32>(lengths + i * stride) + BLOCK - 1) / BLOCK;
    longest = max<u32>(longest, blocks);
    costSingly += blocks <= 1 ? SINGLE_SHORT : ((blocks + LANES - 1) / LANES) * LANES + SINGLE_EXTRA;
  }
  // Together, every lane makes a one-time key too, and one whose message is shorter idles.
  return (longest + 1) * LANES + TOGETHER_EXTRA <= costSingly ? together : 0;
}

/**
 * Seals the `count` <= LANES packets of `descriptors` with the counters at `counters` (u64 each), or, where that is 0, from `firstCounter` on. The keys
 * have been set.
 */
export function sealTogether(count: u32, counters: u32, firstCounter: u64, descriptors: u32, scratch: u32): void {
  let longest: u32 = 0;
  let shortest = u32.MAX_VALUE;
  for (let lane: u32 = 0; lane < count; lane++) {
    const descriptor = descriptors + lane * SEAL_DESCRIPTOR_SIZE;
    const length = load<u32>(descriptor, SEAL_LENGTH);
    const rest = length & (BLOCK - 1);
    copyShort(area(scratch, lane) + TAIL, load<u32>(descriptor, SEAL_TEXT) + length - rest, rest);
    setLaneNonce(scratch, lane, counters == 0 ? firstCounter + lane : load<u64>(counters + (lane << 3)));
    longest = max<u32>(longest, length);
    shortest = min<u32>(shortest, length);
  }
  makeKeys(count, scratch);

  for (let at: u32 = 0; at < longest; at += BLOCK) {
    const same = at > 0 && at + BLOCK <= shortest && count == LANES;
    if (same) advanceLanes(scratch);
    else setSealLanes(count, descriptors, at, scratch);
    // There is nothing to absorb yet.
    if (at == 0) plainKernel(scratch);
    else laneKernel(scratch);
    // The next kernel absorbs what this one encrypted.
    if (same) setPolyTextsToSources(scratch);
    else setSealPoly(count, descriptors, at, scratch);
  }

  for (let lane: u32 = 0; lane < count; lane += 2) {
    const fullBlocks = fullBlocksLeft(lane, scratch);
    if (lane + 1 < count) {
      absorbTwo(
        area(scratch, lane) + POLY,
        load<u32>(scratch + (lane << 2), POLY_TEXTS),
        fullBlocks,
        area(scratch, lane + 1) + POLY,
        load<u32>(scratch + (lane << 2), POLY_TEXTS + 4),
        fullBlocksLeft(lane + 1, scratch),
      );
    } else if (fullBlocks) {
      absorb(area(scratch, lane) + POLY, load<u32>(scratch + (lane << 2), POLY_TEXTS), fullBlocks);
    }
  }
  absorbTails(count, descriptors + SEAL_LENGTH, SEAL_DESCRIPTOR_SIZE, scratch);
  for (let lane: u32 = 0; lane < count; lane++) {
    const descriptor = descriptors + lane * SEAL_DESCRIPTOR_SIZE;
    const length = load<u32>(descriptor, SEAL_LENGTH);
    const end = load<u32>(descriptor, SEAL_TEXT) + length;
    const rest = length & (BLOCK - 1);
    copyShort(end - rest, area(scratch, lane) + TAIL, rest);
    polyFinish(area(scratch, lane) + POLY, end);
  }
}

/** Poly1305 blocks of the lane's last full block, which no kernel absorbs any more. */
function fullBlocksLeft(lane: u32, scratch: u32): u32 {
  return load<u32>(scratch + (lane << 2), POLY_TEXTS) == scratch + IDLE ? 0 : BLOCK / 16;
}

/** Completes and absorbs the tails of the `count` packets whose lengths are at `lengths`, `stride` bytes apart. */
function absorbTails(count: u32, lengths: u32, stride: u32, scratch: u32): void {
  for (let lane: u32 = 0; lane < count; lane += 2) {
    const first = area(scratch, lane);
    const second = first + LANE_AREA_SIZE;
    const length = load<u32>(lengths + lane * stride);
    const blocks = completeTail(first + TAIL, length & (BLOCK - 1), 0, length);
    if (lane + 1 < count) {
      const otherLength = load<u32>(lengths + (lane + 1) * stride);
      const otherBlocks = completeTail(second + TAIL, otherLength & (BLOCK - 1), 0, otherLength);
      absorbTwo(first + POLY, first + TAIL, blocks, second + POLY, second + TAIL, otherBlocks);
    } else {
      absorb(first + POLY, first + TAIL, blocks);
    }
  }
}

/** Absorbs blocks of two packets, as long as there are some of both at the same time: alone, each would wait for its own results. */
function absorbTwo(state0: u32, text0: u32, blocks0: u32, state1: u32, text1: u32, blocks1: u32): void {
  const together: u32 = PAIR_PAYS ? min<u32>(blocks0, blocks1) : 0;
  if (together) absorbPair(state0, text0, state1, text1, together);
  if (blocks0 > together) absorb(state0, text0 + (together << 4), blocks0 - together);
  if (blocks1 > together) absorb(state1, text1 + (together << 4), blocks1 - together);
}

/** Puts the blocks at offset `at` into the lanes: in place, by way of the tail when not full, or nothing. */
function setSealLanes(count: u32, descriptors: u32, at: u32, scratch: u32): void {
  for (let lane: u32 = 0; lane < count; lane++) {
    const descriptor = descriptors + lane * SEAL_DESCRIPTOR_SIZE;
    const length = load<u32>(descriptor, SEAL_LENGTH);
    let text = scratch + IDLE;
    if (at + BLOCK <= length) text = load<u32>(descriptor, SEAL_TEXT) + at;
    else if (at < length) text = area(scratch, lane) + TAIL;
    setLane(scratch, lane, text, text);
  }
}

/** Lets each packet's state absorb its block at offset `at`, if it is full. */
function setSealPoly(count: u32, descriptors: u32, at: u32, scratch: u32): void {
  for (let lane: u32 = 0; lane < count; lane++) {
    const descriptor = descriptors + lane * SEAL_DESCRIPTOR_SIZE;
    const isFull = at + BLOCK <= load<u32>(descriptor, SEAL_LENGTH);
    const text = isFull ? load<u32>(descriptor, SEAL_TEXT) + at : scratch + IDLE;
    setPoly(scratch, lane, text, isFull ? area(scratch, lane) + POLY : scratch + NULL_STATE);
  }
}

/** Opens the `count` <= LANES packets of `descriptors`. The keys have been set. */
export function openTogether(count: u32, descriptors: u32, scratch: u32): void {
  let longest: u32 = 0;
  let shortest = u32.MAX_VALUE;
  for (let lane: u32 = 0; lane < count; lane++) {
    const descriptor = descriptors + lane * OPEN_DESCRIPTOR_SIZE;
    const length = load<u32>(descriptor, OPEN_LENGTH);
    const rest = length & (BLOCK - 1);
    copyShort(area(scratch, lane) + TAIL, load<u32>(descriptor, OPEN_SOURCE) + length - rest, rest);
    setLaneNonce(scratch, lane, load<u64>(descriptor, OPEN_COUNTER));
    longest = max<u32>(longest, length);
    shortest = min<u32>(shortest, length);
  }
  makeKeys(count, scratch);

  for (let at: u32 = 0; at < longest; at += BLOCK) {
    if (at > 0 && at + BLOCK <= shortest && count == LANES) {
      advanceLanes(scratch);
      setPolyTextsToSources(scratch);
    } else {
      setOpenLanes(count, descriptors, at, scratch);
    }
    // Without a full block there is nothing to absorb.
    if (at + BLOCK > longest) plainKernel(scratch);
    else laneKernel(scratch);
  }
  absorbTails(count, descriptors + OPEN_LENGTH, OPEN_DESCRIPTOR_SIZE, scratch);

  for (let lane: u32 = 0; lane < count; lane++) {
    const descriptor = descriptors + lane * OPEN_DESCRIPTOR_SIZE;
    const length = load<u32>(descriptor, OPEN_LENGTH);
    const destination = load<u32>(descriptor, OPEN_DESTINATION);
    const rest = length & (BLOCK - 1);
    const computed = area(scratch, lane) + TAG;
    polyFinish(area(scratch, lane) + POLY, computed);
    const received = v128.load(load<u32>(descriptor, OPEN_SOURCE) + length);
    const ok = !v128.any_true(v128.xor(received, v128.load(computed)));
    if (ok) copyShort(destination + length - rest, area(scratch, lane) + HELD_BACK, rest);
    else memory.fill(destination, 0, length);
    store<u32>(descriptor, <u32>ok, OPEN_OK);
  }
}

/** Puts the blocks at offset `at` into lanes and groups; the end of a text that is not full is absorbed later. */
function setOpenLanes(count: u32, descriptors: u32, at: u32, scratch: u32): void {
  for (let lane: u32 = 0; lane < count; lane++) {
    const descriptor = descriptors + lane * OPEN_DESCRIPTOR_SIZE;
    const length = load<u32>(descriptor, OPEN_LENGTH);
    if (at + BLOCK <= length) {
      const source = load<u32>(descriptor, OPEN_SOURCE) + at;
      setLane(scratch, lane, source, load<u32>(descriptor, OPEN_DESTINATION) + at);
      setPoly(scratch, lane, source, area(scratch, lane) + POLY);
      continue;
    }
    if (at < length) setLane(scratch, lane, area(scratch, lane) + TAIL, area(scratch, lane) + HELD_BACK);
    else setLane(scratch, lane, scratch + IDLE, scratch + IDLE);
    setPoly(scratch, lane, scratch + IDLE, scratch + NULL_STATE);
  }
}

/** Kernel 0: the one-time keys of all lanes in use. The others idle, in this kernel and in those that follow. */
function makeKeys(count: u32, scratch: u32): void {
  for (let lane: u32 = 0; lane < count; lane++) setKeyLane(scratch, lane);
  for (let lane: u32 = count; lane < LANES; lane++) setLane(scratch, lane, scratch + IDLE, scratch + IDLE);
  setPolyIdle(scratch);
  setBlockOfEach(scratch);
  plainKernel(scratch);
  for (let lane: u32 = 0; lane < count; lane++) {
    polyInit(area(scratch, lane) + POLY, area(scratch, lane) + KEY_BLOCK);
  }
}

function area(scratch: u32, lane: u32): u32 {
  return scratch + LANE_AREAS + lane * LANE_AREA_SIZE;
}
