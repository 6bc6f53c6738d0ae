// A packet engine as a test drives it: one memory, one worker slot, and the kernel's part played by hand. Addresses in the
// kernel structures are offsets in the memory, because the engine's host base is 0.

import { createCipheriv, createDecipheriv } from "node:crypto";
import { type AddressFamily, IpAddress, type IpPrefix, SocketAddress } from "../../src/base/address.js";
import { viewOf } from "../../src/base/bytes.js";
import type { Instant } from "../../src/base/time.js";
import {
  createLayout,
  createMemory,
  Drop,
  Engine,
  type EngineConfig,
  ExceptionReader,
  type ExceptionRecord,
  type Layout,
  type SharedMemory,
  Tables,
} from "../../src/engine/index.js";

/** A message as sendmmsg() would see it. */
export interface SentMessage {
  readonly to: SocketAddress;
  /** Source address of IP_PKTINFO or IPV6_PKTINFO. */
  readonly from: IpAddress | undefined;
  /** Value of UDP_SEGMENT. */
  readonly segmentSize: number | undefined;
  readonly bytes: Uint8Array;
}

/** A message as recvmmsg() would fill one in. */
export interface ReceivedMessage {
  readonly from: SocketAddress;
  /** Reported by IP_PKTINFO or IPV6_PKTINFO. */
  readonly to?: IpAddress;
  /** Reported by UDP_GRO. */
  readonly segmentSize?: number;
  readonly bytes: Uint8Array;
  /** Default 0. */
  readonly flags?: number;
}

/** What is left of an exception record when the reader moves on. */
export type StoredException = ReturnType<typeof storeException>;

/** Capacities that make a small memory. */
export const SMALL_CONFIG: Partial<EngineConfig> = {
  connections: 16,
  sessions: 32,
  paths: 32,
  routes: 64,
  filters: 64,
  rules: 64,
  ringBytes: 256 * 1024,
};

/** Most messages that `receive` hands over in one call. */
const RECEIVE_CAPACITY = 32;

/** One side of a tunnel. */
export class EnginePeer {
  readonly layout: Layout;
  readonly memory: SharedMemory;
  readonly engine: Engine;
  readonly tables: Tables;
  readonly reader: ExceptionReader;
  readonly bytes: Uint8Array;
  readonly view: DataView;

  private constructor(layout: Layout, memory: SharedMemory, engine: Engine, tables: Tables) {
    this.layout = layout;
    this.memory = memory;
    this.engine = engine;
    this.tables = tables;
    this.reader = new ExceptionReader({ memory, layout });
    this.bytes = new Uint8Array(memory.buffer);
    this.view = new DataView(memory.buffer);
  }

  /** A peer with empty tables whose engine has slot 1, on a TUN device with all offloads. */
  static async create(config: Partial<EngineConfig> = SMALL_CONFIG): Promise<EnginePeer> {
    const layout = createLayout(config);
    const memory = createMemory(layout);
    const engine = await Engine.create({ memory, layout, slot: 1 });
    engine.setTunOffloads({ checksum: true, tso: true, uso: true });
    return new EnginePeer(layout, memory, engine, await Tables.create({ memory, layout }));
  }

  /** Reads a frame from the TUN device. */
  outbound(frame: Uint8Array, now: Instant = 0): void {
    this.bytes.set(frame, this.engine.tunReadAddress);
    this.engine.outbound(frame.length, now);
  }

  /** Reads frames as a worker does that finds all of them waiting: small ones are held. */
  outboundTogether(frames: readonly Uint8Array[], now: Instant = 0): void {
    for (const frame of frames) {
      this.bytes.set(frame, this.engine.tunReadAddress);
      if (!this.engine.hold(frame.length)) this.engine.outboundHeld(now);
    }
    this.engine.outboundHeld(now);
  }

