// Paths in the tables: addresses as the kernel wants them in a message header, so that sending copies and never converts.

import {
  PATH_CHANNEL,
  PATH_CONTROL,
  PATH_CONTROL_LENGTH,
  PATH_FAMILY,
  PATH_NAME_4,
  PATH_NAME_6,
  PATH_NAME_LENGTH,
  PATH_SERIAL,
} from "../../assembly/records.js";
import type { SocketAddress } from "../base/address.js";

/** Where a connection's messages go. */
export interface Path {
  /** Address to send from; `undefined`: the kernel chooses. Its port is that of the family's socket. */
  readonly local: SocketAddress | undefined;
  /** The peer's address, or the relay's. */
  readonly remote: SocketAddress;
  /** The TURN channel (0x4000 to 0x7fff) that leads to the peer, when `remote` is a relay. */
  readonly relayChannel?: number;
}

// Numbers of Linux: address families, and the control messages of ip(7) and ipv6(7).
const AF_INET = 2;
const AF_INET6 = 10;
const SOL_IP = 0;
const IP_PKTINFO = 8;
const SOL_IPV6 = 41;
const IPV6_PKTINFO = 50;

/** Bytes of struct cmsghdr before its data: length u64, level i32, type i32. */
const CMSG_HEADER_SIZE = 16;

/** Writes the record of a path into zeroed memory at `address`. */
export function writePath(view: DataView, bytes: Uint8Array, address: number, path: Path, serial: number): void {
  const { local, remote } = path;
  const isV4 = remote.family === 4;
  view.setUint32(address + PATH_SERIAL, serial, true);
  view.setUint32(address + PATH_FAMILY, remote.family, true);
  view.setUint32(address + PATH_CHANNEL, path.relayChannel ?? 0, true);

  const name = address + (isV4 ? PATH_NAME_4 : PATH_NAME_6);
  view.setUint16(address + PATH_NAME_LENGTH, isV4 ? 16 : 28, true);
  view.setUint16(name, isV4 ? AF_INET : AF_INET6, true);
  view.setUint16(name + 2, remote.port);
  bytes.set(remote.ip.bytes, name + (isV4 ? 4 : 8));

  if (local === undefined || local.family !== remote.family || local.ip.isUnspecified) return;
  const control = address + PATH_CONTROL;
  const data = control + CMSG_HEADER_SIZE;
  if (isV4) {
    // struct in_pktinfo: interface i32, source address, destination address (ignored on sending).
    writeControlHeader(view, control, 12, SOL_IP, IP_PKTINFO);
    bytes.set(local.ip.bytes, data + 4);
    view.setUint16(address + PATH_CONTROL_LENGTH, 32, true);
  } else {
    // struct in6_pktinfo: source address, interface i32.
    writeControlHeader(view, control, 20, SOL_IPV6, IPV6_PKTINFO);
    bytes.set(local.ip.bytes, data);
    view.setUint16(address + PATH_CONTROL_LENGTH, 40, true);
  }
}

function writeControlHeader(view: DataView, address: number, length: number, level: number, type: number): void {
  view.setBigUint64(address, BigInt(CMSG_HEADER_SIZE + length), true);
  view.setInt32(address + 8, level, true);
  view.setInt32(address + 12, type, true);
}
