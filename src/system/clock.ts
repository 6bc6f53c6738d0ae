// The process's one monotonic clock. Stamps of the datapath workers and deadlines of the control plane are compared with each
// other, so every thread must read the same clock: `performance.now()` will not do, its origin differs from thread to thread.

import type { Instant, UnixTime } from "../base/time.js";

/** Milliseconds of CLOCK_MONOTONIC; the same origin in every thread of the process. */
export function monotonicNow(): Instant {
  const [seconds, nanoseconds] = process.hrtime();
  return seconds * 1e3 + nanoseconds / 1e6;
}

/** Milliseconds since the Unix epoch. */
export function unixNow(): UnixTime {
  return Date.now();
}
