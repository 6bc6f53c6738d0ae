// Exponential backoff of reconnects (spec 01, section 5.6): first 500 ms, times 1.5, at most 60 s, each ± 50 %.

import { type Random, randomUint32 } from "../base/random.js";
import { type Duration, type Instant, SECOND } from "../base/time.js";

const INITIAL_INTERVAL: Duration = 500;
const MULTIPLIER = 1.5;
const MAX_INTERVAL: Duration = 60 * SECOND;
const RANDOMIZATION = 0.5;

/** Delays between attempts, and the limit on how long to go on. */
export class Backoff {
  readonly #random: Random;
  readonly #limit: Duration | undefined;
  #attempt = 0;
  #firstFailure: Instant | undefined;

  /** @param limit give up when attempts have failed for longer than this; absent: never */
  constructor(random: Random, limit: Duration | undefined) {
    this.#random = random;
    this.#limit = limit;
  }

  /** A connection stands: starts over. */
  reset(): void {
    this.#attempt = 0;
    this.#firstFailure = undefined;
  }

  /** How long to wait after a failure at `now`; `undefined`: the limit is reached. The clock runs from the first failure. */
  next(now: Instant): Duration | undefined {
    this.#firstFailure ??= now;
    const interval = Math.min(INITIAL_INTERVAL * MULTIPLIER ** this.#attempt, MAX_INTERVAL);
    this.#attempt++;
    const uniform = randomUint32(this.#random) / 2 ** 32;
    const delay = interval * (1 - RANDOMIZATION + 2 * RANDOMIZATION * uniform);
    if (this.#limit !== undefined && now + delay - this.#firstFailure > this.#limit) return undefined;
    return delay;
  }
}
