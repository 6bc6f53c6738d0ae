// Whether the way to the other side still works, judged by the traffic on it. ICE's own checks take ten seconds to say that a pair is dead;
// whoever downloads something meanwhile notices. So: whoever sends packets and hears nothing asks, and does not wait long for an answer.
//
//   quiet ── sent, and heard nothing for 0.3 s ──► asking ── again after 0.1 s or 2 round trips ──► asking ── and again ──► dead
//     ▲                                              │                                               │                     │
//     └───────────── something heard ────────────────┴───────────────────────────────────────────────┴─────────────────────┘
//
// Two questions are enough when another way has answered meanwhile; without any the other side may just be busy, and gets four.
//
// Packets count as heard, and checks of the other side on this way. But the other side may send over another way, for good (two relays, one for
// each direction) or because it has found that this one is dead: then its packets come from elsewhere and prove nothing. That is cause for doubt:
// only an answer settles it. After the answer the datapath reports packets from elsewhere again, and if there are any, the next question
// follows. So a way is asked about three times a second as long as the other side uses another one.

import { type Duration, type Instant, SECOND } from "../base/time.js";

/** Silence, while packets are sent, after which the other side is asked. */
export const SILENCE: Duration = 300;
/** Least time between two looks at what was sent and heard, while packets are sent: it comes on top of {@link SILENCE}. */
export const LOOK_INTERVAL: Duration = 100;
/** Questions without answer after which the way is dead, when another way was answered. */
export const MAX_QUESTIONS = 2;
/** The same, when nothing was. */
export const MAX_QUESTIONS_ALONE = 4;
/** Least time for an answer to a question. */
export const MIN_ANSWER_TIME: Duration = 100;
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
    if (this.#isInDoubt || at <= this.#heardAt) return;
    this.#heardAt = at;
    this.#settle();
  }

  /** A check of ours on this way was answered. @returns whether that settles a doubt: another one is possible. */
  handleAnswer(now: Instant): boolean {
    const wasInDoubt = this.#isInDoubt;
    this.#heardAt = Math.max(this.#heardAt, now);
    this.#settle();
    return wasInDoubt;
  }

  /** The other side sends from elsewhere. */
  doubt(now: Instant): void {
    if (this.#isInDoubt) return;
    this.#isInDoubt = true;
    this.#questions = 0;
    // What was heard over this way lately is good enough for a while.
    this.#nextAt = Math.max(now, this.#heardAt + SILENCE);
  }

  /** A packet was sent at `at`. */
  handleSent(at: Instant): void {
    this.#sentAt = Math.max(this.#sentAt, at);
  }

  /**
   * What to do now.
   *
   * @param roundTrip the other side's distance, as far as it is known.
   * @param hasAlternative whether another way has answered since then.
   */
  judge(now: Instant, roundTrip: Duration, hasAlternative: (since: Instant) => boolean): LivenessVerdict | undefined {
    if (this.#nextAt !== undefined && now < this.#nextAt) return undefined;
    if (this.#questions === 0 && !this.#isInDoubt && !this.#isSilent(now)) return undefined;
    const isEnough = this.#questions >= MAX_QUESTIONS && hasAlternative(this.#askedSince);
    if (isEnough || this.#questions >= MAX_QUESTIONS_ALONE) {
      this.#settle();
      // Judged: what is heard from now on is news.
      this.#heardAt = Math.max(this.#heardAt, now);
      return "dead";
    }
    if (this.#questions === 0) this.#askedSince = now;
    this.#questions++;
    this.#nextAt = now + Math.min(MAX_ANSWER_TIME, Math.max(MIN_ANSWER_TIME, 2 * roundTrip));
    // Doubts may be frequent: that the other ways work is of interest when this one does not.
    return this.#isInDoubt && this.#questions === 1 ? "ask-here" : "ask";
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
