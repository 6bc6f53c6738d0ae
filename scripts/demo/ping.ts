// One ICMP echo request and its reply (RFC 792, RFC 4443) over a raw socket: the demo may not rely on ping(8) being installed.

import type { IpAddress } from "../../src/base/address.js";
import { viewOf } from "../../src/base/bytes.js";
import type { Duration } from "../../src/base/time.js";
import { monotonicNow } from "../../src/system/clock.js";
import {
  AF_INET,
  AF_INET6,
  allocate,
  check,
  close,
  POLLIN,
  poll,
  recvfrom,
  SOCK_CLOEXEC,
  SOCK_RAW,
  sendto,
  socket,
} from "../../src/system/linux/libc.js";

/** IP protocol numbers. */
const IPPROTO_ICMP = 1;
const IPPROTO_ICMPV6 = 58;

/** Message types: [echo request, echo reply]. */
const ECHO = { 4: [8, 0], 6: [128, 129] } as const;

/** Length of header and payload of the echo request, bytes. */
const MESSAGE_LENGTH = 64;

/**
 * Sends one echo request and waits for its reply.
 *
 * @returns the round-trip time in milliseconds; `undefined` when no reply came within `timeout`.
 */
export function ping(address: IpAddress, timeout: Duration, sequence = 1): Duration | undefined {
  const [request, reply] = ECHO[address.family];
  const fd = check(
    address.family === 4
      ? socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP)
      : socket(AF_INET6, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMPV6),
    "socket",
  );
  try {
    const identifier = process.pid & 0xffff;
    const message = allocate(MESSAGE_LENGTH);
    message.view.setUint8(0, request);
    message.view.setUint16(4, identifier);
    message.view.setUint16(6, sequence);
    // The kernel fills in the checksum of ICMPv6 only: it needs addresses that a raw IPv6 socket does not know.
    if (address.family === 4) message.view.setUint16(2, checksum(message.bytes));

    const to = socketAddress(address);
    const start = monotonicNow();
    check(
      sendto(fd, message.address, MESSAGE_LENGTH, 0, to.address, to.bytes.length),
      `sending an echo request to ${address}`,
    );

    const answer = allocate(2048);
    const waiting = allocate(8);
    waiting.view.setInt32(0, fd, true);
    waiting.view.setInt16(4, POLLIN, true);
    for (;;) {
      const left = start + timeout - monotonicNow();
      if (left <= 0 || poll(waiting.address, 1, Math.ceil(left)) <= 0) return undefined;
      const length = recvfrom(fd, answer.address, answer.bytes.length, 0, 0, 0);
      const rtt = monotonicNow() - start;
      // A raw IPv4 socket delivers the IP header as well.
      const offset = address.family === 4 ? (answer.view.getUint8(0) & 0x0f) * 4 : 0;
      if (length < offset + 8) continue;
      const view = viewOf(answer.bytes.subarray(offset, length));
      if (view.getUint8(0) === reply && view.getUint16(4) === identifier && view.getUint16(6) === sequence) return rtt;
    }
  } finally {
    close(fd);
  }
}

function socketAddress(address: IpAddress) {
  const buffer = allocate(address.family === 4 ? 16 : 28);
  buffer.view.setUint16(0, address.family === 4 ? AF_INET : AF_INET6, true);
  buffer.bytes.set(address.bytes, address.family === 4 ? 4 : 8);
  return buffer;
}

/** The internet checksum (RFC 1071) of an even number of bytes. */
function checksum(bytes: Uint8Array): number {
  const view = viewOf(bytes);
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) sum += view.getUint16(i);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}
