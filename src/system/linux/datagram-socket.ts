// A UDP socket on Node's event loop: for programs that have many of them, each with little to do. The datapath's sockets (udp.ts) are for few
// with much to do. The socket is bound when this returns, so that an answer may say so.

import { createSocket, type Socket } from "node:dgram";
import { type AddressFamily, IpAddress, SocketAddress } from "../../base/address.js";
import { bindUdp } from "./udp.js";

/** What a socket does with what it receives. `data` is the receiver's to keep. */
export type DatagramHandler = (from: SocketAddress, data: Uint8Array) => void;

/** Outcomes of sending, since creation. */
export interface DatagramCounters {
  sent: number;
  sentBytes: number;
  /** The kernel refused: no buffer, no route, no such address. */
  refused: number;
}

/** See the head of this file. */
export class DatagramSocket {
  readonly family: AddressFamily;
  readonly port: number;
  readonly #socket: Socket;
  readonly #counters: DatagramCounters;
  #isClosed = false;

  private constructor(socket: Socket, family: AddressFamily, port: number, counters: DatagramCounters) {
    this.#socket = socket;
    this.family = family;
    this.port = port;
    this.#counters = counters;
  }

  /**
   * Binds a socket of one IP version to the wildcard address and a port; 0: one that the kernel chooses.
   *
   * @param counters shared by as many sockets as one likes.
   * @throws SystemCallError EADDRINUSE and others.
   */
  static bind(
    family: AddressFamily,
    port: number,
    counters: DatagramCounters,
    onDatagram: DatagramHandler,
  ): DatagramSocket {
    const binding = bindUdp({ port, families: [family], offloads: false });
    const sockets = family === 4 ? binding.ipv4 : binding.ipv6;
    const [fd] = sockets?.fds ?? [];
    if (sockets === undefined || fd === undefined) throw new Error(`no IPv${family} here: ${binding.missing.join()}`);
    const socket = createSocket(family === 4 ? "udp4" : "udp6");
    socket.on("message", (data, { address, port: from }) => {
      const ip = IpAddress.parse(address.replace(/%.*$/, ""));
      // A plain byte array: `slice` of a Buffer is no copy.
      const bytes = new Uint8Array(data.buffer, data.byteOffset, data.length);
      if (ip !== undefined) onDatagram(new SocketAddress(ip, from), bytes);
    });
    // Errors of sending come to its callback; others concern single datagrams too (ICMP).
    socket.on("error", () => {
      counters.refused++;
    });
    // From here on the descriptor is the socket's.
    socket.bind({ fd });
    return new DatagramSocket(socket, family, sockets.port, counters);
  }

  /** Sends a datagram, or counts that the kernel refused it. */
  send(to: SocketAddress, data: Uint8Array): void {
    if (this.#isClosed) return;
    this.#socket.send(data, to.port, to.ip.toString(), (error) => {
      if (error !== null) this.#counters.refused++;
    });
    this.#counters.sent++;
    this.#counters.sentBytes += data.length;
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#socket.close();
  }
}
