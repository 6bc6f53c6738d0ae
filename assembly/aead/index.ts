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
import { HIGH_BIT, POLY_STATE_SIZE, polyBlocks, polyFinish, polyInit } from "./poly1305";
import { HELD_BACK, IDLE, LANE_AREAS, NULL_STATE, POLY, SCRATCH_END } from "./scratch";
import { setKey, setLaneKey } from "./setup";
import { openSingle, sealSingle } from "./single";
import { copyShort, wipe } from "./tail";

/** How much of the scratch memory may hold secrets after single messages, whose HELD_BACK has a block for each lane, */
const WIPE_SINGLE: u32 = LANE_AREAS + HELD_BACK + (LANES - 1) * 64;
/** and after several packets together. */
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
  let used = WIPE_SINGLE;
  let current = key;
  begin(scratch, key);
  while (count) {
    let sealed = packetsTogether(count, descriptors + SEAL_LENGTH, SEAL_DESCRIPTOR_SIZE);
    if (keys) current = useKeys(max<u32>(1, sealed), keys, current, scratch);
    if (counters) firstCounter = load<u64>(counters);
    if (sealed) {
      sealTogether(sealed, counters, firstCounter, descriptors, scratch);
      used = WIPE_ALL;
    } else {
      const text = load<u32>(descriptors, SEAL_TEXT);
      const length = load<u32>(descriptors, SEAL_LENGTH);
      sealSingle(0, firstCounter, 0, 0, text, text, length, text + length, scratch);
      sealed = 1;
    }
    firstCounter += sealed;
    if (counters) counters += sealed << 3;
    if (keys) keys += sealed << 2;
    descriptors += sealed * SEAL_DESCRIPTOR_SIZE;
    count -= sealed;
  }
  wipe(scratch, scratch + used);
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
  let used = WIPE_SINGLE;
  let current = key;
  begin(scratch, key);
  while (count) {
    let opened = packetsTogether(count, descriptors + OPEN_LENGTH, OPEN_DESCRIPTOR_SIZE);
    if (keys) current = useKeys(max<u32>(1, opened), keys, current, scratch);
    if (opened) {
      openTogether(opened, descriptors, scratch);
      used = WIPE_ALL;
    } else {
      const source = load<u32>(descriptors, OPEN_SOURCE);
      const destination = load<u32>(descriptors, OPEN_DESTINATION);
      const length = load<u32>(descriptors, OPEN_LENGTH);
      const counter = load<u64>(descriptors, OPEN_COUNTER);
      const ok = openSingle(0, counter, 0, 0, source, destination, length, source + length, scratch);
      store<u32>(descriptors, <u32>ok, OPEN_OK);
      opened = 1;
    }
    if (keys) keys += opened << 2;
    descriptors += opened * OPEN_DESCRIPTOR_SIZE;
    count -= opened;
  }
  wipe(scratch, scratch + used);
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
  wipe(scratch, scratch + WIPE_SINGLE);
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
  wipe(scratch, scratch + WIPE_SINGLE);
  return ok;
}

/** Poly1305 alone (RFC 8439, section 2.5): the tag of `length` bytes at `message` under a one-time key of 32 bytes. */
export function poly1305Tag(oneTimeKey: u32, message: u32, length: u32, tag: u32, scratch: u32): void {
  const poly = scratch + LANE_AREAS + POLY;
  const rest = length & 15;
  polyInit(poly, oneTimeKey);
  polyBlocks(poly, message, length >> 4, HIGH_BIT);
  if (rest) {
    // A last block that is not full gets a one bit behind it instead of 2^128.
    v128.store(scratch, i64x2.splat(0), IDLE);
    copyShort(scratch + IDLE, message + (length - rest), rest);
    store<u8>(scratch + IDLE + rest, 1);
    polyBlocks(poly, scratch + IDLE, 1, 0);
  }
  polyFinish(poly, tag);
}

/**
 * Sets the keys of the next `count` packets. `current` is the key that all lanes have, 0 when they have different ones; returns what it
 * is afterwards.
 */
function useKeys(count: u32, keys: u32, current: u32, scratch: u32): u32 {
  const first = load<u32>(keys);
  let same = true;
  for (let i: u32 = 1; i < count; i++) if (load<u32>(keys + (i << 2)) != first) same = false;
  if (same) {
    if (first != current) setKey(scratch, first);
    return first;
  }
  for (let lane: u32 = 0; lane < count; lane++) setLaneKey(scratch, lane, load<u32>(keys + (lane << 2)));
  return 0;
}

function begin(scratch: u32, key: u32): void {
  if (SCRATCH_END > <u32>AEAD_SCRATCH_SIZE) ERROR("the AEAD needs more scratch memory");
  setKey(scratch, key);
  wipe(scratch + NULL_STATE, scratch + NULL_STATE + POLY_STATE_SIZE);
}
