// From one frame of the TUN device to the packets it stands for. The kernel hands over up to 64 KiB of TCP or UDP payload under
// one header (virtio_net_hdr with a GSO type), and leaves checksums to the device (NEEDS_CSUM). A plan says how such a frame
// falls into packets; each packet is then written, complete, straight into its final place.
//
//    virtio_net_hdr   | flags u8 | gso_type u8 | hdr_len u16 | gso_size u16 | csum_start u16 | csum_offset u16 |   host order
//
//    frame     | IP | TCP seq s | payload ........................................... |
//    packets   | IP id   | TCP s          | gso_size |
//              | IP id+1 | TCP s+gso_size | gso_size |          FIN, PSH only on the last; CWR only on the first
//              | IP id+2 | …              | rest  |

import { Drop } from "../abi";
import { fold, sum, word } from "../checksum";
import { PLAN, VNET_HEADER_SIZE } from "../regions";
import { copyAndSum, copyHeaders } from "./copy";
import {
  headerLength,
  isFragment,
  packetLength,
  protocolOf,
  pseudoHeaderSum,
  TCP,
  TCP_HEADER_SIZE,
  UDP,
  UDP_HEADER_SIZE,
  version,
} from "./ip";

// virtio_net_hdr (linux/virtio_net.h).
export const VNET_FLAGS: u32 = 0;
export const VNET_GSO_TYPE: u32 = 1;
export const VNET_HDR_LEN: u32 = 2;
export const VNET_GSO_SIZE: u32 = 4;
export const VNET_CSUM_START: u32 = 6;
export const VNET_CSUM_OFFSET: u32 = 8;
export const VNET_NEEDS_CSUM: u32 = 1;
const GSO_NONE: u32 = 0;
export const GSO_TCPV4: u32 = 1;
export const GSO_TCPV6: u32 = 4;
export const GSO_UDP_L4: u32 = 5;
/** Bit of a GSO type: CWR is set in the TCP header. */
const GSO_ECN: u32 = 0x80;

/** Offsets of the checksum in TCP and UDP headers. */
export const TCP_CHECKSUM: u32 = 16;
export const UDP_CHECKSUM: u32 = 6;

// TCP flags in the 16-bit word at offset 12.
const FIN: u32 = 0x001;
const PSH: u32 = 0x008;
const CWR: u32 = 0x080;

// The plan, in the region.
/** u32: address of the packet (IP header). */
const SOURCE = PLAN;
/** u32: `WHOLE` … */
const KIND = PLAN + 4;
/** u32: 4 or 6. */
export const PLAN_FAMILY = PLAN + 8;
/** u32: bytes of IP and transport header. */
const HEADER = PLAN + 12;
/** u32: offset of the transport header, or where the checksum starts. */
const TRANSPORT = PLAN + 16;
/** u32: offset of the checksum in the packet. */
const CHECKSUM = PLAN + 20;
/** u32: bytes of payload. */
const PAYLOAD = PLAN + 24;
/** u32: bytes of payload of every packet but the last. */
const SIZE = PLAN + 28;
/** u32: number of packets. */
export const PLAN_SEGMENTS = PLAN + 32;
/** u32: bytes of every packet but the last. */
export const PLAN_STRIDE = PLAN + 36;
/** u32: bytes of the last packet. */
export const PLAN_LAST = PLAN + 40;
/** u32: TCP sequence number; its data offset and flags. */
const SEQUENCE = PLAN + 44;
const FLAGS = PLAN + 48;
/** u32: IPv4 identification. */
const IDENTIFICATION = PLAN + 52;
/** u64: partial checksums of what is the same in all packets: IPv4 header; pseudo-header and transport header. */
const IP_SUM = PLAN + 56;
const TRANSPORT_SUM = PLAN + 64;

/** A packet as it is; one whose checksum must be completed; one of several TCP or UDP packets. */
const WHOLE: u32 = 0;
const WHOLE_WITH_CHECKSUM: u32 = 1;
const TCP_SEGMENTS: u32 = 2;
const UDP_SEGMENTS: u32 = 3;

/** What `planFrame` returns for a good frame. */
export const PLANNED: i32 = -1;

/** Whether a frame is to be cut into several packets, as its virtio header says. */
export function isSegmented(frame: u32): bool {
  return load<u8>(frame, VNET_GSO_TYPE) != GSO_NONE;
}

