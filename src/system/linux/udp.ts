// The UDP sockets of the datapath (spec 04, section 8.5): one per family and worker, bound to the wildcard address or to one of the host's,
// reporting the local address of each datagram, with the kernel's batching where it has it. Documentation: socket(7), ip(7), ipv6(7), udp(7).

import { release } from "node:os";
import { type AddressFamily, IpAddress, SocketAddress } from "../../base/address.js";
import { Errno, SystemCallError } from "./errno.js";
import {
  allocate,
  bind,
  check,
  close,
  errno,
  getsockname,
  getsockopt,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  setsockopt,
  socket,
} from "./libc.js";
import { addressFamilyNumber, readSocketAddress, SOCKADDR_IN6_SIZE, writeSocketAddress } from "./sockaddr.js";

/** Receive buffer that is asked for, in bytes: 10 Gbit/s for 10 ms (field notes, "Kernel boundary"). */
export const RECEIVE_BUFFER_SIZE = 16 * 1024 * 1024;
/** Send buffer that is asked for, in bytes: 10 Gbit/s for 1 ms, and room for the kernel's own accounting. */
export const SEND_BUFFER_SIZE = 4 * 1024 * 1024;

/** Attempts to find a port that is free in both families. */
const PORT_ATTEMPTS = 16;

const SOL_SOCKET = 1;
const IPPROTO_IP = 0;
const IPPROTO_UDP = 17;
const IPPROTO_IPV6 = 41;

const SO_SNDBUF = 7;
const SO_RCVBUF = 8;
const SO_REUSEPORT = 15;
const SO_SNDBUFFORCE = 32;
const SO_RCVBUFFORCE = 33;
const SO_MARK = 36;
const IP_PKTINFO = 8;
const IP_MTU_DISCOVER = 10;
const IPV6_MTU_DISCOVER = 23;
const IPV6_V6ONLY = 26;
const IPV6_RECVPKTINFO = 49;
const UDP_SEGMENT = 103;
const UDP_GRO = 104;

/**
 * IP_PMTUDISC_PROBE: "don't fragment" is set and the kernel's idea of the path's MTU is ignored, so that forged ICMP messages
 * cannot shrink the tunnel. The tunnel's own MTU leaves room for the outer headers.
 */
const PMTUDISC_PROBE = 3;

/** What to bind. */
export interface UdpOptions {
  /** Port for both families; 0: a free one that the kernel chooses. */
  readonly port: number;
  /** Sockets per family: one per worker; the kernel spreads the senders over them. Default 1. */
  readonly workers?: number;
  /** Mark of all outgoing datagrams, so that policy routing can keep them out of the tunnel (spec 05, section 3.4). */
  readonly mark?: number;
  /** Families wanted. Default: both. */
  readonly families?: readonly AddressFamily[];
  /** Address of the one family that is wanted. Default: the wildcard address. */
  readonly address?: IpAddress;
  /**
   * With which sockets of this user, on other addresses, the port is shared: none (the default), those bound later, or those bound earlier, which
   * must have allowed it.
   */
  readonly sharesPort?: "with-later" | "with-earlier";
  /** `false`: neither segmentation nor coalescing by the kernel (comparison, tests). Default `true`: whatever the kernel offers. */
  readonly offloads?: boolean;
  /** Receive buffer to ask for, in bytes. Default: {@link RECEIVE_BUFFER_SIZE}. */
  readonly receiveBuffer?: number;
}

/** The sockets of one family. */
export interface UdpSockets {
  readonly family: AddressFamily;
  /** The port all of them are bound to. */
  readonly port: number;
  /** One non-blocking file descriptor per worker. */
  readonly fds: readonly number[];
  /** What the kernel granted, in bytes; it takes twice as much memory for its own accounting. */
  readonly receiveBuffer: number;
  readonly sendBuffer: number;
  /** The kernel splits one large send into datagrams (UDP_SEGMENT). */
  readonly segmentation: boolean;
  /** The kernel hands over datagrams of one sender joined (UDP_GRO). */
  readonly coalescing: boolean;
}

