// A relay's tables in the shared memory, as the main thread writes them: sockets, and channels that datapath workers forward. Layout:
// assembly/relay/records.ts. What is removed is hidden first and reused when every worker has passed a quiescent point.

import { TABLE_ENTRIES, TABLE_MASK } from "../../assembly/records.js";
import {
  CHANNEL_CLIENT_KEY,
  CHANNEL_CLIENT_NAME,
  CHANNEL_CLIENT_NAME_LENGTH,
  CHANNEL_CLIENT_SOCKET,
  CHANNEL_ENTRY_SIZE,
  CHANNEL_MEETING_KEY,
  CHANNEL_MEETS,
  CHANNEL_NUMBER,
  CHANNEL_PEER_KEY,
  CHANNEL_PEER_NAME,
  CHANNEL_PEER_NAME_LENGTH,
  CHANNEL_PEER_SOCKET,
  CHANNEL_SIZE,
  RELAY_ADMITTED,
  RELAY_CHANNELS,
  RELAY_CLIENTS,
  RELAY_PEERS,
  RELAY_SEED,
  RELAY_SIZE,
  RELAY_SOCKETS,
  RELAYED_BYTES,
  SOCKET_FAMILY,
  SOCKET_FD,
  SOCKET_IS_ALLOCATION,
  SOCKET_PORT,
  SOCKET_SIZE,
} from "../../assembly/relay/records.js";
import { type AddressFamily, type IpAddress, SocketAddress } from "../base/address.js";
import { createLayout, createMemory, type Layout } from "./layout.js";
import { type EngineExports, instantiate } from "./module.js";
import { Reclaimer, SlotPool } from "./slots.js";
import type { SharedMemory } from "./webassembly.js";

/** Capacities of a relay. */
export interface RelayConfig {
  /** Sockets: those of allocations, one or two each, and those that clients write to. */
  readonly sockets: number;
  /** Channels that workers forward, more go through the main thread; and clients, more are treated like strangers. */
  readonly channels: number;
}

/** Room for tens of thousands of allocations; what is not used costs no memory. */
export const DEFAULT_RELAY_CONFIG: RelayConfig = { sockets: 65_536, channels: 131_072 };

/** Where everything is. Survives structured cloning. */
export interface RelayLayout {
  readonly config: RelayConfig;
  /** Regions, exception rings, door. */
  readonly engine: Layout;
  /** Address of the relay header. */
  readonly relay: number;
}

/** A socket as workers see it. */
export interface RelaySocket {
  readonly fd: number;
  readonly family: AddressFamily;
  readonly port: number;
  /** Of an allocation; otherwise clients write to it. */
  readonly isAllocation: boolean;
}

/** A channel as workers see it. */
export interface RelayChannel {
  readonly client: SocketAddress;
  readonly number: number;
  readonly peer: SocketAddress;
  readonly allocationPort: number;
  /** Where peers of the same IP version see the allocation. If the peer has the same address, it is an allocation of this relay. */
  readonly relayedIp: IpAddress | undefined;
  /** Numbers of the sockets from which to send to client and peer. */
  readonly clientSocket: number;
  readonly peerSocket: number;
}

const AF_INET = 2;
const AF_INET6 = 10;
const NAME_LENGTH = { 4: 16, 6: 28 } as const;
/** Bytes of a page of WebAssembly memory. */
const PAGE_SIZE = 65_536;

/** Computes the layout, and the memory for it with empty tables. Once, by the main thread. */
export function createRelayMemory(config: RelayConfig = DEFAULT_RELAY_CONFIG): {
  readonly layout: RelayLayout;
  readonly memory: SharedMemory;
} {
  const engine = createLayout({ connections: 1, sessions: 1, paths: 1, routes: 1, filters: 1, rules: 1 });
  // Half full at most: probes stay short.
  const entryCount = 2 ** Math.ceil(Math.log2(2 * config.channels));
  let end = engine.memoryBytes;
  const place = (bytes: number): number => {
    const address = Math.ceil(end / 64) * 64;
    end = address + bytes;
    return address;
  };
  const relay = place(RELAY_SIZE);
  const sockets = place(SOCKET_SIZE * config.sockets);
  const channels = place(CHANNEL_SIZE * config.channels);
  const clients = place(CHANNEL_ENTRY_SIZE * entryCount);
  const peers = place(CHANNEL_ENTRY_SIZE * entryCount);
  const memory = createMemory({ ...engine, memoryBytes: Math.ceil(end / PAGE_SIZE) * PAGE_SIZE });
  const view = new DataView(memory.buffer);
  view.setUint32(relay + RELAY_SOCKETS, sockets, true);
  view.setUint32(relay + RELAY_CHANNELS, channels, true);
  const [seed = 0n] = crypto.getRandomValues(new BigUint64Array(1));
  view.setBigUint64(relay + RELAY_SEED, seed, true);
  for (const [table, entries] of [
    [relay + RELAY_CLIENTS, clients],
    [relay + RELAY_PEERS, peers],
  ] as const) {
    view.setUint32(table + TABLE_MASK, entryCount - 1, true);
    view.setUint32(table + TABLE_ENTRIES, entries, true);
  }
  return { layout: { config, engine, relay }, memory };
}

/** Writes the tables. One per relay, in the main thread. */
export class RelayTables {
  readonly #exports: EngineExports;
  readonly #layout: RelayLayout;
  readonly #view: DataView;
  readonly #bytes: Uint8Array;
  readonly #words: Int32Array;
  readonly #sockets: number;
  readonly #channels: number;
  readonly #reclaimer: Reclaimer;
  readonly #socketSlots: SlotPool;
  readonly #channelSlots: SlotPool;

