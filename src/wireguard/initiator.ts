// Own handshakes with one peer: when initiations leave, how they are repeated, and which of them may still be answered (spec 02,
// sections 11.3 and 11.8; whitepaper, section 6.4).
//
//   start ──► initiation ── 5 s and up to 333 ms ──► new initiation ── … ── 90 s after the start ──► given up
//                 └── a session became current: completed
//
// The last two initiations can be answered: the answer to the first may be under way when the second leaves.

import type { Crypto } from "../base/crypto.js";
import { type Random, randomBelow } from "../base/random.js";
import { type Duration, earliest, type Instant } from "../base/time.js";
import {
  INITIATION_SPACING,
  KEY_LENGTH,
  REKEY_ATTEMPT_TIME,
  REKEY_TIMEOUT,
  REKEY_TIMEOUT_JITTER_MAX,
} from "./constants.js";
import type { LocalIdentity } from "./identity.js";
import { createInitiation, type InitiatorState } from "./noise.js";
import type { Tai64nClock } from "./tai64n.js";

/** What an initiator is made of. */
export interface InitiatorOptions {
  readonly crypto: Crypto;
  readonly random: Random;
  readonly clock: Tai64nClock;
  readonly identity: LocalIdentity;
  readonly remotePublicKey: Uint8Array;
}

/** An initiation to send; mac1 and mac2 are zero. */
export interface OutgoingInitiation {
  readonly message: Uint8Array;
  readonly localIndex: number;
  /** 1 for the first of its attempt. */
  readonly number: number;
}

/** Initiations that are repeated until a session becomes current. */
interface Attempt {
  readonly startedAt: Instant;
  /** When the next initiation is due. */
  retryAt: Instant;
  /** Initiations sent. */
  count: number;
}

/** Sends initiations to one peer. */
export class Initiator {
  readonly #options: InitiatorOptions;
  #attempt: Attempt | undefined;
  #latest: InitiatorState | undefined;
  #previous: InitiatorState | undefined;
  #sentAt: Instant = Number.NEGATIVE_INFINITY;

  constructor(options: InitiatorOptions) {
    this.#options = options;
  }

  /** Whether an attempt is under way. */
  get isActive(): boolean {
    return this.#attempt !== undefined;
  }

  /** The earliest time for an initiation that is not a matter of a new path. */
  get earliestStart(): Instant {
    return this.#sentAt + REKEY_TIMEOUT;
  }

  /** Starts an attempt, if none is under way. Its first initiation is due at {@link earliestStart}. */
  start(now: Instant): void {
    this.#attempt ??= { startedAt: now, retryAt: Math.max(now, this.earliestStart), count: 0 };
  }

  /** The next initiation is due at once, or as soon as the peer would take it, whether an attempt is under way or not. */
  hasten(now: Instant): void {
    const retryAt = Math.max(now, this.#sentAt + INITIATION_SPACING + 1);
    this.#attempt ??= { startedAt: now, retryAt, count: 0 };
    this.#attempt.retryAt = Math.min(this.#attempt.retryAt, retryAt);
  }

  /** The other side is at work: the next initiation waits until that should have come to an end. */
  defer(now: Instant): void {
    if (this.#attempt !== undefined) this.#attempt.retryAt = now + retryDelay(this.#options.random);
  }

  /** There is a new session: nothing is repeated any more. A late answer is still taken. */
  complete(): void {
    this.#attempt = undefined;
  }

  /** Forgets all initiations and their secrets: one was answered, or the time for answers is over. */
  forget(): void {
    this.#latest?.wipe();
    this.#previous?.wipe();
    this.#latest = undefined;
    this.#previous = undefined;
  }

  /** The initiation with this sender index, if an answer to it is welcome. */
  find(localIndex: number): InitiatorState | undefined {
    return [this.#latest, this.#previous].find((state) => state?.localIndex === localIndex);
  }

  /** Ends an attempt that is 90 s old. Returns whether it did. */
  giveUpIfDue(now: Instant): boolean {
    if (now >= this.#sentAt + REKEY_ATTEMPT_TIME) this.forget();
    if (this.#attempt === undefined || now < this.#attempt.startedAt + REKEY_ATTEMPT_TIME) return false;
    this.#attempt = undefined;
    this.forget();
    return true;
  }

  /**
   * Makes the next initiation, if it is due.
   *
   * @param staticStatic DH of the static keys; absent for a peer's key of low order, with which no handshake is possible.
   * @param nextIndex makes a local index that is not in use.
   */
  sendIfDue(
    now: Instant,
    staticStatic: Uint8Array | undefined,
    nextIndex: () => number,
  ): OutgoingInitiation | undefined {
    const attempt = this.#attempt;
    if (attempt === undefined || now < attempt.retryAt) return undefined;
    const { crypto, random, clock, identity, remotePublicKey } = this.#options;
    attempt.count++;
    attempt.retryAt = now + retryDelay(random);
    if (staticStatic === undefined) return undefined;
    const localIndex = nextIndex();
    const initiation = createInitiation(crypto, {
      identity,
      remotePublicKey,
      staticStatic,
      ephemeralPrivateKey: random.bytes(KEY_LENGTH),
      localIndex,
      timestamp: clock.stamp(now),
    });
    if (initiation === undefined) return undefined;
    this.#previous?.wipe();
    this.#previous = this.#latest;
    this.#latest = initiation.state;
    this.#sentAt = now;
    return { message: initiation.message, localIndex, number: attempt.count };
  }

  /** When something is due. */
  pollTimeout(): Instant | undefined {
    const forgetAt = this.#latest === undefined ? undefined : this.#sentAt + REKEY_ATTEMPT_TIME;
    if (this.#attempt === undefined) return forgetAt;
    const { retryAt, startedAt } = this.#attempt;
    return earliest(forgetAt, Math.min(retryAt, startedAt + REKEY_ATTEMPT_TIME));
  }
}

/** Time until an unanswered initiation is repeated. */
function retryDelay(random: Random): Duration {
  return REKEY_TIMEOUT + rekeyJitter(random);
}

/** A little time more, so that two sides that began at the same time do not go on so. */
export function rekeyJitter(random: Random): Duration {
  return randomBelow(random, REKEY_TIMEOUT_JITTER_MAX + 1);
}
