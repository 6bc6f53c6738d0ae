// TAI64N timestamps (https://cr.yp.to/libtai/tai64.html) as WireGuard's initiations carry them (spec 02, section 11.1): they
// keep a recorded initiation from being used again. They need wall-clock time, because they must grow across restarts, and they
// must never go backwards. So the wall clock is read once, and monotonic time continues from there.

import { viewOf } from "../base/bytes.js";
import type { Instant, UnixTime } from "../base/time.js";

/** Length of a timestamp in bytes: 8 of seconds, 4 of nanoseconds, big-endian. */
export const TAI64N_LENGTH = 12;

/** Label of the Unix epoch as the specification has it: 2^62, and TAI's lead of 37 s over UTC since 2017. */
const TAI64_UNIX_EPOCH = 2n ** 62n + 37n;

const NANOSECONDS_PER_SECOND = 1_000_000_000n;

/** Makes strictly increasing timestamps out of monotonic time. One per node; its peers share it. */
export class Tai64nClock {
  readonly #unixTimeAtOrigin: number;
  /** Nanoseconds since the Unix epoch of the last timestamp. */
  #last = -1n;

  /** `unixTime` is the wall-clock time at the instant `now`. */
  constructor(now: Instant, unixTime: UnixTime) {
    this.#unixTimeAtOrigin = unixTime - now;
  }

  /** The wall-clock time at `now`, if nobody had set the clock since the start. */
  unixTime(now: Instant): UnixTime {
    return Math.max(0, this.#unixTimeAtOrigin + now);
  }

  /** The timestamp of `now`, unrounded; at least one nanosecond later than the one before. */
  stamp(now: Instant): Uint8Array {
    const unixTime = this.unixTime(now);
    const milliseconds = Math.floor(unixTime);
    const nanoseconds = BigInt(milliseconds) * 1_000_000n + BigInt(Math.floor((unixTime - milliseconds) * 1e6));
    this.#last = nanoseconds > this.#last ? nanoseconds : this.#last + 1n;
    return encodeTai64n(this.#last);
  }
}

/** The timestamp of a time given in nanoseconds since the Unix epoch. */
export function encodeTai64n(unixNanoseconds: bigint): Uint8Array {
  const bytes = new Uint8Array(TAI64N_LENGTH);
  const view = viewOf(bytes);
  view.setBigUint64(0, TAI64_UNIX_EPOCH + unixNanoseconds / NANOSECONDS_PER_SECOND);
  view.setUint32(8, Number(unixNanoseconds % NANOSECONDS_PER_SECOND));
  return bytes;
}

/** Whether timestamp `a` is later than `b`: both 12 bytes, compared as big-endian numbers. */
export function isLaterTai64n(a: Uint8Array, b: Uint8Array): boolean {
  for (let i = 0; i < TAI64N_LENGTH; i++) {
    const difference = (a[i] ?? 0) - (b[i] ?? 0);
    if (difference !== 0) return difference > 0;
  }
  return false;
}
