// Tells when the network has really changed, and only once for each change (spec 05, section 5). Changes come in bursts (a link, its
// addresses, its routes) and many come to nothing (a lease that is renewed). So hints only start a wait for calm; what then decides is a
// comparison with the state that was reported last. No clock, no socket.
//
//   hints      | |||  |   |                      ||          wait: until 300 ms after the last, at most 1 s after the first
//   look              ........^ changed            ........^ same as before: nothing
//
// A host without any network can do nothing about it: that is no change, but the next network is one, even if it looks like the last:
// private networks do. The same holds for the time asleep, in which everybody else has given us up.

import type { Duration, Instant } from "../../../base/time.js";
import { SECOND } from "../../../base/time.js";
import type { NetworkState } from "./state.js";

/** How long nothing more must happen before a change counts as complete. */
export const CALM: Duration = 300;
/** How long one waits for that. */
export const MAX_WAIT: Duration = SECOND;
/** Shorter sleeps are like a moment without network: connections, leases and NATs survive it. */
export const MIN_SUSPENSION: Duration = 5 * SECOND;

/** What a look at the network has shown. */
export type Finding =
  /** Nothing that would make connections unusable. */
  | { readonly type: "unchanged" }
  /** No network is left. Reported once. */
  | { readonly type: "lost" }
  | {
      readonly type: "changed";
      /** Lines of the state that are new, and that are gone, since the last report. */
      readonly come: readonly string[];
      readonly gone: readonly string[];
      /** There was no network for a while. */
      readonly interrupted: boolean;
      /** How long the host slept. */
      readonly slept: Duration;
    };

/** See the head of this file. */
export class NetworkChangeDetector {
  #reported: NetworkState;
  #interrupted: boolean;
  #slept: Duration = 0;
  #firstHintAt: Instant | undefined;
  #lastHintAt: Instant = Number.NEGATIVE_INFINITY;

  /** Begins with what is there. */
  constructor(state: NetworkState) {
    this.#reported = state;
    this.#interrupted = state.size === 0;
  }

  /** Something may have changed. */
  handleHint(now: Instant): void {
    this.#firstHintAt ??= now;
    this.#lastHintAt = now;
  }

  /** The host slept for so long, as it turns out now. */
  handleSleep(duration: Duration, now: Instant): void {
    if (duration < MIN_SUSPENSION) return;
    this.#slept += duration;
    this.handleHint(now);
  }

  /** When to look at the network and tell {@link handleState}; `undefined`: there is no reason to. */
  pollTimeout(): Instant | undefined {
    if (this.#firstHintAt === undefined) return undefined;
    return Math.min(this.#lastHintAt + CALM, this.#firstHintAt + MAX_WAIT);
  }

  /** Compares the network as it is now with what was reported last, and takes it as reported. */
  handleState(state: NetworkState): Finding {
    this.#firstHintAt = undefined;
    if (state.size === 0) {
      const wasThere = !this.#interrupted;
      this.#interrupted = true;
      return { type: wasThere ? "lost" : "unchanged" };
    }
    const come = [...state].filter((line) => !this.#reported.has(line));
    const gone = [...this.#reported].filter((line) => !state.has(line));
    const interrupted = this.#interrupted;
    const slept = this.#slept;
    this.#reported = state;
    this.#interrupted = false;
    this.#slept = 0;
    const isChanged = come.length > 0 || gone.length > 0 || interrupted || slept > 0;
    return isChanged ? { type: "changed", come, gone, interrupted, slept } : { type: "unchanged" };
  }
}
