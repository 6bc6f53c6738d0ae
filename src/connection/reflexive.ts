// How relays see us: STUN binding requests to every known relay, and the server-reflexive candidates that their answers make
// (RFC 8489, section 7.2.1; spec 02, sections 4.1 and 5.2). One candidate per IP version is enough: behind a NAT that maps each
// destination differently, further ones would only be further guesses (section 14).
//
//   request ── no answer: again after 1 s, 1.5 s, 2.25 s ... ──┐
//      ▲                                                        │
//      └── every 25 s once answered, so that a NAT on the way keeps the mapping ◄┘
//
// Allocations, a relay's other service, belong to `src/turn`, which the issue on relays brings; they will use the same list of relays.

import type { AddressFamily, SocketAddress } from "../base/address.js";
import { toHex } from "../base/bytes.js";
import type { Random } from "../base/random.js";
import type { Transmit } from "../base/state-machine.js";
import { type Duration, earliest, type Instant, SECOND } from "../base/time.js";
import { type Candidate, isCandidateAddress } from "../ice/candidate.js";
import { serverReflexiveCandidate } from "../ice/local-candidate.js";
import { Software, XorMappedAddress } from "../stun/attributes.js";
import { StunBuilder } from "../stun/builder.js";
import { Method, TRANSACTION_ID_LENGTH } from "../stun/header.js";
import type { StunMessage } from "../stun/message.js";
import type { Relay } from "./events.js";

/** Relays known at most; the portal sends two or so. Further ones are refused and counted. */
export const MAX_RELAYS = 64;
/** Time to the first repetition of an unanswered request; each further one takes longer by {@link BACKOFF_FACTOR}. */
export const INITIAL_BACKOFF: Duration = SECOND;
const BACKOFF_FACTOR = 1.5;
/** Time between requests that are answered, and longest time between others: keeps NAT mappings open (spec 02, section 14). */
export const PROBE_INTERVAL: Duration = 25 * SECOND;

const SOFTWARE = "wirelane";

/** What has become known about how we are seen. */
export type ReflexiveEvent =
  | { readonly type: "found"; readonly candidate: Candidate }
  | { readonly type: "lost"; readonly candidate: Candidate };

interface Probe {
  readonly relayId: string;
  readonly server: SocketAddress;
  transaction: string | undefined;
  nextAt: Instant;
  backoff: Duration;
  candidate: Candidate | undefined;
}

/** The requests to all relays and what came of them. */
export class ReflexiveAddresses {
  /** Relays refused because there were too many. */
  refused = 0;
  readonly #random: Random;
  /** By relay id. */
  readonly #relays = new Map<string, Relay>();
  /** By server address. */
  readonly #probes = new Map<string, Probe>();
  readonly #current = new Map<AddressFamily, Probe>();
  #transmits: Transmit[] = [];
  #events: ReflexiveEvent[] = [];

  constructor(random: Random) {
    this.#random = random;
  }

