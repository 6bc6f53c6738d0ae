// The numbers of the ICE agent (spec 02, sections 2.5, 10.4 and 10.7).

import { type Duration, SECOND } from "../base/time.js";

/** Time to the first repetition of a connectivity check; it doubles up to {@link MAX_RETRANSMISSION_TIMEOUT}. */
export const INITIAL_RETRANSMISSION_TIMEOUT: Duration = 250;

/** Longest time between two checks of a pair: also the keepalive interval of every pair that works. */
export const MAX_RETRANSMISSION_TIMEOUT: Duration = 1.5 * SECOND;

/** Time between two checks of a pair that works while nobody uses the connection: keeps NAT bindings open (spec 02, section 14). */
export const IDLE_CHECK_INTERVAL: Duration = 25 * SECOND;

/** Checks in a row without answer after which a pair is dead, and checks remembered per pair. */
export const MAX_UNANSWERED_CHECKS = 8;

/** Age of the oldest unanswered check from which a pair that used to work counts as silent: half of the longest timeout. */
export const SILENCE_THRESHOLD: Duration = MAX_RETRANSMISSION_TIMEOUT / 2;

/** Time in which a fresh pair that is never answered dies: checks at 0, 0.25, 0.75, 1.75, then every 1.5 s. */
export const FRESH_PAIR_TIMEOUT: Duration = 9.25 * SECOND;

/** Candidate pairs per agent. Those of lowest priority have to go first. */
export const MAX_PAIRS = 300;

/** Candidates per agent and side, discarded ones included. Discarded ones have to go first. */
export const MAX_CANDIDATES = 128;

/** Connectivity checks that wait until the other side's credentials are known, per agent. The oldest has to go first. */
export const MAX_QUEUED_REQUESTS = 100;

/** Distinct sources of authenticated messages that an agent reports. */
export const MAX_REPORTED_SOURCES = 128;

/** Datagrams that wait to be fetched, per agent: checks of all pairs and answers to as many. The oldest has to go first. */
export const MAX_QUEUED_TRANSMITS = 2 * MAX_PAIRS;
