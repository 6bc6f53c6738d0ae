// Two packet engines with a number of connections between them, and the wire: a copy that is not timed.

import { FRAME_PLACE, HELD_FRAMES, SCRATCH, SCRATCH_SIZE } from "../../assembly/regions.js";
import { IpAddress, IpPrefix, SocketAddress } from "../../src/base/address.js";
import { createLayout, createMemory, Engine, type Layout, type SharedMemory, Tables } from "../../src/engine/index.js";
import { type AeadExports, type EngineBuild, instantiateAead } from "../../src/engine/module.js";
import { Helper } from "./helper.js";

/** Numbers of connections. The first is what the others are compared with. */
export const CHURN_CONNECTIONS = [1, 1000, 10_000] as const;

/**
 * From one packet's connection to the next one's: prime to all the numbers above, so that each has its turn, and far, so that the processor does
 * not guess which records come next, as it cannot with the clients of a company.
 */
const STRIDE = 6151;

/** Which way packets go: from the TUN device, or to it. */
export type Direction = "outbound" | "inbound";

/** A kind of traffic. */
export interface Load {
  readonly name: string;
  /** Bytes of an IP packet. */
  readonly packetLength: number;
  /** Packets per TUN frame, and datagrams per received message. */
  readonly packetsPerFrame: number;
}

/** The loads. */
export const LOADS: readonly Load[] = [
  { name: "TCP, trains of 48 x 1280 B", packetLength: 1280, packetsPerFrame: 48 },
  { name: "UDP, single, 1280 B", packetLength: 1280, packetsPerFrame: 1 },
  { name: "UDP, single, 92 B", packetLength: 92, packetsPerFrame: 1 },
];

const SOCKETS = [
  new SocketAddress(IpAddress.fromBytes(Uint8Array.of(192, 0, 2, 1)), 51820),
  new SocketAddress(IpAddress.fromBytes(Uint8Array.of(198, 51, 100, 2)), 51820),
] as const;

class Side {
  readonly memory: SharedMemory;
  readonly layout: Layout;
  readonly engine: Engine;
  readonly tables: Tables;
  readonly bytes: Uint8Array;
  readonly view: DataView;

  constructor(memory: SharedMemory, layout: Layout, engine: Engine, tables: Tables) {
    this.memory = memory;
    this.layout = layout;
    this.engine = engine;
    this.tables = tables;
    this.bytes = new Uint8Array(memory.buffer);
    this.view = new DataView(memory.buffer);
  }

  pointer(address: number): number {
    return Number(this.view.getBigUint64(address, true));
  }
}

/** The `i`-th client's tunnel address; the gateway's is 100.96.0.1. */
function clientAddress(i: number): Uint8Array {
  return Uint8Array.of(100, 64, i >> 8, i & 255);
}

/** A sends to B's clients: every connection has one tunnel address. */
export class Pair {
  readonly connections: number;
  readonly #a: Side;
  readonly #b: Side;
  /** Worker threads on each side: the second one helps. */
  readonly workers: number;
  readonly #aead: AeadExports;
  readonly #helper: Helper | undefined;
  #next = 0;

  private constructor(connections: number, a: Side, b: Side, aead: AeadExports, helper: Helper | undefined) {
    this.connections = connections;
    this.workers = helper === undefined ? 1 : 2;
    this.#helper = helper;
    this.#a = a;
    this.#b = b;
    this.#aead = aead;
  }

