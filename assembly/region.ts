// Small things that everything in a slot's region needs.

import { Drop } from "./abi";
import { CONNECTION_SIZE, PATH_NAME_4, PATH_NAME_6, PATH_SIZE, SESSION_SIZE, TOUCHED_BITS } from "./records";
import { CONNECTIONS, COUNTERS, PATHS, SESSIONS, TOUCHED } from "./regions";

/** Counts dropped packets. Only this thread writes its counters. */
export function drop(region: u32, reason: Drop, count: u32): void {
  const counter = region + COUNTERS + 8 * reason;
  atomic.store<u64>(counter, load<u64>(counter) + <u64>count);
}

/** Address of a connection record. */
export function connectionAt(region: u32, slot: u32): u32 {
  return load<u32>(region, CONNECTIONS) + slot * CONNECTION_SIZE;
}

/** Says that the activity of a connection has changed. After it was written: the control plane clears the bit before it reads. */
export function touch(region: u32, slot: u32): void {
  const word = load<u32>(region, TOUCHED) + 4 * (slot / TOUCHED_BITS);
  const bit: u32 = 1 << (slot % TOUCHED_BITS);
  // Read first: the line is shared, and the bit of a busy connection is nearly always set.
  if ((atomic.load<u32>(word) & bit) == 0) atomic.or<u32>(word, bit);
}

/** Address of a session record. */
export function sessionAt(region: u32, slot: u32): u32 {
  return load<u32>(region, SESSIONS) + slot * SESSION_SIZE;
}

/** Address of a path record. */
export function pathAt(region: u32, slot: u32): u32 {
  return load<u32>(region, PATHS) + slot * PATH_SIZE;
}

/** Address of the socket address in a path record of that family. */
export function pathName(path: u32, family: u32): u32 {
  return path + (family == 4 ? PATH_NAME_4 : PATH_NAME_6);
}