/** Bound sockets of one or both families. */
export interface UdpBinding {
  readonly ipv4?: UdpSockets;
  readonly ipv6?: UdpSockets;
  /** Why a family is missing, in words: for the start-up log. */
  readonly missing: readonly string[];
  /** Closes all sockets. Nobody may use the file descriptors any more. */
  close(): void;
}

/**
 * Binds sockets, the same port in both families.
 *
 * @throws {@link SystemCallError} EADDRINUSE or EACCES for the port, EADDRNOTAVAIL for the address, EPERM for the mark; the last family's error if
 * none works.
 */
export function bindUdp(options: UdpOptions): UdpBinding {
  for (let attempt = 1; ; attempt++) {
    try {
      return bindFamilies(options);
    } catch (error) {
      // The port that the kernel chose for one family can be taken in the other.
      const taken = error instanceof SystemCallError && error.errno === Errno.EADDRINUSE;
      if (!taken || options.port !== 0 || attempt === PORT_ATTEMPTS) throw error;
    }
  }
}

/**
 * Changes the mark of all outgoing datagrams of bound sockets; 0: none.
 *
 * @throws {@link SystemCallError} EPERM
 */
export function setMark(binding: UdpBinding, mark: number): void {
  for (const sockets of [binding.ipv4, binding.ipv6]) for (const fd of sockets?.fds ?? []) markSocket(fd, mark);
}

/**
 * Whether this kernel's UDP segmentation delivers what was sent. Linux 7.0 to 7.1.4 corrupt sends whose datagrams are all of one
 * length (field notes, section 2.5).
 *
 * @param kernel version as `uname -r` prints it
 */
export function segmentationIsSound(kernel: string): boolean {
  const [major = 0, minor = 0, patch = 0] = kernel.split(/[.-]/).map((part) => Number.parseInt(part, 10) || 0);
  return major !== 7 || minor > 1 || (minor === 1 && patch > 4);
}

function bindFamilies(options: UdpOptions): UdpBinding {
  const bound: UdpSockets[] = [];
  const missing: string[] = [];
  let lastError: unknown;
  const closeAll = () => {
    for (const sockets of bound.splice(0)) for (const fd of sockets.fds) close(fd);
  };
  try {
    for (const family of options.families ?? ([4, 6] as const)) {
      try {
        bound.push(bindFamily(family, bound[0]?.port ?? options.port, options));
      } catch (error) {
        if (!(error instanceof SystemCallError) || !meansNoSuchFamily(error)) throw error;
        missing.push(`IPv${family}: ${error.message}`);
        lastError = error;
      }
    }
    if (bound.length === 0) throw lastError ?? new RangeError("no address family was asked for");
  } catch (error) {
    closeAll();
    throw error;
  }
  const ipv4 = bound.find((sockets) => sockets.family === 4);
  const ipv6 = bound.find((sockets) => sockets.family === 6);
  return { ...(ipv4 && { ipv4 }), ...(ipv6 && { ipv6 }), missing, close: closeAll };
}

/** Whether the host just lacks the family, as opposed to a request that cannot be met. */
function meansNoSuchFamily(error: SystemCallError): boolean {
  return error.errno === Errno.EAFNOSUPPORT || error.errno === Errno.EADDRNOTAVAIL;
}

function bindFamily(family: AddressFamily, port: number, options: UdpOptions): UdpSockets {
  const workers = options.workers ?? 1;
  const fds: number[] = [];
  try {
    let actualPort = port;
    let segmentation = options.offloads ?? true;
    let coalescing = segmentation;
    segmentation &&= segmentationIsSound(release());
    for (let i = 0; i < workers; i++) {
      const fd = openSocket(family);
      fds.push(fd);
      // The first socket is bound before it shares the port, so that a port that somebody else shares is still an error.
      if (i > 0 || options.sharesPort === "with-earlier") setInteger(fd, SOL_SOCKET, SO_REUSEPORT, 1, "SO_REUSEPORT");
      configure(fd, family, options);
      segmentation &&= supports(fd, UDP_SEGMENT, 0);
      coalescing &&= supports(fd, UDP_GRO, 1);
      actualPort = bindTo(fd, new SocketAddress(options.address ?? IpAddress.unspecified(family), actualPort));
      if (i === 0 && (workers > 1 || options.sharesPort === "with-later"))
        setInteger(fd, SOL_SOCKET, SO_REUSEPORT, 1, "SO_REUSEPORT");
    }
    const first = fds[0] ?? -1;
    return {
      family,
      port: actualPort,
      fds,
      receiveBuffer: getInteger(first, SOL_SOCKET, SO_RCVBUF, "SO_RCVBUF") / 2,
      sendBuffer: getInteger(first, SOL_SOCKET, SO_SNDBUF, "SO_SNDBUF") / 2,
      segmentation,
      coalescing,
    };
  } catch (error) {
    for (const fd of fds) close(fd);
    throw error;
  }
}

