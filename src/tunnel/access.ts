// A resource's access to the gateway that serves it (spec 04, section 4.9, rules 4 to 6). Nobody acknowledges a grant of a CIDR resource;
// packets that overtake it are lost, so they wait until it had time to arrive.
//
//   queued ──answer──► settling ──time──► granted ──connection established──► released: the datapath has the route
//                                            ▲
//                 named in the offer: the answer implies the grant

import type { Duration, Instant } from "../base/time.js";
import { SECOND } from "../base/time.js";
import type { AnsweredIntent } from "./intents.js";
import type { PacketBuffer } from "./packet-buffer.js";

/**
 * Bounds of the time that a grant may take to reach the gateway: the client waits as long as the portal took to answer its
 * intent, since the grant goes half that way twice.
 */
const MIN_SETTLE_TIME: Duration = 5;
const MAX_SETTLE_TIME: Duration = 500;

/**
 * How long after its release a resource's packets may still come from the datapath as without route: they were on their way to us. Later
 * ones mean that it has no room for the route; sending them would bring them back for ever.
 */
const RELEASE_WINDOW: Duration = SECOND;

/** See the head of this file. */
export class Access {
  /** What waits for the way to open. */
  readonly packets: PacketBuffer;
  #state: "queued" | "settling" | "granted";
  readonly #roundTrip: Duration;
  /** When the grant has arrived, as far as one can know. */
  #settledAt: Instant = Number.NEGATIVE_INFINITY;
  #releasedAt: Instant | undefined;

  /** `granted`: by the answer to the offer; `queued`: to be requested when the answer has come. */
  constructor({ packets, roundTrip }: AnsweredIntent, state: "queued" | "granted") {
    this.packets = packets;
    this.#roundTrip = roundTrip;
    this.#state = state;
  }

  /** Whether it is still to be requested. */
  get isQueued(): boolean {
    return this.#state === "queued";
  }

  /** Whether the gateway lets the resource's packets through, as far as one can know. */
  get isGranted(): boolean {
    return this.#state === "granted";
  }

  /** When {@link settle} is wanted. */
  get settledAt(): Instant | undefined {
    return this.#state === "settling" ? this.#settledAt : undefined;
  }

  /** It has been requested from the gateway. */
  handleRequested(now: Instant): void {
    this.#state = "settling";
    this.#settledAt = now + Math.min(MAX_SETTLE_TIME, Math.max(MIN_SETTLE_TIME, this.#roundTrip));
  }

  /** Lets time pass. @returns whether it is granted and its packets can be released. */
  settle(now: Instant): boolean {
    if (this.#state === "settling" && this.#settledAt <= now) this.#state = "granted";
    return this.#state === "granted" && this.#releasedAt === undefined;
  }

  /** The datapath has the route from now on. */
  handleReleased(now: Instant): void {
    this.#releasedAt = now;
  }

  /** Whether a packet that the datapath has found no route for may have been on its way to us when the route came. */
  isReleasing(now: Instant): boolean {
    return now < (this.#releasedAt ?? now) + RELEASE_WINDOW;
  }
}
