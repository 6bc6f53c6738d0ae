// Whether the way to the other side still works, judged by the traffic on it. ICE's own checks take ten seconds to say that a pair is dead;
// whoever downloads something meanwhile notices. So: whoever sends packets and hears nothing asks, and does not wait long for an answer.
//
//   quiet ── sent, and heard nothing for 0.4 s ──► asking ── again after 2 round trips ──► asking ── and again ──► dead
//     ▲                                              │                                       │                     │
//     └───────────── something heard ────────────────┴───────────────────────────────────────┴─────────────────────┘
//
// Packets count as heard, and checks of the other side on this way. But the other side may have found that the way is dead for what it
// sends, and use another one: then its packets come from elsewhere, and prove nothing. That is cause for doubt: only an answer settles it.

import { type Duration, type Instant, SECOND } from "../base/time.js";

/** Silence, while packets are sent, after which the other side is asked. */
export const SILENCE: Duration = 400;
/** Questions without answer after which the way is dead. */
export const MAX_QUESTIONS = 2;
/** Least time for an answer to a question. */
export const MIN_ANSWER_TIME: Duration = 200;
/** Longest time for an answer to a question. */
export const MAX_ANSWER_TIME: Duration = 2 * SECOND;
/** How long after the last packet of ours the way is watched. */
const WATCH_TIME: Duration = SECOND;

/** What to do. */
export type LivenessVerdict =
  /** Ask the other side over all ways that have worked. */
  | "ask"
  /** No answer to any question since the first one: see {@link PathLiveness.askedSince}. */
  | "dead";

/** See the head of this file. */
export class PathLiveness {
  #heardAt: Instant = Number.NEGATIVE_INFINITY;
  #sentAt: Instant = Number.NEGATIVE_INFINITY;
  #questions = 0;
  #isInDoubt = false;
  #askedSince: Instant = 0;
  #nextAt: Instant | undefined;

  /** When the first of the questions that were not answered was asked. */
  get askedSince(): Instant {
    return this.#askedSince;
  }

  /** Another way: it is as good as its first answer. */
  reset(now: Instant): void {
    this.#settle();
    this.#heardAt = Math.max(this.#heardAt, now);
  }

  /** Something authenticated of the other side came at `at`, as far as one knows over this way. */
  handleHeard(at: Instant): void {
    if (at <= this.#heardAt) return;
    this.#heardAt = at;
    if (!this.#isInDoubt) this.#settle();
  }

  /** A check of ours on this way was answered. */
  handleAnswer(now: Instant): void {
    this.#heardAt = Math.max(this.#heardAt, now);
    this.#settle();
  }

  /** The other side sends from elsewhere. */
  doubt(now: Instant): void {
    if (this.#isInDoubt) return;
    this.#isInDoubt = true;
    this.#questions = 0;
    this.#nextAt = now;
  }

  /** A packet was sent at `at`. */
  handleSent(at: Instant): void {
    this.#sentAt = Math.max(this.#sentAt, at);
  }

  /** What to do now. @param roundTrip the other side's distance, as far as it is known. */
  judge(now: Instant, roundTrip: Duration): LivenessVerdict | undefined {
    if (this.#nextAt !== undefined && now < this.#nextAt) return undefined;
    if (this.#questions === 0 && !this.#isInDoubt && !this.#isSilent(now)) return undefined;
    if (this.#questions >= MAX_QUESTIONS) {
      this.#settle();
      // Judged: what is heard from now on is news.
      this.#heardAt = Math.max(this.#heardAt, now);
      return "dead";
    }
    if (this.#questions === 0) this.#askedSince = now;
    this.#questions++;
    this.#nextAt = now + Math.min(MAX_ANSWER_TIME, Math.max(MIN_ANSWER_TIME, 2 * roundTrip));
    return "ask";
  }

  /** When {@link judge} may have something to say; `undefined` while nothing is sent. */
  deadline(now: Instant): Instant | undefined {
    if (this.#nextAt !== undefined) return this.#nextAt;
    if (now > this.#sentAt + WATCH_TIME) return undefined;
    return Math.max(this.#heardAt + SILENCE, now + SILENCE / 2);
  }

  #isSilent(now: Instant): boolean {
    const until = this.#heardAt + SILENCE;
    return this.#sentAt >= until && now >= until;
  }

  #settle(): void {
    this.#isInDoubt = false;
    this.#questions = 0;
    this.#nextAt = undefined;
  }
}
