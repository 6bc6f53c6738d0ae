// When the initiator of a session replaces it by a new one (whitepaper, section 6.2; spec 02, section 11.8): when it is old and in use.
//
//   120 s old, and data were sent with it, or anything since it is as old       → new session, for sending
//   165 s old, and data were received with it                                   → new session, before what comes cannot be read any more
//
// The responder leaves that to the initiator: else both would do it at the same time.

import { type Duration, earliest, type Instant } from "../base/time.js";
import { REKEY_AFTER_TIME, REKEY_AFTER_TIME_RECEIVING } from "./constants.js";
import type { Session } from "./session.js";

/** When a peer's connection was last used; minus infinity: never. */
export interface LastUse {
  /** Any message sent. */
  readonly sentAt: Instant;
  /** A message with a packet in it sent. */
  readonly sentDataAt: Instant;
  /** A message with a packet in it received. */
  readonly receivedDataAt: Instant;
}

/** When the session is to be replaced, by its present use. `jitter` is added to its age, so that two sides that began at the same time do not go on so. */
export function renewalDue(current: Session | undefined, lastUse: LastUse, jitter: Duration): Instant | undefined {
  if (current?.role !== "initiator") return undefined;
  const { establishedAt } = current;
  // The datapath rounds its stamps down to milliseconds.
  const since = Math.floor(establishedAt);
  let due: Instant | undefined;
  // Data since the session began, or anything since it became old (a persistent keepalive): the session is in use.
  if (lastUse.sentDataAt >= since || lastUse.sentAt >= since + REKEY_AFTER_TIME)
    due = establishedAt + REKEY_AFTER_TIME + jitter;
  if (lastUse.receivedDataAt >= since) due = earliest(due, establishedAt + REKEY_AFTER_TIME_RECEIVING + jitter);
  return due;
}
