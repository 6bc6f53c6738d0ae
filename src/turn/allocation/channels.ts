// The channels of an allocation, as its client keeps them (RFC 8656, section 12; spec 03, section 5.12). A channel that no data came
// through is not renewed. After its end a number belongs to its peer for another five minutes: the relay refuses any other use.
//
//   free ──bind──► in flight ──success──► bound ── 10 min ──► cooling down ── 5 min ──► free
//                      │                    ▲  │ after 5 min, if used: bind again
//                      └─ error: free       └──┘

import type { SocketAddress } from "../../base/address.js";
import { Deadlines } from "../../base/deadlines.js";
import { type Duration, type Instant, MINUTE } from "../../base/time.js";
import { CHANNEL_MAX, CHANNEL_MIN } from "../../stun/channel-data.js";

/** How long a channel lasts after it was bound (RFC 8656, section 12). */
export const CHANNEL_LIFETIME: Duration = 10 * MINUTE;
/** When a channel in use is bound again. */
export const CHANNEL_REFRESH: Duration = 5 * MINUTE;
/** How long a number is its peer's alone after the channel has ended. */
export const CHANNEL_COOL_DOWN: Duration = 5 * MINUTE;

/** A channel. */
export interface Channel {
  readonly number: number;
  readonly peer: SocketAddress;
}

interface Entry extends Channel {
  bound: boolean;
  /** A bind waits for its answer. */
  inFlight: boolean;
  boundAt: Instant;
  /** Last data; the same as `boundAt` while there was none. */
  usedAt: Instant;
}

/** See the head of this file. */
export class ChannelTable {
  readonly #byNumber = new Map<number, Entry>();
  readonly #byPeer = new Map<string, Entry>();
  /** Channels in use, by when they are to be bound again: a gateway has thousands of clients at a relay. */
  #refreshes = new Deadlines<Entry>();
  #next = CHANNEL_MIN;

  /**
   * A channel to bind for a peer, in flight from now on: the one that it has or had lately, or a free one. Unused numbers come before ended
   * ones. `undefined` when all are taken.
   */
  begin(peer: SocketAddress, now: Instant): Channel | undefined {
    const known = this.#byPeer.get(peer.key);
    if (known !== undefined && (known.bound || known.inFlight) && now < endOf(known)) {
      known.inFlight = true;
      this.#schedule(known);
      return known;
    }
    const number = this.#freeNumber(now);
    if (number === undefined) return undefined;
    this.#delete(this.#byNumber.get(number));
    this.#delete(known);
    this.#next = number === CHANNEL_MAX ? CHANNEL_MIN : number + 1;
    const entry = { number, peer, bound: false, inFlight: true, boundAt: now, usedAt: now };
    this.#byNumber.set(number, entry);
    this.#byPeer.set(peer.key, entry);
    return entry;
  }

  /** The relay has bound a channel. */
  confirm(number: number, now: Instant): void {
    const entry = this.#byNumber.get(number);
    if (entry === undefined) return;
    entry.bound = true;
    entry.inFlight = false;
    entry.boundAt = now;
    entry.usedAt = now;
    this.#schedule(entry);
  }

  /** The relay has refused to bind a channel, or did not answer. */
  remove(number: number): void {
    this.#delete(this.#byNumber.get(number));
  }

  /** Whether a bind for this peer waits for its answer. */
  isInFlight(peer: SocketAddress): boolean {
    return this.#byPeer.get(peer.key)?.inFlight === true;
  }

  /** The channel to send to a peer on: one that is bound, or about to be, since the bind goes ahead. */
  find(peer: SocketAddress, now: Instant): number | undefined {
    const entry = this.#byPeer.get(peer.key);
    if (entry === undefined) return undefined;
    const usable = entry.inFlight || (entry.bound && now < entry.boundAt + CHANNEL_LIFETIME);
    return usable ? entry.number : undefined;
  }

  /** Data came on a channel: whose. */
  receive(number: number, now: Instant): SocketAddress | undefined {
    const entry = this.#byNumber.get(number);
    if (entry === undefined || !(entry.bound || entry.inFlight)) return undefined;
    this.#use(entry, now);
    return entry.peer;
  }

  /** A peer's channel was used at `at`. */
  use(peer: SocketAddress, at: Instant): void {
    const entry = this.#byPeer.get(peer.key);
    if (entry !== undefined) this.#use(entry, at);
  }

  /** Channels to bind again now; each is told once. */
  takeDueForRefresh(now: Instant): Channel[] {
    return this.#refreshes.takeDue(now);
  }

  /** When {@link takeDueForRefresh} has something next. */
  nextRefresh(): Instant | undefined {
    return this.#refreshes.next();
  }

  /** Forgets everything; the allocation is gone. Numbers go on where they were. */
  clear(): void {
    this.#byNumber.clear();
    this.#byPeer.clear();
    this.#refreshes = new Deadlines();
  }

  #use(entry: Entry, at: Instant): void {
    const wasUsed = entry.usedAt > entry.boundAt;
    entry.usedAt = Math.max(entry.usedAt, at);
    if (!wasUsed) this.#schedule(entry);
  }

  #schedule(entry: Entry): void {
    this.#refreshes.set(entry, isInUse(entry) ? entry.boundAt + CHANNEL_REFRESH : undefined);
  }

  #freeNumber(now: Instant): number | undefined {
    const count = CHANNEL_MAX - CHANNEL_MIN + 1;
    for (let i = 0; i < count; i++) {
      const number = CHANNEL_MIN + ((this.#next - CHANNEL_MIN + i) % count);
      const entry = this.#byNumber.get(number);
      if (entry === undefined || (entry.usedAt === entry.boundAt && now >= endOf(entry))) return number;
    }
    return undefined;
  }

  #delete(entry: Entry | undefined): void {
    if (entry === undefined) return;
    this.#refreshes.set(entry, undefined);
    this.#byNumber.delete(entry.number);
    if (this.#byPeer.get(entry.peer.key) === entry) this.#byPeer.delete(entry.peer.key);
  }
}

/** When the number is free for others. */
function endOf({ boundAt }: Entry): Instant {
  return boundAt + CHANNEL_LIFETIME + CHANNEL_COOL_DOWN;
}

function isInUse({ bound, inFlight, boundAt, usedAt }: Entry): boolean {
  return bound && !inFlight && usedAt > boundAt;
}
