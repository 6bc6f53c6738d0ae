// The system calls that the worker loop makes, as an object: the kernel in programs, a script in tests. All of them are
// non-blocking but `wait`, take addresses as numbers, and return what the system call returns: -1 means that `errno` tells why.

import { errno, MSG_DONTWAIT, MSG_NOSIGNAL, read, recvmmsg, sendmmsg, write } from "../system/linux/libc.js";
import type { PollSet } from "../system/linux/poll.js";

/** What the worker loop needs of the operating system. */
export interface DatapathIo {
  /** Reads one TUN frame to `address`; returns its length. */
  read(fd: number, address: number, length: number): number;
  /** Writes one TUN frame. */
  write(fd: number, address: number, length: number): number;
  /** Sends prepared messages; returns how many left. */
  send(fd: number, messages: number, count: number): number;
  /** Receives into prepared messages; returns how many came. */
  receive(fd: number, messages: number, count: number): number;
  /** Waits for an entry of `set`; see {@link PollSet.wait}. */
  wait(set: PollSet, timeout: number): number;
  /** The error number of the last call that returned -1. */
  errno(): number;
}

/** {@link DatapathIo} by the kernel. */
export const linuxIo: DatapathIo = {
  read,
  write,
  send: (fd, messages, count) => sendmmsg(fd, messages, count, MSG_DONTWAIT | MSG_NOSIGNAL),
  receive: (fd, messages, count) => recvmmsg(fd, messages, count, MSG_DONTWAIT, 0),
  wait: (set, timeout) => set.wait(timeout),
  errno,
};
