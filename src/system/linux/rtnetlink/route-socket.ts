// An rtnetlink socket: datagrams to and from the kernel's routing subsystem (netlink(7), rtnetlink(7)). Any privileged process may
// send to such a socket; only the kernel is listened to.
//
//   struct sockaddr_nl   family u16 | 0 u16 | port u32, 0: the kernel | groups u32       12 bytes

import type { Duration } from "../../../base/time.js";
import { Errno, SystemCallError } from "../errno.js";
import {
  AF_NETLINK,
  addressOf,
  allocate,
  bind,
  check,
  close,
  errno,
  MSG_TRUNC,
  type NativeBuffer,
  recvfrom,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_RAW,
  sendto,
  setsockopt,
  socket,
} from "../libc.js";
import { decodeMessages, type NetlinkMessage } from "./message.js";

/** What came next. */
export type Received =
  /** One datagram. Payloads are views into the socket's buffer: valid until the next call. */
  | { readonly type: "messages"; readonly messages: readonly NetlinkMessage[] }
  /** EAGAIN: nothing (in time). ENOBUFS: something was lost. EMSGSIZE, EBADMSG: something came that cannot be read. */
  | { readonly type: "failed"; readonly errno: number };

/** How to open a socket. */
export interface RouteSocketOptions {
  /** The longest datagram that can be read, in bytes. */
  readonly capacity: number;
  /** Longest wait of `receive` in milliseconds; 0: it does not wait. */
  readonly receiveTimeout: Duration;
  /** Notifications to receive, bits `RTMGRP_…`. */
  readonly groups: number;
}

/** "Bad message", errno(3). */
export const EBADMSG = 74;

const NETLINK_ROUTE = 0;
const SOCKADDR_NL_LENGTH = 12;
const PORT_OFFSET = 4;
const GROUPS_OFFSET = 8;
const SOL_SOCKET = 1;
const SO_RCVTIMEO = 20;
const SOL_NETLINK = 270;
const NETLINK_CAP_ACK = 10;
const NETLINK_EXT_ACK = 11;
const NETLINK_GET_STRICT_CHK = 12;

/** A socket, bound in the network namespace in which it was opened, wherever the thread moves later. */
export class RouteSocket {
  readonly fd: number;
  readonly #capacity: number;
  readonly #buffer: NativeBuffer;
  /** `struct sockaddr_nl` of the sender, then the word with its length. */
  readonly #sender = allocate(SOCKADDR_NL_LENGTH + 4);
  #open = true;

  private constructor(fd: number, capacity: number) {
    this.fd = fd;
    this.#capacity = capacity;
    this.#buffer = allocate(capacity);
  }

  /** Opens a socket in the calling thread's network namespace. */
  static open({ capacity, receiveTimeout, groups }: RouteSocketOptions): RouteSocket {
    const type = SOCK_RAW | SOCK_CLOEXEC | (receiveTimeout === 0 ? SOCK_NONBLOCK : 0);
    const fd = check(socket(AF_NETLINK, type, NETLINK_ROUTE), "opening a netlink socket");
    try {
      const address = allocate(SOCKADDR_NL_LENGTH);
      address.view.setUint16(0, AF_NETLINK, true);
      address.view.setUint32(GROUPS_OFFSET, groups, true);
      check(bind(fd, address.address, SOCKADDR_NL_LENGTH), "binding a netlink socket");
      setReceiveTimeout(fd, receiveTimeout);
      // Since Linux 4.3, 4.12 and 4.20. Without them errors are less wordy, and lists longer than asked for.
      enableOption(fd, NETLINK_CAP_ACK);
      enableOption(fd, NETLINK_EXT_ACK);
      enableOption(fd, NETLINK_GET_STRICT_CHK);
    } catch (error) {
      close(fd);
      throw error;
    }
    return new RouteSocket(fd, capacity);
  }

  /** Sends a datagram to the kernel. @returns 0, or an error number. */
  send(datagram: Uint8Array): number {
    return sendto(this.fd, addressOf(datagram), datagram.length, 0, 0, 0) === -1 ? errno() : 0;
  }

  /** The next datagram of the kernel. */
  receive(): Received {
    const { address } = this.#sender;
    for (;;) {
      this.#sender.view.setUint32(SOCKADDR_NL_LENGTH, SOCKADDR_NL_LENGTH, true);
      const lengthAddress = address + SOCKADDR_NL_LENGTH;
      const length = recvfrom(this.fd, this.#buffer.address, this.#capacity, MSG_TRUNC, address, lengthAddress);
      if (length === -1) {
        const failure = errno();
        if (failure === Errno.EINTR) continue;
        return { type: "failed", errno: failure };
      }
      if (this.#sender.view.getUint32(PORT_OFFSET, true) !== 0) continue;
      if (length > this.#capacity) return { type: "failed", errno: Errno.EMSGSIZE };
      const messages = decodeMessages(this.#buffer.bytes.subarray(0, length));
      return messages === undefined ? { type: "failed", errno: EBADMSG } : { type: "messages", messages };
    }
  }

  /** Closes the socket. Idempotent. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    close(this.fd);
  }
}

function setReceiveTimeout(fd: number, timeout: Duration): void {
  const time = allocate(16);
  time.view.setBigInt64(0, BigInt(Math.floor(timeout / 1000)), true);
  time.view.setBigInt64(8, BigInt(Math.floor(timeout % 1000) * 1000), true);
  check(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, time.address, 16), "setsockopt SO_RCVTIMEO");
}

/** Switches a netlink option on where the kernel knows it. */
function enableOption(fd: number, option: number): void {
  const one = allocate(4);
  one.view.setInt32(0, 1, true);
  if (setsockopt(fd, SOL_NETLINK, option, one.address, 4) === -1 && errno() !== Errno.ENOPROTOOPT)
    throw new SystemCallError(`setsockopt on a netlink socket, option ${option}`, errno());
}
