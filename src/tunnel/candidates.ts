// Collects the candidates that a node reports one by one into one message per connection (spec 02, section 3.2).

import type { NodeEvent } from "../connection/events.js";
import type { CandidateEvent } from "./events.js";

/** Candidates of one drain. */
export class CandidateBatch {
  readonly #added = new Map<string, Set<string>>();
  readonly #removed = new Map<string, Set<string>>();

  /** Takes a candidate event. */
  add(event: Extract<NodeEvent, { type: "new-ice-candidate" | "invalidate-ice-candidate" }>): void {
    const batch = event.type === "new-ice-candidate" ? this.#added : this.#removed;
    const candidates = batch.get(event.connection) ?? new Set();
    batch.set(event.connection, candidates.add(event.candidate));
  }

  /** One event per connection and kind, added ones first. */
  *events(): Generator<CandidateEvent> {
    for (const [connection, candidates] of this.#added)
      yield { type: "added-ice-candidates", connection, candidates: [...candidates].sort() };
    for (const [connection, candidates] of this.#removed)
      yield { type: "removed-ice-candidates", connection, candidates: [...candidates].sort() };
  }
}
