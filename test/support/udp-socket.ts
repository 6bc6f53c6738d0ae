// A plain view on UDP sockets for tests: receives one message with what the kernel reports about it, and sends one with
// UDP_SEGMENT. Slow and allocating; the datapath does this in batches.

import type { SocketAddress } from "../../src/base/address.js";
import { IpAddress } from "../../src/base/address.js";
import { Errno } from "../../src/system/linux/errno.js";
import { allocate, check, errno, POLLIN, recvmsg, sendmsg } from "../../src/system/linux/libc.js";
import { PollSet } from "../../src/system/linux/poll.js";
import { readSocketAddress, writeSocketAddress } from "../../src/system/linux/sockaddr.js";

/** A received message. */
export interface ReceivedMessage {
  readonly source: SocketAddress;
  /** Local address it was sent to. */
  readonly localIp: IpAddress | undefined;
  /** Length of the datagrams in it; `undefined`: it is one. */
  readonly segmentSize: number | undefined;
  readonly payload: Uint8Array;
}

const NAME = 56;
const IOV = 88;
const CONTROL = 104;
const CONTROL_SIZE = 128;
const PAYLOAD = CONTROL + CONTROL_SIZE;
const PAYLOAD_SIZE = 65536;

/** Receives one message, waiting at most `timeout` ms for it; `undefined` when none comes. */
export function receiveMessage(fd: number, timeout = 2000): ReceivedMessage | undefined {
  const set = new PollSet(1);
  set.set(0, fd, POLLIN);
  if (set.wait(timeout) !== 1) return undefined;
  const buffer = allocate(PAYLOAD + PAYLOAD_SIZE);
  const { view, bytes, address } = buffer;
  view.setBigUint64(0, BigInt(address + NAME), true);
  view.setUint32(8, 32, true);
  view.setBigUint64(16, BigInt(address + IOV), true);
  view.setBigUint64(24, 1n, true);
  view.setBigUint64(32, BigInt(address + CONTROL), true);
  view.setBigUint64(40, BigInt(CONTROL_SIZE), true);
  view.setBigUint64(IOV, BigInt(address + PAYLOAD), true);
  view.setBigUint64(IOV + 8, BigInt(PAYLOAD_SIZE), true);
  const length = recvmsg(fd, address, 0);
  if (length === -1 && errno() === Errno.EAGAIN) return undefined;
  check(length, "recvmsg");
  const source = readSocketAddress(buffer, NAME);
  if (source === undefined) throw new Error("no source address");

  let localIp: IpAddress | undefined;
  let segmentSize: number | undefined;
  const end = CONTROL + Number(view.getBigUint64(40, true));
  for (let at = CONTROL; at + 16 <= end; at += (Number(view.getBigUint64(at, true)) + 7) & ~7) {
    const kind = `${view.getInt32(at + 8, true)}/${view.getInt32(at + 12, true)}`;
    // in_pktinfo: interface, local address of the route, destination; in6_pktinfo: destination, interface.
    if (kind === "0/8") localIp = IpAddress.fromBytes(bytes.subarray(at + 24, at + 28));
    else if (kind === "41/50") localIp = IpAddress.fromBytes(bytes.subarray(at + 16, at + 32));
    else if (kind === "17/104") segmentSize = view.getInt32(at + 16, true);
  }
  return { source, localIp, segmentSize, payload: bytes.slice(PAYLOAD, PAYLOAD + length) };
}

/** Sends `payload` as datagrams of `segmentSize` bytes each by one call; returns what sendmsg returns. */
export function sendSegmented(fd: number, to: SocketAddress, payload: Uint8Array, segmentSize: number): number {
  const buffer = allocate(PAYLOAD + PAYLOAD_SIZE);
  const { view, bytes, address } = buffer;
  view.setBigUint64(0, BigInt(address + NAME), true);
  view.setUint32(8, writeSocketAddress(buffer, NAME, to), true);
  view.setBigUint64(16, BigInt(address + IOV), true);
  view.setBigUint64(24, 1n, true);
  view.setBigUint64(32, BigInt(address + CONTROL), true);
  view.setBigUint64(40, 24n, true);
  view.setBigUint64(IOV, BigInt(address + PAYLOAD), true);
  view.setBigUint64(IOV + 8, BigInt(payload.length), true);
  view.setBigUint64(CONTROL, 18n, true);
  view.setInt32(CONTROL + 8, 17, true);
  view.setInt32(CONTROL + 12, 103, true);
  view.setUint16(CONTROL + 16, segmentSize, true);
  bytes.set(payload, PAYLOAD);
  return sendmsg(fd, address, 0);
}
