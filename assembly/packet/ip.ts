// Views of IP packets (RFC 791, RFC 8200; rules: spec 04, section 7.2). All addresses are those of the version nibble.

import { sum, word } from "../checksum";

/** Protocol numbers. */
export const ICMP: u32 = 1;
export const TCP: u32 = 6;
export const UDP: u32 = 17;
export const ICMPV6: u32 = 58;
const IPV6_FRAGMENT: u32 = 44;

/** Bytes of headers. */
export const IPV4_HEADER_SIZE: u32 = 20;
export const IPV6_HEADER_SIZE: u32 = 40;
export const TCP_HEADER_SIZE: u32 = 20;
export const UDP_HEADER_SIZE: u32 = 8;

/** IPv4's "don't fragment" bit in the 16-bit word at offset 6, as it lies in memory. */
export const DONT_FRAGMENT: u32 = 0x0040;

/** 4 or 6, or another version nibble. */
export function version(packet: u32): u32 {
  return <u32>load<u8>(packet) >> 4;
}

/** Length of the packet as its header states it, or 0 when it is no valid packet or longer than `available`. */
export function packetLength(packet: u32, available: u32): u32 {
  if (available < IPV4_HEADER_SIZE) return 0;
  const first = <u32>load<u8>(packet);
  if (first >> 4 == 4) {
    const header = (first & 15) << 2;
    const length = <u32>bswap<u16>(load<u16>(packet, 2));
    return header >= IPV4_HEADER_SIZE && header <= length && length <= available ? length : 0;
  }
  if (first >> 4 == 6 && available >= IPV6_HEADER_SIZE) {
    const length = IPV6_HEADER_SIZE + <u32>bswap<u16>(load<u16>(packet, 4));
    return length <= available ? length : 0;
  }
  return 0;
}

/** Whether a valid packet is a fragment: IPv4 with "more fragments" or an offset, IPv6 with a fragment header in front. */
export function isFragment(packet: u32, family: u32): bool {
  return family == 4 ? (load<u16>(packet, 6) & 0xff3f) != 0 : <u32>load<u8>(packet, 6) == IPV6_FRAGMENT;
}

/** Bytes of the IP header; IPv6 extension headers do not count. */
export function headerLength(packet: u32, family: u32): u32 {
  return family == 4 ? (<u32>load<u8>(packet) & 15) << 2 : IPV6_HEADER_SIZE;
}

/** Protocol, or IPv6's first next header. */
export function protocolOf(packet: u32, family: u32): u32 {
  return <u32>(family == 4 ? load<u8>(packet, 9) : load<u8>(packet, 6));
}

/** Address of the source address. */
export function source(packet: u32, family: u32): u32 {
  return packet + (family == 4 ? 12 : 8);
}

/** Address of the destination address. */
export function destination(packet: u32, family: u32): u32 {
  return packet + (family == 4 ? 16 : 24);
}

/** Partial checksum of the pseudo-header without its length (RFC 9293, section 3.1; RFC 8200, section 8.1). */
export function pseudoHeaderSum(packet: u32, family: u32, protocol: u32): u64 {
  return family == 4 ? sum(packet + 12, 8, word(protocol)) : sum(packet + 8, 32, word(protocol));
}
