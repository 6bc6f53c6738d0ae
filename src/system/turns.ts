// Work that a process does now and then, at no exact time.

import { type Duration, nextTurn } from "../base/time.js";
import { monotonicNow } from "./clock.js";

/** Calls a function about every `interval`, together with what else is done then ({@link nextTurn}). */
export class Turns {
  readonly #interval: Duration;
  readonly #action: () => void;
  #timer: NodeJS.Timeout;

  constructor(interval: Duration, action: () => void) {
    this.#interval = interval;
    this.#action = action;
    this.#timer = this.#schedule();
  }

  /** Ends it. Idempotent. */
  stop(): void {
    clearTimeout(this.#timer);
  }

  #schedule(): NodeJS.Timeout {
    const now = monotonicNow();
    return setTimeout(
      () => {
        this.#timer = this.#schedule();
        this.#action();
      },
      Math.ceil(nextTurn(now, this.#interval) - now),
    );
  }
}
