// Resources and sites as a client knows them (spec 04, sections 3.2, 3.3 and 3.6).

import type { IpAddress, IpPrefix } from "../base/address.js";
import { DEFAULT_ROUTES } from "./ranges.js";

/** A site: a group of gateways. Two sites are equal when their ids are. */
export interface Site {
  readonly id: string;
  readonly name: string;
}

interface ResourceBase {
  readonly id: string;
  readonly name: string;
  readonly sites: readonly Site[];
}

/** Something a client may reach. */
export type Resource =
  | (ResourceBase & {
      readonly type: "cidr";
      readonly address: IpPrefix;
      readonly addressDescription?: string | undefined;
    })
  /** Listed and shown; resolving its names is the work of `src/dns`. */
  | (ResourceBase & {
      readonly type: "dns";
      readonly address: string;
      readonly addressDescription?: string | undefined;
    })
  | (ResourceBase & { readonly type: "internet"; readonly canBeDisabled: boolean });

/** What is known about the gateways of a resource. */
export type ResourceStatus = "Unknown" | "Online" | "Offline";

/** A resource as user interfaces see it. */
export interface ResourceView {
  readonly resource: Resource;
  readonly status: ResourceStatus;
}

/** What a client's and a gateway's description of a resource have in common, as far as it says which addresses are the resource's. */
type Addressed =
  | { readonly type: "cidr"; readonly address: IpPrefix }
  | { readonly type: "internet" }
  | { readonly type: "dns" };

/** The prefixes that a resource covers; none for names. */
export function prefixesOf(resource: Addressed): readonly IpPrefix[] {
  switch (resource.type) {
    case "cidr":
      return [resource.address];
    case "internet":
      return DEFAULT_ROUTES;
    case "dns":
      return [];
  }
}

/** Whether traffic of `before` must be interrupted when it becomes `after`: another type, address or set of sites. */
export function isRoutedDifferently(before: Resource, after: Resource): boolean {
  return routing(before) !== routing(after);
}

function routing(resource: Resource): string {
  const address = resource.type === "internet" ? "" : String(resource.address);
  const sites = resource.sites.map(({ id }) => id).sort();
  return JSON.stringify([resource.type, address, sites]);
}

/** Sort order of lists: the internet resource first, then by name in byte order, then by id. */
export function compareResources(a: Resource, b: Resource): number {
  const rank = (resource: Resource) => (resource.type === "internet" ? 0 : 1);
  return rank(a) - rank(b) || compareBytes(a.name, b.name) || compareBytes(a.id, b.id);
}

const encoder = new TextEncoder();

function compareBytes(a: string, b: string): number {
  const [left, right] = [encoder.encode(a), encoder.encode(b)];
  for (let i = 0; i < Math.min(left.length, right.length); i++) {
    const difference = (left[i] ?? 0) - (right[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return left.length - right.length;
}

/** A prefix in force and the resource that it belongs to. */
export interface ActivePrefix {
  readonly prefix: IpPrefix;
  readonly resourceId: string;
}

/**
 * The table of prefixes in force (spec 04, section 3.3): of several resources with the same prefix, the one that is connected
 * has it, else the one with the smallest id. Derived anew from all resources, so that removing one uncovers what it hid.
 */
export function activePrefixes(
  resources: Iterable<Resource>,
  isConnected: (resourceId: string) => boolean,
): Map<string, ActivePrefix> {
  const active = new Map<string, ActivePrefix>();
  const sorted = [...resources].sort((a, b) => compareBytes(a.id, b.id));
  for (const resource of sorted) {
    for (const prefix of prefixesOf(resource)) {
      const holder = active.get(prefix.key);
      if (holder === undefined || (!isConnected(holder.resourceId) && isConnected(resource.id)))
        active.set(prefix.key, { prefix, resourceId: resource.id });
    }
  }
  return active;
}

/** The longest prefix in force that contains `address`. */
export function lookup(active: ReadonlyMap<string, ActivePrefix>, address: IpAddress): ActivePrefix | undefined {
  let best: ActivePrefix | undefined;
  for (const candidate of active.values())
    if ((best === undefined || candidate.prefix.length > best.prefix.length) && candidate.prefix.contains(address))
      best = candidate;
  return best;
}
