// Resources and relays as the wire has them (spec 01, sections 6.2 to 6.5 and 11.5).

import { IpPrefix } from "../../base/address.js";
import type { ConfiguredFilter, ConfiguredResource } from "./configuration.js";
import { derivedId } from "./identity.js";
import { addressForVersion, type Version } from "./versions.js";

/** Id of a resource: the configured one, or one derived from its name. */
export function resourceId(resource: ConfiguredResource): string {
  return resource.id ?? derivedId("resource", resource.name);
}

/** Id of a site. */
export function siteId(name: string): string {
  return derivedId("site", name);
}

/** The address as a program of this version understands it; `undefined`: it cannot. */
function address(
  resource: Extract<ConfiguredResource, { type: "cidr" | "dns" }>,
  version: Version | undefined,
): string | undefined {
  return resource.address instanceof IpPrefix
    ? resource.address.toString()
    : addressForVersion(resource.address, version);
}

function filters(list: readonly ConfiguredFilter[]): object[] {
  return list.flatMap(({ protocol, ports }): object[] =>
    ports.length === 0
      ? [{ protocol }]
      : ports.map(([first, last]) => ({ protocol, port_range_start: first, port_range_end: last })),
  );
}

/** A resource for clients: one object, or none when clients of this version cannot use it. */
export function renderForClient(resource: ConfiguredResource, version: Version | undefined): object[] {
  const id = resourceId(resource);
  const gateway_groups = resource.sites.map((name) => ({ id: siteId(name), name }));
  const { type, name } = resource;
  if (type === "internet") return [{ type, id, name, gateway_groups, can_be_disabled: true }];
  const text = address(resource, version);
  if (text === undefined) return [];
  return [
    {
      type,
      id,
      name,
      address: text,
      address_description: resource.description ?? null,
      gateway_groups,
      filters: filters(resource.filters),
    },
  ];
}

/** A resource for gateways: one object, or none when gateways of this version cannot serve it. */
export function renderForGateway(resource: ConfiguredResource, version: Version | undefined): object[] {
  const id = resourceId(resource);
  if (resource.type === "internet") return [{ type: resource.type, id }];
  const { type, name } = resource;
  const text = address(resource, version);
  return text === undefined ? [] : [{ type, id, name, address: text, filters: filters(resource.filters) }];
}

/** What tells whether flows to a resource must end when it changes: everything but name, description and filters. */
export function routingOf(resource: ConfiguredResource): string {
  const where = resource.type === "internet" ? "" : String(resource.address);
  return JSON.stringify([resource.type, where, resource.sites]);
}
