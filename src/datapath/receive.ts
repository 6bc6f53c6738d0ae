// Receiving from a worker's sockets, and what of it may fail without ending the worker.

import type { AddressFamily } from "../base/address.js";
import { Errno, SystemCallError } from "../system/linux/errno.js";
import { Statistic } from "./control-block.js";
import type { DatapathIo } from "./io.js";

/**
 * Receives up to `room` messages at the headers at `address` and counts them. Returns how many came; -1: none, and there are none now.
 * Throws what ends a worker.
 */
export function receiveMessages(
  io: Pick<DatapathIo, "receive" | "errno">,
  statistics: Float64Array,
  fd: number,
  family: AddressFamily,
  address: number,
  room: number,
): number {
  const count = io.receive(fd, address, room);
  if (count === -1) {
    if (isTransientReceiveError(io.errno())) return -1;
    throw new SystemCallError(`recvmmsg IPv${family} UDP`, io.errno());
  }
  statistics[Statistic.ReceiveCalls] = (statistics[Statistic.ReceiveCalls] ?? 0) + 1;
  statistics[Statistic.ReceivedMessages] = (statistics[Statistic.ReceivedMessages] ?? 0) + count;
  return count;
}

/** Throws when `ready`, the result of the waiting call named, is a failure; an interrupted call is none. */
export function checkWait(ready: number, io: Pick<DatapathIo, "errno">, call: string): void {
  if (ready === -1 && io.errno() !== Errno.EINTR) throw new SystemCallError(call, io.errno());
}

/** Nothing there, an interrupted call, an ICMP error about an earlier datagram, or no memory for this one. */
function isTransientReceiveError(code: number): boolean {
  switch (code) {
    case Errno.EAGAIN:
    case Errno.EINTR:
    case Errno.ECONNREFUSED:
    case Errno.EHOSTUNREACH:
    case Errno.ENETUNREACH:
    case Errno.ENOMEM:
    case Errno.ENOBUFS:
      return true;
    default:
      return false;
  }
}
