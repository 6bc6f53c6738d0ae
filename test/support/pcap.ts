// Reads UDP datagrams out of a packet capture (libpcap's classic format, Ethernet): test data only.

import { readFileSync } from "node:fs";
import { IpAddress, SocketAddress } from "../../src/base/address.js";
import { viewOf } from "../../src/base/bytes.js";

/** A captured UDP datagram. */
export interface CapturedDatagram {
  /** Seconds since the Unix epoch. */
  readonly time: number;
  readonly source: SocketAddress;
  readonly destination: SocketAddress;
  readonly payload: Uint8Array;
}

const FILE_HEADER_LENGTH = 24;
const RECORD_HEADER_LENGTH = 16;
const ETHERNET_HEADER_LENGTH = 14;
const UDP_HEADER_LENGTH = 8;
const IPPROTO_UDP = 17;

/** Magic numbers → length of the unit of the record's sub-second field, in seconds. */
const TIME_UNITS = new Map([
  [0xa1b2c3d4, 1e-6],
  [0xa1b23c4d, 1e-9],
]);

/** All UDP datagrams of the capture file at `path`, in file order. */
export function readCapture(path: string): CapturedDatagram[] {
  const file = new Uint8Array(readFileSync(path));
  const view = viewOf(file);
  const timeUnit = TIME_UNITS.get(view.getUint32(0, true));
  if (timeUnit === undefined) throw new Error(`${path}: not a little-endian pcap file`);
  const datagrams: CapturedDatagram[] = [];
  for (let at = FILE_HEADER_LENGTH; at < file.length; ) {
    const time = view.getUint32(at, true) + view.getUint32(at + 4, true) * timeUnit;
    const length = view.getUint32(at + 8, true);
    const start = at + RECORD_HEADER_LENGTH;
    const datagram = readFrame(file.subarray(start, start + length));
    if (datagram !== undefined) datagrams.push({ time, ...datagram });
    at = start + length;
  }
  return datagrams;
}

function readFrame(frame: Uint8Array): Omit<CapturedDatagram, "time"> | undefined {
  const packet = frame.subarray(ETHERNET_HEADER_LENGTH);
  switch (viewOf(frame).getUint16(12)) {
    case 0x0800: {
      if (packet[9] !== IPPROTO_UDP) return undefined;
      const headerLength = ((packet[0] ?? 0) & 0x0f) * 4;
      return readUdp(packet.subarray(headerLength), packet.subarray(12, 16), packet.subarray(16, 20));
    }
    case 0x86dd:
      if (packet[6] !== IPPROTO_UDP) return undefined;
      return readUdp(packet.subarray(40), packet.subarray(8, 24), packet.subarray(24, 40));
    default:
      return undefined;
  }
}

function readUdp(segment: Uint8Array, source: Uint8Array, destination: Uint8Array): Omit<CapturedDatagram, "time"> {
  const view = viewOf(segment);
  return {
    source: new SocketAddress(IpAddress.fromBytes(source), view.getUint16(0)),
    destination: new SocketAddress(IpAddress.fromBytes(destination), view.getUint16(2)),
    payload: segment.subarray(UDP_HEADER_LENGTH, view.getUint16(4)),
  };
}
