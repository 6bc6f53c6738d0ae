// A socket that receives and sends whole Ethernet frames on one interface (packet(7)), for the link emulator.
//
// Frames between interfaces of one machine carry no checksums: the kernel trusts itself. PACKET_VNET_HDR puts a virtio_net_hdr in
// front of each frame that says so, and the frame goes out again with the same header: read here, written there, unchanged.

import { Errno } from "../../src/system/linux/errno.js";
import {
  allocate,
  bind,
  check,
  errno,
  read,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_RAW,
  setsockopt,
  socket,
  write,
} from "../../src/system/linux/libc.js";

/** Bytes of the header in front of each frame: `struct virtio_net_hdr`. */
export const FRAME_HEADER = 10;

/** Protocol family, and its protocol "every frame" in network byte order (linux/if_ether.h). */
const AF_PACKET = 17;
const ETH_P_ALL = 0x0300;
/** Option levels and options (asm-generic/socket.h, linux/if_packet.h). */
const SOL_SOCKET = 1;
const SO_RCVBUFFORCE = 33;
const SO_SNDBUFFORCE = 32;
const SOL_PACKET = 263;
const PACKET_VNET_HDR = 15;
const PACKET_IGNORE_OUTGOING = 23;

/** Bytes that wait in the kernel when this process is not scheduled for a while. */
const BUFFER_SIZE = 32 * 1024 * 1024;

/** How sending a frame ended. */
export type SendResult = "sent" | "full" | "refused";

/** A packet socket. Nothing waits: what cannot be done now is said. */
export class PacketSocket {
  readonly fd: number;

  /** @param link index of the interface, in the thread's network namespace. @throws SystemCallError */
  constructor(link: number) {
    const type = SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC;
    // Protocol 0: it receives nothing before it is bound.
    this.fd = check(socket(AF_PACKET, type, 0), "opening a packet socket", "it needs CAP_NET_RAW");
    this.#option(SOL_PACKET, PACKET_VNET_HDR, 1);
    this.#option(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1);
    // Root of a user namespace may not exceed the system's limit: it gets what there is.
    this.#tryOption(SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_SIZE);
    this.#tryOption(SOL_SOCKET, SO_SNDBUFFORCE, BUFFER_SIZE);
    // struct sockaddr_ll: family u16 | protocol u16 | index i32 | hatype u16 | pkttype u8 | halen u8 | address 8
    const address = allocate(20);
    address.view.setUint16(0, AF_PACKET, true);
    address.view.setUint16(2, ETH_P_ALL, true);
    address.view.setInt32(4, link, true);
    check(bind(this.fd, address.address, 20), "binding a packet socket");
  }

  /** Receives a frame with its header to `address`. @returns bytes with the header; `undefined` when there is none. */
  receive(address: number, room: number): number | undefined {
    const length = read(this.fd, address, room);
    if (length >= 0) return length;
    const error = errno();
    // ENETDOWN: the interface is down, frames will come when it is up again.
    if (error === Errno.EAGAIN || error === Errno.EINTR || error === Errno.ENETDOWN) return undefined;
    check(-1, "receiving a frame");
    return undefined;
  }

  /** Sends a frame with its header. */
  send(address: number, length: number): SendResult {
    if (write(this.fd, address, length) !== -1) return "sent";
    const error = errno();
    return error === Errno.EAGAIN || error === Errno.ENOBUFS ? "full" : "refused";
  }

  #option(level: number, option: number, value: number): void {
    check(this.#tryOption(level, option, value), `setting option ${option} of a packet socket`);
  }

  #tryOption(level: number, option: number, value: number): number {
    const word = allocate(4);
    word.view.setInt32(0, value, true);
    return setsockopt(this.fd, level, option, word.address, 4);
  }
}
