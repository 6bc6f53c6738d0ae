// A minimal ICMP echo request, for tests that need some packet a kernel answers.

import { IpAddress } from "../../src/base/address.js";

/** An IPv4 packet with an ICMP echo request of 8 bytes of data, checksums complete. */
export function echoRequest(source: string, destination: string): Uint8Array {
  const packet = new Uint8Array(36);
  const view = new DataView(packet.buffer);
  packet.set([0x45, 0, 0, 36, 0, 1, 0x40, 0, 64, 1]);
  for (const [offset, text] of [
    [12, source],
    [16, destination],
  ] as const) {
    const address = IpAddress.parse(text);
    if (address?.family !== 4) throw new Error(`${text} is no IPv4 address`);
    packet.set(address.bytes, offset);
  }
  packet.set([8, 0, 0, 0, 0x12, 0x34, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8], 20);
  view.setUint16(10, checksum(view, 0, 20));
  view.setUint16(22, checksum(view, 20, 36));
  return packet;
}

/** Internet checksum (RFC 1071) of the bytes from `start` to `end`, an even number of them. */
function checksum(view: DataView, start: number, end: number): number {
  let sum = 0;
  for (let at = start; at < end; at += 2) sum += view.getUint16(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}
