// A candidate pair: one way between the two sides (RFC 8445, section 6.1.2; spec 02, sections 10.3 and 10.4). What makes it a way
// is the address that we send from and the address that we send to.
//
//   state        waiting --check sent--> in-progress --first response--> succeeded (for ever)
//   nomination   none --chosen--> nominated --check sent--> attempt --response--> success

import type { Duration, Instant } from "../base/time.js";
import type { ListedCandidate } from "./candidate-list.js";
import { CheckSchedule } from "./check-schedule.js";

/** Which side decides: the client is controlling, the gateway is controlled. */
export type IceRole = "controlling" | "controlled";

/** How far the checks of a pair have come. */
export type PairState = "waiting" | "in-progress" | "succeeded";

/** How far the nomination of a pair has come. */
export type Nomination = "none" | "nominated" | "attempt" | "success";

/** A candidate pair. Owned by the {@link Checklist}; the agent changes its state. */
export class CandidatePair {
  local: ListedCandidate;
  remote: ListedCandidate;
  /** See {@link pairPriority}. */
  priority: bigint;
  state: PairState = "waiting";
  nomination: Nomination = "none";
  /** Last answer to a check of ours. */
  answeredAt: Instant = Number.NEGATIVE_INFINITY;
  /** Time between the last answered check and its answer. */
  roundTrip: Duration = 0;
  /** Traffic on it is not answered: not to be used until a check is. */
  isSuspect = false;
  /** Whether a check of the other side has hastened one of ours. */
  wasTriggered = false;
  readonly schedule: CheckSchedule;

  constructor(local: ListedCandidate, remote: ListedCandidate, priority: bigint, now: Instant) {
    this.local = local;
    this.remote = remote;
    this.priority = priority;
    this.schedule = new CheckSchedule(now);
  }

  /** Equal for pairs that are the same way. */
  get key(): string {
    return pairKey(this.local, this.remote);
  }

  get isNominated(): boolean {
    return this.nomination !== "none";
  }
}

/** See {@link CandidatePair.key}. */
export function pairKey(local: ListedCandidate, remote: ListedCandidate): string {
  return `${local.candidate.base.key}>${remote.candidate.address.key}`;
}

/** `2^32 * min(G, D) + 2 * max(G, D) + (G > D ? 1 : 0)`, with G of the controlling side (RFC 8445, section 6.1.2.3): up to 64 bits. */
export function pairPriority(role: IceRole, localPriority: number, remotePriority: number): bigint {
  const local = BigInt(localPriority);
  const remote = BigInt(remotePriority);
  const [controlling, controlled] = role === "controlling" ? [local, remote] : [remote, local];
  const [low, high] = controlling < controlled ? [controlling, controlled] : [controlled, controlling];
  return (low << 32n) + 2n * high + (controlling > controlled ? 1n : 0n);
}
