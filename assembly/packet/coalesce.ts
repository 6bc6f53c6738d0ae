// Frames for the TUN device. Successive packets of a flow become one frame with a virtio_net_hdr, exactly where the kernel's own
// GRO (tcp_gro_receive, udp_gro_receive_segment) would merge them, so that nothing but their number changes.
//
// A run is a frame that may still grow. Its first packet stays where it was received until a second one fits; then both move
// to the MERGED area. A packet that does not fit its flow's run closes it, so packets of a flow never overtake each other.
//
//    MERGED   | vnet header (10) | IP | TCP | payload 1 | payload 2 | …            the next run begins behind the closed one

import { fold, sum, word } from "../checksum";
import {
  FRAME_COUNT,
  FRAMES,
  LAST_RUN,
  MAX_RUNS,
  MERGE_TCP,
  MERGE_UDP,
  MERGED,
  MERGED_FRAME_SIZE,
  MERGED_SIZE,
  MERGED_TAIL,
  RUN_COUNT,
  RUN_SIZE,
  RUNS,
  VNET_HEADER_SIZE,
} from "../regions";
import { copyAndSum } from "./copy";
import {
  DONT_FRAGMENT,
  ICMPV6,
  IPV4_HEADER_SIZE,
  IPV6_HEADER_SIZE,
  pseudoHeaderSum,
  TCP,
  TCP_HEADER_SIZE,
  UDP,
  UDP_HEADER_SIZE,
} from "./ip";
import {
  GSO_TCPV4,
  GSO_TCPV6,
  GSO_UDP_L4,
  TCP_CHECKSUM,
  UDP_CHECKSUM,
  VNET_CSUM_OFFSET,
  VNET_CSUM_START,
  VNET_FLAGS,
  VNET_GSO_SIZE,
  VNET_GSO_TYPE,
  VNET_HDR_LEN,
  VNET_NEEDS_CSUM,
} from "./segment";

// Fields of a run.
/** u32: number of its frame. */
const FRAME: u32 = 0;
/** u32: address of its IP header: of the first packet, from the second packet on in MERGED. */
const PACKET: u32 = 4;
/** u32: 4 or 6; TCP or UDP. */
const FAMILY: u32 = 8;
const PROTOCOL: u32 = 12;
/** u32: bytes of IP header; of IP and transport header. */
const TRANSPORT: u32 = 16;
const HEADER: u32 = 20;
/** u32: bytes of payload of the first packet: no other may have more. */
const SIZE: u32 = 24;
/** u32: bytes of the packet so far. */
const LENGTH: u32 = 28;
/** u32: packets so far. */
const COUNT: u32 = 32;
/** u32: TCP sequence number that must come next. */
const SEQUENCE: u32 = 36;
/** u32: IPv4 identification that must come next. */
const IDENTIFICATION: u32 = 40;
/** u32: end of its reservation in MERGED, an offset in the region; 0 without one. */
const RESERVED: u32 = 44;

/** IPv4 version and header length without options. */
const PLAIN_IPV4: u32 = 0x45;
/** Byte 13 of a TCP header. */
const ACK: u32 = 0x10;
const PSH: u32 = 0x08;
/** The PSH bit in the 32-bit word at offset 12 as it lies in memory. */
const PSH_IN_WORD: u32 = 0x0800;
/** Most datagrams in a UDP frame (UDP_GRO_CNT_MAX). */
const MAX_UDP_COUNT: u32 = 64;
/** Largest IP packet. */
const MAX_PACKET: u32 = 65535;

/** Whether the packet could be added, and to what end. */
const REFUSED: u32 = 0;
const ADDED: u32 = 1;
const ADDED_LAST: u32 = 2;

/** Makes a valid, complete, permitted packet a frame, or part of one. */
export function deliverPacket(region: u32, packet: u32, length: u32, family: u32, protocol: u32): void {
  const merge = protocol == TCP ? load<u32>(region, MERGE_TCP) : protocol == UDP ? load<u32>(region, MERGE_UDP) : 0;
  if (merge) {
    const transport = family == 4 ? IPV4_HEADER_SIZE : IPV6_HEADER_SIZE;
    const minimum = transport + (protocol == TCP ? TCP_HEADER_SIZE : UDP_HEADER_SIZE);
    if ((family == 4 && <u32>load<u8>(packet) != PLAIN_IPV4) || length < minimum) {
      // Whose flow this is would take more to find out than it is worth.
      closeRuns(region);
    } else {
      const run = findRun(region, packet, family, protocol, transport);
      if (run != 0) {
        const result = append(region, run, packet, length, family, protocol, transport);
        if (result != ADDED) closeRun(region, run);
        if (result != REFUSED) return;
      }
      const frame = addFrame(region, packet, length);
      startRun(region, frame, packet, length, family, protocol, transport);
      return;
    }
  } else if (family == 6 && protocol != TCP && protocol != UDP && protocol != ICMPV6) {
    // An extension header may hide TCP or UDP.
    closeRuns(region);
  }
  addFrame(region, packet, length);
}