  /** The messages that wait in a transmit queue. They stay there. */
  waiting(family: AddressFamily): SentMessage[] {
    const count = this.engine.transmitCount(family);
    const first = this.engine.transmitMessagesAddress(family);
    return Array.from({ length: count }, (_, i) => this.#parseMessage(first + 64 * i));
  }

  /** Sends everything that waits. */
  send(family: AddressFamily): SentMessage[] {
    const all: SentMessage[] = [];
    for (let messages = this.waiting(family); messages.length > 0; messages = this.waiting(family)) {
      all.push(...messages);
      this.engine.transmitDone(family, messages.length);
    }
    return all;
  }

  /** Sends everything that waits and cuts it into datagrams, as the network would see them. */
  sendDatagrams(family: AddressFamily): Uint8Array[] {
    return this.send(family).flatMap(datagramsOf);
  }

  /** Receives messages on one family's socket; returns copies of the frames for the TUN device. */
  receive(
    family: AddressFamily,
    messages: readonly ReceivedMessage[],
    now: Instant = 0,
    localPort = 51820,
  ): Uint8Array[] {
    const frames: Uint8Array[] = [];
    for (let i = 0; i < messages.length; i += RECEIVE_CAPACITY) {
      const part = messages.slice(i, i + RECEIVE_CAPACITY);
      this.engine.prepareReceive(family);
      for (const [k, message] of part.entries()) this.#fillMessage(family, k, message);
      const count = this.engine.inbound(family, part.length, localPort, now);
      for (let k = 0; k < count; k++) {
        const address = this.engine.frameAddress(k);
        frames.push(this.bytes.slice(address, address + this.engine.frameLength(k)));
      }
    }
    return frames;
  }

  /** Drains the exception rings. */
  exceptions(): StoredException[] {
    const result: StoredException[] = [];
    for (let record = this.reader.next(); record !== undefined; record = this.reader.next())
      result.push(storeException(record));
    return result;
  }

  /** The reasons that have been counted, by name. */
  drops(): Partial<Record<keyof typeof Drop, number>> {
    const counters = this.tables.counters().map((count, reason) => [Drop[reason], count] as const);
    return Object.fromEntries(counters.filter(([, count]) => count > 0));
  }

  #parseMessage(header: number): SentMessage {
    const name = this.#pointer(header);
    const nameLength = this.view.getUint32(header + 8, true);
    const vector = this.#pointer(header + 16);
    if (this.#pointer(header + 24) !== 1) throw new Error("a message has one vector");
    const base = this.#pointer(vector);
    const bytes = this.bytes.slice(base, base + this.#pointer(vector + 8));
    let from: IpAddress | undefined;
    let segmentSize: number | undefined;
    let control = this.#pointer(header + 32);
    const end = control + this.#pointer(header + 40);
    while (control < end) {
      const length = this.#pointer(control);
      const level = this.view.getInt32(control + 8, true);
      const type = this.view.getInt32(control + 12, true);
      if (level === 17 && type === 103 && length === 18) segmentSize = this.view.getUint16(control + 16, true);
      else if (level === 0 && type === 8 && length === 28)
        from = IpAddress.fromBytes(this.bytes.subarray(control + 20, control + 24));
      else if (level === 41 && type === 50 && length === 36)
        from = IpAddress.fromBytes(this.bytes.subarray(control + 16, control + 32));
      else throw new Error(`unexpected control message: level ${level}, type ${type}, ${length} bytes`);
      control += Math.ceil(length / 8) * 8;
    }
    if (control !== end) throw new Error("control messages end elsewhere than their length says");
    return { to: this.#readName(name, nameLength), from, segmentSize, bytes };
  }

  #readName(name: number, length: number): SocketAddress {
    const family = this.view.getUint16(name, true);
    if (family === 2 && length === 16)
      return new SocketAddress(
        IpAddress.fromBytes(this.bytes.subarray(name + 4, name + 8)),
        this.view.getUint16(name + 2),
      );
    if (family === 10 && length === 28)
      return new SocketAddress(
        IpAddress.fromBytes(this.bytes.subarray(name + 8, name + 24)),
        this.view.getUint16(name + 2),
      );
    throw new Error(`not a socket address: family ${family}, ${length} bytes`);
  }

  #fillMessage(family: AddressFamily, i: number, message: ReceivedMessage): void {
    const header = this.engine.receiveMessagesAddress(family) + 64 * i;
    const view = this.view;
    const name = this.#pointer(header);
    view.setUint16(name, family === 4 ? 2 : 10, true);
    view.setUint16(name + 2, message.from.port);
    this.bytes.set(message.from.ip.bytes, name + (family === 4 ? 4 : 8));
    view.setUint32(header + 8, family === 4 ? 16 : 28, true);
    const vector = this.#pointer(header + 16);
    if (message.bytes.length > this.#pointer(vector + 8)) throw new Error("larger than the receive buffer");
    this.bytes.set(message.bytes, this.#pointer(vector));
    const control = this.#pointer(header + 32);
    let end = control;
    const append = (level: number, type: number, data: Uint8Array) => {
      view.setBigUint64(end, BigInt(16 + data.length), true);
      view.setInt32(end + 8, level, true);
      view.setInt32(end + 12, type, true);
      this.bytes.set(data, end + 16);
      end += 16 + Math.ceil(data.length / 8) * 8;
    };
    if (message.to !== undefined) {
      const { bytes } = message.to;
      // struct in_pktinfo and in6_pktinfo, arrived on interface 7.
      if (family === 4) append(0, 8, Uint8Array.of(7, 0, 0, 0, ...bytes, ...bytes));
      else append(41, 50, Uint8Array.of(...bytes, 7, 0, 0, 0));
    }
    if (message.segmentSize !== undefined) {
      const size = new Uint8Array(4);
      viewOf(size).setInt32(0, message.segmentSize, true);
      append(17, 104, size);
    }
    view.setBigUint64(header + 40, BigInt(end - control), true);
    view.setUint32(header + 48, message.flags ?? 0, true);
    view.setUint32(header + 56, message.bytes.length, true);
  }

  /** A 64-bit pointer or length. */
  #pointer(address: number): number {
    return Number(this.view.getBigUint64(address, true));
  }
}

function storeException(record: ExceptionRecord) {
  const address = (bytes: Uint8Array, port: number) =>
    bytes.length === 0 ? undefined : new SocketAddress(IpAddress.fromBytes(bytes), port).toString();
  return {
    reason: record.reason,
    slot: record.slot,
    connection: record.connection,
    localIndex: record.localIndex,
    family: record.family,
    local: address(record.localAddress, record.localPort),
    remote: address(record.remoteAddress, record.remotePort),
    payload: record.payload.slice(),
  };
}

/** The datagrams of a message. */
export function datagramsOf(message: SentMessage): Uint8Array[] {
  const size = message.segmentSize ?? message.bytes.length;
  const count = Math.max(1, Math.ceil(message.bytes.length / size));
  return Array.from({ length: count }, (_, i) => message.bytes.subarray(i * size, (i + 1) * size));
}

/** What recvmmsg() with UDP_GRO makes of sent messages. */
export function asReceived(messages: readonly SentMessage[], from: SocketAddress): ReceivedMessage[] {
  return messages.map(({ bytes, segmentSize, to }) => ({
    from,
    to: to.ip,
    bytes,
    ...(segmentSize === undefined ? {} : { segmentSize }),
  }));
}

// ---- WireGuard transport messages by node:crypto (spec 02, section 11.2)

function nonceOf(counter: bigint): Uint8Array {
  const nonce = new Uint8Array(12);
  viewOf(nonce).setBigUint64(4, counter, true);
  return nonce;
}

/** A transport message. */
export function sealMessage(key: Uint8Array, index: number, counter: bigint, packet: Uint8Array): Uint8Array {
  const cipher = createCipheriv("chacha20-poly1305", key, nonceOf(counter), { authTagLength: 16 });
  const sealed = cipher.update(packet);
  cipher.final();
  const message = new Uint8Array(16 + sealed.length + 16);
  const view = viewOf(message);
  view.setUint32(0, 4, true);
  view.setUint32(4, index, true);
  view.setBigUint64(8, counter, true);
  message.set(sealed, 16);
  message.set(cipher.getAuthTag(), 16 + sealed.length);
  return message;
}

/** A transport message, opened. Throws when the tag does not verify. */
export function openMessage(
  key: Uint8Array,
  message: Uint8Array,
): { readonly index: number; readonly counter: bigint; readonly packet: Uint8Array } {
  const view = viewOf(message);
  if (view.getUint32(0, true) !== 4) throw new Error("not a transport message");
  const counter = view.getBigUint64(8, true);
  const decipher = createDecipheriv("chacha20-poly1305", key, nonceOf(counter), { authTagLength: 16 });
  decipher.setAuthTag(message.subarray(message.length - 16));
  const packet = new Uint8Array(decipher.update(message.subarray(16, message.length - 16)));
  decipher.final();
  return { index: view.getUint32(4, true), counter, packet };
}

// ---- A tunnel

/** Keys, indices and addresses of the tunnel that `connect` sets up. Documentation addresses throughout. */
export const KEY_A_TO_B = new Uint8Array(32).fill(0x11);
export const KEY_B_TO_A = new Uint8Array(32).fill(0x22);
export const INDEX_A = 0x0000_0a01;
export const INDEX_B = 0x0000_0b01;

/** Parses an IP address that a test wrote. */
export function ip(text: string): IpAddress {
  const address = IpAddress.parse(text);
  if (address === undefined) throw new Error(`${text} is no IP address`);
  return address;
}

/** Parses a socket address that a test wrote. */
export function socket(text: string): SocketAddress {
  const address = SocketAddress.parse(text);
  if (address === undefined) throw new Error(`${text} is no socket address`);
  return address;
}

export const SOCKET_A = socket("192.0.2.1:51820");
export const SOCKET_B = socket("198.51.100.2:51821");

/** What `connect` may do otherwise. */
export interface ConnectOptions {
  readonly localIndex?: number;
  readonly remoteIndex?: number;
  readonly sendKey?: Uint8Array;
  readonly receiveKey?: Uint8Array;
  readonly local?: SocketAddress;
  readonly remote?: SocketAddress;
  readonly confirmed?: boolean;
  readonly createdAt?: Instant;
  readonly filtered?: boolean;
  readonly learnEndpoint?: boolean;
  readonly relayChannel?: number;
}

/** Gives a peer a connection with a session, a path and routes, by default as side A of the tunnel. */
export function connect(peer: EnginePeer, routes: readonly IpPrefix[], options: ConnectOptions = {}): number {
  const { tables } = peer;
  const connection = tables.allocateConnection({
    filtered: options.filtered ?? false,
    learnEndpoint: options.learnEndpoint ?? false,
  });
  if (connection === undefined) throw new Error("no connection slot");
  const localIndex = options.localIndex ?? INDEX_A;
  const ok =
    tables.installSession({
      connection,
      localIndex,
      remoteIndex: options.remoteIndex ?? INDEX_B,
      sendKey: options.sendKey ?? KEY_A_TO_B,
      receiveKey: options.receiveKey ?? KEY_B_TO_A,
      confirmed: options.confirmed ?? true,
      createdAt: options.createdAt ?? 0,
    }) &&
    tables.setCurrentSession(connection, localIndex) &&
    tables.setPath(connection, {
      local: options.local ?? SOCKET_A,
      remote: options.remote ?? SOCKET_B,
      ...(options.relayChannel === undefined ? {} : { relayChannel: options.relayChannel }),
    }) &&
    routes.every((prefix) => tables.setRoute(prefix, connection));
  if (!ok) throw new Error("a table is full");
  return connection;
}

/** The options of `connect` for side B. */
export const SIDE_B: ConnectOptions = {
  localIndex: INDEX_B,
  remoteIndex: INDEX_A,
  sendKey: KEY_B_TO_A,
  receiveKey: KEY_A_TO_B,
  local: SOCKET_B,
  remote: SOCKET_A,
};
