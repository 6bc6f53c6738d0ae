// What a peer concludes from the traffic that the datapath carries (whitepaper, sections 6.2 to 6.5; spec 02, section 11.8). The
// datapath leaves four stamps in shared memory; they are looked at about once a second, so a deadline is up to a second late.
//
//   received data, sent nothing for 10 s since      → keepalive is due: the other side must learn that we are here
//   sent data, received nothing for 15 s since      → handshake is due: the other side may have lost the session
//   sent nothing for the configured interval        → persistent keepalive is due: a NAT on the way may forget us

import type { Duration, Instant } from "../base/time.js";
import { KEEPALIVE_TIMEOUT, NEW_HANDSHAKE_TIMEOUT } from "./constants.js";

/** When a peer's connection last carried authenticated messages, as the datapath stamps them. 0: never. */
export interface Activity {
  /** Any message sent, keepalives included. */
  readonly sentAt: Instant;
  /** Any authenticated message received, keepalives included. */
  readonly receivedAt: Instant;
  /** A message with a packet in it sent. */
  readonly sentDataAt: Instant;
  /** A message with a packet in it received. */
  readonly receivedDataAt: Instant;
}

const NEVER = Number.NEGATIVE_INFINITY;

/** Deadlines that follow from traffic. */
export class ActivityTimers {
  /** Interval of persistent keepalives; `undefined`: none. */
  persistentKeepalive: Duration | undefined;

  #sentAt: Instant = NEVER;
  #receivedAt: Instant = NEVER;
  #sentDataAt: Instant = NEVER;
  #receivedDataAt: Instant = NEVER;
  /** First received data that nothing was sent after. */
  #unrepliedSince: Instant | undefined;
  /** First sent data that nothing was received after. */
  #unansweredSince: Instant | undefined;
  /** Start of the current persistent keepalive interval, if later than the last message sent. */
  #persistentSince: Instant;

  constructor(persistentKeepalive: Duration | undefined, now: Instant) {
    this.persistentKeepalive = persistentKeepalive;
    this.#persistentSince = now;
  }

  /** Last message sent, handshake messages included; minus infinity: never. */
  get sentAt(): Instant {
    return this.#sentAt;
  }

  /** Last message with a packet sent; minus infinity: never. */
  get sentDataAt(): Instant {
    return this.#sentDataAt;
  }

  /** Last message with a packet received; minus infinity: never. */
  get receivedDataAt(): Instant {
    return this.#receivedDataAt;
  }

  /** Takes the datapath's stamps. */
  observe(activity: Activity): void {
    const sentData = activity.sentDataAt > 0 && activity.sentDataAt > this.#sentDataAt;
    const receivedData = activity.receivedDataAt > 0 && activity.receivedDataAt > this.#receivedDataAt;
    if (sentData) this.#sentDataAt = activity.sentDataAt;
    if (receivedData) this.#receivedDataAt = activity.receivedDataAt;
    if (activity.sentAt > 0) this.handleSent(activity.sentAt);
    if (activity.receivedAt > 0) this.handleReceived(activity.receivedAt);

    // Only new traffic starts a timer: one that has run out is not started again by the same stamps.
    if (receivedData && this.#receivedDataAt > this.#sentAt) this.#unrepliedSince ??= this.#receivedDataAt;
    if (sentData && this.#sentDataAt > this.#receivedAt) this.#unansweredSince ??= this.#sentDataAt;
  }

  /** A message was sent at `at`: a handshake message or a keepalive that the control plane caused, or one that the datapath stamped. */
  handleSent(at: Instant): void {
    this.#sentAt = Math.max(this.#sentAt, at);
    if (this.#unrepliedSince !== undefined && this.#sentAt >= this.#unrepliedSince) this.#unrepliedSince = undefined;
  }

  /** An authenticated message was received at `at`. */
  handleReceived(at: Instant): void {
    this.#receivedAt = Math.max(this.#receivedAt, at);
    if (this.#unansweredSince !== undefined && this.#receivedAt >= this.#unansweredSince)
      this.#unansweredSince = undefined;
  }

  /** When received data must be answered by a keepalive. Sending, see {@link handleSent}, ends it. */
  keepaliveDue(): Instant | undefined {
    return this.#unrepliedSince === undefined ? undefined : this.#unrepliedSince + KEEPALIVE_TIMEOUT;
  }

  /** When unanswered data call for a new handshake. */
  newHandshakeDue(): Instant | undefined {
    return this.#unansweredSince === undefined ? undefined : this.#unansweredSince + NEW_HANDSHAKE_TIMEOUT;
  }

  /** The new handshake has been started; only data sent from now on can call for another one. */
  handleNewHandshake(): void {
    this.#unansweredSince = undefined;
  }

  /** When the next persistent keepalive is due. Sending, or {@link skipPersistentKeepalive}, puts it off. */
  persistentKeepaliveDue(): Instant | undefined {
    if (this.persistentKeepalive === undefined) return undefined;
    return Math.max(this.#sentAt, this.#persistentSince) + this.persistentKeepalive;
  }

  /** Starts a new interval without anything having been sent. */
  skipPersistentKeepalive(now: Instant): void {
    this.#persistentSince = now;
  }
}
