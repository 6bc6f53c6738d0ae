// What one remote peer tells its owner: changes of the datapath's tables, things for it to send, and news for the log.

import type { Instant } from "../base/time.js";
import type { SessionKeys } from "./noise.js";
import type { SessionRole } from "./session.js";

/** A session with its keys, for the datapath. Whoever takes the event wipes the keys once they are installed. */
export interface EstablishedSession extends SessionKeys {
  /** Receiver index of the messages that the peer sends. */
  readonly localIndex: number;
  /** Receiver index of the messages that we send. */
  readonly remoteIndex: number;
  readonly role: SessionRole;
  readonly establishedAt: Instant;
}

/** What a peer tells its owner. */
export type PeerEvent =
  /** Install the session for receiving; it sends only once it is current. */
  | { readonly type: "session-established"; readonly session: EstablishedSession }
  /** Send with this session from now on. Idempotent. */
  | { readonly type: "session-current"; readonly localIndex: number }
  /** Remove the session from the tables. */
  | { readonly type: "session-removed"; readonly localIndex: number }
  /** Send an empty transport message with the current session. */
  | { readonly type: "send-keepalive" }
  /** An initiation was sent; the first one of an attempt has number 1. */
  | { readonly type: "handshake-initiated"; readonly attempt: number; readonly localIndex: number }
  /** A handshake has proved that the peer is there: `role` is ours. */
  | { readonly type: "handshake-complete"; readonly role: SessionRole; readonly localIndex: number }
  /**
   * The peer did not answer for 90 s (`no-answer`), or there was no new session for 540 s (`no-session`). Waiting packets are dropped. The
   * peer works on: the next packet or message starts again. An owner that can do more, ICE, gives the connection up.
   */
  | { readonly type: "expired"; readonly reason: "no-answer" | "no-session" };
