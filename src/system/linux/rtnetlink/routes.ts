// Routes by rtnetlink: rtnetlink(7) on RTM_NEWROUTE, include/uapi/linux/rtnetlink.h.
//
//   struct rtmsg   family u8 | destination length u8 | source length u8 | tos u8 |
//                  table u8 | protocol u8 | scope u8 | type u8 | flags u32                 12 bytes

import { type AddressFamily, IpAddress, IpPrefix } from "../../../base/address.js";
import { viewOf } from "../../../base/bytes.js";
import { Errno, SystemCallError } from "../errno.js";
import { AF_INET, AF_INET6 } from "../libc.js";
import { addressFamilyNumber } from "../sockaddr.js";
import { Attributes, MessageBuilder, MessageFlag, type NetlinkMessage } from "./message.js";
import { DUMP_FLAGS, type Netlink, requestFlags } from "./netlink.js";

/** Number of the main routing table. */
export const MAIN_TABLE = 254;

/** What a route does with packets, and its number in the kernel (`RTN_…`). */
export const RouteType = {
  unicast: 1,
  local: 2,
  broadcast: 3,
  anycast: 4,
  multicast: 5,
  blackhole: 6,
  unreachable: 7,
  prohibit: 8,
  throw: 9,
} as const;

/** Name of a {@link RouteType}. */
export type RouteTypeName = keyof typeof RouteType;

/** Who made a route (`RTPROT_…`); other numbers belong to routing daemons. */
export const RouteProtocol = { kernel: 2, boot: 3, static: 4 } as const;

/** How far away a route's destination is (`RT_SCOPE_…`). IPv6 knows only `universe`. */
export const RouteScope = { universe: 0, link: 253, host: 254 } as const;

/** A route to add or to delete. */
export interface RouteSpecification {
  readonly destination: IpPrefix;
  /** Default {@link MAIN_TABLE}. Tables above 255 are fine. */
  readonly table?: number;
  /** Default `unicast`. Routes that discard packets have neither gateway nor link. */
  readonly type?: RouteTypeName;
  /** Next hop, of the same family. */
  readonly gateway?: IpAddress;
  /** Index of the outgoing link. */
  readonly link?: number;
  /** Of {@link RouteProtocol}. Default `static`. */
  readonly protocol?: number;
  /** Of {@link RouteScope}. Default `universe`. */
  readonly scope?: number;
  /** Metric; the lowest wins. Default 0, which means 1024 for IPv6. */
  readonly priority?: number;
  /** Source address of packets that have none yet. */
  readonly preferredSource?: IpAddress;
  /** The gateway is reachable by the link even if no route says so. */
  readonly onLink?: boolean;
}

/** A route that exists. */
export interface Route {
  readonly destination: IpPrefix;
  readonly table: number;
  readonly type: RouteTypeName;
  readonly gateway?: IpAddress;
  readonly link?: number;
  readonly protocol: number;
  readonly scope: number;
  readonly priority: number;
  readonly preferredSource?: IpAddress;
}

/** Notification and answer: a route exists. */
export const RTM_NEWROUTE = 24;
/** Notification: a route is gone. */
export const RTM_DELROUTE = 25;
const RTM_GETROUTE = 26;

const RTMSG_LENGTH = 12;
const RTA_DST = 1;
const RTA_OIF = 4;
const RTA_GATEWAY = 5;
const RTA_PRIORITY = 6;
const RTA_PREFSRC = 7;
const RTA_TABLE = 15;
const RTNH_F_ONLINK = 4;
const RTM_F_CLONED = 0x200;
/** The 8-bit table field for tables that do not fit. */
const RT_TABLE_COMPAT = 252;
const RT_SCOPE_NOWHERE = 255;

/** Adds a route. @throws SystemCallError EEXIST: there is one to this destination with the same priority. */
export function addRoute(netlink: Netlink, route: RouteSpecification): void {
  write(netlink, MessageFlag.CREATE | MessageFlag.EXCLUSIVE, "adding", route);
}

/** Adds a route, in place of the one to the same destination with the same priority if there is one. */
export function replaceRoute(netlink: Netlink, route: RouteSpecification): void {
  write(netlink, MessageFlag.CREATE | MessageFlag.REPLACE, "replacing", route);
}

/**
 * Deletes the first route that agrees in destination, table and every property given.
 *
 * @throws SystemCallError ESRCH or ENOENT: there is none.
 */
export function deleteRoute(netlink: Netlink, route: RouteSpecification): void {
  const request = new MessageBuilder(RTM_DELROUTE, requestFlags());
  const wildcard = { protocol: 0, scope: RT_SCOPE_NOWHERE, ...route };
  header(request, wildcard, route.type === undefined ? 0 : RouteType[route.type]);
  netlink.request(request, describe("deleting", route));
}

/** Which routes to list. */
export interface RouteFilter {
  readonly family?: AddressFamily;
  readonly table?: number;
  readonly link?: number;
}

/** The routes that a filter lets through; routes with several next hops are listed without any. */
export function listRoutes(netlink: Netlink, filter: RouteFilter = {}): Route[] {
  // Strict kernels reject a filter without a family.
  const families: readonly AddressFamily[] = filter.family === undefined ? [4, 6] : [filter.family];
  return families.flatMap((family) => listFamily(netlink, { ...filter, family }));
}

