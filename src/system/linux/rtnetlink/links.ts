// Network interfaces ("links") by rtnetlink: rtnetlink(7) on RTM_NEWLINK, include/uapi/linux/if_link.h.
//
//   struct ifinfomsg   family u8 | 0 u8 | hardware type u16 | index i32 | flags u32 | which flags u32       16 bytes

import { viewOf } from "../../../base/bytes.js";
import { Errno, SystemCallError } from "../errno.js";
import { AF_INET6 } from "../libc.js";
import { Attributes, MessageBuilder, MessageFlag, type NetlinkMessage } from "./message.js";
import { DUMP_FLAGS, type Netlink, requestFlags } from "./netlink.js";

/** A network interface. */
export interface Link {
  /** Its number, unique in the namespace; a number is not reused soon. */
  readonly index: number;
  readonly name: string;
  /** Administratively up. */
  readonly up: boolean;
  /** Able to carry traffic: up, and its other end too. */
  readonly running: boolean;
  readonly loopback: boolean;
  /** Maximum transmission unit in bytes. */
  readonly mtu: number;
  /** Length of the transmit queue in packets. */
  readonly transmitQueueLength: number;
  /** What made it, as "tun", "veth", "bridge"; absent for hardware and loopback. */
  readonly kind?: string;
  /** Hardware address; empty for interfaces without one. */
  readonly hardwareAddress: Uint8Array;
  /** Index of the bridge or bond that it belongs to. */
  readonly master?: number;
  /** Most segments and bytes of a packet that the kernel leaves to this interface to segment. */
  readonly gsoMaxSegments?: number;
  readonly gsoMaxSize?: number;
}

/** What can be changed at a link. Absent: stays as it is. */
export interface LinkChanges {
  readonly up?: boolean;
  readonly name?: string;
  /** Bytes. */
  readonly mtu?: number;
  /** Packets. */
  readonly transmitQueueLength?: number;
  /** "none": no automatic link-local address when the link comes up. */
  readonly addressGeneration?: "none" | "eui64";
  readonly gsoMaxSegments?: number;
  readonly gsoMaxSize?: number;
  /** Index of a bridge to join; 0: none. */
  readonly master?: number;
  /** Moves the link there; it arrives down and without addresses. */
  readonly namespace?: NamespaceReference;
}

/** A network namespace, by a process in it or by an open file descriptor. */
export type NamespaceReference = { readonly pid: number } | { readonly fd: number };

/** Notification and answer: a link exists. */
export const RTM_NEWLINK = 16;
/** Notification: a link is gone. */
export const RTM_DELLINK = 17;
const RTM_GETLINK = 18;
const RTM_SETLINK = 19;

const IFINFOMSG_LENGTH = 16;
const IFF_UP = 0x1;
const IFF_LOOPBACK = 0x8;
const IFF_RUNNING = 0x40;

const IFLA_ADDRESS = 1;
const IFLA_IFNAME = 3;
const IFLA_MTU = 4;
const IFLA_MASTER = 10;
const IFLA_TXQLEN = 13;
const IFLA_LINKINFO = 18;
const IFLA_NET_NS_PID = 19;
const IFLA_AF_SPEC = 26;
const IFLA_NET_NS_FD = 28;
const IFLA_EXT_MASK = 29;
const IFLA_GSO_MAX_SEGS = 40;
const IFLA_GSO_MAX_SIZE = 41;
const IFLA_INFO_KIND = 1;
const IFLA_INFO_DATA = 2;
const IFLA_INET6_ADDR_GEN_MODE = 8;
const VETH_INFO_PEER = 1;
/** Leave the counters out of answers. */
const RTEXT_FILTER_SKIP_STATS = 8;

/** The link of this name, or with this index; `undefined` when there is none. */
export function findLink(netlink: Netlink, which: string | number): Link | undefined {
  const request = new MessageBuilder(RTM_GETLINK, requestFlags());
  header(request, typeof which === "number" ? which : 0);
  if (typeof which === "string") request.attributeText(IFLA_IFNAME, which);
  request.attributeUint32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
  try {
    const [answer] = netlink.request(request, `looking up interface ${which}`);
    return answer === undefined ? undefined : decodeLink(answer);
  } catch (error) {
    if (error instanceof SystemCallError && error.errno === Errno.ENODEV) return undefined;
    throw error;
  }
}

/** The link of this name, or with this index. @throws SystemCallError ENODEV when there is none. */
export function getLink(netlink: Netlink, which: string | number): Link {
  const link = findLink(netlink, which);
  if (link === undefined) throw new SystemCallError(`looking up interface ${which}`, Errno.ENODEV);
  return link;
}

/** All links. */
export function listLinks(netlink: Netlink): Link[] {
  const request = new MessageBuilder(RTM_GETLINK, DUMP_FLAGS);
  header(request, 0);
  request.attributeUint32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
  return netlink
    .dump(request, "listing interfaces")
    .map(decodeLink)
    .filter((link) => link !== undefined);
}

