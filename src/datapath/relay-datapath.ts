// The main thread's handle on a relay's datapath: sockets, channels, the worker that forwards on them, and what the worker cannot
// explain. Sockets are opened and closed while the worker runs:
//
//   open: bind ─► table ─► epoll          close: epoll ─► channels and table ─► worker has moved on ─► close

import { fileURLToPath } from "node:url";
import { type AddressFamily, IpAddress, SocketAddress } from "../base/address.js";
import type { ExceptionRecord } from "../engine/exceptions.js";
import { createRelayMemory, type RelayConfig, type RelayLayout, RelayTables } from "../engine/relay-tables.js";
import type { SharedMemory } from "../engine/webassembly.js";
import { Epoll } from "../system/linux/epoll.js";
import { Errno, SystemCallError } from "../system/linux/errno.js";
import { close } from "../system/linux/libc.js";
import { bindUdp, RECEIVE_BUFFER_SIZE, type UdpOptions } from "../system/linux/udp.js";
import { UdpSender } from "../system/linux/udp-message.js";
import { Statistic } from "./control-block.js";
import { type ExceptionPump, pumpExceptions } from "./exception-pump.js";
import { WorkerPool } from "./pool.js";
import { WAKE_NUMBER } from "./relay-loop.js";
import type { RelayTask } from "./relay-worker.js";

const WORKER_MODULE = fileURLToPath(new URL("./relay-worker.js", import.meta.url));

/** Time between two looks for sockets that can be closed, in ms. */
const RECLAIM_INTERVAL = 200;

/**
 * Receive buffer of an allocation's socket, in bytes: 4 Gbit/s for 8 ms. What the kernel may have to hold for all of them grows with it, and
 * a peer that sends more than the worker can take fills its own.
 */
const ALLOCATION_BUFFER_SIZE = 4 * 1024 * 1024;

/** Receives what the worker does not forward. `data` is the receiver's to keep. */
export interface RelayHandler {
  /** A datagram of a client: STUN, or channel data of no channel that the worker knows. It came to the socket bound to `local`. */
  fromClient(client: SocketAddress, local: SocketAddress, data: Uint8Array): void;
  /** A datagram of a peer that no channel explains. */
  fromPeer(allocationPort: number, peer: SocketAddress, data: Uint8Array): void;
}

/** A channel between a client and a peer of its allocation. */
export interface ForwardedChannel {
  readonly client: SocketAddress;
  /** Address of the socket that the client writes to. */
  readonly local: SocketAddress;
  readonly channel: number;
  readonly peer: SocketAddress;
  readonly allocationPort: number;
}

/** What to start. */
export interface RelayDatapathOptions {
  readonly config?: RelayConfig;
  /** Where peers see allocations, one per IP version at most: what allocations send to each other does not leave the relay. */
  readonly relayedIps?: readonly IpAddress[];
  readonly handler: RelayHandler;
  /** The datapath has come to an end by itself. Called at most once. */
  readonly onFailure: (error: Error) => void;
}

interface OpenSocket {
  readonly slot: number;
  readonly fd: number;
  readonly family: AddressFamily;
  /** What it is bound to. */
  readonly local: SocketAddress;
  readonly isAllocation: boolean;
}

/** A running datapath of a relay. */
export class RelayDatapath {
  /** Datagrams that the main thread could not send itself. */
  refused = 0;
  readonly #options: RelayDatapathOptions;
  readonly #tables: RelayTables;
  readonly #epoll: Epoll;
  readonly #pool: WorkerPool;
  readonly #pump: ExceptionPump;
  readonly #sender = new UdpSender();
  /** Sockets that clients write to, by what they are bound to. */
  readonly #listening = new Map<string, OpenSocket>();
  /** Addresses of `relayedIps` that this host has itself, and not a NAT before it. */
  readonly #ownIps = new Map<AddressFamily, IpAddress>();
  /** Sockets of allocations, by port. */
  readonly #allocations = new Map<number, readonly OpenSocket[]>();
  readonly #bySlot = new Map<number, OpenSocket>();
  /** Slots of clients by port of their allocation. */
  readonly #clients = new Map<number, number>();
  /** Slots of channels by port of their allocation and by peer. */
  readonly #channels = new Map<number, Map<string, number>>();
  readonly #closing = new Set<OpenSocket>();
  readonly #reclaiming: NodeJS.Timeout;
  #stopped: Promise<void> | undefined;