/** Plans the frame of `frameLength` bytes at `frame`. Returns `PLANNED`, or the reason to drop it. */
export function planFrame(region: u32, frame: u32, frameLength: u32): i32 {
  if (frameLength < <u32>VNET_HEADER_SIZE) return Drop.MalformedPacket;
  const packet = frame + VNET_HEADER_SIZE;
  const length = packetLength(packet, frameLength - VNET_HEADER_SIZE);
  if (length == 0) return Drop.MalformedPacket;
  const family = version(packet);
  if (isFragment(packet, family)) return Drop.Fragment;

  store<u32>(region, <u32>packet, SOURCE);
  store<u32>(region, family, PLAN_FAMILY);
  store<u32>(region, length, PLAN_STRIDE);
  store<u32>(region, length, PLAN_LAST);
  store<u32>(region, 1, PLAN_SEGMENTS);

  const needsChecksum = (<u32>load<u8>(frame, VNET_FLAGS) & VNET_NEEDS_CSUM) != 0;
  const gsoType = <u32>load<u8>(frame, VNET_GSO_TYPE) & ~GSO_ECN;
  if (gsoType == GSO_NONE && !needsChecksum) {
    store<u32>(region, WHOLE, KIND);
    return PLANNED;
  }

  const transport = <u32>load<u16>(frame, VNET_CSUM_START);
  const checksum = transport + <u32>load<u16>(frame, VNET_CSUM_OFFSET);
  if (!needsChecksum || transport < headerLength(packet, family) || checksum + 2 > length) return Drop.MalformedPacket;
  store<u32>(region, transport, TRANSPORT);
  store<u32>(region, checksum, CHECKSUM);
  if (gsoType == GSO_NONE) {
    store<u32>(region, WHOLE_WITH_CHECKSUM, KIND);
    return PLANNED;
  }
  return planSegments(region, packet, length, family, transport, gsoType, <u32>load<u16>(frame, VNET_GSO_SIZE));
}

function planSegments(
  region: u32,
  packet: u32,
  length: u32,
  family: u32,
  transport: u32,
  gsoType: u32,
  size: u32,
): i32 {
  const isUdp = gsoType == GSO_UDP_L4;
  if (!isUdp && gsoType != (family == 4 ? GSO_TCPV4 : GSO_TCPV6)) return Drop.MalformedPacket;
  const protocol = isUdp ? UDP : TCP;
  const direct = transport == headerLength(packet, family);
  // Behind IPv6 extension headers the GSO type is all there is to go by.
  if (direct ? protocolOf(packet, family) != protocol : family == 4) return Drop.MalformedPacket;
  if (load<u32>(region, CHECKSUM) - transport != (isUdp ? UDP_CHECKSUM : TCP_CHECKSUM)) return Drop.MalformedPacket;

  let header = transport + UDP_HEADER_SIZE;
  if (!isUdp) {
    if (transport + TCP_HEADER_SIZE > length) return Drop.MalformedPacket;
    const transportHeader = (<u32>load<u8>(packet + transport, 12) >> 4) << 2;
    if (transportHeader < TCP_HEADER_SIZE) return Drop.MalformedPacket;
    header = transport + transportHeader;
  }
  if (header > length || size == 0) return Drop.MalformedPacket;

  const payload = length - header;
  const segments = payload <= size ? 1 : (payload + size - 1) / size;
  store<u32>(region, isUdp ? UDP_SEGMENTS : TCP_SEGMENTS, KIND);
  store<u32>(region, header, HEADER);
  store<u32>(region, payload, PAYLOAD);
  store<u32>(region, size, SIZE);
  store<u32>(region, segments, PLAN_SEGMENTS);
  store<u32>(region, segments == 1 ? length : header + size, PLAN_STRIDE);
  store<u32>(region, header + payload - (segments - 1) * size, PLAN_LAST);

  if (family == 4) {
    store<u32>(region, <u32>bswap<u16>(load<u16>(packet, 4)), IDENTIFICATION);
    // All but total length, identification and checksum.
    const ipSum = sum(packet + 6, 4, <u64>load<u16>(packet)) + sum(packet + 12, transport - 12, 0);
    store<u64>(region, ipSum, IP_SUM);
  }
  const pseudo = pseudoHeaderSum(packet, family, protocol);
  const t = packet + transport;
  if (isUdp) {
    store<u64>(region, pseudo + <u64>load<u32>(t), TRANSPORT_SUM);
  } else {
    store<u32>(region, bswap<u32>(load<u32>(t, 4)), SEQUENCE);
    store<u32>(region, <u32>bswap<u16>(load<u16>(t, 12)), FLAGS);
    // All but sequence number, flags and checksum.
    const fixed = <u64>load<u32>(t) + <u64>load<u32>(t, 8) + <u64>load<u16>(t, 14);
    store<u64>(region, pseudo + fixed + sum(t + 18, header - transport - 18, 0), TRANSPORT_SUM);
  }
  return PLANNED;
}

