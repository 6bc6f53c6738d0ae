// IP packets for engine tests, built plainly from their fields, and frames as a TUN device with offloads hands them over. Nothing
// here shares code with the engine: it is what the engine is compared with.

import { type AddressFamily, IpAddress } from "../../src/base/address.js";
import { concatBytes, viewOf } from "../../src/base/bytes.js";

/** TCP flags. */
export const TCP_FIN = 0x01;
export const TCP_SYN = 0x02;
export const TCP_RST = 0x04;
export const TCP_PSH = 0x08;
export const TCP_ACK = 0x10;
export const TCP_URG = 0x20;
export const TCP_ECE = 0x40;
export const TCP_CWR = 0x80;

/** What the IP header says besides what follows from the payload. */
export interface IpFields {
  readonly source: IpAddress;
  readonly destination: IpAddress;
  /** IPv4 identification; default 0. */
  readonly id?: number;
  /** TOS or traffic class; default 0. */
  readonly tos?: number;
  /** TTL or hop limit; default 64. */
  readonly ttl?: number;
  /** IPv4's flags and fragment offset; default 0x4000, "don't fragment". */
  readonly fragment?: number;
  /** IPv6 flow label; default 0. */
  readonly flowLabel?: number;
  /** IPv4 options, a multiple of 4 bytes. */
  readonly options?: Uint8Array;
}

/** A TCP segment. */
export interface TcpFields extends IpFields {
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly sequence: number;
  readonly acknowledgement?: number;
  /** Default ACK. */
  readonly flags?: number;
  readonly window?: number;
  /** A multiple of 4 bytes. */
  readonly tcpOptions?: Uint8Array;
  readonly payload: Uint8Array;
}

/** A UDP datagram. */
export interface UdpFields extends IpFields {
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly payload: Uint8Array;
}

/** The internet checksum of RFC 1071, one word at a time. */
export function internetChecksum(...parts: readonly Uint8Array[]): number {
  const bytes = concatBytes(...parts);
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) {
    sum += ((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0);
    sum = (sum & 0xffff) + (sum >>> 16);
  }
  return ~sum & 0xffff;
}

/** An IP packet of any protocol. */
export function ipPacket(fields: IpFields, protocol: number, payload: Uint8Array): Uint8Array {
  const family = fields.source.family;
  const options = fields.options ?? new Uint8Array(0);
  const header = new Uint8Array(family === 4 ? 20 + options.length : 40);
  const view = viewOf(header);
  if (family === 4) {
    header.set(options, 20);
    header[0] = 0x40 | (header.length / 4);
    header[1] = fields.tos ?? 0;
    view.setUint16(2, header.length + payload.length);
    view.setUint16(4, fields.id ?? 0);
    view.setUint16(6, fields.fragment ?? 0x4000);
    header[8] = fields.ttl ?? 64;
    header[9] = protocol;
    header.set(fields.source.bytes, 12);
    header.set(fields.destination.bytes, 16);
    view.setUint16(10, internetChecksum(header));
  } else {
    view.setUint32(0, (0x60000000 | ((fields.tos ?? 0) << 20) | (fields.flowLabel ?? 0)) >>> 0);
    view.setUint16(4, payload.length);
    header[6] = protocol;
    header[7] = fields.ttl ?? 64;
    header.set(fields.source.bytes, 8);
    header.set(fields.destination.bytes, 24);
  }
  return concatBytes(header, payload);
}

/** The pseudo-header of RFC 9293, section 3.1, and RFC 8200, section 8.1. */
export function pseudoHeader(fields: IpFields, protocol: number, length: number): Uint8Array {
  if (fields.source.family === 4)
    return concatBytes(
      fields.source.bytes,
      fields.destination.bytes,
      Uint8Array.of(0, protocol, length >> 8, length & 255),
    );
  return concatBytes(
    fields.source.bytes,
    fields.destination.bytes,
    Uint8Array.of(0, length >> 16, (length >> 8) & 255, length & 255, 0, 0, 0, protocol),
  );
}

