// The portal's file of the demo's world: who may reach what there, as an object that tests change and the world writes out as YAML.

import { stringify } from "yaml";

/** A resource, as the portal's file has it. */
export interface WorldResource {
  name: string;
  type: "cidr";
  address: string;
  sites: string[];
  filters?: (string | { protocol: string; ports?: (number | string)[] })[];
}

/** The file. */
export interface WorldConfiguration {
  sites: { name: string; tokens: string[] }[];
  actors: { name: string; groups?: string[]; tokens: string[] }[];
  resources: WorldResource[];
  policies: { actor: string; resource: string }[];
  /** Relays that sign in with a token, and those that are named to everybody with a fixed user. */
  relays?: { tokens?: string[]; static?: { address: string; username: string; password: string }[] };
}

/** Name of the site that the gateway serves, and of the actor whose client connects. */
export const SITE = "office";
export const ACTOR = "alice";

/** What the programs sign in with. Not secrets: they exist in the world only. */
export const TOKENS = {
  gateway: "demo-gateway-token",
  client: "demo-client-token",
  relay: "demo-relay-token",
} as const;

/**
 * The file of the demo: `intranet` (both families) and `second` have a policy for the actor, `forbidden` has none.
 *
 * @param ipv6 whether the world has IPv6.
 */
export function defaultConfiguration(ipv6: boolean): WorldConfiguration {
  const cidr = (name: string, address: string): WorldResource => ({ name, type: "cidr", address, sites: [SITE] });
  const resources = [
    cidr("intranet", "172.20.0.0/24"),
    cidr("forbidden", "172.21.0.0/24"),
    cidr("second", "172.22.0.0/24"),
    ...(ipv6
      ? [cidr("intranet-ipv6", "fd20::/64"), cidr("forbidden-ipv6", "fd21::/64"), cidr("second-ipv6", "fd22::/64")]
      : []),
  ];
  return {
    sites: [{ name: SITE, tokens: [TOKENS.gateway] }],
    actors: [{ name: ACTOR, tokens: [TOKENS.client] }],
    resources,
    policies: resources
      .filter(({ name }) => !name.startsWith("forbidden"))
      .map(({ name }) => ({ actor: ACTOR, resource: name })),
    relays: { tokens: [TOKENS.relay] },
  };
}

/** The file's text. */
export function renderConfiguration(configuration: WorldConfiguration): string {
  return `# Written by wirelane's demo. The portal reads it again when it changes.\n${stringify(configuration)}`;
}