/** Length of the planned packet with this number. */
export function segmentLength(region: u32, index: u32): u32 {
  return index + 1 == load<u32>(region, PLAN_SEGMENTS) ? load<u32>(region, PLAN_LAST) : load<u32>(region, PLAN_STRIDE);
}

/**
 * Writes the planned packet with this number to `target`, complete with checksums. May write up to 15 bytes past its end.
 */
export function writeSegment(region: u32, index: u32, target: u32): void {
  const packet = load<u32>(region, SOURCE);
  const kind = load<u32>(region, KIND);
  if (kind == WHOLE) {
    memory.copy(target, packet, load<u32>(region, PLAN_LAST));
  } else if (kind == WHOLE_WITH_CHECKSUM) {
    writeCompleted(region, packet, target);
  } else {
    writePart(region, kind, index, packet, target);
  }
}

/** The checksum field holds the sum of the pseudo-header: with the rest of the packet added it becomes the checksum. */
function writeCompleted(region: u32, packet: u32, target: u32): void {
  const start = load<u32>(region, TRANSPORT);
  const field = load<u32>(region, CHECKSUM);
  memory.copy(target, packet, start);
  const total = copyAndSum(target + start, packet + start, load<u32>(region, PLAN_LAST) - start);
  storeChecksum(target + field, total, field - start == UDP_CHECKSUM);
}

function writePart(region: u32, kind: u32, index: u32, packet: u32, target: u32): void {
  const size = load<u32>(region, SIZE);
  const header = load<u32>(region, HEADER);
  const transport = load<u32>(region, TRANSPORT);
  const offset = index * size;
  const isLast = index + 1 == load<u32>(region, PLAN_SEGMENTS);
  const length = isLast ? load<u32>(region, PAYLOAD) - offset : size;
  copyHeaders(target, packet, header);
  const payloadSum = copyAndSum(target + header, packet + header + offset, length);

  const t = target + transport;
  const transportLength = header - transport + length;
  let total = load<u64>(region, TRANSPORT_SUM) + payloadSum + word(transportLength);
  if (kind == TCP_SEGMENTS) {
    const sequence = bswap<u32>(load<u32>(region, SEQUENCE) + offset);
    let flags = load<u32>(region, FLAGS);
    if (!isLast) flags &= ~(FIN | PSH);
    if (index > 0) flags &= ~CWR;
    store<u32>(t, sequence, 4);
    store<u16>(t, bswap<u16>(<u16>flags), 12);
    total += <u64>sequence + word(flags);
    storeChecksum(t + TCP_CHECKSUM, total, false);
  } else {
    store<u16>(t, bswap<u16>(<u16>transportLength), 4);
    total += word(transportLength);
    storeChecksum(t + UDP_CHECKSUM, total, true);
  }

  if (load<u32>(region, PLAN_FAMILY) == 4) {
    const identification = (load<u32>(region, IDENTIFICATION) + index) & 0xffff;
    store<u16>(target, bswap<u16>(<u16>(header + length)), 2);
    store<u16>(target, bswap<u16>(<u16>identification), 4);
    const ipSum = load<u64>(region, IP_SUM) + word(header + length) + word(identification);
    store<u16>(target, bswap<u16>(~fold(ipSum)), 10);
  } else {
    store<u16>(target, bswap<u16>(<u16>(header - 40 + length)), 4);
  }
}

/** Stores the checksum of a partial sum. UDP sends 0xffff for 0, which would mean "none" (RFC 768). */
function storeChecksum(field: u32, total: u64, isUdp: bool): void {
  const value = ~fold(total);
  store<u16>(field, isUdp && value == 0 ? 0xffff : bswap<u16>(value));
}