function tcpHeader(fields: TcpFields): Uint8Array {
  const options = fields.tcpOptions ?? new Uint8Array(0);
  const header = new Uint8Array(20 + options.length);
  const view = viewOf(header);
  view.setUint16(0, fields.sourcePort);
  view.setUint16(2, fields.destinationPort);
  view.setUint32(4, fields.sequence >>> 0);
  view.setUint32(8, fields.acknowledgement ?? 0);
  header[12] = (header.length / 4) << 4;
  header[13] = fields.flags ?? TCP_ACK;
  view.setUint16(14, fields.window ?? 512);
  header.set(options, 20);
  return header;
}

/** A TCP packet with its checksum. */
export function tcpPacket(fields: TcpFields): Uint8Array {
  const segment = concatBytes(tcpHeader(fields), fields.payload);
  viewOf(segment).setUint16(16, internetChecksum(pseudoHeader(fields, 6, segment.length), segment));
  return ipPacket(fields, 6, segment);
}

/** A UDP packet with its checksum. */
export function udpPacket(fields: UdpFields): Uint8Array {
  const datagram = concatBytes(new Uint8Array(8), fields.payload);
  const view = viewOf(datagram);
  view.setUint16(0, fields.sourcePort);
  view.setUint16(2, fields.destinationPort);
  view.setUint16(4, datagram.length);
  const checksum = internetChecksum(pseudoHeader(fields, 17, datagram.length), datagram);
  view.setUint16(6, checksum === 0 ? 0xffff : checksum);
  return ipPacket(fields, 17, datagram);
}

/** An ICMP or ICMPv6 echo request. */
export function echoPacket(fields: IpFields & { readonly payload: Uint8Array }): Uint8Array {
  const isV4 = fields.source.family === 4;
  const message = concatBytes(Uint8Array.of(isV4 ? 8 : 128, 0, 0, 0, 0, 1, 0, 2), fields.payload);
  const pseudo = isV4 ? new Uint8Array(0) : pseudoHeader(fields, 58, message.length);
  viewOf(message).setUint16(2, internetChecksum(pseudo, message));
  return ipPacket(fields, isV4 ? 1 : 58, message);
}

// ---- Frames

/** virtio_net_hdr. */
export interface VnetHeader {
  readonly flags: number;
  readonly gsoType: number;
  readonly headerLength: number;
  readonly gsoSize: number;
  readonly checksumStart: number;
  readonly checksumOffset: number;
}

/** virtio_net_hdr of a packet that needs nothing. */
export const PLAIN: VnetHeader = {
  flags: 0,
  gsoType: 0,
  headerLength: 0,
  gsoSize: 0,
  checksumStart: 0,
  checksumOffset: 0,
};

/** A frame: virtio_net_hdr and packet. */
export function frameOf(packet: Uint8Array, vnet: VnetHeader = PLAIN): Uint8Array {
  const header = new Uint8Array(10);
  const view = viewOf(header);
  header[0] = vnet.flags;
  header[1] = vnet.gsoType;
  view.setUint16(2, vnet.headerLength, true);
  view.setUint16(4, vnet.gsoSize, true);
  view.setUint16(6, vnet.checksumStart, true);
  view.setUint16(8, vnet.checksumOffset, true);
  return concatBytes(header, packet);
}

/** The virtio_net_hdr of a frame. */
export function readVnet(frame: Uint8Array): VnetHeader {
  const view = viewOf(frame);
  return {
    flags: view.getUint8(0),
    gsoType: view.getUint8(1),
    headerLength: view.getUint16(2, true),
    gsoSize: view.getUint16(4, true),
    checksumStart: view.getUint16(6, true),
    checksumOffset: view.getUint16(8, true),
  };
}

/** Puts the folded, not inverted, sum of the pseudo-header where the checksum belongs, as the kernel does with NEEDS_CSUM. */
export function withPartialChecksum(packet: Uint8Array, fields: IpFields, protocol: 6 | 17): Uint8Array {
  const result = packet.slice();
  const start = ipHeaderLength(result);
  const sum = ~internetChecksum(pseudoHeader(fields, protocol, result.length - start)) & 0xffff;
  viewOf(result).setUint16(start + (protocol === 6 ? 16 : 6), sum);
  return result;
}

/** Bytes of the IP header. */
export function ipHeaderLength(packet: Uint8Array): number {
  const first = packet[0] ?? 0;
  return first >> 4 === 4 ? (first & 15) * 4 : 40;
}

