// Addresses of network interfaces by rtnetlink: rtnetlink(7) on RTM_NEWADDR, include/uapi/linux/if_addr.h.
//
//   struct ifaddrmsg   family u8 | prefix length u8 | flags u8 | scope u8 | link index u32       8 bytes

import { type AddressFamily, IpAddress } from "../../../base/address.js";
import { viewOf } from "../../../base/bytes.js";
import { AF_INET } from "../libc.js";
import { addressFamilyNumber } from "../sockaddr.js";
import { Attributes, MessageBuilder, MessageFlag, type NetlinkMessage } from "./message.js";
import { DUMP_FLAGS, type Netlink, requestFlags } from "./netlink.js";

/** An address with the length of its network's prefix, as in `192.0.2.1/24`. Unlike an IpPrefix it has host bits. */
export interface AddressWithPrefix {
  readonly address: IpAddress;
  /** 0 to 32 or 128. */
  readonly prefixLength: number;
}

/** An address of an interface. */
export interface InterfaceAddress extends AddressWithPrefix {
  /** Index of the link. */
  readonly link: number;
  /** Duplicate address detection is under way: not yet usable. */
  readonly tentative: boolean;
  /** Not to be used for new connections. */
  readonly deprecated: boolean;
  /** IPv6: made up for privacy, for a day or so (RFC 8981). */
  readonly temporary: boolean;
  /** Deliberately set, with unlimited lifetime. */
  readonly permanent: boolean;
}

/** How to add an address. */
export interface AddressOptions {
  /** IPv6: usable at once, without duplicate address detection. */
  readonly noDuplicateDetection?: boolean;
}

/** Notification and answer: an address exists. */
export const RTM_NEWADDR = 20;
/** Notification: an address is gone. */
export const RTM_DELADDR = 21;
const RTM_GETADDR = 22;

const IFADDRMSG_LENGTH = 8;
const IFA_ADDRESS = 1;
const IFA_LOCAL = 2;
const IFA_FLAGS = 8;
/** IPv4 has another meaning for it: not the first of its network. */
const IFA_F_TEMPORARY = 0x01;
const IFA_F_NODAD = 0x02;
const IFA_F_DEPRECATED = 0x20;
const IFA_F_TENTATIVE = 0x40;
const IFA_F_PERMANENT = 0x80;

/** Parses `192.0.2.1/24`; `undefined` for anything else. */
export function parseAddressWithPrefix(text: string): AddressWithPrefix | undefined {
  const [addressText = "", lengthText = "", ...rest] = text.split("/");
  const address = IpAddress.parse(addressText);
  const prefixLength = Number(lengthText);
  if (address === undefined || rest.length > 0 || !/^\d{1,3}$/.test(lengthText)) return undefined;
  return prefixLength <= address.bytes.length * 8 ? { address, prefixLength } : undefined;
}

/**
 * Adds an address to an interface.
 *
 * @throws SystemCallError EEXIST: it has this address already; EOPNOTSUPP: the kernel is without IPv6; EACCES: IPv6 is
 *   switched off on this interface.
 */
export function addAddress(
  netlink: Netlink,
  link: number,
  { address, prefixLength }: AddressWithPrefix,
  options: AddressOptions = {},
): void {
  const request = new MessageBuilder(RTM_NEWADDR, requestFlags(MessageFlag.CREATE | MessageFlag.EXCLUSIVE));
  header(request, link, address, prefixLength);
  if (address.family === 6 && options.noDuplicateDetection === true) request.attributeUint32(IFA_FLAGS, IFA_F_NODAD);
  netlink.request(request, `adding address ${address}/${prefixLength} to interface ${link}`);
}

/** Removes an address from an interface. @throws SystemCallError EADDRNOTAVAIL: it has no such address. */
export function deleteAddress(netlink: Netlink, link: number, { address, prefixLength }: AddressWithPrefix): void {
  const request = new MessageBuilder(RTM_DELADDR, requestFlags());
  header(request, link, address, prefixLength);
  netlink.request(request, `deleting address ${address}/${prefixLength} of interface ${link}`);
}

/** The addresses of one interface, or of all. */
export function listAddresses(
  netlink: Netlink,
  filter: { readonly link?: number; readonly family?: AddressFamily } = {},
): InterfaceAddress[] {
  const family = filter.family === undefined ? 0 : addressFamilyNumber(filter.family);
  const request = new MessageBuilder(RTM_GETADDR, DUMP_FLAGS);
  request
    .uint8(family)
    .uint8(0)
    .uint8(0)
    .uint8(0)
    .uint32(filter.link ?? 0);
  // Older kernels ignore what was asked for and list everything.
  return netlink
    .dump(request, "listing addresses")
    .map(decodeAddress)
    .filter((entry) => entry !== undefined)
    .filter((entry) => filter.link === undefined || entry.link === filter.link)
    .filter((entry) => filter.family === undefined || entry.address.family === filter.family);
}

/** The address that a RTM_NEWADDR or RTM_DELADDR message describes; `undefined` for anything else. */
export function decodeAddress(message: NetlinkMessage): InterfaceAddress | undefined {
  if (message.type !== RTM_NEWADDR && message.type !== RTM_DELADDR) return undefined;
  if (message.payload.length < IFADDRMSG_LENGTH) return undefined;
  const view = viewOf(message.payload);
  const attributes = Attributes.decode(message.payload, IFADDRMSG_LENGTH);
  // On point-to-point links IFA_ADDRESS is the other end.
  const bytes = attributes?.bytes(IFA_LOCAL) ?? attributes?.bytes(IFA_ADDRESS);
  if (attributes === undefined || bytes === undefined) return undefined;
  if (bytes.length !== (view.getUint8(0) === AF_INET ? 4 : 16)) return undefined;
  const flags = attributes.uint32(IFA_FLAGS) ?? view.getUint8(2);
  return {
    link: view.getUint32(4, true),
    address: IpAddress.fromBytes(bytes),
    prefixLength: view.getUint8(1),
    tentative: (flags & IFA_F_TENTATIVE) !== 0,
    deprecated: (flags & IFA_F_DEPRECATED) !== 0,
    temporary: bytes.length === 16 && (flags & IFA_F_TEMPORARY) !== 0,
    permanent: (flags & IFA_F_PERMANENT) !== 0,
  };
}

function header(message: MessageBuilder, link: number, address: IpAddress, prefixLength: number): void {
  message.uint8(addressFamilyNumber(address.family)).uint8(prefixLength).uint8(0).uint8(0).uint32(link);
  message.attribute(IFA_LOCAL, address.bytes);
  message.attribute(IFA_ADDRESS, address.bytes);
}
