// When a pair is checked and when it is given up (spec 02, sections 10.4 and 10.7). Time is an argument; there is no network here.
//
//   never answered       0, 0.25, 0.75, 1.75, 3.25, 4.75, 6.25, 7.75 s; dead at 9.25 s
//   answered             0, 0.25, 0.75, 1.75, 3.25 s, then every 1.5 s for ever: this is what keeps NAT bindings open
//   falls silent at T    T, T+1.5, 2.0, 3.0, 4.5, 6.0, 7.5, 9.0 s; dead at T+10.5 s
//   at the idle pace     answered: every 25 s; a check that is not answered is repeated as above

import type { Duration, Instant } from "../base/time.js";
import {
  IDLE_CHECK_INTERVAL,
  INITIAL_RETRANSMISSION_TIMEOUT,
  MAX_RETRANSMISSION_TIMEOUT,
  MAX_UNANSWERED_CHECKS,
  SILENCE_THRESHOLD,
} from "./constants.js";

/** How often pairs that work are checked. `idle`: nobody uses the connection. */
export type CheckPace = "eager" | "idle";

/** A check that was sent. */
export interface CheckAttempt {
  /** Transaction id as a key. */
  readonly transaction: string;
  readonly sentAt: Instant;
  /** Whether it was sent on a nominated pair. */
  readonly nominating: boolean;
  answered: boolean;
}

/** The last checks of a pair. */
export class CheckSchedule {
  /** Oldest first; at most {@link MAX_UNANSWERED_CHECKS}. */
  readonly #attempts: CheckAttempt[] = [];
  #nextAt: Instant;
  #pace: CheckPace = "eager";

  /** The first check is due at `now`. */
  constructor(now: Instant) {
    this.#nextAt = now;
  }

  /** When the next check is due; for a pair that is about to die, when it does. */
  get nextAt(): Instant {
    return this.#nextAt;
  }

  /** Makes a check due at once. */
  expedite(now: Instant): void {
    this.#nextAt = Math.min(this.#nextAt, now);
  }

  /** Changes the pace from the next check on. */
  setPace(pace: CheckPace, now: Instant): void {
    if (pace === this.#pace) return;
    this.#pace = pace;
    this.#reschedule(now);
  }

  /** A check has been sent. Returns the one that is forgotten for it, if any: an answer to it comes too late. */
  handleSent(transaction: string, nominating: boolean, now: Instant): CheckAttempt | undefined {
    this.#attempts.push({ transaction, sentAt: now, nominating, answered: false });
    const forgotten = this.#attempts.length > MAX_UNANSWERED_CHECKS ? this.#attempts.shift() : undefined;
    this.#reschedule(now);
    return forgotten;
  }

  /** A check has been answered; returns it, or `undefined` when it is not known or was answered before. */
  handleAnswer(transaction: string, now: Instant): CheckAttempt | undefined {
    const attempt = this.#attempts.find((candidate) => candidate.transaction === transaction);
    if (attempt === undefined || attempt.answered) return undefined;
    attempt.answered = true;
    this.#reschedule(now);
    return attempt;
  }

  /** Whether the last {@link MAX_UNANSWERED_CHECKS} checks were in vain, and the last one has had its time. */
  isDead(now: Instant): boolean {
    const last = this.#attempts.at(-1);
    return (
      last !== undefined && this.#silence() === MAX_UNANSWERED_CHECKS && now >= last.sentAt + MAX_RETRANSMISSION_TIMEOUT
    );
  }

  /** Transactions that may still be answered. */
  *pending(): IterableIterator<string> {
    for (const attempt of this.#attempts) if (!attempt.answered) yield attempt.transaction;
  }

  /** Length of the trailing run of unanswered checks. */
  #silence(): number {
    return this.#attempts.length - 1 - this.#attempts.findLastIndex((attempt) => attempt.answered);
  }

  #reschedule(now: Instant): void {
    const last = this.#attempts.at(-1);
    if (last === undefined) return;
    const silence = this.#silence();
    if (silence === 0 && this.#pace === "idle") {
      this.#nextAt = last.sentAt + IDLE_CHECK_INTERVAL;
      return;
    }
    const oldest = this.#attempts[this.#attempts.length - silence];
    const silent = oldest !== undefined && now - oldest.sentAt > SILENCE_THRESHOLD;
    const count = silent ? silence : this.#attempts.length;
    this.#nextAt = Math.min(last.sentAt + delayAfter(count), now + MAX_RETRANSMISSION_TIMEOUT);
  }
}

/** Time to the next check after `count` checks. */
export function delayAfter(count: number): Duration {
  if (count === 0) return 0;
  return Math.min(INITIAL_RETRANSMISSION_TIMEOUT * 2 ** (count - 1), MAX_RETRANSMISSION_TIMEOUT);
}
