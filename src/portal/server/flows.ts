// Flows: which client was granted which resource through which gateway. They are kept so that a grant can be taken back
// (`reject_access`, spec 01, section 11.10), also from a gateway that is away at that moment: it hears of it when it joins again.

import type { UnixTime } from "../../base/time.js";

/** A grant. */
export interface Flow {
  /** Random, new with every grant. */
  readonly id: string;
  readonly clientId: string;
  readonly gatewayId: string;
  readonly resourceId: string;
  /** The actor whose token was used. */
  readonly actor: string;
  readonly tokenDigest: Uint8Array;
  /** End of that token; absent: none. */
  readonly expiresAt: UnixTime | undefined;
}

/** Flows remembered, at most. The oldest is forgotten: its grant ends with its token. */
export const MAX_FLOWS = 100_000;

/** All grants, one per gateway, client and resource. */
export class FlowTable {
  readonly #capacity: number;
  readonly #flows = new Map<string, { readonly flow: Flow; revoked: boolean }>();
  /** Flows forgotten because there were too many. */
  dropped = 0;

  constructor(capacity = MAX_FLOWS) {
    this.#capacity = capacity;
  }

  get size(): number {
    return this.#flows.size;
  }

  /** Adds a grant; an earlier one of the same client, gateway and resource is replaced. */
  add(flow: Flow): void {
    const key = JSON.stringify([flow.gatewayId, flow.clientId, flow.resourceId]);
    // Deleted first, so that the order of the map is the order of the grants.
    this.#flows.delete(key);
    if (this.#flows.size >= this.#capacity) {
      const [oldest] = this.#flows.keys();
      if (oldest !== undefined) this.#flows.delete(oldest);
      this.dropped++;
    }
    this.#flows.set(key, { flow, revoked: false });
  }

  /** Whether a gateway serves a resource to anybody. */
  servedBy(gatewayId: string): Set<string> {
    const resources = new Set<string>();
    for (const { flow, revoked } of this.#flows.values())
      if (!revoked && flow.gatewayId === gatewayId) resources.add(flow.resourceId);
    return resources;
  }

  /** Marks grants as taken back. {@link takeRevoked} says who has to hear of it. */
  revoke(isOver: (flow: Flow) => boolean): void {
    for (const entry of this.#flows.values()) if (!entry.revoked && isOver(entry.flow)) entry.revoked = true;
  }

  /** Removes and returns the grants that this gateway must end. */
  takeRevoked(gatewayId: string): Flow[] {
    const taken: Flow[] = [];
    for (const [key, { flow, revoked }] of this.#flows) {
      if (!revoked || flow.gatewayId !== gatewayId) continue;
      this.#flows.delete(key);
      taken.push(flow);
    }
    return taken;
  }
}
