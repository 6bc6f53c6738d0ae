// What a connection waits for, and how long (spec 02, sections 2.5, 6.8 and 14). What does not come in time is its end.

import { type Duration, earliest, type Instant, SECOND } from "../base/time.js";
import type { FailureReason } from "./events.js";

/** What may be waited for, named by what becomes of a connection that waits in vain. */
export type Awaited = Extract<FailureReason, "no-answer" | "no-candidates" | "no-path" | "no-handshake">;

/** Of several that are overdue the first one is the reason. */
const LIMITS: readonly { readonly what: Awaited; readonly limit: Duration }[] = [
  /** How long the other side may take to answer an offer (spec 02, section 2.5). */
  { what: "no-answer", limit: 20 * SECOND },
  /** How long after the signalling the other side may take to show its first candidate (section 2.5). */
  { what: "no-candidates", limit: 10 * SECOND },
  /** How long a connection without a working pair is kept in case one comes back (section 6.8, "later changed"). */
  { what: "no-path", limit: 2 * SECOND },
  /** How long handshakes go unanswered before the connection is given up: longer than ICE takes to notice a dead path (section 14). */
  { what: "no-handshake", limit: 20 * SECOND },
];

/** See the head of this file. */
export class Patience {
  readonly #since = new Map<Awaited, Instant>();

  /** Waits for something from now on, or goes on waiting for it. */
  await(what: Awaited, now: Instant): void {
    if (!this.#since.has(what)) this.#since.set(what, now);
  }

  /** It has come, or is not wanted any more. */
  settle(what: Awaited): void {
    this.#since.delete(what);
  }

  /** What was waited for in vain; `undefined`: nothing yet. */
  overdue(now: Instant): Awaited | undefined {
    return LIMITS.find(({ what, limit }) => {
      const since = this.#since.get(what);
      return since !== undefined && now >= since + limit;
    })?.what;
  }

  /** When {@link overdue} has something to say next. */
  deadline(): Instant | undefined {
    let next: Instant | undefined;
    for (const { what, limit } of LIMITS) {
      const since = this.#since.get(what);
      if (since !== undefined) next = earliest(next, since + limit);
    }
    return next;
  }
}