function openSocket(family: AddressFamily): number {
  const type = SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
  return check(socket(addressFamilyNumber(family), type, 0), `socket IPv${family} UDP`);
}

function configure(fd: number, family: AddressFamily, options: UdpOptions): void {
  const { mark, receiveBuffer = RECEIVE_BUFFER_SIZE } = options;
  if (family === 4) {
    setInteger(fd, IPPROTO_IP, IP_PKTINFO, 1, "IP_PKTINFO");
    setInteger(fd, IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_PROBE, "IP_MTU_DISCOVER");
  } else {
    setInteger(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1, "IPV6_V6ONLY");
    setInteger(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1, "IPV6_RECVPKTINFO");
    setInteger(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_PROBE, "IPV6_MTU_DISCOVER");
  }
  if (mark !== undefined) markSocket(fd, mark);
  setBufferSize(fd, SO_RCVBUFFORCE, SO_RCVBUF, receiveBuffer, "SO_RCVBUF");
  setBufferSize(fd, SO_SNDBUFFORCE, SO_SNDBUF, SEND_BUFFER_SIZE, "SO_SNDBUF");
}

function markSocket(fd: number, mark: number): void {
  if (setsockoptInteger(fd, SOL_SOCKET, SO_MARK, mark) === -1)
    throw new SystemCallError("setsockopt SO_MARK", errno(), "marking datagrams needs CAP_NET_ADMIN");
}

/** Beyond the system's limit where we may, else as much as the limit gives (net.core.rmem_max, wmem_max). */
function setBufferSize(fd: number, forceOption: number, option: number, size: number, name: string): void {
  if (setsockoptInteger(fd, SOL_SOCKET, forceOption, size) === 0) return;
  if (errno() !== Errno.EPERM) throw new SystemCallError(`setsockopt ${name}FORCE`, errno());
  setInteger(fd, SOL_SOCKET, option, size, name);
}

/** Sets a UDP option that older kernels lack; whether this one has it. */
function supports(fd: number, option: number, value: number): boolean {
  if (setsockoptInteger(fd, IPPROTO_UDP, option, value) === 0) return true;
  if (errno() === Errno.ENOPROTOOPT || errno() === Errno.EOPNOTSUPP) return false;
  throw new SystemCallError(`setsockopt UDP option ${option}`, errno());
}

/** Binds to an address; returns the port. */
function bindTo(fd: number, local: SocketAddress): number {
  const address = allocate(SOCKADDR_IN6_SIZE + 4);
  const length = writeSocketAddress(address, 0, local);
  check(bind(fd, address.address, length), `bind UDP ${local}`);
  address.view.setUint32(SOCKADDR_IN6_SIZE, SOCKADDR_IN6_SIZE, true);
  check(getsockname(fd, address.address, address.address + SOCKADDR_IN6_SIZE), "getsockname");
  return readSocketAddress(address, 0)?.port ?? local.port;
}

/** Value and length of an option, for the calls below. */
const optionBuffer = allocate(8);

function setsockoptInteger(fd: number, level: number, option: number, value: number): number {
  optionBuffer.view.setUint32(0, value >>> 0, true);
  return setsockopt(fd, level, option, optionBuffer.address, 4);
}

function setInteger(fd: number, level: number, option: number, value: number, name: string): void {
  check(setsockoptInteger(fd, level, option, value), `setsockopt ${name}`);
}

function getInteger(fd: number, level: number, option: number, name: string): number {
  optionBuffer.view.setUint32(4, 4, true);
  check(getsockopt(fd, level, option, optionBuffer.address, optionBuffer.address + 4), `getsockopt ${name}`);
  return optionBuffer.view.getInt32(0, true);
}