function listFamily(netlink: Netlink, filter: RouteFilter & { readonly family: AddressFamily }): Route[] {
  const request = new MessageBuilder(RTM_GETROUTE, DUMP_FLAGS);
  request.uint8(addressFamilyNumber(filter.family)).uint8(0).uint8(0).uint8(0);
  request.uint8(0).uint8(0).uint8(0).uint8(0).uint32(0);
  if (filter.table !== undefined) request.attributeUint32(RTA_TABLE, filter.table);
  if (filter.link !== undefined) request.attributeUint32(RTA_OIF, filter.link);
  let messages: readonly NetlinkMessage[];
  try {
    messages = netlink.dump(request, `listing IPv${filter.family} routes`);
  } catch (error) {
    // A table comes into being with its first route.
    if (error instanceof SystemCallError && error.errno === Errno.ENOENT) return [];
    throw error;
  }
  // Older kernels ignore what was asked for and list everything; without IPv6 they may answer with IPv4 routes.
  return messages
    .map(decodeRoute)
    .filter((route) => route !== undefined)
    .filter((route) => route.destination.family === filter.family)
    .filter((route) => filter.table === undefined || route.table === filter.table)
    .filter((route) => filter.link === undefined || route.link === filter.link);
}

/** The route that a RTM_NEWROUTE or RTM_DELROUTE message describes; `undefined` for anything else and for cache entries. */
export function decodeRoute(message: NetlinkMessage): Route | undefined {
  if (message.type !== RTM_NEWROUTE && message.type !== RTM_DELROUTE) return undefined;
  if (message.payload.length < RTMSG_LENGTH) return undefined;
  const view = viewOf(message.payload);
  const family = view.getUint8(0);
  if ((family !== AF_INET && family !== AF_INET6) || (view.getUint32(8, true) & RTM_F_CLONED) !== 0) return undefined;
  const attributes = Attributes.decode(message.payload, RTMSG_LENGTH);
  const typeNumber = view.getUint8(7);
  const type = routeTypeNames.find((name) => RouteType[name] === typeNumber);
  if (attributes === undefined || type === undefined) return undefined;

  const size = family === AF_INET ? 4 : 16;
  const prefixLength = view.getUint8(1);
  const destination = attributes.bytes(RTA_DST) ?? new Uint8Array(size);
  if (destination.length !== size || prefixLength > size * 8) return undefined;
  const gateway = addressAttribute(attributes, RTA_GATEWAY, size);
  const link = attributes.uint32(RTA_OIF);
  const preferredSource = addressAttribute(attributes, RTA_PREFSRC, size);
  return {
    destination: IpPrefix.of(IpAddress.fromBytes(destination), prefixLength),
    table: attributes.uint32(RTA_TABLE) ?? view.getUint8(4),
    type,
    protocol: view.getUint8(5),
    scope: view.getUint8(6),
    priority: attributes.uint32(RTA_PRIORITY) ?? 0,
    ...(gateway === undefined ? {} : { gateway }),
    ...(link === undefined ? {} : { link }),
    ...(preferredSource === undefined ? {} : { preferredSource }),
  };
}

const routeTypeNames = Object.keys(RouteType) as RouteTypeName[];

function addressAttribute(attributes: Attributes, type: number, size: number): IpAddress | undefined {
  const bytes = attributes.bytes(type);
  return bytes?.length === size ? IpAddress.fromBytes(bytes) : undefined;
}

function write(netlink: Netlink, flags: number, verb: string, route: RouteSpecification): void {
  const request = new MessageBuilder(RTM_NEWROUTE, requestFlags(flags));
  header(request, route, RouteType[route.type ?? "unicast"]);
  netlink.request(request, describe(verb, route));
}

/** `struct rtmsg` and attributes. */
function header(message: MessageBuilder, route: RouteSpecification, type: number): void {
  const { destination, table = MAIN_TABLE, gateway, link, priority, preferredSource } = route;
  message.uint8(addressFamilyNumber(destination.family)).uint8(destination.length).uint8(0).uint8(0);
  message.uint8(table < 256 ? table : RT_TABLE_COMPAT).uint8(route.protocol ?? RouteProtocol.static);
  message.uint8(route.scope ?? RouteScope.universe).uint8(type);
  message.uint32(route.onLink === true ? RTNH_F_ONLINK : 0);
  message.attribute(RTA_DST, destination.address.bytes);
  message.attributeUint32(RTA_TABLE, table);
  if (gateway !== undefined) message.attribute(RTA_GATEWAY, gateway.bytes);
  if (link !== undefined) message.attributeUint32(RTA_OIF, link);
  if (priority !== undefined) message.attributeUint32(RTA_PRIORITY, priority);
  if (preferredSource !== undefined) message.attribute(RTA_PREFSRC, preferredSource.bytes);
}

/** `adding route 10.0.0.0/8 to table 0x2021fd00`, for errors. */
function describe(verb: string, { destination, table = MAIN_TABLE, gateway, type }: RouteSpecification): string {
  const kind = type === undefined || type === "unicast" ? "route" : `${type} route`;
  const via = gateway === undefined ? "" : ` via ${gateway}`;
  return `${verb} ${kind} ${destination}${via} ${verb === "deleting" ? "from" : "to"} table ${tableName(table)}`;
}

/** A table's number in errors: the large ones are known in hexadecimal. */
export function tableName(table: number): string {
  return table < 256 ? String(table) : `0x${table.toString(16)}`;
}
