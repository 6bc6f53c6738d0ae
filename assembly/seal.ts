// Sealing of packets that are in their place already. Single packets wait for company, because the AEAD is faster in batches;
// whoever hands the datagrams on, or lets go of the session, seals what waits.

import { SEAL_DESCRIPTOR_SIZE, SEAL_LENGTH, SEAL_TEXT } from "./aead/abi";
import { sealMixed, sealPackets } from "./aead/index";
import { finishJobs, isShared, postSealing } from "./jobs";
import { SESSION_SEND_COUNTER, SESSION_SEND_KEY } from "./records";
import {
  MAX_SEAL,
  PENDING_COUNT,
  PENDING_COUNTER,
  PENDING_FAMILY,
  PENDING_MESSAGE,
  PENDING_MIXED,
  PENDING_SESSION,
  SCRATCH,
  SEAL_COUNTERS,
  SEAL_DESCRIPTORS,
  SEAL_KEYS,
} from "./regions";

/** Waiting packets that are worth a batch. */
export const SEAL_BATCH: u32 = 8;
/** Waiting packets that are worth sharing with other workers. */
const SHARED_BATCH: u32 = 32;

/** REJECT_AFTER_MESSAGES: 2^64 - 2^13 - 1 (WireGuard's whitepaper, section 6.1). Counters from here on are never used. */
export const REJECT_AFTER_MESSAGES: u64 = 0xffffffffffffdfff;
/** REKEY_AFTER_MESSAGES: 2^60. */
export const REKEY_AFTER_MESSAGES: u64 = 1 << 60;

/** What `takeCounters` returns when the session has no counters left. */
export const NO_COUNTER: u64 = 0xffffffffffffffff;

/**
 * Takes `count` consecutive counters of a session, for this thread only: whatever becomes of the packets, they are never used
 * again. Returns the first, or `NO_COUNTER`.
 */
export function takeCounters(session: u32, count: u32): u64 {
  while (true) {
    const first = atomic.load<u64>(session, SESSION_SEND_COUNTER);
    if (first > REJECT_AFTER_MESSAGES - <u64>count) return NO_COUNTER;
    if (atomic.cmpxchg<u64>(session, first, first + <u64>count, SESSION_SEND_COUNTER) == first) return first;
  }
}

/** Announces packets with counters from `first` on, in this order, to be sealed with a session, in a family's transmit queue. */
export function beginPending(region: u32, session: u32, first: u64, family: u32): void {
  const follows =
    <u32>session == load<u32>(region, PENDING_SESSION) &&
    first == load<u64>(region, PENDING_COUNTER) &&
    family == load<u32>(region, PENDING_FAMILY);
  if (load<u32>(region, PENDING_COUNT) == 0) store<u32>(region, 0, PENDING_MIXED);
  else if (!follows) store<u32>(region, 1, PENDING_MIXED);
  store<u32>(region, <u32>session, PENDING_SESSION);
  store<u64>(region, first, PENDING_COUNTER);
  store<u32>(region, family, PENDING_FAMILY);
}

/** Adds the next packet: its plaintext is in place in `message` of the queue, with room for the tag behind it. */
export function addPending(region: u32, text: u32, length: u32, message: u32): void {
  if (load<u32>(region, PENDING_COUNT) == MAX_SEAL) sealPending(region);
  const count = load<u32>(region, PENDING_COUNT);
  if (count == 0) store<u32>(region, message, PENDING_MESSAGE);
  const descriptor = region + SEAL_DESCRIPTORS + count * SEAL_DESCRIPTOR_SIZE;
  store<u32>(descriptor, <u32>text, SEAL_TEXT);
  store<u32>(descriptor, length, SEAL_LENGTH);
  const counter = load<u64>(region, PENDING_COUNTER);
  store<u32>(region + SEAL_KEYS + (count << 2), load<u32>(region, PENDING_SESSION) + SESSION_SEND_KEY);
  store<u64>(region + SEAL_COUNTERS + (count << 3), counter);
  store<u64>(region, counter + 1, PENDING_COUNTER);
  store<u32>(region, count + 1, PENDING_COUNT);
}

/** Seals what waits, or has others seal it. */
export function sealPending(region: u32): void {
  const count = load<u32>(region, PENDING_COUNT);
  if (count == 0) return;
  store<u32>(region, 0, PENDING_COUNT);
  const descriptors = region + SEAL_DESCRIPTORS;
  const counters = region + SEAL_COUNTERS;
  if (load<u32>(region, PENDING_MIXED)) {
    sealMixed(count, region + SEAL_KEYS, counters, descriptors, region + SCRATCH);
    store<u32>(region, 0, PENDING_MIXED);
    return;
  }
  const session = load<u32>(region, PENDING_SESSION);
  const first = load<u64>(counters);
  if (count >= SHARED_BATCH && isShared(region)) {
    const family = load<u32>(region, PENDING_FAMILY);
    postSealing(region, session, first, descriptors, count, family, load<u32>(region, PENDING_MESSAGE));
  } else {
    sealPackets(count, session + SESSION_SEND_KEY, first, descriptors, region + SCRATCH);
  }
}

/** Seals what waits, and sees that everything is sealed. */
export function finishSealing(region: u32): void {
  sealPending(region);
  finishJobs(region);
}
