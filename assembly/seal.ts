// Sealing of packets that are in their place already. Single packets wait for company, because the AEAD is faster in batches;
// whoever hands the datagrams on, or lets go of the session, seals what waits.

import { SEAL_DESCRIPTOR_SIZE, SEAL_LENGTH, SEAL_TEXT } from "./aead/abi";
import { sealPackets } from "./aead/index";
import { SESSION_SEND_COUNTER, SESSION_SEND_KEY } from "./records";
import { MAX_SEAL, PENDING_COUNT, PENDING_COUNTER, PENDING_SESSION, SCRATCH, SEAL_DESCRIPTORS } from "./regions";

/** Waiting packets that are worth a batch. */
export const SEAL_BATCH: u32 = 8;

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

/** Announces packets with counters from `first` on, in this order, to be sealed with a session. */
export function beginPending(region: u32, session: u32, first: u64): void {
  const count = load<u32>(region, PENDING_COUNT);
  if (count != 0) {
    if (<u32>session == load<u32>(region, PENDING_SESSION) && first == load<u64>(region, PENDING_COUNTER) + <u64>count)
      return;
    sealPending(region);
  }
  store<u32>(region, <u32>session, PENDING_SESSION);
  store<u64>(region, first, PENDING_COUNTER);
}

/** Adds the next packet: its plaintext is in place, with room for the tag behind it. */
export function addPending(region: u32, text: u32, length: u32): void {
  if (load<u32>(region, PENDING_COUNT) == MAX_SEAL) sealPending(region);
  const count = load<u32>(region, PENDING_COUNT);
  const descriptor = region + SEAL_DESCRIPTORS + count * SEAL_DESCRIPTOR_SIZE;
  store<u32>(descriptor, <u32>text, SEAL_TEXT);
  store<u32>(descriptor, length, SEAL_LENGTH);
  store<u32>(region, count + 1, PENDING_COUNT);
}

/** Seals what waits. */
export function sealPending(region: u32): void {
  const count = load<u32>(region, PENDING_COUNT);
  if (count == 0) return;
  const first = load<u64>(region, PENDING_COUNTER);
  const key = load<u32>(region, PENDING_SESSION) + SESSION_SEND_KEY;
  sealPackets(count, key, first, region + SEAL_DESCRIPTORS, region + SCRATCH);
  store<u32>(region, 0, PENDING_COUNT);
  store<u64>(region, first + <u64>count, PENDING_COUNTER);
}
