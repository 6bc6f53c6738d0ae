// One UDP datagram at a time, sent from a chosen local address: what the control plane sends itself (STUN, handshakes). The
// datapath's batches are prepared by the packet engine instead. sendmsg(2), cmsg(3), ip(7), ipv6(7):
//
//   struct msghdr   name u64 | name length u32, pad | iov u64 | iov count u64 | control u64 | control length u64 | flags i32, pad
//   struct iovec    base u64 | length u64
//   struct cmsghdr  length u64 (16 + data) | level i32 | type i32 | data, padded to 8
//   IP_PKTINFO      interface i32 (0: any) | source 4 | unused 4        IPV6_PKTINFO   source 16 | interface u32

import type { IpAddress, SocketAddress } from "../../base/address.js";
import type { Transmit } from "../../base/state-machine.js";
import { Errno } from "./errno.js";
import { allocate, errno, MSG_DONTWAIT, MSG_NOSIGNAL, sendmsg } from "./libc.js";
import { writeSocketAddress } from "./sockaddr.js";

/** Largest payload of a UDP datagram over IPv4 in bytes. */
export const MAX_UDP_PAYLOAD = 65507;

const IOV_OFFSET = 56;
const NAME_OFFSET = 72;
const CONTROL_OFFSET = 104;
const PAYLOAD_OFFSET = 144;

const IPPROTO_IP = 0;
const IPPROTO_IPV6 = 41;
const IP_PKTINFO = 8;
const IPV6_PKTINFO = 50;

/** Sends single datagrams; reuses one set of structures, so it allocates nothing per datagram. */
export class UdpSender {
  readonly #buffer = allocate(PAYLOAD_OFFSET + MAX_UDP_PAYLOAD);

  constructor() {
    const { view, address } = this.#buffer;
    view.setBigUint64(0, BigInt(address + NAME_OFFSET), true);
    view.setBigUint64(16, BigInt(address + IOV_OFFSET), true);
    view.setBigUint64(24, 1n, true);
    view.setBigUint64(IOV_OFFSET, BigInt(address + PAYLOAD_OFFSET), true);
  }

  /**
   * Sends a datagram through the socket `fd` of the destination's family without waiting. A source address is binding: the
   * kernel refuses one that the host does not have (EINVAL or, in newer kernels, ENETUNREACH).
   *
   * @returns 0, or the error number
   */
  send(fd: number, transmit: Transmit): number {
    if (transmit.payload.length > MAX_UDP_PAYLOAD) return Errno.EMSGSIZE;
    const { view, bytes, address } = this.#buffer;
    view.setUint32(8, writeSocketAddress(this.#buffer, NAME_OFFSET, transmit.destination), true);
    bytes.set(transmit.payload, PAYLOAD_OFFSET);
    view.setUint32(IOV_OFFSET + 8, transmit.payload.length, true);
    const controlLength = this.#writeControl(transmit.source);
    view.setBigUint64(32, controlLength === 0 ? 0n : BigInt(address + CONTROL_OFFSET), true);
    view.setUint32(40, controlLength, true);
    return sendmsg(fd, address, MSG_DONTWAIT | MSG_NOSIGNAL) === -1 ? errno() : 0;
  }

  /** The control message that chooses the source address; returns its length, 0 when the kernel is to choose. */
  #writeControl(source: SocketAddress | undefined): number {
    if (source === undefined || source.ip.isUnspecified) return 0;
    return source.ip.bytes.length === 4 ? this.#writeIpv4Control(source.ip) : this.#writeIpv6Control(source.ip);
  }

  #writeIpv4Control(source: IpAddress): number {
    this.#writeControlHeader(28, IPPROTO_IP, IP_PKTINFO);
    this.#buffer.bytes.set(source.bytes, CONTROL_OFFSET + 20);
    return 32;
  }

  #writeIpv6Control(source: IpAddress): number {
    this.#writeControlHeader(36, IPPROTO_IPV6, IPV6_PKTINFO);
    this.#buffer.bytes.set(source.bytes, CONTROL_OFFSET + 16);
    return 40;
  }

  #writeControlHeader(length: number, level: number, type: number): void {
    const { view, bytes } = this.#buffer;
    bytes.fill(0, CONTROL_OFFSET, PAYLOAD_OFFSET);
    view.setUint32(CONTROL_OFFSET, length, true);
    view.setInt32(CONTROL_OFFSET + 8, level, true);
    view.setInt32(CONTROL_OFFSET + 12, type, true);
  }
}