/** Changes a link, all at once or, on an error, perhaps in part. Renaming may need it to be down. */
export function changeLink(netlink: Netlink, index: number, changes: LinkChanges): void {
  const request = new MessageBuilder(RTM_SETLINK, requestFlags());
  header(request, index, changes.up);
  if (changes.name !== undefined) request.attributeText(IFLA_IFNAME, changes.name);
  if (changes.mtu !== undefined) request.attributeUint32(IFLA_MTU, changes.mtu);
  if (changes.transmitQueueLength !== undefined) request.attributeUint32(IFLA_TXQLEN, changes.transmitQueueLength);
  if (changes.gsoMaxSegments !== undefined) request.attributeUint32(IFLA_GSO_MAX_SEGS, changes.gsoMaxSegments);
  if (changes.gsoMaxSize !== undefined) request.attributeUint32(IFLA_GSO_MAX_SIZE, changes.gsoMaxSize);
  if (changes.master !== undefined) request.attributeUint32(IFLA_MASTER, changes.master);
  if (changes.namespace !== undefined) namespaceAttribute(request, changes.namespace);
  if (changes.addressGeneration !== undefined) {
    const mode = changes.addressGeneration === "none" ? 1 : 0;
    request.nested(IFLA_AF_SPEC, () =>
      request.nested(AF_INET6, () => request.attributeUint8(IFLA_INET6_ADDR_GEN_MODE, mode)),
    );
  }
  netlink.request(request, `changing interface ${index} (${describe(changes)})`);
}

/** Deletes a link; of a veth pair both ends go. */
export function deleteLink(netlink: Netlink, index: number): void {
  const request = new MessageBuilder(RTM_DELLINK, requestFlags());
  header(request, index);
  netlink.request(request, `deleting interface ${index}`);
}

/** An end of a veth pair to create. */
export interface VethEnd {
  readonly name: string;
  /** Where to create it; absent: the socket's own namespace. */
  readonly namespace?: NamespaceReference;
}

/** Creates two interfaces that are connected with each other, both down. */
export function createVeth(netlink: Netlink, one: VethEnd, other: VethEnd): void {
  const request = new MessageBuilder(RTM_NEWLINK, requestFlags(MessageFlag.CREATE | MessageFlag.EXCLUSIVE));
  vethEnd(request, one);
  request.nested(IFLA_LINKINFO, () => {
    request.attributeText(IFLA_INFO_KIND, "veth");
    request.nested(IFLA_INFO_DATA, () => request.nested(VETH_INFO_PEER, () => vethEnd(request, other)));
  });
  netlink.request(request, `creating veth pair ${one.name} and ${other.name}`);
}

/** Creates a bridge (a switch), down and without members. */
export function createBridge(netlink: Netlink, name: string): void {
  const request = new MessageBuilder(RTM_NEWLINK, requestFlags(MessageFlag.CREATE | MessageFlag.EXCLUSIVE));
  header(request, 0);
  request.attributeText(IFLA_IFNAME, name);
  request.nested(IFLA_LINKINFO, () => request.attributeText(IFLA_INFO_KIND, "bridge"));
  netlink.request(request, `creating bridge ${name}`);
}

/** The link that a RTM_NEWLINK or RTM_DELLINK message describes; `undefined` for anything else. */
export function decodeLink(message: NetlinkMessage): Link | undefined {
  if (message.type !== RTM_NEWLINK && message.type !== RTM_DELLINK) return undefined;
  if (message.payload.length < IFINFOMSG_LENGTH) return undefined;
  const view = viewOf(message.payload);
  const attributes = Attributes.decode(message.payload, IFINFOMSG_LENGTH);
  const name = attributes?.text(IFLA_IFNAME);
  if (attributes === undefined || name === undefined) return undefined;
  const flags = view.getUint32(8, true);
  const kind = attributes.nested(IFLA_LINKINFO)?.text(IFLA_INFO_KIND);
  const master = attributes.uint32(IFLA_MASTER);
  const gsoMaxSegments = attributes.uint32(IFLA_GSO_MAX_SEGS);
  const gsoMaxSize = attributes.uint32(IFLA_GSO_MAX_SIZE);
  return {
    index: view.getInt32(4, true),
    name,
    up: (flags & IFF_UP) !== 0,
    running: (flags & IFF_RUNNING) !== 0,
    loopback: (flags & IFF_LOOPBACK) !== 0,
    mtu: attributes.uint32(IFLA_MTU) ?? 0,
    transmitQueueLength: attributes.uint32(IFLA_TXQLEN) ?? 0,
    hardwareAddress: attributes.bytes(IFLA_ADDRESS) ?? new Uint8Array(0),
    ...(kind === undefined ? {} : { kind }),
    ...(master === undefined ? {} : { master }),
    ...(gsoMaxSegments === undefined ? {} : { gsoMaxSegments }),
    ...(gsoMaxSize === undefined ? {} : { gsoMaxSize }),
  };
}

/** `struct ifinfomsg`; `up` absent: no change of flags. */
function header(message: MessageBuilder, index: number, up?: boolean): void {
  message.uint8(0).uint8(0).uint16(0).uint32(index);
  message.uint32(up === true ? IFF_UP : 0).uint32(up === undefined ? 0 : IFF_UP);
}

function vethEnd(message: MessageBuilder, end: VethEnd): void {
  header(message, 0);
  message.attributeText(IFLA_IFNAME, end.name);
  if (end.namespace !== undefined) namespaceAttribute(message, end.namespace);
}

function namespaceAttribute(message: MessageBuilder, namespace: NamespaceReference): void {
  if ("pid" in namespace) message.attributeUint32(IFLA_NET_NS_PID, namespace.pid);
  else message.attributeUint32(IFLA_NET_NS_FD, namespace.fd);
}

/** `mtu 1280, up true`, for errors. */
function describe(changes: LinkChanges): string {
  return Object.entries(changes)
    .map(([key, value]) => `${key} ${typeof value === "object" ? JSON.stringify(value) : value}`)
    .join(", ");
}
