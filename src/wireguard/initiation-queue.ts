// Initiations whose first Diffie-Hellman computation is to be done elsewhere than on the control plane's thread, in batches.
//
//   admitted (mac1, rate limit, cookie) ──► few of late? ──yes──► opened at once
//                                                │no
//                                                ▼
//                                          waiting, bounded ──poll──► batches in flight, two at most ──complete──► peers
//
// Which computations. Of a responder's four, only the first (our static key, the initiator's ephemeral one: whose initiation is it?) can be
// asked for by strangers: it takes nothing but our public key to make an initiation that mac1 lets pass. That one goes into batches, with the
// hashes and the decryption around it, which cost as much again: 200 µs of 720 µs of a whole answer. The other three come after the
// initiator has proved to be a configured peer, with a timestamp newer than all before and not sooner than 20 ms after the last. They stay in
// line: in another thread, each peer's state machine would have a state "being answered" for what floods cannot cause. (The DH of the static
// keys, which that proof takes, was computed when the peer was configured.)
//
// When. Handing over a batch costs about as much as half an initiation and makes its sender wait for another thread, which
// may have to start first. Handshakes of ordinary days come alone and are opened at once: ALONE_BURST, and one more every ALONE_INTERVAL. What
// exceeds that waits, and whatever waits when a thread is free is a batch: the more, the cheaper. Order is kept: while some wait or are in flight,
// none is opened at once.
//
// Only a plain device has this queue. Client and gateway look at handshake messages only from where an authenticated connectivity
// check has come from (src/connection/node.ts): strangers cannot ask them for Diffie-Hellman computations. And when all clients of a company come at
// once, what leads up to a handshake costs a gateway more than the handshake: with 500 of them (test/support/crowd-main.ts) starting the thread and
// handing over took its main thread more time than it saved, 2.0 s instead of 1.8.

import type { SocketAddress } from "../base/address.js";
import { BoundedQueue } from "../base/queue.js";
import type { Duration, Instant } from "../base/time.js";
import type { LocalIdentity } from "./identity.js";
import type { HandshakeInitiation } from "./messages.js";

/** Initiations that are opened at once after a pause. */
export const ALONE_BURST = 2;

/** Time after which one more is opened at once: 200 in a second, which take 4 % of a core. */
export const ALONE_INTERVAL: Duration = 5;

/** Initiations in one batch. Those of peers are answered in one turn of the control plane: 8 take it 5 ms. */
export const BATCH_SIZE = 8;

/** Batches in flight: one is computed, the next is there when it is done. */
export const MAX_BATCHES = 2;

/** Initiations that wait: what a thread opens in 50 ms. Their senders begin again after 5 s. */
export const WAITING_CAPACITY = 256;

/** An initiation that may cost a computation, and where it came from. */
export interface WaitingInitiation {
  readonly message: HandshakeInitiation;
  /** Our address; to be forgotten when it may have gone. */
  local: SocketAddress;
  readonly from: SocketAddress;
  /** Length of the datagram in bytes. */
  readonly length: number;
}

/** What is to be computed: `openInitiation` for each message. */
export interface InitiationBatch {
  /** Names the batch; never used again. */
  readonly id: number;
  /** Whose they are: the key to open them with. */
  readonly identity: LocalIdentity;
  /** 1 to {@link BATCH_SIZE}. Views of datagrams that stay as they are. */
  readonly initiations: readonly WaitingInitiation[];
}

/** See the head of this file. */
export class InitiationQueue {
  readonly counters = {
    /** Initiations that went into batches. */
    batched: 0,
    /** Dropped: too many were waiting. */
    full: 0,
    /** Dropped: the private key changed while they waited or were in flight. */
    outdated: 0,
    /** Dropped: whoever should have computed them could not. */
    failed: 0,
  };

  readonly #waiting = new BoundedQueue<WaitingInitiation>(WAITING_CAPACITY, "drop-newest");
  readonly #inFlight = new Map<number, readonly WaitingInitiation[]>();
  #lastId = 0;
  /** Initiations that may be opened at once at `#aloneAt`. */
  #alone = ALONE_BURST;
  #aloneAt: Instant = Number.NEGATIVE_INFINITY;

  /** Whether an initiation that has come now is to be opened at once, which counts; otherwise it is to be {@link push}ed. */
  mayOpenAtOnce(now: Instant): boolean {
    if (this.#waiting.length > 0 || this.#inFlight.size > 0) return false;
    const elapsed = Math.max(0, now - this.#aloneAt);
    const left = Math.min(ALONE_BURST, this.#alone + elapsed / ALONE_INTERVAL);
    this.#aloneAt = now;
    this.#alone = left < 1 ? left : left - 1;
    return left >= 1;
  }

  /** Makes an initiation wait. `false`: too many do, it has been dropped and counted. */
  push(initiation: WaitingInitiation): boolean {
    if (this.#waiting.push(initiation)) return true;
    this.counters.full++;
    return false;
  }

  /** The next batch to compute, if there is one and not too many are being computed. */
  poll(identity: LocalIdentity): InitiationBatch | undefined {
    if (this.#waiting.length === 0 || this.#inFlight.size >= MAX_BATCHES) return undefined;
    const initiations: WaitingInitiation[] = [];
    for (let next = this.#waiting.shift(); next !== undefined; next = this.#waiting.shift()) {
      initiations.push(next);
      if (initiations.length === BATCH_SIZE) break;
    }
    this.#lastId++;
    this.#inFlight.set(this.#lastId, initiations);
    this.counters.batched += initiations.length;
    return { id: this.#lastId, identity, initiations };
  }

  /** Ends a batch and returns what was in it; nothing when the private key has changed since. */
  complete(id: number): readonly WaitingInitiation[] {
    const initiations = this.#inFlight.get(id) ?? [];
    this.#inFlight.delete(id);
    return initiations;
  }

  /** The private key has changed: what waits or is in flight is for the old one. */
  drop(): void {
    this.counters.outdated += this.#waiting.length;
    this.#waiting.clear();
    for (const initiations of this.#inFlight.values()) this.counters.outdated += initiations.length;
    this.#inFlight.clear();
  }

  /** Local addresses may have gone: `unspecified` takes the place of those that are remembered. */
  forgetLocalAddresses(unspecified: Readonly<Record<4 | 6, SocketAddress>>): void {
    const forget = (initiation: WaitingInitiation) => {
      initiation.local = unspecified[initiation.from.family];
    };
    for (const initiation of this.#waiting) forget(initiation);
    for (const initiations of this.#inFlight.values()) initiations.forEach(forget);
  }
}
