// The candidates of one side as an agent holds them (spec 02, section 10.3). Entries are never removed but flagged as discarded, so
// that one that comes again takes its old place; only when the list is full, the oldest discarded one makes room.

import type { AddressFamily, SocketAddress } from "../base/address.js";
import { type Candidate, type CandidateKind, candidatePriority, isSameCandidate } from "./candidate.js";
import { MAX_CANDIDATES } from "./constants.js";

/** Foundation of a candidate of the other side that it has not signalled (yet). */
export const PEER_REFLEXIVE_FOUNDATION = "tmp_prflx";

/** A place in a list. */
export interface ListedCandidate {
  candidate: Candidate;
  /** Invalidated, or replaced by a better one. */
  discarded: boolean;
}

/** Local preference of the first IPv6 candidate of each kind in an agent. */
const FIRST_LOCAL_PREFERENCE: Readonly<Record<CandidateKind, number>> = {
  host: 65535,
  prflx: 49151,
  srflx: 32767,
  relay: 16383,
};

abstract class CandidateList {
  protected readonly entries: ListedCandidate[] = [];
  #everKnown = false;

  /** Whether there has ever been a candidate. */
  get everKnown(): boolean {
    return this.#everKnown;
  }

  /** Candidates that were refused because the list was full. */
  refused = 0;

  /** The candidates that are not discarded. */
  get active(): readonly ListedCandidate[] {
    return this.entries.filter((entry) => !entry.discarded);
  }

  /** Discards what {@link isSameCandidate} says is this one; returns its entry, or `undefined` when there is none. */
  invalidate(candidate: Candidate): ListedCandidate | undefined {
    const entry = this.entries.find((known) => !known.discarded && isSameCandidate(known.candidate, candidate));
    if (entry !== undefined) entry.discarded = true;
    return entry;
  }

  protected append(candidate: Candidate): ListedCandidate | undefined {
    if (this.entries.length >= MAX_CANDIDATES) {
      const discarded = this.entries.findIndex((entry) => entry.discarded);
      if (discarded === -1) {
        this.refused++;
        return undefined;
      }
      this.entries.splice(discarded, 1);
    }
    const entry = { candidate, discarded: false };
    this.entries.push(entry);
    this.#everKnown = true;
    return entry;
  }

  /** A discarded entry for this candidate, taken back into use. */
  protected reuse(candidate: Candidate): ListedCandidate | undefined {
    const entry = this.entries.find((known) => known.discarded && isSameCandidate(known.candidate, candidate));
    if (entry !== undefined) entry.discarded = false;
    return entry;
  }
}

/** What became of a candidate that was added. */
export interface Addition {
  /** The new or re-enabled entry, or the one with another content. */
  readonly entry: ListedCandidate;
  /** An entry that was discarded for it. */
  readonly replaced?: ListedCandidate | undefined;
}

/** Candidates of this side. */
export class LocalCandidates extends CandidateList {
  /**
   * Adds a candidate with the priority that it has in this agent; `undefined` when it is redundant: a candidate with the same address and base and
   * a higher priority is there.
   */
  add(candidate: Candidate): Addition | undefined {
    const known = this.entries.find(
      (entry) =>
        !entry.discarded &&
        entry.candidate.address.equals(candidate.address) &&
        entry.candidate.base.equals(candidate.base),
    );
    if (known === undefined) {
      const reused = this.reuse(candidate);
      if (reused !== undefined) return { entry: reused };
    }
    const preference = this.#nextLocalPreference(candidate.kind, candidate.address.family);
    const priority = candidatePriority(candidate.kind, preference);
    if (known !== undefined && priority < known.candidate.priority) return undefined;
    const entry = this.append({ ...candidate, priority });
    if (entry === undefined) return undefined;
    if (known !== undefined) known.discarded = true;
    return { entry, replaced: known };
  }

  /** The candidate at which datagrams to this address arrive: a host or relay candidate in use. */
  receiving(address: SocketAddress): ListedCandidate | undefined {
    return this.active.find(
      ({ candidate }) => (candidate.kind === "host" || candidate.kind === "relay") && candidate.address.equals(address),
    );
  }

  #nextLocalPreference(kind: CandidateKind, family: AddressFamily): number {
    const sameKind = this.entries.filter(
      ({ candidate }) => candidate.kind === kind && candidate.address.family === family,
    ).length;
    return Math.max(0, FIRST_LOCAL_PREFERENCE[kind] - (family === 4 ? 1 : 0) - 2 * sameKind);
  }
}

/** Candidates of the other side: signalled, or seen as source of a check. */
export class RemoteCandidates extends CandidateList {
  /** Adds a signalled candidate; `undefined` when it is there already, or when there are too many. */
  add(candidate: Candidate): Addition | undefined {
    const reflexive = this.entries.find(
      (entry) =>
        !entry.discarded &&
        entry.candidate.foundation === PEER_REFLEXIVE_FOUNDATION &&
        entry.candidate.address.equals(candidate.address),
    );
    if (reflexive !== undefined) {
      reflexive.candidate = candidate;
      return { entry: reflexive };
    }
    if (this.active.some((entry) => isSameCandidate(entry.candidate, candidate))) return undefined;
    const entry = this.reuse(candidate) ?? this.append(candidate);
    return entry && { entry };
  }

  /** The best candidate in use with this address; `discarded` when all of them are discarded; `undefined` when there is none. */
  from(address: SocketAddress): ListedCandidate | "discarded" | undefined {
    const matches = this.entries.filter((entry) => entry.candidate.address.equals(address));
    let best: ListedCandidate | undefined;
    for (const entry of matches) {
      if (entry.discarded) continue;
      if (best === undefined || entry.candidate.priority > best.candidate.priority) best = entry;
    }
    return best ?? (matches.length > 0 ? "discarded" : undefined);
  }

  /** Adds a candidate that was not signalled but seen; `undefined` when there are too many. */
  addPeerReflexive(address: SocketAddress, priority: number): ListedCandidate | undefined {
    return this.append({
      kind: "prflx",
      address,
      base: address,
      priority,
      foundation: PEER_REFLEXIVE_FOUNDATION,
    });
  }
}
