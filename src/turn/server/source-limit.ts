// How many answers a source may have that has not proved who it is (field notes, section 4.3): requests can be forged, and answers go to whom
// they are said to come from. A bucket for each source; when there are too many sources, the one that was quiet for longest is forgotten.

import type { IpAddress } from "../../base/address.js";
import { type Instant, SECOND } from "../../base/time.js";

/** Answers per second and source. */
export const ANSWERS_PER_SECOND = 50;
/** Answers at once: a household behind one address that starts all its machines. */
export const ANSWER_BURST = 200;
/** Sources that are remembered. */
export const MAX_SOURCES = 65_536;
/** Leading bits that make an IPv6 source: whoever has one address has a network of them. */
const IPV6_SOURCE_BYTES = 8;

interface Bucket {
  tokens: number;
  at: Instant;
}

/** See the head of this file. */
export class SourceLimit {
  readonly #buckets = new Map<string, Bucket>();

  /** Takes an answer out of a source's bucket. @returns false when it is empty. */
  take(source: IpAddress, now: Instant): boolean {
    const key = source.family === 4 ? source.key : source.key.slice(0, 2 * IPV6_SOURCE_BYTES);
    const known = this.#buckets.get(key);
    const bucket = known ?? { tokens: ANSWER_BURST, at: now };
    const refill = ((now - bucket.at) / SECOND) * ANSWERS_PER_SECOND;
    bucket.tokens = Math.min(ANSWER_BURST, bucket.tokens + refill);
    bucket.at = now;
    // In the order of their last use.
    if (known !== undefined) this.#buckets.delete(key);
    else if (this.#buckets.size >= MAX_SOURCES) {
      const [oldest] = this.#buckets.keys();
      if (oldest !== undefined) this.#buckets.delete(oldest);
    }
    this.#buckets.set(key, bucket);
    if (bucket.tokens < 1) return false;
    bucket.tokens--;
    return true;
  }
}
