// When the owner of many peers wants to learn what the datapath has sent and received: every full second while there is any session, and
// however many there are. One look for all of them, which brings what has changed (`handleActivity`); an idle peer is not woken for it.

import type { Instant } from "../base/time.js";
import { ACTIVITY_POLL_INTERVAL } from "./constants.js";
import type { PeerEvent } from "./peer-events.js";

/** Types of the events that are counted here. */
const ESTABLISHED: PeerEvent["type"] = "session-established";
const REMOVED: PeerEvent["type"] = "session-removed";

/** See the head of this file. */
export class ActivityPoll {
  #sessions = 0;
  #polledAt: Instant = 0;

  /** Takes note of an event of one of the peers: sessions that come and go. */
  handleEvent(event: { readonly type: string }): void {
    if (event.type === ESTABLISHED) this.#sessions++;
    else if (event.type === REMOVED) this.#sessions--;
  }

  /** The activity has been fed. */
  handleTimeout(now: Instant): void {
    this.#polledAt = Math.max(this.#polledAt, now);
  }

  /** When it is to be fed next; `undefined` without any session. */
  pollTimeout(): Instant | undefined {
    if (this.#sessions === 0) return undefined;
    return (Math.floor(this.#polledAt / ACTIVITY_POLL_INTERVAL) + 1) * ACTIVITY_POLL_INTERVAL;
  }
}