  /** The candidates in force, IPv4 first. */
  get candidates(): readonly Candidate[] {
    const found = [this.#current.get(4)?.candidate, this.#current.get(6)?.candidate];
    return found.filter((candidate) => candidate !== undefined);
  }

  /** Removes relays, then adds some. One that is known stays as it is, unless its addresses have changed. */
  updateRelays(removed: readonly string[], added: readonly Relay[], now: Instant): void {
    for (const id of removed) this.#remove(id, now);
    for (const relay of added) {
      const known = this.#relays.get(relay.id);
      if (known !== undefined && isAt(known, relay)) continue;
      if (known !== undefined) this.#remove(relay.id, now);
      if (this.#relays.size >= MAX_RELAYS) {
        this.refused++;
        continue;
      }
      this.#relays.set(relay.id, relay);
      this.#addServersOf(relay, now);
    }
  }

  /** A local address is gone, and with it what NATs made of it: asks anew where another address may be seen now. */
  removeBase(base: SocketAddress, now: Instant): void {
    for (const probe of this.#probes.values()) {
      if (probe.candidate?.base.equals(base) !== true) continue;
      probe.transaction = undefined;
      probe.backoff = INITIAL_BACKOFF;
      probe.nextAt = now;
      this.#replace(probe, undefined);
    }
  }

  /** Asks all relays anew: the network has changed, and with it perhaps how we are seen. */
  reset(now: Instant): void {
    const relays = [...this.#relays.values()];
    for (const { id } of relays) this.#remove(id, now);
    this.#transmits = [];
    this.updateRelays([], relays, now);
  }

  /** Takes a message from a relay. @returns false when it is no answer to a request of ours. */
  handleInput(message: StunMessage, local: SocketAddress, from: SocketAddress, now: Instant): boolean {
    const probe = this.#probes.get(from.key);
    if (probe?.transaction === undefined || message.transactionKey !== probe.transaction) return false;
    if (message.method !== Method.Binding || (message.class !== "success" && message.class !== "error")) return false;
    probe.transaction = undefined;
    probe.backoff = INITIAL_BACKOFF;
    probe.nextAt = now + PROBE_INTERVAL;
    const mapped = message.class === "success" ? message.get(XorMappedAddress) : undefined;
    if (mapped === undefined || mapped.family !== local.family || !isCandidateAddress(mapped)) return true;
    // Without a NAT the host candidate says it all.
    const candidate = mapped.equals(local) ? undefined : serverReflexiveCandidate(mapped, local);
    this.#replace(probe, candidate);
    return true;
  }

  handleTimeout(now: Instant): void {
    for (const probe of this.#probes.values()) {
      if (probe.nextAt > now) continue;
      const transactionId = this.#random.bytes(TRANSACTION_ID_LENGTH);
      const payload = new StunBuilder("request", Method.Binding, transactionId)
        .add(Software, SOFTWARE)
        .addFingerprint()
        .finish();
      probe.transaction = toHex(transactionId);
      probe.nextAt = now + probe.backoff;
      probe.backoff = Math.min(PROBE_INTERVAL, probe.backoff * BACKOFF_FACTOR);
      // No source: whichever interface leads to the relay.
      this.#transmits.push({ destination: probe.server, payload });
    }
  }

  pollTimeout(): Instant | undefined {
    let next: Instant | undefined;
    for (const { nextAt } of this.#probes.values()) next = earliest(next, nextAt);
    return next;
  }

  pollTransmit(): Transmit | undefined {
    return this.#transmits.shift();
  }

  pollEvent(): ReflexiveEvent | undefined {
    return this.#events.shift();
  }

  #addServersOf({ id: relayId, ipv4, ipv6 }: Relay, now: Instant): void {
    for (const server of [ipv4, ipv6]) {
      if (server === undefined || this.#probes.has(server.key)) continue;
      this.#probes.set(server.key, {
        relayId,
        server,
        transaction: undefined,
        nextAt: now,
        backoff: INITIAL_BACKOFF,
        candidate: undefined,
      });
    }
  }

  #remove(relayId: string, now: Instant): void {
    this.#relays.delete(relayId);
    for (const [key, probe] of this.#probes) {
      if (probe.relayId !== relayId) continue;
      this.#probes.delete(key);
      this.#replace(probe, undefined);
    }
    // A relay that came back with another id may have the same address, and none of its own was asked for that.
    for (const relay of this.#relays.values()) this.#addServersOf(relay, now);
  }

  /** The probe says something else now; another one may have to stand in for it. */
  #replace(probe: Probe, candidate: Candidate | undefined): void {
    const { family } = probe.server;
    const before = this.#current.get(family)?.candidate;
    probe.candidate = candidate;
    if (this.#current.get(family) === probe && candidate === undefined) this.#current.delete(family);
    if (!this.#current.has(family)) {
      const next = [...this.#probes.values()].find((other) => other.server.family === family && other.candidate);
      if (next !== undefined) this.#current.set(family, next);
    }
    const after = this.#current.get(family)?.candidate;
    if (before?.address.key === after?.address.key && before?.base.key === after?.base.key) return;
    // The new one first: the other side is never without.
    if (after !== undefined) this.#events.push({ type: "found", candidate: after });
    if (before !== undefined) this.#events.push({ type: "lost", candidate: before });
  }
}

function isAt(a: Relay, b: Relay): boolean {
  return a.ipv4?.key === b.ipv4?.key && a.ipv6?.key === b.ipv6?.key;
}
