// ChaCha20-Poly1305 (RFC 8439, section 2.8) for batches of WireGuard packets, in place, in SIMD.
//
// The kernels are generated (scripts/generate-aead.mjs): ChaCha20 of several blocks, one in each lane, with Poly1305 of other
// text woven in, so that the scalar multiplications of the one run beside the vectors of the other. lanes.ts feeds them with
// several packets at a time, single.ts with several blocks of one packet. The engine is built with four lanes and, to be
// merged to vectors of 256 bits, with eight.
//
// All state lies in the caller's scratch memory, so that threads share nothing; what is secret of it is wiped at the end.
// Time depends on lengths only: there is no branch and no address that depends on keys, texts or tags, but for the outcome of
// the comparison of tags.

import { absorb } from "../../build/generated/aead-kernels";
import { LANES } from "../../build/generated/aead-lanes";
import {
  AEAD_SCRATCH_SIZE,
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
import { openTogether, packetsTogether, sealTogether } from "./lanes";
import { HIGH_BIT, MASK34, polyBlock, polyFinish, polyInit } from "./poly1305";
import {
  HELD_BACK,
  IDLE,
  LANE_AREA_SIZE,
  LANE_AREAS,
  NULL_STATE,
  POLY,
  POLY_CONSTANTS,
  SCRATCH_END,
  STATE,
} from "./scratch";
import { setKey, setKeyRows, setLaneKey } from "./setup";
import { BLOCK, openSingle, sealSingle } from "./single";
import { copyShort, wipe } from "./tail";

/**
 * From where on and how far the scratch memory may hold secrets: after a single message of one block, which the pair kernel did,
 * after longer ones, whose HELD_BACK has a block for each lane, and after several packets together.
 */
const WIPE_SHORT_FROM: u32 = STATE;
const WIPE_SHORT_TO: u32 = LANE_AREAS + LANE_AREA_SIZE;
const WIPE_SINGLE: u32 = LANE_AREAS + HELD_BACK + (LANES - 1) * 64;
const WIPE_ALL: u32 = NULL_STATE;

/**
 * Seals `count` packets in place, each with the nonce 0 || (firstCounter + i) and without additional data; `descriptors` are
 * described in abi.ts, `key` points to 32 bytes, `scratch` to AEAD_SCRATCH_SIZE bytes that only this thread uses.
 * Reads and writes text[0, length + 16) of each packet and nothing around it.
 */
export function sealPackets(count: u32, key: usize, firstCounter: u64, descriptors: usize, scratch: usize): void {
  seal(count, 0, <u32>key, 0, firstCounter, <u32>descriptors, <u32>scratch);
}

/** The same for packets with keys and counters of their own: `keys` points to the address of each's key, `counters` to its counter (u64). */
export function sealMixed(count: u32, keys: u32, counters: u32, descriptors: u32, scratch: u32): void {
  if (count) seal(count, keys, load<u32>(keys), counters, 0, descriptors, scratch);
}

function seal(count: u32, keys: u32, key: u32, counters: u32, firstCounter: u64, descriptors: u32, scratch: u32): void {
  let used: u32 = 0;
  let current = key;
  begin(scratch, key);
  while (count) {
    let sealed = packetsTogether(count, descriptors + SEAL_LENGTH, SEAL_DESCRIPTOR_SIZE);
    if (keys) current = useKeys(max<u32>(1, sealed), keys, current, scratch);
    if (counters) firstCounter = load<u64>(counters);
    if (sealed) {
      setLaneKeys(sealed, current == 0 ? keys : 0, scratch);
      sealTogether(sealed, counters, firstCounter, descriptors, scratch);
      used = WIPE_ALL;
    } else {
      const text = load<u32>(descriptors, SEAL_TEXT);
      const length = load<u32>(descriptors, SEAL_LENGTH);
      if (length > BLOCK) used = max(used, WIPE_SINGLE);
      sealSingle(0, firstCounter, 0, 0, text, text, length, text + length, scratch);
      sealed = 1;
    }
    firstCounter += sealed;
    if (counters) counters += sealed << 3;
    if (keys) keys += sealed << 2;
    descriptors += sealed * SEAL_DESCRIPTOR_SIZE;
    count -= sealed;
  }
  end(used, scratch);
}

/**
 * Opens `count` packets; `descriptors` are described in abi.ts. Sets `ok` of each to 1 when its tag is right. Otherwise sets
 * it to 0, and the destination is all zeros: what was decrypted there before the tag was known has been wiped. Writes
 * destination[0, length) and nothing around it; source and destination of a packet are equal or do not overlap.
 */
export function openPackets(count: u32, key: usize, descriptors: usize, scratch: usize): void {
  open(count, 0, <u32>key, <u32>descriptors, <u32>scratch);
}

/** The same for packets with keys of their own: `keys` points to the address of each's key. */
export function openMixed(count: u32, keys: u32, descriptors: u32, scratch: u32): void {
  if (count) open(count, keys, load<u32>(keys), descriptors, scratch);
}

function open(count: u32, keys: u32, key: u32, descriptors: u32, scratch: u32): void {
  let used: u32 = 0;
  let current = key;
  begin(scratch, key);
  while (count) {
    let opened = packetsTogether(count, descriptors + OPEN_LENGTH, OPEN_DESCRIPTOR_SIZE);
    if (keys) current = useKeys(max<u32>(1, opened), keys, current, scratch);
    if (opened) {
      setLaneKeys(opened, current == 0 ? keys : 0, scratch);
      openTogether(opened, descriptors, scratch);
      used = WIPE_ALL;
    } else {
      const source = load<u32>(descriptors, OPEN_SOURCE);
      const destination = load<u32>(descriptors, OPEN_DESTINATION);
      const length = load<u32>(descriptors, OPEN_LENGTH);
      const counter = load<u64>(descriptors, OPEN_COUNTER);
      if (length > BLOCK) used = max(used, WIPE_SINGLE);
      const ok = openSingle(0, counter, 0, 0, source, destination, length, source + length, scratch);
      store<u32>(descriptors, <u32>ok, OPEN_OK);
      opened = 1;
    }
    if (keys) keys += opened << 2;
    descriptors += opened * OPEN_DESCRIPTOR_SIZE;
    count -= opened;
  }
  end(used, scratch);
}

/**
 * Seals one message as RFC 8439 has it: any 96-bit nonce (`nonceHead` its first four bytes, `nonceTail` the rest, both
 * little-endian), additional data, the tag (16 bytes) apart. Source and destination are equal or do not overlap.
 */
export function sealMessage(
  key: u32,
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
  begin(scratch, key);
  sealSingle(nonceHead, nonceTail, aad, aadLength, source, destination, length, tag, scratch);
  end(length > BLOCK ? WIPE_SINGLE : 0, scratch);
}

/** Opens what `sealMessage` makes. Returns whether the tag is right; if not, the destination is all zeros. */
export function openMessage(
  key: u32,
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
  begin(scratch, key);
  const ok = openSingle(nonceHead, nonceTail, aad, aadLength, source, destination, length, tag, scratch);
  end(length > BLOCK ? WIPE_SINGLE : 0, scratch);
  return ok;
}

/** Poly1305 alone (RFC 8439, section 2.5): the tag of `length` bytes at `message` under a one-time key of 32 bytes. */
export function poly1305Tag(oneTimeKey: u32, message: u32, length: u32, tag: u32, scratch: u32): void {
  const poly = scratch + LANE_AREAS + POLY;
  const rest = length & 15;
  polyInit(poly, oneTimeKey);
  absorb(poly, message, length >> 4);
  if (rest) {
    // A last block that is not full gets a one bit behind it instead of 2^128.
    v128.store(scratch, i64x2.splat(0), IDLE);
    copyShort(scratch + IDLE, message + (length - rest), rest);
    store<u8>(scratch + IDLE + rest, 1);
    polyBlock(poly, scratch + IDLE, 0);
  }
  polyFinish(poly, tag);
  end(0, scratch);
}

/**
 * Sets the key of the next `count` packets if they have one in common. `current` is the key that was set last, 0 when they had
 * different ones; returns what it is afterwards.
 */
function useKeys(count: u32, keys: u32, current: u32, scratch: u32): u32 {
  const first = load<u32>(keys);
  for (let i: u32 = 1; i < count; i++) if (load<u32>(keys + (i << 2)) != first) return 0;
  if (first != current) setKey(scratch, first);
  return first;
}

/** Gives the lanes of the next `count` packets the key that was set or, if `keys` is not 0, each its own. */
function setLaneKeys(count: u32, keys: u32, scratch: u32): void {
  setKeyRows(scratch);
  if (keys == 0) return;
  for (let lane: u32 = 0; lane < count; lane++) setLaneKey(scratch, lane, load<u32>(keys + (lane << 2)));
}

function begin(scratch: u32, key: u32): void {
  if (SCRATCH_END > <u32>AEAD_SCRATCH_SIZE) ERROR("the AEAD needs more scratch memory");
  setKey(scratch, key);
  store<u64>(scratch, HIGH_BIT, POLY_CONSTANTS);
  store<u64>(scratch, MASK34, POLY_CONSTANTS + 8);
}

/** Wipes what may hold secrets; `used` is 0 when only the pair kernel worked. */
function end(used: u32, scratch: u32): void {
  if (used) wipe(scratch, scratch + used);
  else wipe(scratch + WIPE_SHORT_FROM, scratch + WIPE_SHORT_TO);
}
