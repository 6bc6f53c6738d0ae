// How many handshake messages a node processes (spec 02, sections 2.5 and 11.4: 100 a second), and from whom. A handshake costs
// four Diffie-Hellman computations, and anybody who knows our public key can ask for one. So there are two budgets for messages
// without a cookie, because one flooder must not force cookies on everybody (field notes, section 4.3):
//
//   - light senders, which have sent no more than a few messages in this interval, share 100 messages;
//   - all together share 100 messages, beyond which only light senders are served from their own budget.
//
// A single flooder is soon not light any more and takes nothing from the others' budget. Many forged senders can use up both;
// then everybody has to show a cookie, which forged senders cannot get. Who shows one is limited on its own.
//
// A gateway hears handshakes only from where an authenticated connectivity check has come from. That the address is a client's has been proved, so
// each address and port has a budget of its own there and needs no cookie within it: when all clients of a company come at once, from behind one
// NAT, 100 in a second and the others five seconds later would be a long time. Who floods in the name of a client makes it show a cookie, no more.

import type { IpAddress, SocketAddress } from "../base/address.js";
import { toHex } from "../base/bytes.js";
import { type Duration, type Instant, SECOND } from "../base/time.js";
import { INITIATION_SPACING } from "./constants.js";

/** Messages without a cookie in one interval. */
export const HANDSHAKE_LIMIT = 100;

/** Length of the interval after which all counts start again. */
export const RATE_LIMIT_INTERVAL: Duration = SECOND;

/** Messages in one interval up to which a source is light. */
export const LIGHT_SOURCE_LIMIT = 10;

/** Messages in one interval that a source which proved its address may send: many users may share an address (NAT, relays). */
export const PROVEN_SOURCE_LIMIT = 100;

/** Messages without a cookie in one interval from an address and port that a connectivity check has come from: as many as a peer is answered. */
export const CHECKED_SOURCE_LIMIT = RATE_LIMIT_INTERVAL / INITIATION_SPACING;

/** Sources counted one by one in an interval; more are all taken as one heavy source. */
export const TRACKED_SOURCES = 4096;

/** IPv6 sources are counted by network: a host usually has a whole /64. */
const IPV6_NETWORK_LENGTH = 8;

/** Counts handshake messages by source and in all. */
export class HandshakeRateLimiter {
  readonly #sources = new Map<string, { unproven: number; proven: number }>();
  #intervalSince: Instant = Number.NEGATIVE_INFINITY;
  #fromAll = 0;
  #fromLight = 0;

  /** Counts a message without a valid cookie. `false`: not to be processed, the sender needs a cookie. */
  admit(source: IpAddress, now: Instant): boolean {
    const counts = this.#countsOf(networkOf(source), now);
    const light = counts !== undefined && counts.unproven < LIGHT_SOURCE_LIMIT;
    if (counts !== undefined) counts.unproven++;
    if (light ? this.#fromLight >= HANDSHAKE_LIMIT : this.#fromAll >= HANDSHAKE_LIMIT) return false;
    this.#fromAll++;
    if (light) this.#fromLight++;
    return true;
  }

  /** Counts a message with a valid cookie. `false`: not to be processed. */
  admitProven(source: IpAddress, now: Instant): boolean {
    return this.#admitCounted(networkOf(source), PROVEN_SOURCE_LIMIT, now);
  }

  /** The same as {@link admit} for an address and port that a connectivity check has come from. */
  admitChecked(source: SocketAddress, now: Instant): boolean {
    return this.#admitCounted(source.key, CHECKED_SOURCE_LIMIT, now);
  }

  #admitCounted(source: string, limit: number, now: Instant): boolean {
    const counts = this.#countsOf(source, now);
    if (counts === undefined) return false;
    counts.proven++;
    return counts.proven <= limit;
  }

  #countsOf(source: string, now: Instant): { unproven: number; proven: number } | undefined {
    if (now - this.#intervalSince >= RATE_LIMIT_INTERVAL) {
      this.#intervalSince = now;
      this.#fromAll = 0;
      this.#fromLight = 0;
      this.#sources.clear();
    }
    const known = this.#sources.get(source);
    if (known !== undefined) return known;
    if (this.#sources.size >= TRACKED_SOURCES) return undefined;
    const counts = { unproven: 0, proven: 0 };
    this.#sources.set(source, counts);
    return counts;
  }
}

/** What counts as one source. */
function networkOf(source: IpAddress): string {
  return source.family === 4 ? source.key : toHex(source.bytes.subarray(0, IPV6_NETWORK_LENGTH));
}