  private constructor(
    options: RelayDatapathOptions,
    tables: RelayTables,
    epoll: Epoll,
    pool: WorkerPool,
    memory: SharedMemory,
    layout: RelayLayout,
  ) {
    this.#options = options;
    this.#tables = tables;
    this.#epoll = epoll;
    this.#pool = pool;
    const handler = { handle: (record: ExceptionRecord) => this.#handle(record), endOfBatch: () => undefined };
    this.#pump = pumpExceptions(memory, layout.engine, handler, options.onFailure);
    this.#reclaiming = setInterval(() => this.#tables.reclaim(), RECLAIM_INTERVAL).unref();
  }

  /** Starts the worker; it has no sockets yet. @throws WorkerFailure when it does not come up. */
  static async start(options: RelayDatapathOptions): Promise<RelayDatapath> {
    const { layout, memory } = createRelayMemory(options.config);
    const tables = await RelayTables.create(memory, layout);
    const epoll = new Epoll();
    try {
      const task: RelayTask = { memory, layout, epollFd: epoll.fd };
      const pool = await WorkerPool.start<RelayTask>({
        workers: 1,
        filename: WORKER_MODULE,
        task: () => task,
        onWaker: (_, fd) => epoll.add(fd, WAKE_NUMBER),
        onFailure: options.onFailure,
      });
      return new RelayDatapath(options, tables, epoll, pool, memory, layout);
    } catch (error) {
      epoll.close();
      throw error;
    }
  }

  /** Payload that the worker has forwarded, in bytes. */
  get relayedBytes(): number {
    return this.#tables.relayedBytes;
  }

  /** What the worker has counted, indexed by {@link Statistic}. */
  get statistics(): Float64Array {
    return this.#pool.controls[0]?.statistics.slice() ?? new Float64Array(Statistic.Count);
  }

  /**
   * Opens the sockets that clients write to: one for whichever address of this host they use, and, when peers see allocations at an address that
   * this host has, one for that. It is not always the one from which the kernel would answer. @throws SystemCallError EADDRINUSE and others.
   */
  listen(family: AddressFamily, port: number): void {
    const relayed = this.#relayedIp(family);
    const any = this.#open({ port, families: [family], sharesPort: "with-later" }, false);
    this.#listening.set(any.local.key, any);
    if (relayed === undefined) return;
    try {
      const own = this.#open({ port, families: [family], address: relayed, sharesPort: "with-earlier" }, false);
      this.#listening.set(own.local.key, own);
      this.#ownIps.set(family, relayed);
    } catch (error) {
      if (!(error instanceof SystemCallError) || error.errno !== Errno.EADDRNOTAVAIL) throw error;
    }
  }

  /** Opens the port of an allocation in these families: all of them, or none. @throws SystemCallError EADDRINUSE and others. */
  openPort(port: number, families: readonly AddressFamily[]): void {
    const sockets: OpenSocket[] = [];
    try {
      for (const family of families) {
        const address = this.#ownIps.get(family);
        sockets.push(this.#open({ port, families: [family], ...(address !== undefined && { address }) }, true));
      }
    } catch (error) {
      for (const socket of sockets) this.#close(socket);
      throw error;
    }
    this.#allocations.set(port, sockets);
  }

  /**
   * Tells the worker whose allocation has this port: the client's requests do not share a limit with those of strangers from now on. @returns
   * false when the tables are full.
   */
  admitClient(port: number, client: SocketAddress): boolean {
    const slot = this.#tables.addClient(client);
    if (slot !== undefined) this.#clients.set(port, slot);
    return slot !== undefined;
  }

  /** Closes it, and ends its channels. */
  closePort(port: number): void {
    const client = this.#clients.get(port);
    if (client !== undefined) this.#tables.removeClient(client);
    this.#clients.delete(port);
    for (const slot of this.#channels.get(port)?.values() ?? []) this.#tables.removeChannel(slot);
    this.#channels.delete(port);
    for (const socket of this.#allocations.get(port) ?? []) this.#close(socket);
    this.#allocations.delete(port);
    this.#tables.reclaim();
  }

  /**
   * Has the worker forward on a channel from now on. @returns false when the tables are full, or a socket is missing: its datagrams come to the
   * handler then.
   */
  bindChannel({ client, local, channel, peer, allocationPort }: ForwardedChannel): boolean {
    const known = this.#channels.get(allocationPort);
    if (known?.has(peer.key) === true) return true;
    const clientSocket = this.#listening.get(local.key);
    const peerSocket = this.#allocations.get(allocationPort)?.find(({ family }) => family === peer.family);
    if (clientSocket === undefined || peerSocket === undefined) return false;
    const slot = this.#tables.addChannel({
      client,
      number: channel,
      peer,
      allocationPort,
      relayedIp: this.#relayedIp(peer.family),
      clientSocket: clientSocket.slot,
      peerSocket: peerSocket.slot,
    });
    if (slot === undefined) return false;
    if (known === undefined) this.#channels.set(allocationPort, new Map([[peer.key, slot]]));
    else known.set(peer.key, slot);
    return true;
  }

  /** Ends it. */
  unbindChannel({ peer, allocationPort }: Pick<ForwardedChannel, "peer" | "allocationPort">): void {
    const known = this.#channels.get(allocationPort);
    const slot = known?.get(peer.key);
    if (slot === undefined) return;
    known?.delete(peer.key);
    this.#tables.removeChannel(slot);
    this.#tables.reclaim();
  }

  /** Sends a datagram to a client, from the socket bound to `local`. */
  sendToClient(local: SocketAddress, client: SocketAddress, data: Uint8Array): void {
    this.#send(this.#listening.get(local.key), client, data);
  }

  /** Sends a datagram from an allocation's port. */
  sendToPeer(allocationPort: number, peer: SocketAddress, data: Uint8Array): void {
    const sockets = this.#allocations.get(allocationPort);
    this.#send(
      sockets?.find(({ family }) => family === peer.family),
      peer,
      data,
    );
  }

  /** Ends the worker and closes all sockets. */
  stop(): Promise<void> {
    this.#stopped ??= this.#stop();
    return this.#stopped;
  }

  async #stop(): Promise<void> {
    clearInterval(this.#reclaiming);
    this.#pump.stop();
    await this.#pool.stop();
    this.#epoll.close();
    for (const { fd } of [...this.#bySlot.values(), ...this.#closing]) close(fd);
    this.#bySlot.clear();
    this.#closing.clear();
    this.#listening.clear();
    this.#allocations.clear();
  }

  #relayedIp(family: AddressFamily): IpAddress | undefined {
    return this.#options.relayedIps?.find((ip) => ip.family === family);
  }

  #open(options: UdpOptions, isAllocation: boolean): OpenSocket {
    const receiveBuffer = isAllocation ? ALLOCATION_BUFFER_SIZE : RECEIVE_BUFFER_SIZE;
    const binding = bindUdp({ ...options, receiveBuffer });
    const sockets = binding.ipv4 ?? binding.ipv6;
    const [fd] = sockets?.fds ?? [];
    if (sockets === undefined || fd === undefined) throw new Error(binding.missing.join());
    const { family, port } = sockets;
    const local = new SocketAddress(options.address ?? IpAddress.unspecified(family), port);
    const slot = this.#tables.addSocket({ fd, family, port, isAllocation });
    if (slot === undefined) {
      binding.close();
      throw new Error("too many sockets");
    }
    const socket: OpenSocket = { slot, fd, family, local, isAllocation };
    this.#bySlot.set(slot, socket);
    this.#epoll.add(fd, slot);
    return socket;
  }

  #close(socket: OpenSocket): void {
    this.#epoll.remove(socket.fd);
    this.#bySlot.delete(socket.slot);
    this.#closing.add(socket);
    this.#tables.removeSocket(socket.slot, () => {
      this.#closing.delete(socket);
      close(socket.fd);
    });
  }

  #send(socket: OpenSocket | undefined, destination: SocketAddress, payload: Uint8Array): void {
    if (socket === undefined || this.#sender.send(socket.fd, { destination, payload }) !== 0) this.refused++;
  }

  #handle(record: ExceptionRecord): void {
    const open = record.connection === undefined ? undefined : this.#bySlot.get(record.connection);
    // Its socket has been closed since.
    if (open === undefined) return;
    const from = new SocketAddress(IpAddress.fromBytes(record.remoteAddress.slice()), record.remotePort);
    const data = record.payload.slice();
    if (open.isAllocation) this.#options.handler.fromPeer(open.local.port, from, data);
    else this.#options.handler.fromClient(from, open.local, data);
  }
}