  private constructor(memory: SharedMemory, layout: RelayLayout, exports: EngineExports) {
    this.#exports = exports;
    this.#layout = layout;
    this.#view = new DataView(memory.buffer);
    this.#bytes = new Uint8Array(memory.buffer);
    this.#words = new Int32Array(memory.buffer);
    this.#sockets = this.#view.getUint32(layout.relay + RELAY_SOCKETS, true);
    this.#channels = this.#view.getUint32(layout.relay + RELAY_CHANNELS, true);
    this.#reclaimer = new Reclaimer(memory, layout.engine);
    this.#socketSlots = new SlotPool(layout.config.sockets);
    this.#channelSlots = new SlotPool(layout.config.channels);
  }

  /** @throws Error when the program was not built. */
  static async create(memory: SharedMemory, layout: RelayLayout): Promise<RelayTables> {
    return new RelayTables(memory, layout, await instantiate(memory));
  }

  /** Makes a socket known; returns its number, `undefined` when there are too many. */
  addSocket({ fd, family, port, isAllocation }: RelaySocket): number | undefined {
    const slot = this.#socketSlots.take();
    if (slot === undefined) return undefined;
    const record = this.#sockets + slot * SOCKET_SIZE;
    this.#view.setUint32(record + SOCKET_FAMILY, family, true);
    this.#view.setUint32(record + SOCKET_PORT, port, true);
    this.#view.setUint32(record + SOCKET_IS_ALLOCATION, isAllocation ? 1 : 0, true);
    Atomics.store(this.#words, (record + SOCKET_FD) / 4, fd);
    return slot;
  }

  /** Hides a socket; calls `close` when no worker uses its file descriptor any more. */
  removeSocket(slot: number, close: () => void): void {
    Atomics.store(this.#words, (this.#sockets + slot * SOCKET_SIZE + SOCKET_FD) / 4, -1);
    this.#reclaimer.retire(() => {
      close();
      this.#socketSlots.give(slot);
    });
  }

  /** Makes workers forward a channel; returns its slot, `undefined` when there are too many. Neither end may be in use yet. */
  addChannel(channel: RelayChannel): number | undefined {
    const slot = this.#channelSlots.take();
    if (slot === undefined) return undefined;
    const { client, number, peer, allocationPort, relayedIp, clientSocket, peerSocket } = channel;
    const record = this.#channels + slot * CHANNEL_SIZE;
    this.#bytes.fill(0, record, record + CHANNEL_SIZE);
    this.#writeKey(record + CHANNEL_CLIENT_KEY, client, number);
    this.#writeKey(record + CHANNEL_PEER_KEY, peer, allocationPort);
    if (relayedIp?.equals(peer.ip) === true) {
      this.#view.setUint32(record + CHANNEL_MEETS, 1, true);
      this.#writeKey(record + CHANNEL_MEETING_KEY, new SocketAddress(relayedIp, allocationPort), peer.port);
    }
    this.#view.setUint16(record + CHANNEL_NUMBER, number);
    this.#view.setUint32(record + CHANNEL_CLIENT_SOCKET, clientSocket, true);
    this.#view.setUint32(record + CHANNEL_PEER_SOCKET, peerSocket, true);
    this.#writeName(record + CHANNEL_CLIENT_NAME, record + CHANNEL_CLIENT_NAME_LENGTH, client);
    this.#writeName(record + CHANNEL_PEER_NAME, record + CHANNEL_PEER_NAME_LENGTH, peer);
    this.#exports.insertChannel(this.#layout.relay, slot);
    return slot;
  }

  /** Workers forward a channel no more. */
  removeChannel(slot: number): void {
    this.#exports.removeChannel(this.#layout.relay, slot);
    this.#reclaimer.retire(() => this.#channelSlots.give(slot));
  }

  /** Makes workers know a client that has an allocation; returns its slot, `undefined` when there are too many. */
  addClient(client: SocketAddress): number | undefined {
    const slot = this.#channelSlots.take();
    if (slot === undefined) return undefined;
    const record = this.#channels + slot * CHANNEL_SIZE;
    this.#bytes.fill(0, record, record + CHANNEL_SIZE);
    this.#writeKey(record + CHANNEL_CLIENT_KEY, client, 0);
    this.#exports.insertClient(this.#layout.relay, slot);
    Atomics.add(this.#words, (this.#layout.relay + RELAY_ADMITTED) / 4, 1);
    return slot;
  }

  /** A client has no allocation any more. */
  removeClient(slot: number): void {
    this.#exports.removeClient(this.#layout.relay, slot);
    this.#reclaimer.retire(() => this.#channelSlots.give(slot));
  }

  /** Frees what was removed and is used no more; to be called now and then. */
  reclaim(): void {
    this.#reclaimer.reclaim();
  }

  /** Payload that workers have forwarded, in bytes. */
  get relayedBytes(): number {
    let bytes = 0;
    for (const region of this.#layout.engine.regions)
      bytes += Number(this.#view.getBigUint64(region + RELAYED_BYTES, true));
    return bytes;
  }

  #writeKey(at: number, address: SocketAddress, number: number): void {
    this.#view.setUint16(at, address.port);
    this.#view.setUint16(at + 2, number, true);
    this.#view.setUint32(at + 4, address.family, true);
    this.#bytes.set(address.ip.bytes, at + 8);
  }

  /** struct sockaddr_in or sockaddr_in6 (ip(7), ipv6(7)). */
  #writeName(at: number, lengthAt: number, address: SocketAddress): void {
    this.#view.setUint32(lengthAt, NAME_LENGTH[address.family], true);
    this.#view.setUint16(at, address.family === 4 ? AF_INET : AF_INET6, true);
    this.#view.setUint16(at + 2, address.port);
    this.#bytes.set(address.ip.bytes, at + (address.family === 4 ? 4 : 8));
  }
}
