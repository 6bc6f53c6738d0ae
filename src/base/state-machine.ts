// The shape that every sans-IO object of this project has, so that a reader who knows one knows all (design, section 3).

import type { SocketAddress } from "./address.js";
import type { Instant } from "./time.js";

/**
 * A protocol as a pure state machine: inputs and time go in through `handle…` methods, results are polled until empty.
 * It has no clock, socket, timer or randomness of its own, and peers can make it drop input but never throw.
 *
 * The driver's loop: feed inputs; drain `pollTransmit` and `pollEvent`; sleep until `pollTimeout` at most; `handleTimeout`.
 */
export interface StateMachine<Event> {
  /** Does what is due at `now`. Calling it early or often is harmless. */
  handleTimeout(now: Instant): void;
  /** When `handleTimeout` is wanted next; `undefined`: only after further input. */
  pollTimeout(): Instant | undefined;
  /** The next datagram to send. */
  pollTransmit(): Transmit | undefined;
  /** The next event for the owner. */
  pollEvent(): Event | undefined;
}

/** A UDP datagram to send. */
export interface Transmit {
  /** Send from exactly this local address; absent: the kernel chooses (traffic to relays). */
  readonly source?: SocketAddress;
  readonly destination: SocketAddress;
  readonly payload: Uint8Array;
}
