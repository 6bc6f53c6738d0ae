// The numbers of the WireGuard protocol under the names of the whitepaper (section 6.1) and of spec 02, section 11.

import { type Duration, MINUTE, SECOND } from "../base/time.js";

/** Length of an X25519 key, of a symmetric key and of a hash in bytes. */
export const KEY_LENGTH = 32;

/** Length of a Poly1305 tag in bytes. */
export const TAG_LENGTH = 16;

/** Length of mac1, mac2 and of a cookie in bytes. */
export const MAC_LENGTH = 16;

/** Age at which the initiator of a session replaces it by a new one, once it has something to send. */
export const REKEY_AFTER_TIME: Duration = 120 * SECOND;

/** Age from which a session neither sends nor receives. */
export const REJECT_AFTER_TIME: Duration = 180 * SECOND;

/** Time after which an unanswered initiation is repeated, as a new one; also the least time between two initiations. */
export const REKEY_TIMEOUT: Duration = 5 * SECOND;

/** Time after which the attempts to get an answer end. */
export const REKEY_ATTEMPT_TIME: Duration = 90 * SECOND;

/** Upper bound of the random time added to {@link REKEY_TIMEOUT} (whitepaper, section 6.1: "jitter"). */
export const REKEY_TIMEOUT_JITTER_MAX: Duration = 333;

/** Time after which data that was received and not answered by anything is answered by a keepalive. */
export const KEEPALIVE_TIMEOUT: Duration = 10 * SECOND;

/** Time after which a peer that has answered nothing to the data it was sent is asked for a new session. */
export const NEW_HANDSHAKE_TIMEOUT: Duration = KEEPALIVE_TIMEOUT + REKEY_TIMEOUT;

/** Age of a session at which received data make its initiator replace it: late, so that {@link REKEY_AFTER_TIME} comes first. */
export const REKEY_AFTER_TIME_RECEIVING: Duration = REJECT_AFTER_TIME - KEEPALIVE_TIMEOUT - REKEY_TIMEOUT;

/** Time without a new session after which nothing of the old ones may be left in memory. */
export const ZERO_KEYS_AFTER_TIME: Duration = 3 * REJECT_AFTER_TIME;

/** Least time between two initiations that one peer may make us process: `HandshakeInitationRate`, 50 a second. */
export const INITIATION_SPACING: Duration = 20;

/** How long a received cookie is used, and how long the secret behind our own ones lives. */
export const COOKIE_EXPIRATION: Duration = 2 * MINUTE;

/** How often the owner of peers with sessions wants to learn what the datapath has sent and received (spec 02, section 2.5: timer cadence). */
export const ACTIVITY_POLL_INTERVAL: Duration = SECOND;

/** Packets that wait for a session, per peer (spec 02, section 2.5: "WireGuard internal queue"). */
export const PACKET_QUEUE_CAPACITY = 256;

/** Sessions that one peer may have at a time (spec 02, section 11.7: "ring of 8 slots"). */
export const SESSIONS_PER_PEER = 8;
