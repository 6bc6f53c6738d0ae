// ICMP echo requests and replies (RFC 792, RFC 4443) over a raw socket: the demo may not rely on ping(8) being installed.

import type { IpAddress } from "../../src/base/address.js";
import { viewOf } from "../../src/base/bytes.js";
import type { Duration } from "../../src/base/time.js";
import { monotonicNow } from "../../src/system/clock.js";
import { Errno } from "../../src/system/linux/errno.js";
import {
  AF_INET,
  AF_INET6,
  allocate,
  check,
  close,
  errno,
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

/** A socket for echo requests to one address. */
export class EchoSocket {
  readonly #address: IpAddress;
  readonly #fd: number;
  readonly #to: ReturnType<typeof socketAddress>;
  readonly #message = allocate(MESSAGE_LENGTH);
  readonly #answer = allocate(2048);
  readonly #waiting = allocate(8);
  readonly #identifier = process.pid & 0xffff;

  constructor(address: IpAddress) {
    this.#address = address;
    this.#to = socketAddress(address);
    this.#fd = check(
      address.family === 4
        ? socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP)
        : socket(AF_INET6, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMPV6),
      "socket",
    );
    this.#waiting.view.setInt32(0, this.#fd, true);
    this.#waiting.view.setInt16(4, POLLIN, true);
  }

  /** Sends an echo request. @throws SystemCallError when there is no route, for example. */
  send(sequence: number): void {
    const [request] = ECHO[this.#address.family];
    const { view, bytes, address } = this.#message;
    view.setUint8(0, request);
    view.setUint16(2, 0);
    view.setUint16(4, this.#identifier);
    view.setUint16(6, sequence);
    // The kernel fills in the checksum of ICMPv6 only: it needs addresses that a raw IPv6 socket does not know.
    if (this.#address.family === 4) view.setUint16(2, checksum(bytes));
    check(
      sendto(this.#fd, address, MESSAGE_LENGTH, 0, this.#to.address, this.#to.bytes.length),
      `sending an echo request to ${this.#address}`,
    );
  }

  /** Waits for a reply, at most `timeout` milliseconds. @returns its sequence number. */
  receive(timeout: Duration): number | undefined {
    const { family } = this.#address;
    const [, reply] = ECHO[family];
    const end = monotonicNow() + timeout;
    for (;;) {
      const left = Math.max(0, end - monotonicNow());
      const ready = poll(this.#waiting.address, 1, Math.ceil(left));
      // A signal, as that of a child's end, is no reason to wait no longer.
      if (ready < 0 && errno() === Errno.EINTR) continue;
      if (ready <= 0) return undefined;
      const length = recvfrom(this.#fd, this.#answer.address, this.#answer.bytes.length, 0, 0, 0);
      // A raw IPv4 socket delivers the IP header as well.
      const offset = family === 4 ? (this.#answer.view.getUint8(0) & 0x0f) * 4 : 0;
      if (length < offset + 8) continue;
      const view = viewOf(this.#answer.bytes.subarray(offset, length));
      if (view.getUint8(0) === reply && view.getUint16(4) === this.#identifier) return view.getUint16(6);
    }
  }

  close(): void {
    close(this.#fd);
  }
}

/**
 * Sends one echo request and waits for its reply.
 *
 * @returns the round-trip time in milliseconds; `undefined` when no reply came within `timeout`.
 */
export function ping(address: IpAddress, timeout: Duration, sequence = 1): Duration | undefined {
  const echo = new EchoSocket(address);
  try {
    const start = monotonicNow();
    echo.send(sequence);
    for (;;) {
      const left = start + timeout - monotonicNow();
      const answered = left <= 0 ? undefined : echo.receive(left);
      if (answered === undefined) return undefined;
      if (answered === sequence) return monotonicNow() - start;
    }
  } finally {
    echo.close();
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
