// Whether the way to the other side still works, judged by the traffic on it. ICE's own checks take ten seconds to say that a pair is dead;
// whoever downloads something meanwhile notices. So: whoever sends packets and hears nothing asks, and does not wait long for an answer.
//
//   quiet ── sent, and heard nothing for 0.3 s ──► asking ── again after 2 round trips ──► asking ── and again ──► dead
//     ▲                                              │                                       │                     │
//     └───────────── something heard ────────────────┴───────────────────────────────────────┴─────────────────────┘
//
// Packets count as heard, and checks of the other side on this way. But the other side may send over another way, for good (two relays, one for
// each direction) or because it has found that this one is dead: then its packets come from elsewhere and prove nothing. From then on only
// answers to questions count: one is asked at once, and then whenever packets were sent for 0.3 s since the last answer. They get less time, too:
// when both sides need another way, the one that has found it waits for the other.

import { type Duration, type Instant, SECOND } from "../base/time.js";

/** Silence, while packets are sent, after which the other side is asked. */
export const SILENCE: Duration = 300;
/** Least time between two looks at what was sent and heard, while packets are sent: it comes on top of {@link SILENCE}. */
export const LOOK_INTERVAL: Duration = 100;
/** Questions without answer after which the way is dead. */
export const MAX_QUESTIONS = 2;
/** Least time for an answer to a question. */
export const MIN_ANSWER_TIME: Duration = 200;
/** The same, when the other side sends from elsewhere. */
export const MIN_ANSWER_TIME_ELSEWHERE: Duration = 100;
/** Longest time for an answer to a question. */
export const MAX_ANSWER_TIME: Duration = 2 * SECOND;
/** How long after the last packet of ours the way is watched: longer than the other side takes to find another one. */
const WATCH_TIME: Duration = 2 * SECOND;

/** What to do. */
export type LivenessVerdict =
  /** Ask the other side over all ways that have worked. */
  | "ask"
  /** Ask it over the way in use. */
  | "ask-here"
  /** No answer to any question since the first one: see {@link PathLiveness.askedSince}. */
  | "dead";

/** See the head of this file. */
export class PathLiveness {
  #heardAt: Instant = Number.NEGATIVE_INFINITY;
  #sentAt: Instant = Number.NEGATIVE_INFINITY;
  #questions = 0;
  /** The other side sends from elsewhere: what is heard proves nothing. */
  #isElsewhere = false;
  /** It is new that it does. */
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
    this.#isElsewhere = false;
    this.#heardAt = Math.max(this.#heardAt, now);
  }

  /** Something authenticated of the other side came at `at`, as far as one knows over this way. */
  handleHeard(at: Instant): void {
    if (this.#isElsewhere || at <= this.#heardAt) return;
    this.#heardAt = at;
    this.#settle();
  }

  /** A check of ours on this way was answered. */
  handleAnswer(now: Instant): void {
    this.#heardAt = Math.max(this.#heardAt, now);
    this.#settle();
  }

  /** The other side sends from elsewhere. */
  doubt(now: Instant): void {
    if (this.#isElsewhere) return;
    this.#isElsewhere = true;
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
    const least = this.#isElsewhere ? MIN_ANSWER_TIME_ELSEWHERE : MIN_ANSWER_TIME;
    this.#nextAt = now + Math.min(MAX_ANSWER_TIME, Math.max(least, 2 * roundTrip));
    // Asked again and again: that the other ways work is of interest when this one does not.
    return this.#isElsewhere && !this.#isInDoubt && this.#questions === 1 ? "ask-here" : "ask";
  }

  /** When {@link judge} may have something to say; `undefined` while nothing is sent. */
  deadline(now: Instant): Instant | undefined {
    if (this.#nextAt !== undefined) return this.#nextAt;
    if (now > this.#sentAt + WATCH_TIME) return undefined;
    return Math.max(this.#heardAt + SILENCE, now + LOOK_INTERVAL);
  }

  #isSilent(now: Instant): boolean {
    const until = this.#heardAt + SILENCE;
    // The look that finds the silence may be a moment after the last packet that was sent into it.
    return this.#sentAt >= until - LOOK_INTERVAL && now >= until;
  }

  #settle(): void {
    this.#isInDoubt = false;
    this.#questions = 0;
    this.#nextAt = undefined;
  }
}
