// Grants that overtook the request for a connection, of clients whose addresses the portal did not send (spec 04, sections 4.8 and 4.10,
// rule 2): they wait until the client has a connection, for a while.

import { type Duration, type Instant, SECOND } from "../base/time.js";
import { type GatewayResource, type Grant, withFiltersOf } from "./grants.js";

/** How long they wait. */
export const EARLY_GRANT_TIME: Duration = 20 * SECOND;
/** Grants per client at most; further ones are refused. */
export const MAX_EARLY_GRANTS = 100;

interface Waiting {
  readonly until: Instant;
  grants: Grant[];
}

/** Grants by client, for a bounded number of clients. */
export class EarlyGrants {
  readonly #clients = new Map<string, Waiting>();
  readonly #maxClients: number;

  constructor(maxClients: number) {
    this.#maxClients = maxClients;
  }

  get isEmpty(): boolean {
    return this.#clients.size === 0;
  }

  /** Keeps a grant, as long as the client's first one is kept. @returns false when it is one too many. */
  add(clientId: string, { resource, expiresAt }: Grant, now: Instant): boolean {
    const known = this.#clients.get(clientId);
    if (known === undefined && this.#clients.size >= this.#maxClients) return false;
    const waiting = known ?? { until: now + EARLY_GRANT_TIME, grants: [] };
    if (waiting.grants.length >= MAX_EARLY_GRANTS) return false;
    waiting.grants.push({ resource, expiresAt });
    this.#clients.set(clientId, waiting);
    return true;
  }

  /** Takes out what a client was granted, in the order of granting. */
  take(clientId: string): readonly Grant[] {
    const waiting = this.#clients.get(clientId);
    this.#clients.delete(clientId);
    return waiting?.grants ?? [];
  }

  /** Withdraws a resource from a client. */
  remove(clientId: string, resourceId: string): void {
    const waiting = this.#clients.get(clientId);
    if (waiting !== undefined) waiting.grants = waiting.grants.filter(({ resource }) => resource.id !== resourceId);
  }

  /** A resource's filters have changed, for all clients. */
  update(resource: GatewayResource): void {
    for (const waiting of this.#clients.values())
      waiting.grants = waiting.grants.map((grant) =>
        grant.resource.id === resource.id ? withFiltersOf(grant, resource) : grant,
      );
  }

  /** Forgets what has waited for too long. */
  handleTimeout(now: Instant): void {
    for (const [clientId, { until }] of this.#clients) if (until <= now) this.#clients.delete(clientId);
  }
}