/** Completes all runs. */
export function closeRuns(region: u32): void {
  for (let count = load<u32>(region, RUN_COUNT); count > 0; count--) closeRun(region, runAt(region, count - 1));
}

/** Adds a frame of a packet with room for a virtio_net_hdr in front; returns its number. */
function addFrame(region: u32, packet: u32, length: u32): u32 {
  const count = load<u32>(region, FRAME_COUNT);
  store<u64>(packet - VNET_HEADER_SIZE, 0);
  store<u16>(packet - VNET_HEADER_SIZE, 0, 8);
  setFrame(region, count, packet, length);
  store<u32>(region, count + 1, FRAME_COUNT);
  return count;
}

function setFrame(region: u32, frame: u32, packet: u32, length: u32): void {
  const entry = region + FRAMES + 8 * frame;
  store<u32>(entry, <u32>packet - VNET_HEADER_SIZE);
  store<u32>(entry, length + VNET_HEADER_SIZE, 4);
}

function runAt(region: u32, i: u32): u32 {
  return region + RUNS + i * RUN_SIZE;
}

/** The run of a packet's flow (addresses, protocol, ports), or 0. The run used last is tried first. */
function findRun(region: u32, packet: u32, family: u32, protocol: u32, transport: u32): u32 {
  const count = load<u32>(region, RUN_COUNT);
  const last = load<u32>(region, LAST_RUN);
  if (last < count && isFlowOf(runAt(region, last), packet, family, protocol, transport)) return runAt(region, last);
  for (let i: u32 = 0; i < count; i++) {
    if (i == last || !isFlowOf(runAt(region, i), packet, family, protocol, transport)) continue;
    store<u32>(region, i, LAST_RUN);
    return runAt(region, i);
  }
  return 0;
}

function isFlowOf(run: u32, packet: u32, family: u32, protocol: u32, transport: u32): bool {
  if (load<u32>(run, FAMILY) != family || load<u32>(run, PROTOCOL) != protocol) return false;
  const first = load<u32>(run, PACKET);
  if (load<u32>(first + transport) != load<u32>(packet + transport)) return false;
  if (family == 4) return load<u64>(first, 12) == load<u64>(packet, 12);
  const difference = v128.or(
    v128.xor(v128.load(first, 8), v128.load(packet, 8)),
    v128.xor(v128.load(first, 24), v128.load(packet, 24)),
  );
  return !v128.any_true(difference);
}

/** Lets a frame grow, if its packet may be the first of several. */
function startRun(region: u32, frame: u32, packet: u32, length: u32, family: u32, protocol: u32, transport: u32): void {
  const t = packet + transport;
  let header = transport + UDP_HEADER_SIZE;
  if (protocol == TCP) {
    header = transport + ((<u32>(load<u8>(t, 12) >> 4)) << 2);
    if (header < transport + TCP_HEADER_SIZE || header >= length || <u32>load<u8>(t, 13) != ACK) return;
  } else if (header >= length || !isMergeableUdp(t, length - transport)) {
    return;
  }
  let count = load<u32>(region, RUN_COUNT);
  if (count == MAX_RUNS) {
    closeRun(region, runAt(region, 0));
    count--;
  }
  const run = runAt(region, count);
  const payload = length - header;
  store<u32>(run, frame, FRAME);
  store<u32>(run, <u32>packet, PACKET);
  store<u32>(run, family, FAMILY);
  store<u32>(run, protocol, PROTOCOL);
  store<u32>(run, transport, TRANSPORT);
  store<u32>(run, header, HEADER);
  store<u32>(run, payload, SIZE);
  store<u32>(run, length, LENGTH);
  store<u32>(run, 1, COUNT);
  if (protocol == TCP) store<u32>(run, bswap<u32>(load<u32>(t, 4)) + payload, SEQUENCE);
  if (family == 4) store<u32>(run, nextIdentification(packet), IDENTIFICATION);
  store<u32>(run, 0, RESERVED);
  store<u32>(region, count + 1, RUN_COUNT);
  store<u32>(region, count, LAST_RUN);
}

