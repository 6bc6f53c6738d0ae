// Which of its addresses a host sends from when nobody says which: what the kernel's routes and rules for addresses make of it (ip(7),
// RFC 6724). Asked by connecting a UDP socket, which sends nothing.

import { type AddressFamily, type IpAddress, SocketAddress } from "../../base/address.js";
import { allocate, check, close, connect, getsockname, SOCK_CLOEXEC, SOCK_DGRAM, setsockopt, socket } from "./libc.js";
import { addressFamilyNumber, readSocketAddress, SOCKADDR_IN6_SIZE, writeSocketAddress } from "./sockaddr.js";

/** `SOL_SOCKET` and `SO_MARK` (asm-generic/socket.h). */
const SOL_SOCKET = 1;
const SO_MARK = 36;

/** Addresses that are somewhere in the internet for the kernel, and nobody's: ranges for documentation (RFC 5737, RFC 3849); port "discard". */
const ELSEWHERE: Readonly<Record<AddressFamily, SocketAddress | undefined>> = {
  4: SocketAddress.parse("192.0.2.1:9"),
  6: SocketAddress.parse("[2001:db8::1]:9"),
};

/**
 * The address from which datagrams to the internet leave.
 *
 * @param mark of the socket that will send them: rules may ask for it. Setting one needs CAP_NET_ADMIN.
 * @returns `undefined` when no route leads there.
 */
export function internetSource(family: AddressFamily, mark?: number): IpAddress | undefined {
  const destination = ELSEWHERE[family];
  if (destination === undefined) return undefined;
  const fd = socket(addressFamilyNumber(family), SOCK_DGRAM | SOCK_CLOEXEC, 0);
  // A kernel without this family.
  if (fd < 0) return undefined;
  try {
    const room = allocate(SOCKADDR_IN6_SIZE + 4);
    if (mark !== undefined) {
      room.view.setUint32(0, mark, true);
      check(setsockopt(fd, SOL_SOCKET, SO_MARK, room.address, 4), "setsockopt SO_MARK", "needs CAP_NET_ADMIN");
    }
    const length = writeSocketAddress(room, 0, destination);
    if (connect(fd, room.address, length) !== 0) return undefined;
    room.view.setUint32(SOCKADDR_IN6_SIZE, SOCKADDR_IN6_SIZE, true);
    check(getsockname(fd, room.address, room.address + SOCKADDR_IN6_SIZE), "getsockname");
    return readSocketAddress(room, 0)?.ip;
  } finally {
    close(fd);
  }
}