  /** @param workers 2: a second thread helps whichever side is at work; end it with {@link Pair.stop}. */
  static async create(connections: number, build: EngineBuild = "narrow", workers: 1 | 2 = 1): Promise<Pair> {
    const layout = createLayout({
      workers,
      connections,
      sessions: Math.max(4096, connections),
      paths: connections,
      routes: Math.max(1024, connections),
    });
    const sides: Side[] = [];
    for (const [k, socket] of SOCKETS.entries()) {
      const memory = createMemory(layout);
      const engine = await Engine.create({ memory, layout, slot: 1, build });
      engine.setTunOffloads({ checksum: true, tso: true, uso: true });
      const tables = await Tables.create({ memory, layout });
      for (let i = 0; i < connections; i++) {
        const key = (from: number) => Uint8Array.from({ length: 32 }, (_, j) => (i >> (8 * (j & 1))) + from + j);
        const connection = tables.allocateConnection({ filtered: false, learnEndpoint: false }) ?? 0;
        const index = (side: number) => ((i + 1) << 8) | (1 + side);
        tables.installSession({
          connection,
          localIndex: index(k),
          remoteIndex: index(1 - k),
          sendKey: key(k),
          receiveKey: key(1 - k),
          confirmed: true,
          createdAt: 0,
        });
        tables.setCurrentSession(connection, index(k));
        tables.setPath(connection, { local: socket, remote: SOCKETS[1 - k] as SocketAddress });
        tables.setRoute(IpPrefix.host(IpAddress.fromBytes(clientAddress(i))), connection);
      }
      sides.push(new Side(memory, layout, engine, tables));
    }
    const [a, b] = sides as [Side, Side];
    const helper = workers === 1 ? undefined : await Helper.start(layout, [a.memory, b.memory], build);
    for (const side of [a, b]) side.engine.shareJobs(workers > 1);
    return new Pair(connections, a, b, await instantiateAead(a.memory, build), helper);
  }

  /** Ends the second thread. */
  async stop(): Promise<void> {
    await this.#helper?.stop();
  }

  /** Nanoseconds per packet in each direction: every connection in turn, a batch of messages at a time. */
  measure(load: Load, milliseconds: number): { readonly outbound: number; readonly inbound: number } {
    this.#helper?.setActive(true);
    const result = this.#measure(load, milliseconds);
    this.#helper?.setActive(false);
    return result;
  }

  #measure(load: Load, milliseconds: number): { readonly outbound: number; readonly inbound: number } {
    const a = this.#a;
    const b = this.#b;
    const messages = b.engine.receiveCapacity;
    // Trains fill a message; single packets are taken from a batch of as many frames.
    const frames = load.packetsPerFrame > 1 ? 8 : messages;
    const frame = buildFrame(load);
    // Small frames are held where they were read, behind each other.
    const places = frame.length <= FRAME_PLACE ? HELD_FRAMES : 1;
    for (let i = 0; i < places; i++) a.bytes.set(frame, a.engine.tunReadAddress + FRAME_PLACE * i);
    let outboundTime = 0n;
    let inboundTime = 0n;
    let packets = 0;
    let delivered = 0;
    const budget = BigInt(milliseconds * 1e6);
    while (outboundTime + inboundTime < budget) {
      const start = process.hrtime.bigint();
      for (let i = 0; i < frames; i++) {
        // Both addresses are the client's: it is the destination here and the source there.
        const client = this.#next;
        this.#next = (client + STRIDE) % this.connections;
        const at = a.engine.tunReadAddress + 10;
        a.view.setUint16(at + 14, client);
        a.view.setUint16(at + 18, client);
        if (!a.engine.hold(frame.length)) a.engine.outboundHeld(0);
      }
      a.engine.outboundHeld(0);
      a.engine.finishSealing();
      const count = a.engine.transmitCount(4);
      outboundTime += process.hrtime.bigint() - start;
      packets += frames * load.packetsPerFrame;
      delivered += this.#carry(count, () => {
        const arrival = process.hrtime.bigint();
        const received = b.engine.inbound(4, count, 51820, 0);
        inboundTime += process.hrtime.bigint() - arrival;
        return received;
      });
      a.engine.transmitDone(4, count);
    }
    if (delivered === 0 || b.tables.counters().some((drops) => drops > 0)) throw new Error("packets were lost");
    return { outbound: Number(outboundTime) / packets, inbound: Number(inboundTime) / packets };
  }

  /** Copies A's waiting messages into B's receive buffers, and has B handle them. */
  #carry(count: number, receive: () => number): number {
    const a = this.#a;
    const b = this.#b;
    if (count > b.engine.receiveCapacity) throw new Error(`${count} messages do not fit`);
    b.engine.prepareReceive(4);
    const sent = a.engine.transmitMessagesAddress(4);
    const received = b.engine.receiveMessagesAddress(4);
    for (let i = 0; i < count; i++) {
      const from = sent + 64 * i;
      const to = received + 64 * i;
      const vector = a.pointer(from + 16);
      const base = a.pointer(vector);
      const length = a.pointer(vector + 8);
      b.bytes.set(a.bytes.subarray(base, base + length), b.pointer(b.pointer(to + 16)));
      b.view.setUint32(to + 56, length, true);
      // UDP_SEGMENT becomes UDP_GRO; it is the last control message.
      const control = a.pointer(from + 32) + a.pointer(from + 40) - 24;
      const isTrain = a.pointer(from + 40) >= 24 && a.view.getInt32(control + 12, true) === 103;
      if (isTrain) {
        const target = b.pointer(to + 32);
        b.view.setBigUint64(target, 20n, true);
        b.view.setInt32(target + 8, 17, true);
        b.view.setInt32(target + 12, 104, true);
        b.view.setInt32(target + 16, a.view.getUint16(control + 16, true), true);
      }
      b.view.setBigUint64(to + 40, isTrain ? 24n : 0n, true);
    }
    return receive();
  }

  /** Nanoseconds per packet of sealing and opening alone, in batches as long as a frame, eight at least. */
  measureAead(load: Load, milliseconds: number): { readonly seal: number; readonly open: number } {
    const { view, engine, layout } = this.#a;
    const region = layout.regions[0] ?? 0;
    const scratch = region + SCRATCH;
    const key = scratch + SCRATCH_SIZE;
    const descriptors = key + 64;
    const texts = engine.receiveMessagesAddress(6) + 65536;
    const count = Math.max(8, load.packetsPerFrame);
    for (let i = 0; i < count; i++) {
      view.setUint32(descriptors + 8 * i, texts + i * (load.packetLength + 32), true);
      view.setUint32(descriptors + 8 * i + 4, load.packetLength, true);
    }
    const seal = timePerCall(milliseconds, () => this.#aead.sealPackets(count, key, 1n, descriptors, scratch));
    // Opening in place undoes sealing: both take turns, and sealing is subtracted.
    const open = timePerCall(milliseconds, () => {
      this.#aead.sealPackets(count, key, 1n, descriptors, scratch);
      for (let i = 0; i < count; i++) {
        const descriptor = descriptors + 4096 + 24 * i;
        const text = texts + i * (load.packetLength + 32);
        view.setUint32(descriptor, text, true);
        view.setUint32(descriptor + 4, text, true);
        view.setUint32(descriptor + 8, load.packetLength, true);
        view.setBigUint64(descriptor + 16, 1n + BigInt(i), true);
      }
      this.#aead.openPackets(count, key, descriptors + 4096, scratch);
    });
    return { seal: seal / count, open: (open - seal) / count };
  }
}