/** A checksum that is there, and a length that is the packet's. */
function isMergeableUdp(udp: u32, length: u32): bool {
  return load<u16>(udp, UDP_CHECKSUM) != 0 && <u32>bswap<u16>(load<u16>(udp, 4)) == length;
}

function nextIdentification(packet: u32): u32 {
  return (<u32>bswap<u16>(load<u16>(packet, 4)) + 1) & 0xffff;
}

/** Adds a packet to the run of its flow, if all rules allow. */
function append(region: u32, run: u32, packet: u32, length: u32, family: u32, protocol: u32, transport: u32): u32 {
  const header = load<u32>(run, HEADER);
  const first = load<u32>(run, PACKET);
  if (length <= header) return REFUSED;
  const payload = length - header;
  const size = load<u32>(run, SIZE);
  if (payload > size || load<u32>(run, LENGTH) + payload > MAX_PACKET) return REFUSED;
  if (family == 4 ? !agreesV4(run, first, packet) : !agreesV6(first, packet)) return REFUSED;

  const t = packet + transport;
  let isLast = payload < size;
  if (protocol == TCP) {
    if (!agreesTcp(run, first + transport, t, header - transport)) return REFUSED;
    isLast = isLast || (<u32>load<u8>(t, 13) & PSH) != 0;
  } else {
    if (!isMergeableUdp(t, length - transport)) return REFUSED;
    isLast = isLast || load<u32>(run, COUNT) + 1 == MAX_UDP_COUNT;
  }

  if (load<u32>(run, COUNT) == 1 && !moveFirst(region, run)) return REFUSED;
  const merged = load<u32>(run, PACKET);
  const end = merged + load<u32>(run, LENGTH);
  if (!copyVerified(end, packet, header, payload, family, protocol, transport)) return REFUSED;
  store<u32>(run, load<u32>(run, LENGTH) + payload, LENGTH);
  store<u32>(run, load<u32>(run, COUNT) + 1, COUNT);
  if (family == 4) store<u32>(run, nextIdentification(packet), IDENTIFICATION);
  if (protocol == TCP) {
    store<u32>(run, load<u32>(run, SEQUENCE) + payload, SEQUENCE);
    const flags = merged + transport + 13;
    store<u8>(flags, load<u8>(flags) | (load<u8>(t, 13) & <u8>PSH));
  }
  return isLast ? ADDED_LAST : ADDED;
}

/** Version, header length, TOS, DF, TTL and protocol agree; the identification counts up, or does not matter (RFC 6864). */
function agreesV4(run: u32, first: u32, packet: u32): bool {
  const fragmentation = <u32>load<u16>(packet, 6);
  return (
    load<u16>(first) == load<u16>(packet) &&
    <u32>load<u16>(first, 6) == fragmentation &&
    load<u16>(first, 8) == load<u16>(packet, 8) &&
    ((fragmentation & DONT_FRAGMENT) != 0 || <u32>bswap<u16>(load<u16>(packet, 4)) == load<u32>(run, IDENTIFICATION))
  );
}

/** Version, traffic class, flow label, next header and hop limit agree. */
function agreesV6(first: u32, packet: u32): bool {
  return load<u32>(first) == load<u32>(packet) && load<u16>(first, 6) == load<u16>(packet, 6);
}

/**
 * The segment follows the run, with the same acknowledgement, window, header length, options, and flags: ACK, and perhaps PSH.
 * The run's own PSH is never set here, since it would have closed it.
 */
function agreesTcp(run: u32, first: u32, tcp: u32, headerSize: u32): bool {
  if (bswap<u32>(load<u32>(tcp, 4)) != load<u32>(run, SEQUENCE)) return false;
  if (load<u32>(first, 8) != load<u32>(tcp, 8)) return false;
  if (load<u32>(first, 12) != (load<u32>(tcp, 12) & ~PSH_IN_WORD)) return false;
  for (let i: u32 = TCP_HEADER_SIZE; i < headerSize; i += 4) {
    if (load<u32>(first + i) != load<u32>(tcp + i)) return false;
  }
  return true;
}

