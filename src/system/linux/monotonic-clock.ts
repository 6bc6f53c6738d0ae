// CLOCK_MONOTONIC for the datapath workers: the same clock as src/system/clock.ts reads, without the array (process.hrtime) or the
// number on the heap (performance.now in Node 20) that each reading makes there, and no slower (clock_gettime(2)).

import type { Instant } from "../../base/time.js";
import { allocate, CLOCK_MONOTONIC, clock_gettime } from "./libc.js";

/** A reader of the clock, for one thread. */
export function monotonicClock(): () => Instant {
  // struct timespec: seconds i64, nanoseconds i64. Neither exceeds 32 bits: seconds count from when the host was started.
  const time = allocate(16);
  const words = new Uint32Array(time.bytes.buffer);
  const address = time.address;
  return () => {
    clock_gettime(CLOCK_MONOTONIC, address);
    return (words[0] ?? 0) * 1e3 + (words[2] ?? 0) / 1e6;
  };
}