function timePerCall(milliseconds: number, call: () => void): number {
  const budget = BigInt(milliseconds * 1e6);
  const start = process.hrtime.bigint();
  let calls = 0;
  let elapsed = 0n;
  while (elapsed < budget) {
    for (let i = 0; i < 16; i++) call();
    calls += 16;
    elapsed = process.hrtime.bigint() - start;
  }
  return Number(elapsed) / calls;
}

/** A frame of the load from and to 100.64.0.0; the caller changes the lower halves of the addresses. */
function buildFrame(load: Load): Uint8Array {
  const isTrain = load.packetsPerFrame > 1;
  const header = isTrain ? 40 : 28;
  const size = load.packetLength - header;
  const frame = new Uint8Array(10 + header + size * load.packetsPerFrame);
  const view = new DataView(frame.buffer);
  for (let i = 10 + header; i < frame.length; i++) frame[i] = (i * 31) & 255;
  if (isTrain) {
    frame.set([1, 1], 0);
    view.setUint16(2, header, true);
    view.setUint16(4, size, true);
    view.setUint16(6, 20, true);
    view.setUint16(8, 16, true);
  }
  view.setUint16(10, 0x4500);
  view.setUint16(12, frame.length - 10);
  view.setUint16(16, 0x4000);
  frame[18] = 64;
  frame[19] = isTrain ? 6 : 17;
  frame.set([100, 64, 0, 0], 22);
  frame.set([100, 64, 0, 0], 26);
  view.setUint16(30, 5000);
  view.setUint16(32, 5001);
  if (isTrain) {
    view.setUint16(42, 0x5010);
    view.setUint16(44, 512);
  } else {
    view.setUint16(34, frame.length - 30);
  }
  return frame;
}
