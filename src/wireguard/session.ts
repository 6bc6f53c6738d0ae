// The sessions of one peer, without their keys: those are in the datapath's table, which does the per-packet checks. Here is
// decided which session sends, and when each ends (spec 02, section 11.7).
//
//   response received (initiator)        → established, current at once
//   response sent (responder)            → established, current when the first transport message on it arrives
//   180 s old, or pushed out by an eighth younger one → removed
//
// Older sessions stay for receiving: what the other side sent before it switched still arrives.

import type { Instant } from "../base/time.js";
import { REJECT_AFTER_TIME, SESSIONS_PER_PEER } from "./constants.js";

/** Who sent the initiation that a session came from. */
export type SessionRole = "initiator" | "responder";

/** A session as the control plane knows it. */
export interface Session {
  /** The index under which we receive. */
  readonly localIndex: number;
  readonly role: SessionRole;
  readonly establishedAt: Instant;
}

/** At most eight sessions in order of age, one of which sends. */
export class SessionList {
  /** Oldest first. */
  readonly #sessions: Session[] = [];
  #current: Session | undefined;

  /** The session that sends. It may be too old to; see {@link isUsable}. */
  get current(): Session | undefined {
    return this.#current;
  }

  get isEmpty(): boolean {
    return this.#sessions.length === 0;
  }

  /** Whether a session with this local index is in the list. */
  has(localIndex: number): boolean {
    return this.#sessions.some((session) => session.localIndex === localIndex);
  }

  /** Whether there is a session to send with at `now`. */
  isUsable(now: Instant): boolean {
    return this.#current !== undefined && now - this.#current.establishedAt < REJECT_AFTER_TIME;
  }

  /** Adds a session; returns the one that had to make room for it, never the current one. */
  add(session: Session): Session | undefined {
    this.#sessions.push(session);
    if (this.#sessions.length <= SESSIONS_PER_PEER) return undefined;
    const oldest = this.#sessions.findIndex((candidate) => candidate !== this.#current);
    return this.#sessions.splice(oldest, 1)[0];
  }

  /** Makes a session current unless the current one is younger. Returns whether it did. */
  promote(localIndex: number): boolean {
    const session = this.#sessions.find((candidate) => candidate.localIndex === localIndex);
    if (session === undefined || session === this.#current) return false;
    if (this.#current !== undefined && this.#current.establishedAt > session.establishedAt) return false;
    this.#current = session;
    return true;
  }

  /** When the oldest session ends. */
  nextExpiry(): Instant | undefined {
    const [oldest] = this.#sessions;
    return oldest === undefined ? undefined : oldest.establishedAt + REJECT_AFTER_TIME;
  }

  /** Removes and returns the oldest session if it has ended by `now`. */
  expire(now: Instant): Session | undefined {
    const expiry = this.nextExpiry();
    return expiry !== undefined && expiry <= now ? this.removeOldest() : undefined;
  }

  /** Removes and returns the oldest session. */
  removeOldest(): Session | undefined {
    const session = this.#sessions.shift();
    if (session !== undefined && session === this.#current) this.#current = undefined;
    return session;
  }
}
