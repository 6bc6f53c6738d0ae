// Which authentic initiations of a peer are answered (whitepaper, section 5.1; spec 02, section 11.3): those newer than all before, so that
// a recorded one is worth nothing, and not too soon after another, since each costs us a handshake.

import type { Instant } from "../base/time.js";
import { INITIATION_SPACING } from "./constants.js";
import type { WireGuardError } from "./errors.js";
import { isLaterTai64n, TAI64N_LENGTH } from "./tai64n.js";

/** Remembers the last initiation of one peer that was answered. */
export class InitiationGuard {
  #timestamp: Uint8Array = new Uint8Array(TAI64N_LENGTH);
  #acceptedAt: Instant = Number.NEGATIVE_INFINITY;

  /** When the last one was answered; minus infinity: none. */
  get acceptedAt(): Instant {
    return this.#acceptedAt;
  }

  /** Why an initiation with this timestamp (TAI64N) is refused; `undefined`: it may be answered. */
  check(timestamp: Uint8Array, now: Instant): WireGuardError | undefined {
    if (!isLaterTai64n(timestamp, this.#timestamp)) return "WrongTai64nTimestamp";
    return now - this.#acceptedAt < INITIATION_SPACING ? "InitiationFlood" : undefined;
  }

  /** It is answered. */
  accept(timestamp: Uint8Array, now: Instant): void {
    this.#timestamp = timestamp;
    this.#acceptedAt = now;
  }
}
