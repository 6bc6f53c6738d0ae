// Resources and relays as the wire has them (spec 01, sections 6.2 to 6.5 and 11.5).

import { IpPrefix } from "../../base/address.js";
import type { ConfiguredFilter, ConfiguredResource } from "./configuration.js";
import { derivedId } from "./identity.js";

/** Id of a resource: the configured one, or one derived from its name. */
export function resourceId(resource: ConfiguredResource): string {
  return resource.id ?? derivedId("resource", resource.name);
}

/** Id of a site. */
export function siteId(name: string): string {
  return derivedId("site", name);
}

function address(resource: Extract<ConfiguredResource, { type: "cidr" | "dns" }>): string {
  return resource.address instanceof IpPrefix ? resource.address.toString() : resource.address;
}

function filters(list: readonly ConfiguredFilter[]): object[] {
  return list.flatMap(({ protocol, ports }): object[] =>
    ports.length === 0
      ? [{ protocol }]
      : ports.map(([first, last]) => ({ protocol, port_range_start: first, port_range_end: last })),
  );
}

/** A resource for clients. */
export function renderForClient(resource: ConfiguredResource): object {
  const id = resourceId(resource);
  const gateway_groups = resource.sites.map((name) => ({ id: siteId(name), name }));
  if (resource.type === "internet")
    return { type: resource.type, id, name: resource.name, gateway_groups, can_be_disabled: true };
  return {
    type: resource.type,
    id,
    name: resource.name,
    address: address(resource),
    address_description: resource.description ?? null,
    gateway_groups,
    filters: filters(resource.filters),
  };
}

/** A resource for gateways. */
export function renderForGateway(resource: ConfiguredResource): object {
  const id = resourceId(resource);
  if (resource.type === "internet") return { type: resource.type, id };
  const { type, name } = resource;
  return { type, id, name, address: address(resource), filters: filters(resource.filters) };
}

/** What tells whether flows to a resource must end when it changes: everything but name, description and filters. */
export function routingOf(resource: ConfiguredResource): string {
  const where = resource.type === "internet" ? "" : address(resource);
  return JSON.stringify([resource.type, where, resource.sites]);
}
