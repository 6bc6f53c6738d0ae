// How long this host has slept: CLOCK_BOOTTIME goes on while it is suspended, CLOCK_MONOTONIC, by which all our deadlines are set, does not
// (clock_gettime(2)). Steps of the wall clock do not matter here.

import type { Duration } from "../../base/time.js";
import { allocate, CLOCK_BOOTTIME, CLOCK_MONOTONIC, check, clock_gettime } from "./libc.js";

/** `struct timespec`: seconds i64, nanoseconds i64. */
const time = allocate(16);

/** Time that the host has spent suspended since it was started, in milliseconds; exact to less than one. */
export function suspendedTime(): Duration {
  return read(CLOCK_BOOTTIME) - read(CLOCK_MONOTONIC);
}

function read(clock: number): Duration {
  check(clock_gettime(clock, time.address), "clock_gettime");
  return Number(time.view.getBigInt64(0, true)) * 1e3 + Number(time.view.getBigInt64(8, true)) / 1e6;
}
