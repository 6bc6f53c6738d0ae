// Time as the sans-IO layers see it: an argument, never a clock of their own (design, "State machine conventions").

/** Monotonic time in milliseconds, possibly fractional, from an arbitrary origin. Never goes backwards. */
export type Instant = number;

/** A span of time in milliseconds. */
export type Duration = number;

/** Wall-clock time in milliseconds since the Unix epoch. */
export type UnixTime = number;

/** One second as a {@link Duration}. */
export const SECOND: Duration = 1000;

/** One minute as a {@link Duration}. */
export const MINUTE: Duration = 60 * SECOND;

/**
 * The earlier of two optional deadlines.
 *
 * @returns `undefined` only when both are absent.
 */
export function earliest(a: Instant | undefined, b: Instant | undefined): Instant | undefined {
  if (a === undefined) return b;
  if (b === undefined) return a;
  return Math.min(a, b);
}

/**
 * The next multiple of `interval` that is at least half of it away. What is to be done now and then, at no exact time, is done at these instants: an
 * idle process wakes up once for all of it.
 */
export function nextTurn(now: Instant, interval: Duration): Instant {
  return (Math.floor(now / interval + 0.5) + 1) * interval;
}
