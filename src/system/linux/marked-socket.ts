// TCP connections that carry the socket mark, so that the program's own traffic stays outside its tunnel (spec 05, section 3.4).
// Node cannot set a mark: the socket is made here and handed to it before it is connected.

import { connect, type Socket, type SocketConstructorOpts, Socket as TcpSocket } from "node:net";
import type { IpAddress } from "../../base/address.js";
import {
  AF_INET,
  AF_INET6,
  allocate,
  check,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_STREAM,
  setsockopt,
  socket,
} from "./libc.js";

/** `SOL_SOCKET` and `SO_MARK` (asm-generic/socket.h). */
const SOL_SOCKET = 1;
const SO_MARK = 36;

/**
 * Starts a TCP connection from a marked socket, without Nagle's delay.
 *
 * @param mark absent: an ordinary connection.
 * @throws SystemCallError EPERM without CAP_NET_ADMIN.
 */
export function connectMarked(address: IpAddress, port: number, mark: number | undefined): Socket {
  const options = { host: address.toString(), port, noDelay: true };
  if (mark === undefined) return connect(options);
  const family = address.family === 4 ? AF_INET : AF_INET6;
  const fd = check(socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), "socket");
  // `manualStart` keeps Node from reading before there is a connection.
  const result = new TcpSocket({ fd, manualStart: true } as SocketConstructorOpts);
  const value = allocate(4);
  value.view.setUint32(0, mark, true);
  try {
    check(setsockopt(fd, SOL_SOCKET, SO_MARK, value.address, 4), "setsockopt SO_MARK", "needs CAP_NET_ADMIN");
  } catch (error) {
    result.destroy();
    throw error;
  }
  return result.connect(options);
}