/** The frame by which the kernel hands over a TCP packet of any size with these fields, to be cut into `gsoSize` pieces. */
export function tcpGsoFrame(fields: TcpFields, gsoSize: number): Uint8Array {
  const packet = withPartialChecksum(tcpPacket(fields), fields, 6);
  const checksumStart = ipHeaderLength(packet);
  const headerLength = packet.length - fields.payload.length;
  const ecn = ((fields.flags ?? 0) & TCP_CWR) !== 0 ? 0x80 : 0;
  const gsoType = (fields.source.family === 4 ? 1 : 4) | ecn;
  return frameOf(packet, { flags: 1, gsoType, headerLength, gsoSize, checksumStart, checksumOffset: 16 });
}

/** The same for UDP. */
export function udpGsoFrame(fields: UdpFields, gsoSize: number): Uint8Array {
  const packet = withPartialChecksum(udpPacket(fields), fields, 17);
  const checksumStart = ipHeaderLength(packet);
  const headerLength = checksumStart + 8;
  return frameOf(packet, { flags: 1, gsoType: 5, headerLength, gsoSize, checksumStart, checksumOffset: 6 });
}

/** The packets that a TCP packet of these fields is cut into. */
export function tcpSegments(fields: TcpFields, gsoSize: number): Uint8Array[] {
  const { payload, flags = TCP_ACK } = fields;
  const count = Math.max(1, Math.ceil(payload.length / gsoSize));
  return Array.from({ length: count }, (_, i) => {
    const isLast = i === count - 1;
    return tcpPacket({
      ...fields,
      id: ((fields.id ?? 0) + i) & 0xffff,
      sequence: fields.sequence + i * gsoSize,
      flags: flags & ~(isLast ? 0 : TCP_FIN | TCP_PSH) & ~(i === 0 ? 0 : TCP_CWR),
      payload: payload.subarray(i * gsoSize, (i + 1) * gsoSize),
    });
  });
}

/** The packets that a UDP packet of these fields is cut into. */
export function udpSegments(fields: UdpFields, gsoSize: number): Uint8Array[] {
  const count = Math.max(1, Math.ceil(fields.payload.length / gsoSize));
  return Array.from({ length: count }, (_, i) =>
    udpPacket({
      ...fields,
      id: ((fields.id ?? 0) + i) & 0xffff,
      payload: fields.payload.subarray(i * gsoSize, (i + 1) * gsoSize),
    }),
  );
}

/** The packets that a frame stands for, cut by the rules that the kernel follows on the other side of write(). */
export function packetsOfFrame(frame: Uint8Array): Uint8Array[] {
  const vnet = readVnet(frame);
  const packet = frame.slice(10);
  if (vnet.flags === 0 && vnet.gsoType === 0) return [packet];
  const fields = parseIp(packet);
  const view = viewOf(packet);
  const start = vnet.checksumStart;
  const payload = packet.subarray(vnet.headerLength);
  const ports = { sourcePort: view.getUint16(start), destinationPort: view.getUint16(start + 2) };
  if (vnet.gsoType === 5) return udpSegments({ ...fields, ...ports, payload }, vnet.gsoSize);
  return tcpSegments(
    {
      ...fields,
      ...ports,
      sequence: view.getUint32(start + 4),
      acknowledgement: view.getUint32(start + 8),
      flags: view.getUint8(start + 13),
      window: view.getUint16(start + 14),
      tcpOptions: packet.slice(start + 20, vnet.headerLength),
      payload,
    },
    vnet.gsoSize,
  );
}

/** The fields of a packet's IP header. */
function parseIp(packet: Uint8Array): IpFields {
  const view = viewOf(packet);
  const isV4 = (packet[0] ?? 0) >> 4 === 4;
  const address = (from: number, length: number) => IpAddress.fromBytes(packet.subarray(from, from + length));
  if (isV4)
    return {
      source: address(12, 4),
      destination: address(16, 4),
      id: view.getUint16(4),
      tos: view.getUint8(1),
      ttl: view.getUint8(8),
      fragment: view.getUint16(6),
    };
  return {
    source: address(8, 16),
    destination: address(24, 16),
    tos: (view.getUint16(0) >> 4) & 0xff,
    ttl: view.getUint8(7),
    flowLabel: view.getUint32(0) & 0xfffff,
  };
}

/** Family of a packet. */
export function familyOf(packet: Uint8Array): AddressFamily {
  return (packet[0] ?? 0) >> 4 === 4 ? 4 : 6;
}
