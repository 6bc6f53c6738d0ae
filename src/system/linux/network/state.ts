// What of a host's network configuration decides whether connections must be made anew (spec 05, section 5, whose signals come from
// NetworkManager; here they come from the kernel, whoever configures the host). A pure function of what rtnetlink lists.
//
// The state is a set of lines, one for each way to elsewhere and each address to be reached at:
//
//   default 0.0.0.0/0 via 192.0.2.1 on eth0#3 metric 100 table 254       a route to everywhere, or to half of it, as VPNs set
//   address 192.0.2.17/24 on eth0#3                                     of a link with such a route
//
// Where no route leads everywhere, the addresses of all links count. Where one does, those of other links do not: bridges of containers and
// virtual machines come and go all day. Connections over such a link end or begin with its host candidates, without the others.
//
// What never counts: the tunnel's own interface and table, loopback, links that are not running, link-local addresses, IPv6 addresses that
// are tentative (they may yet turn out to be taken) or temporary (RFC 8981: there is always a lasting one of the same network beside them,
// and they change every day), lifetimes.

import type { Duration } from "../../../base/time.js";
import type { InterfaceAddress } from "../rtnetlink/addresses.js";
import type { NetworkChange } from "../rtnetlink/changes.js";
import type { Link } from "../rtnetlink/links.js";
import type { Route } from "../rtnetlink/routes.js";
import { TUNNEL_TABLE } from "../tunnel-interface.js";

/** What rtnetlink lists. */
export interface NetworkSnapshot {
  readonly links: readonly Link[];
  readonly addresses: readonly InterfaceAddress[];
  readonly routes: readonly Route[];
}

/** The lines described in the head of this file. Empty: the host is without network. */
export type NetworkState = ReadonlySet<string>;

/** How the line of an address begins. */
const ADDRESS_LINE = "address ";

/** Prefixes at most this long count as everywhere: VPNs set two halves in order to win over the ordinary default route. */
const LONGEST_DEFAULT = 1;

/** The state of a network; `tunnelInterface` is the name of our own. */
export function describeNetwork({ links, addresses, routes }: NetworkSnapshot, tunnelInterface: string): NetworkState {
  const usable = new Map<number, Link>();
  for (const link of links)
    if (link.up && link.running && !link.loopback && link.name !== tunnelInterface) usable.set(link.index, link);

  const defaults = routes.filter((route) => isDefault(route) && (route.link === undefined || usable.has(route.link)));
  // A route with several next hops names no link: then all may matter.
  const isEveryLink = defaults.length === 0 || defaults.some(({ link }) => link === undefined);
  const leading = new Set(defaults.map(({ link }) => link));

  const lines = new Set<string>();
  for (const route of defaults) lines.add(describeRoute(route, usable));
  for (const address of addresses) {
    const link = usable.get(address.link);
    if (link === undefined || !isLasting(address) || !(isEveryLink || leading.has(address.link))) continue;
    lines.add(`${ADDRESS_LINE}${address.address}/${address.prefixLength} on ${describeLink(link)}`);
  }
  return lines;
}

/** Whether a change may be one of the state: what it was about is known only when everything is looked at. `tunnelLink`: index of our own. */
export function mayConcern(change: NetworkChange, tunnelLink: number | undefined): boolean {
  switch (change.type) {
    case "overrun":
      return true;
    case "link":
      return !change.link.loopback && change.link.index !== tunnelLink;
    case "address":
      return change.address.link !== tunnelLink && !change.address.address.isLinkLocal;
    case "route":
      return isDefault(change.route) && (tunnelLink === undefined || change.route.link !== tunnelLink);
  }
}

/** What has changed from one state to a later one, as a finding of the detector has it. */
interface Change {
  readonly come: readonly string[];
  readonly gone: readonly string[];
  readonly interrupted: boolean;
  readonly slept: Duration;
}

/** Whether addresses have come, and nothing else has happened: what was connected before still is. */
export function hasOnlyGrown({ come, gone, interrupted, slept }: Change): boolean {
  return gone.length === 0 && !interrupted && slept === 0 && come.every((line) => line.startsWith(ADDRESS_LINE));
}

function isDefault({ destination, type, table }: Route): boolean {
  return destination.length <= LONGEST_DEFAULT && type === "unicast" && table !== TUNNEL_TABLE;
}

function isLasting({ address, tentative, temporary }: InterfaceAddress): boolean {
  return !tentative && !temporary && !address.isLinkLocal && !address.isLoopback;
}

function describeRoute(route: Route, links: ReadonlyMap<number, Link>): string {
  const { destination, gateway, link, priority, table, preferredSource } = route;
  const via = gateway === undefined ? "" : ` via ${gateway}`;
  const known = link === undefined ? undefined : links.get(link);
  const on = known === undefined ? "" : ` on ${describeLink(known)}`;
  const from = preferredSource === undefined ? "" : ` from ${preferredSource}`;
  return `default ${destination}${via}${on}${from} metric ${priority} table ${table}`;
}

/** With its number: a link of the same name that was made anew may lead elsewhere. */
function describeLink({ name, index }: Link): string {
  return `${name}#${index}`;
}
