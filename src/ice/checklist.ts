// The pairs of an agent, best first (RFC 8445, section 6.1.2; spec 02, section 10.3). Two pairs never are the same way: of two that
// would be, the one of higher priority stays.

import type { Instant } from "../base/time.js";
import type { ListedCandidate } from "./candidate-list.js";
import { MAX_PAIRS } from "./constants.js";
import { CandidatePair, type IceRole, pairKey, pairPriority } from "./pair.js";

/** Pairs sorted by descending priority. */
export class Checklist {
  readonly #role: IceRole;
  readonly #byKey = new Map<string, CandidatePair>();
  #sorted: CandidatePair[] = [];

  constructor(role: IceRole) {
    this.#role = role;
  }

  /** Best first. */
  get pairs(): readonly CandidatePair[] {
    return this.#sorted;
  }

  get(local: ListedCandidate, remote: ListedCandidate): CandidatePair | undefined {
    return this.#byKey.get(pairKey(local, remote));
  }

  /**
   * Makes a pair of two candidates of one IP version. If there is one for the same way, it takes over the better candidates and keeps everything
   * it has reached, so that the path does not flap (spec 02, section 10.3: "keep both if you can").
   *
   * @returns pairs that had to go because there are too many.
   */
  add(local: ListedCandidate, remote: ListedCandidate, now: Instant): CandidatePair[] {
    if (local.candidate.address.family !== remote.candidate.address.family) return [];
    const priority = pairPriority(this.#role, local.candidate.priority, remote.candidate.priority);
    const known = this.get(local, remote);
    if (known !== undefined) {
      if (priority <= known.priority) return [];
      known.local = local;
      known.remote = remote;
      known.priority = priority;
    } else {
      const pair = new CandidatePair(local, remote, priority, now);
      this.#byKey.set(pair.key, pair);
      this.#sorted.push(pair);
    }
    // Stable: of equals the older one stays in front.
    this.#sorted.sort((a, b) => (a.priority < b.priority ? 1 : a.priority > b.priority ? -1 : 0));
    return this.#remove(new Set(this.#sorted.slice(MAX_PAIRS)));
  }

  /** Removes the pairs for which `predicate` holds, and returns them. */
  removeIf(predicate: (pair: CandidatePair) => boolean): CandidatePair[] {
    return this.#remove(new Set(this.#sorted.filter(predicate)));
  }

  #remove(pairs: ReadonlySet<CandidatePair>): CandidatePair[] {
    if (pairs.size === 0) return [];
    for (const pair of pairs) this.#byKey.delete(pair.key);
    this.#sorted = this.#sorted.filter((pair) => !pairs.has(pair));
    return [...pairs];
  }
}
