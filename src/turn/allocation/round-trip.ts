// How far away a relay is (spec 03, section 6.4): smoothed over all answers, as TCP does (RFC 6298, section 2).

import type { Duration } from "../../base/time.js";

/** Share of a new sample: one eighth. */
const GAIN = 1 / 8;

/** A smoothed round-trip time. */
export class RoundTripTime {
  #smoothed: Duration | undefined;

  /** `undefined` before the first sample. */
  get value(): Duration | undefined {
    return this.#smoothed;
  }

  /** An answer came after this time. */
  sample(time: Duration): void {
    this.#smoothed = this.#smoothed === undefined ? time : this.#smoothed + GAIN * (time - this.#smoothed);
  }
}
