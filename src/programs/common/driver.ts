// Drives a sans-IO state machine on Node's event loop: drains its transmits and events after every input and keeps one timer
// for its next deadline. The loop of design, section 3.

import type { StateMachine, Transmit } from "../../base/state-machine.js";
import type { Instant } from "../../base/time.js";
import { monotonicNow } from "../../system/clock.js";

/** Least time between two looks at what workers have counted, in milliseconds: it tells soon when nothing is heard any more. */
export const OBSERVATION_INTERVAL = 100;
/** The same where there is so much to look at that it would take more than {@link OBSERVATION_SHARE} of the time. */
export const SLOW_OBSERVATION_INTERVAL = 250;
/** Share of the time that looking may take. */
const OBSERVATION_SHARE = 0.02;

/** What the outside of a state machine does with what comes out of it. */
export interface DriverOptions<Event> {
  /** Sends a datagram of the control plane. */
  readonly transmit: (transmit: Transmit) => void;
  /** Acts on an event. It may feed the state machine again; the driver drains what comes of it. */
  readonly event: (event: Event, now: Instant) => void;
  /**
   * Runs before `handleTimeout`, at most every {@link OBSERVATION_INTERVAL}: the place to feed what workers have counted, for all connections at
   * once. Deadlines that follow from traffic have seconds; those of ten thousand connections come one after the other.
   */
  readonly beforeTimeout?: (now: Instant) => void;
}

/**
 * How many deadlines in a row may be due at once before the driver lets the event loop breathe. A state machine that wants to be
 * woken at once for ever is a bug, but one that starves sockets and heartbeats would be worse.
 */
const MAX_TURNS = 1000;

/** Longest time a timer is set for (milliseconds): Node's timers hold 31 bits. */
const MAX_TIMER = 2 ** 31 - 1;

/** A state machine on the event loop. */
export class Driver<Event> {
  readonly #machine: StateMachine<Event>;
  readonly #options: DriverOptions<Event>;
  #timer: NodeJS.Timeout | undefined;
  #observeAt: Instant = Number.NEGATIVE_INFINITY;
  #draining = false;
  #stopped = false;

  constructor(machine: StateMachine<Event>, options: DriverOptions<Event>) {
    this.#machine = machine;
    this.#options = options;
  }

  /** Feeds one input to the state machine and drains what comes of it. */
  input(feed: (now: Instant) => void): void {
    if (this.#stopped) return;
    feed(monotonicNow());
    this.drain();
  }

  /** Sends and handles everything that is waiting, runs due deadlines, and sets the timer for the next one. */
  drain(): void {
    if (this.#draining || this.#stopped) return;
    this.#draining = true;
    try {
      for (let turn = 0; turn < MAX_TURNS; turn++) {
        this.#poll();
        const now = monotonicNow();
        const deadline = this.#machine.pollTimeout();
        if (this.#stopped || deadline === undefined || deadline > now) break;
        if (now >= this.#observeAt) this.#observe(now);
        this.#machine.handleTimeout(now);
      }
    } finally {
      this.#draining = false;
    }
    this.#schedule();
  }

  /** Ends driving: no timer fires any more, inputs are ignored. */
  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  #observe(now: Instant): void {
    this.#options.beforeTimeout?.(now);
    const wanted = (monotonicNow() - now) / OBSERVATION_SHARE;
    this.#observeAt = now + Math.min(SLOW_OBSERVATION_INTERVAL, Math.max(OBSERVATION_INTERVAL, wanted));
  }

  /**
   * Events first: a session is in the datapath's tables before the handshake message leaves that lets the other side use it. Its first packet
   * would otherwise arrive at a stranger's.
   */
  #poll(): void {
    for (;;) {
      const event = this.#machine.pollEvent();
      if (event !== undefined) {
        this.#options.event(event, monotonicNow());
        if (this.#stopped) return;
        continue;
      }
      const transmit = this.#machine.pollTransmit();
      if (transmit === undefined) return;
      this.#options.transmit(transmit);
    }
  }

  #schedule(): void {
    clearTimeout(this.#timer);
    if (this.#stopped) return;
    const deadline = this.#machine.pollTimeout();
    if (deadline === undefined) return;
    // Rounded up: a timer that fires a fraction of a millisecond early would only be set again.
    const delay = Math.min(MAX_TIMER, Math.max(0, Math.ceil(deadline - monotonicNow())));
    this.#timer = setTimeout(() => this.drain(), delay);
  }
}