/** Moves a run's first packet to MERGED, if there is room and its checksums are right. */
function moveFirst(region: u32, run: u32): bool {
  const tail = load<u32>(region, MERGED_TAIL);
  if (tail + MERGED_FRAME_SIZE > <u32>(MERGED + MERGED_SIZE)) return false;
  const packet = load<u32>(run, PACKET);
  // The IP header begins at a multiple of 16.
  const merged = region + tail + 16;
  const header = load<u32>(run, HEADER);
  memory.copy(merged, packet, header);
  if (
    !copyVerified(
      merged + header,
      packet,
      header,
      load<u32>(run, SIZE),
      load<u32>(run, FAMILY),
      load<u32>(run, PROTOCOL),
      load<u32>(run, TRANSPORT),
    )
  ) {
    return false;
  }
  store<u32>(run, <u32>merged, PACKET);
  store<u32>(run, tail + MERGED_FRAME_SIZE, RESERVED);
  store<u32>(region, tail + MERGED_FRAME_SIZE, MERGED_TAIL);
  return true;
}

/** Copies a packet's payload to `target`; returns whether its checksums are right. Otherwise what was copied means nothing. */
function copyVerified(
  target: u32,
  packet: u32,
  header: u32,
  payload: u32,
  family: u32,
  protocol: u32,
  transport: u32,
): bool {
  if (family == 4 && fold(sum(packet, IPV4_HEADER_SIZE, 0)) != 0xffff) return false;
  const headers = sum(packet + transport, header - transport, pseudoHeaderSum(packet, family, protocol));
  const total = headers + word(header - transport + payload) + copyAndSum(target, packet + header, payload);
  return fold(total) == 0xffff;
}

/** Completes a run's frame and forgets the run. */
function closeRun(region: u32, run: u32): void {
  const reserved = load<u32>(run, RESERVED);
  if (load<u32>(run, COUNT) > 1) {
    completeFrame(region, run);
  }
  // What the run did not use of its reservation goes back, if nobody reserved behind it.
  if (reserved != 0 && reserved == load<u32>(region, MERGED_TAIL)) {
    const end = load<u32>(run, PACKET) + load<u32>(run, LENGTH) - <u32>region;
    store<u32>(region, (end + 63) & ~63, MERGED_TAIL);
  }
  const count = load<u32>(region, RUN_COUNT) - 1;
  const last = runAt(region, count);
  if (run != last) memory.copy(run, last, RUN_SIZE);
  store<u32>(region, count, RUN_COUNT);
}

/** Gives a merged packet its lengths and checksums, and its virtio_net_hdr. */
function completeFrame(region: u32, run: u32): void {
  const packet = load<u32>(run, PACKET);
  const length = load<u32>(run, LENGTH);
  const family = load<u32>(run, FAMILY);
  const protocol = load<u32>(run, PROTOCOL);
  const transport = load<u32>(run, TRANSPORT);
  if (family == 4) {
    store<u16>(packet, bswap<u16>(<u16>length), 2);
    store<u16>(packet, 0, 10);
    store<u16>(packet, bswap<u16>(~fold(sum(packet, IPV4_HEADER_SIZE, 0))), 10);
  } else {
    store<u16>(packet, bswap<u16>(<u16>(length - IPV6_HEADER_SIZE)), 4);
  }
  // With NEEDS_CSUM the field holds the sum of the pseudo-header, not inverted; the kernel or the device adds the rest.
  const pseudo = fold(pseudoHeaderSum(packet, family, protocol) + word(length - transport));
  const isTcp = protocol == TCP;
  const checksum = isTcp ? TCP_CHECKSUM : UDP_CHECKSUM;
  store<u16>(packet + transport + checksum, bswap<u16>(pseudo));
  if (!isTcp) store<u16>(packet + transport, bswap<u16>(<u16>(length - transport)), 4);

  const vnet = packet - VNET_HEADER_SIZE;
  store<u8>(vnet, <u8>VNET_NEEDS_CSUM, VNET_FLAGS);
  store<u8>(vnet, <u8>(isTcp ? (family == 4 ? GSO_TCPV4 : GSO_TCPV6) : GSO_UDP_L4), VNET_GSO_TYPE);
  store<u16>(vnet, <u16>load<u32>(run, HEADER), VNET_HDR_LEN);
  store<u16>(vnet, <u16>load<u32>(run, SIZE), VNET_GSO_SIZE);
  store<u16>(vnet, <u16>transport, VNET_CSUM_START);
  store<u16>(vnet, <u16>checksum, VNET_CSUM_OFFSET);
  setFrame(region, load<u32>(run, FRAME), packet, length);
}
