// UDP sockets on hosts of a laboratory, for its own tests: everything happens at the call, and waits at most as long as it is told.

import type { LabHost } from "../../scripts/lab/host.js";
import { SocketAddress } from "../../src/base/address.js";
import { SystemCallError } from "../../src/system/linux/errno.js";
import { addressOf, allocate, check, connect, MSG_DONTWAIT, recvfrom, sendto } from "../../src/system/linux/libc.js";
import { writeSocketAddress } from "../../src/system/linux/sockaddr.js";
import { bindUdp, type UdpBinding } from "../../src/system/linux/udp.js";
import { type ReceivedMessage, receiveMessage } from "../support/udp-socket.js";

/** A socket on a host, bound to the wildcard address of one family. */
export class UdpEndpoint {
  readonly host: LabHost;
  readonly port: number;
  readonly #binding: UdpBinding;
  readonly #fd: number;

  constructor(host: LabHost, port = 0, family: 4 | 6 = 4) {
    this.host = host;
    this.#binding = host.enter(() => bindUdp({ port, families: [family], offloads: false }));
    const sockets = family === 4 ? this.#binding.ipv4 : this.#binding.ipv6;
    if (sockets === undefined) throw new Error(`${host.name}: ${this.#binding.missing.join(", ")}`);
    this.port = sockets.port;
    this.#fd = sockets.fds[0] ?? -1;
  }

  /** Sends a datagram. */
  send(to: SocketAddress | string, text: string): void {
    const name = allocate(32);
    const length = writeSocketAddress(name, 0, typeof to === "string" ? parse(to) : to);
    const payload = new TextEncoder().encode(text);
    check(sendto(this.#fd, addressOf(payload), payload.length, 0, name.address, length), "sending a datagram");
  }

  /** Waits for a datagram, at most `timeout` milliseconds. */
  receive(timeout: number): { readonly source: SocketAddress; readonly text: string } | undefined {
    const message: ReceivedMessage | undefined = receiveMessage(this.#fd, timeout);
    return message && { source: message.source, text: new TextDecoder().decode(message.payload) };
  }

  /** Sends a datagram and waits for word that nobody listens there (ICMP "port unreachable"). The socket has this peer from now on. */
  isRefused(to: string, timeout: number): boolean {
    const name = allocate(32);
    const length = writeSocketAddress(name, 0, parse(to));
    check(connect(this.#fd, name.address, length), "connecting a UDP socket");
    this.send(to, "anybody there?");
    try {
      receiveMessage(this.#fd, timeout);
      return false;
    } catch (error) {
      if (error instanceof SystemCallError) return true;
      throw error;
    }
  }

  /** Takes what has arrived so far. @returns its datagrams' texts. */
  drain(): string[] {
    const room = allocate(2048);
    const texts: string[] = [];
    for (;;) {
      const length = recvfrom(this.#fd, room.address, 2048, MSG_DONTWAIT, 0, 0);
      if (length < 0) return texts;
      texts.push(new TextDecoder().decode(room.bytes.subarray(0, length)));
    }
  }

  close(): void {
    this.#binding.close();
  }
}

function parse(text: string): SocketAddress {
  const address = SocketAddress.parse(text);
  if (address === undefined) throw new RangeError(`"${text}" is not an address with a port`);
  return address;
}
