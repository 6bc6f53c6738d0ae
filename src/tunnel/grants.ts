// What a gateway lets a client reach, and until when (spec 04, sections 4.10, 6.5, 6.6 and 6.13): one grant per resource.

import type { IpAddress, IpPrefix } from "../base/address.js";
import type { UnixTime } from "../base/time.js";
import type { Filter, FilterRule } from "./events.js";
import { prefixesOf } from "./resources.js";

/** Grants per client at most; the one that was granted first goes. */
export const MAX_GRANTS = 1000;

/** A resource as the portal describes it to gateways. */
export type GatewayResource =
  | { readonly type: "cidr"; readonly id: string; readonly address: IpPrefix; readonly filters: readonly FilterRule[] }
  /** Names need address translation, which comes with `src/dns`: access to them is refused until then. */
  | { readonly type: "dns"; readonly id: string; readonly address: string; readonly filters: readonly FilterRule[] }
  | { readonly type: "internet"; readonly id: string };

/** Leave to reach a resource. */
export interface Grant {
  readonly resource: GatewayResource;
  /** Absent: no end. */
  readonly expiresAt: UnixTime | undefined;
}

/** Whether there can be access at `unixNow`. Expiry is inclusive (10.3.23). */
export function isGrantable({ resource, expiresAt }: Grant, unixNow: UnixTime): boolean {
  return resource.type !== "dns" && !isExpired(expiresAt, unixNow);
}

/** The grant with the filters of the resource's newer description, if that is still of the same type and has some. */
export function withFiltersOf(grant: Grant, newer: GatewayResource): Grant {
  const { resource } = grant;
  if (resource.type !== "cidr" || newer.type !== "cidr") return grant;
  return { ...grant, resource: { ...resource, filters: newer.filters } };
}

/** The grants of one client. */
export class Grants {
  /** By resource id, in order of granting. */
  readonly #grants = new Map<string, Grant>();

  get size(): number {
    return this.#grants.size;
  }

  /** Grants; again is instead (4.10, rule 4). @returns false when another grant had to make room. */
  add({ resource, expiresAt }: Grant): boolean {
    this.#grants.delete(resource.id);
    this.#grants.set(resource.id, { resource, expiresAt });
    if (this.#grants.size <= MAX_GRANTS) return true;
    const [oldest] = this.#grants.keys();
    if (oldest !== undefined) this.#grants.delete(oldest);
    return false;
  }

  /** Withdraws a resource. @returns whether it was granted. */
  remove(resourceId: string): boolean {
    return this.#grants.delete(resourceId);
  }

  /** The resource's filters have changed. @returns whether it is granted. */
  update(resource: GatewayResource): boolean {
    const grant = this.#grants.get(resource.id);
    if (grant === undefined) return false;
    this.#grants.set(resource.id, withFiltersOf(grant, resource));
    return true;
  }

  /** Removes what has ended. @returns whether something has. */
  expire(unixNow: UnixTime): boolean {
    let changed = false;
    for (const [resourceId, { expiresAt }] of this.#grants)
      if (isExpired(expiresAt, unixNow)) changed = this.#grants.delete(resourceId);
    return changed;
  }

  /** Whether the address is one of a granted resource. */
  covers(address: IpAddress): boolean {
    for (const { resource } of this.#grants.values())
      if (prefixesOf(resource).some((prefix) => prefix.contains(address))) return true;
    return false;
  }

  /** What the client may reach. */
  filters(): Filter[] {
    const filters: Filter[] = [];
    for (const { resource } of this.#grants.values())
      for (const prefix of prefixesOf(resource))
        filters.push({ prefix, rules: resource.type === "internet" ? [] : resource.filters });
    return filters;
  }
}

function isExpired(expiresAt: UnixTime | undefined, unixNow: UnixTime): boolean {
  return expiresAt !== undefined && expiresAt <= unixNow;
}
