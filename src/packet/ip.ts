// A look at an IP packet for the control plane: addresses, protocol, ports. Offsets into the packet's bytes, nothing is copied
// but the addresses (spec 04, section 7.2). The datapath has its own (assembly/packet).

import { IpAddress } from "../base/address.js";
import { viewOf } from "../base/bytes.js";

/** IP protocol numbers (IANA). */
export const IpProtocol = { icmp: 1, tcp: 6, udp: 17, fragment: 44, icmpv6: 58 } as const;

/** An IP packet's headers. */
export interface IpPacket {
  readonly version: 4 | 6;
  /** Protocol of the payload. For IPv6 the first next header: extension headers are not skipped. */
  readonly protocol: number;
  readonly source: IpAddress;
  readonly destination: IpAddress;
  readonly isFragment: boolean;
  /** Where the payload starts in `bytes`. */
  readonly payloadOffset: number;
  /** The packet, cut to the length that its header gives. */
  readonly bytes: Uint8Array;
}

const IPV4_HEADER_LENGTH = 20;
const IPV6_HEADER_LENGTH = 40;

/** Parses the headers; `undefined` when the bytes are no IP packet, or are shorter than their header says. */
export function parseIpPacket(bytes: Uint8Array): IpPacket | undefined {
  switch ((bytes[0] ?? 0) >> 4) {
    case 4:
      return parseIpv4(bytes);
    case 6:
      return parseIpv6(bytes);
    default:
      return undefined;
  }
}

function parseIpv4(bytes: Uint8Array): IpPacket | undefined {
  if (bytes.length < IPV4_HEADER_LENGTH) return undefined;
  const view = viewOf(bytes);
  const payloadOffset = (view.getUint8(0) & 0x0f) * 4;
  const length = view.getUint16(2);
  if (payloadOffset < IPV4_HEADER_LENGTH || length < payloadOffset || length > bytes.length) return undefined;
  return {
    version: 4,
    protocol: view.getUint8(9),
    source: IpAddress.fromBytes(bytes.subarray(12, 16)),
    destination: IpAddress.fromBytes(bytes.subarray(16, 20)),
    // More fragments, or an offset.
    isFragment: (view.getUint16(6) & 0x3fff) !== 0,
    payloadOffset,
    bytes: bytes.subarray(0, length),
  };
}

function parseIpv6(bytes: Uint8Array): IpPacket | undefined {
  if (bytes.length < IPV6_HEADER_LENGTH) return undefined;
  const view = viewOf(bytes);
  const length = IPV6_HEADER_LENGTH + view.getUint16(4);
  if (length > bytes.length) return undefined;
  const protocol = view.getUint8(6);
  return {
    version: 6,
    protocol,
    source: IpAddress.fromBytes(bytes.subarray(8, 24)),
    destination: IpAddress.fromBytes(bytes.subarray(24, 40)),
    isFragment: protocol === IpProtocol.fragment,
    payloadOffset: IPV6_HEADER_LENGTH,
    bytes: bytes.subarray(0, length),
  };
}

const ICMP_ERRORS: ReadonlySet<number> = new Set([3, 4, 5, 11, 12]);
const ICMPV6_INFORMATIONAL = 128;

/** Whether the packet is an ICMP error (RFC 1122, section 3.2.2) or ICMPv6 error (RFC 4443, section 2.1): about another packet. */
export function isIcmpError({ version, protocol, payloadOffset, bytes }: IpPacket): boolean {
  const type = bytes[payloadOffset];
  if (type === undefined) return false;
  if (version === 4) return protocol === IpProtocol.icmp && ICMP_ERRORS.has(type);
  return protocol === IpProtocol.icmpv6 && type < ICMPV6_INFORMATIONAL;
}

/**
 * What identifies a TCP connection attempt: ports and sequence number of a SYN that is no SYN-ACK, and the addresses. Two SYNs
 * with the same value are the same attempt, sent again. `undefined` for any other packet.
 */
export function synIdentity(packet: IpPacket): string | undefined {
  const { protocol, payloadOffset, bytes, source, destination } = packet;
  if (protocol !== IpProtocol.tcp || bytes.length < payloadOffset + 20) return undefined;
  const view = viewOf(bytes);
  const SYN = 0x02;
  const ACK = 0x10;
  if ((view.getUint8(payloadOffset + 13) & (SYN | ACK)) !== SYN) return undefined;
  const ports = view.getUint32(payloadOffset);
  const sequence = view.getUint32(payloadOffset + 4);
  return `${source.key} ${destination.key} ${ports} ${sequence}`;
}
