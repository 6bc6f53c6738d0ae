// How relays see us: of all that they say, one server-reflexive candidate per IP version stands for all (spec 02, section 4.1). Behind a
// NAT that maps each destination differently, further ones would only be further guesses (section 14).

import type { AddressFamily, SocketAddress } from "../base/address.js";
import { type Candidate, isCandidateAddress } from "../ice/candidate.js";
import { serverReflexiveCandidate } from "../ice/local-candidate.js";

/** A candidate for all connections has come or gone. */
export type ReflexiveEvent =
  | { readonly type: "reflexive-found"; readonly candidate: Candidate }
  | { readonly type: "reflexive-lost"; readonly candidate: Candidate };

/** See the head of this file. */
export class ReflexiveCandidates {
  readonly #emit: (event: ReflexiveEvent) => void;
  /** By relay id and IP version. */
  readonly #seen = new Map<string, Map<AddressFamily, Candidate>>();
  /** The ones that stand for all. */
  readonly #current = new Map<AddressFamily, Candidate>();

  constructor(emit: (event: ReflexiveEvent) => void) {
    this.#emit = emit;
  }

  /** The candidates in force, IPv4 first. */
  get all(): readonly Candidate[] {
    return [this.#current.get(4), this.#current.get(6)].filter((candidate) => candidate !== undefined);
  }

  /** Whether what a relay sees depends on this local address. */
  dependsOn(relay: string, base: SocketAddress): boolean {
    return [...(this.#seen.get(relay)?.values() ?? [])].some((candidate) => candidate.base.equals(base));
  }

  /** A relay sees datagrams that leave from `base` as coming from `mapped`. */
  see(relay: string, mapped: SocketAddress, base: SocketAddress): void {
    // Without a NAT the host candidate says it all.
    const isCandidate = mapped.family === base.family && isCandidateAddress(mapped) && !mapped.equals(base);
    this.#set(relay, mapped.family, isCandidate ? serverReflexiveCandidate(mapped, base) : undefined);
  }

  /** A relay does not see us over this IP version any more. */
  lose(relay: string, family: AddressFamily): void {
    this.#set(relay, family, undefined);
  }

  #set(relay: string, family: AddressFamily, candidate: Candidate | undefined): void {
    const seen = this.#seen.get(relay) ?? new Map<AddressFamily, Candidate>();
    const own = seen.get(family);
    if (candidate === undefined) seen.delete(family);
    else seen.set(family, candidate);
    if (seen.size === 0) this.#seen.delete(relay);
    else this.#seen.set(relay, seen);

    const before = this.#current.get(family);
    if (before !== undefined && before !== own) return;
    // Another relay's view may have to stand in.
    const others = [...this.#seen.values()].map((other) => other.get(family));
    const after = candidate ?? others.find((other) => other !== undefined);
    if (after === undefined) this.#current.delete(family);
    else this.#current.set(family, after);
    if (before?.address.key === after?.address.key && before?.base.key === after?.base.key) return;
    // The new one first: the other side is never without.
    if (after !== undefined) this.#emit({ type: "reflexive-found", candidate: after });
    if (before !== undefined) this.#emit({ type: "reflexive-lost", candidate: before });
  }
}
