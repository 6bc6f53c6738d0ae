// Socket addresses as the kernel lays them out (ip(7), ipv6(7)):
//
//   struct sockaddr_in   family u16 | port u16 be | address 4              | 8 zero bytes       16 bytes
//   struct sockaddr_in6  family u16 | port u16 be | flow 4 | address 16     | scope id u32       28 bytes

import { type AddressFamily, IpAddress, SocketAddress } from "../../base/address.js";
import { AF_INET, AF_INET6, type NativeBuffer } from "./libc.js";

/** Size of `struct sockaddr_in` in bytes. */
export const SOCKADDR_IN_SIZE = 16;
/** Size of `struct sockaddr_in6` in bytes: room for either. */
export const SOCKADDR_IN6_SIZE = 28;

/** The kernel's number of an address family. */
export function addressFamilyNumber(family: AddressFamily): number {
  return family === 4 ? AF_INET : AF_INET6;
}

/** Writes `address` at `offset`; returns the structure's size. The scope id is 0: no zones. */
export function writeSocketAddress(target: NativeBuffer, offset: number, address: SocketAddress): number {
  const size = address.family === 4 ? SOCKADDR_IN_SIZE : SOCKADDR_IN6_SIZE;
  target.bytes.fill(0, offset, offset + size);
  target.view.setUint16(offset, addressFamilyNumber(address.family), true);
  target.view.setUint16(offset + 2, address.port);
  target.bytes.set(address.ip.bytes, offset + (address.family === 4 ? 4 : 8));
  return size;
}

/** The address at `offset`; `undefined` when it is neither IPv4 nor IPv6. */
export function readSocketAddress(source: NativeBuffer, offset: number): SocketAddress | undefined {
  const family = source.view.getUint16(offset, true);
  const port = source.view.getUint16(offset + 2);
  if (family === AF_INET)
    return new SocketAddress(IpAddress.fromBytes(source.bytes.subarray(offset + 4, offset + 8)), port);
  if (family === AF_INET6)
    return new SocketAddress(IpAddress.fromBytes(source.bytes.subarray(offset + 8, offset + 24)), port);
  return undefined;
}
