// What a connection has of the relay that it uses: the addresses that the relay lends us, as candidates, and channels to where the other
// side may be reached (spec 02, sections 4.1 and 5.4; spec 03, section 5.15).
//
//   none ──use(relay)──► relay ──use(another)──► another: its candidates come; those of the first one go when it takes them back

import type { SocketAddress } from "../base/address.js";
import type { Instant } from "../base/time.js";
import type { IceAgent } from "../ice/agent.js";
import type { Candidate } from "../ice/candidate.js";

/** What the connection does for its relay. */
export interface RelayUseContext {
  readonly agent: IceAgent;
  signal(type: "new-ice-candidate" | "invalidate-ice-candidate", candidate: Candidate): void;
  bindChannel(relay: string, peer: SocketAddress, now: Instant): void;
}

/** See the head of this file. */
export class RelayUse {
  readonly #context: RelayUseContext;
  #relay: string | undefined;
  /** By address; also those of relays that are being left. */
  readonly #candidates = new Map<string, { readonly relay: string; readonly candidate: Candidate }>();

  constructor(context: RelayUseContext) {
    this.#context = context;
  }

  /** Id of the relay; `undefined` while there is none. */
  get relay(): string | undefined {
    return this.#relay;
  }

  /** Whether the relay lends us an address. */
  get isUsable(): boolean {
    return [...this.#candidates.values()].some(({ relay }) => relay === this.#relay);
  }

  /** Uses this relay from now on. What another one lends stays until it is taken back: there is a way until there is a better one. */
  use(relay: string, candidates: readonly Candidate[], now: Instant): void {
    this.#relay = relay;
    for (const candidate of candidates) this.add(candidate, now);
    for (const remote of this.#context.agent.remoteCandidates) this.reach(remote, now);
  }

  /** The relay has lent us an address. */
  add(candidate: Candidate, now: Instant): void {
    if (this.#relay === undefined) return;
    this.#candidates.set(candidate.address.key, { relay: this.#relay, candidate });
    if (this.#context.agent.addLocalCandidate(candidate, now)) this.#context.signal("new-ice-candidate", candidate);
  }

  /** A relay does not lend us this address any more; ignored when it never did. */
  remove(candidate: Candidate, now: Instant): void {
    if (!this.#candidates.delete(candidate.address.key)) return;
    if (this.#context.agent.removeLocalCandidate(candidate, now))
      this.#context.signal("invalidate-ice-candidate", candidate);
  }

  /** Asks the relay for a channel to a candidate of the other side. Host candidates can be reached without, or not at all. */
  reach(remote: Candidate, now: Instant): void {
    if (this.#relay !== undefined && remote.kind !== "host")
      this.#context.bindChannel(this.#relay, remote.address, now);
  }
}
