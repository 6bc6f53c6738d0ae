// Brings the packet engine to full speed before the first packet. V8 compiles WebAssembly quickly first and well only after some
// dozens of calls; the well compiled code belongs to the module, which all threads of the process share. So packets go round in
// a memory of their own, out and in again, until they are fast. Nothing else sees them.

import { IpAddress, IpPrefix, SocketAddress } from "../base/address.js";
import { Engine } from "../engine/engine.js";
import { createLayout, createMemory } from "../engine/layout.js";
import type { EngineBuild } from "../engine/module.js";
import { Tables } from "../engine/tables.js";
import type { SharedMemory } from "../engine/webassembly.js";
import { VIRTIO_HEADER_LENGTH } from "../system/linux/tun.js";

/** Rounds of each kind of frame; V8 is at full speed after about 40 calls (design, section 1.3). */
const ROUNDS = 40;

const HEADER_LENGTH = 40;
/** Payload of one TCP segment at the tunnel's usual MTU of 1280, and segments of a full frame. */
const SEGMENT_SIZE = 1240;
const SEGMENTS = 48;

const LOCAL = IpAddress.fromBytes(Uint8Array.of(192, 0, 2, 1));
const REMOTE = IpAddress.fromBytes(Uint8Array.of(192, 0, 2, 2));

let warmedUp: Promise<void> | undefined;

/**
 * Sends packets round until the engine's code is compiled well: 20 to 30 ms, once per process; resolves at once later.
 *
 * @throws Error when a packet does not come back: an engine that cannot be used.
 */
export function warmUpEngine(build: EngineBuild): Promise<void> {
  warmedUp ??= sendRound(build);
  return warmedUp;
}

async function sendRound(build: EngineBuild): Promise<void> {
  const layout = createLayout({
    connections: 2,
    sessions: 4,
    paths: 4,
    routes: 4,
    filters: 4,
    rules: 4,
    ringBytes: 2 ** 18,
  });
  const memory = createMemory(layout);
  const tables = await Tables.create({ memory, layout });
  connectToItself(tables);
  const engine = await Engine.create({ memory, layout, slot: 0, build });
  engine.setTunOffloads({ checksum: true, tso: true, uso: true });
  const loop = new Loop(engine, memory);
  for (let round = 0; round < ROUNDS; round++) {
    const frames = loop.send(SEGMENTS, round) + loop.send(1, round);
    if (frames !== 2) throw new Error(`the packet engine made ${frames} of 2 frames: drops ${tables.counters()}`);
  }
}

/** Two connections, each the other's peer: packets go out by one and come in by the other. */
function connectToItself(tables: Tables): void {
  for (const [localIndex, remoteIndex, peer] of [
    [1, 2, REMOTE],
    [2, 1, LOCAL],
  ] as const) {
    const connection = tables.allocateConnection({ filtered: false, learnEndpoint: false });
    if (connection === undefined) throw new Error("the tables are too small to warm up");
    const key = new Uint8Array(32);
    tables.installSession({
      connection,
      localIndex,
      remoteIndex,
      sendKey: key,
      receiveKey: key,
      confirmed: true,
      createdAt: 0,
    });
    tables.setCurrentSession(connection, localIndex);
    tables.setPath(connection, { local: undefined, remote: new SocketAddress(peer, 1) });
    tables.setRoute(IpPrefix.host(peer), connection);
  }
}

/** Carries messages from the engine's transmit queue to its receive buffers, as the kernel would. */
class Loop {
  readonly #engine: Engine;
  readonly #view: DataView;
  readonly #bytes: Uint8Array;

  constructor(engine: Engine, memory: SharedMemory) {
    this.#engine = engine;
    this.#view = new DataView(memory.buffer);
    this.#bytes = new Uint8Array(memory.buffer);
  }

  /** One TCP frame of `segments` segments, out and in; returns how many frames it came back as. */
  send(segments: number, round: number): number {
    const engine = this.#engine;
    const at = engine.tunReadAddress;
    const length = VIRTIO_HEADER_LENGTH + HEADER_LENGTH + segments * SEGMENT_SIZE;
    this.#bytes.fill(0, at, at + VIRTIO_HEADER_LENGTH + HEADER_LENGTH);
    this.#writeHeaders(at, segments, round);
    engine.outbound(length, 0);
    let frames = 0;
    while (engine.transmitCount(4) > 0) {
      frames += this.#carry(engine.transmitMessagesAddress(4));
      engine.transmitDone(4, 1);
    }
    return frames;
  }

  #writeHeaders(at: number, segments: number, round: number): void {
    const view = this.#view;
    const ip = at + VIRTIO_HEADER_LENGTH;
    const tcp = ip + 20;
    // virtio_net_hdr: checksum needed, TCPv4, segment size, checksum start and offset.
    view.setUint8(at, 1);
    if (segments > 1) {
      view.setUint8(at + 1, 1);
      view.setUint16(at + 2, HEADER_LENGTH, true);
      view.setUint16(at + 4, SEGMENT_SIZE, true);
    }
    view.setUint16(at + 6, 20, true);
    view.setUint16(at + 8, 16, true);
    view.setUint8(ip, 0x45);
    view.setUint16(ip + 2, HEADER_LENGTH + segments * SEGMENT_SIZE);
    view.setUint8(ip + 6, 0x40);
    view.setUint8(ip + 8, 64);
    view.setUint8(ip + 9, 6);
    this.#bytes.set(LOCAL.bytes, ip + 12);
    this.#bytes.set(REMOTE.bytes, ip + 16);
    view.setUint32(tcp + 4, round * SEGMENTS * SEGMENT_SIZE);
    view.setUint16(tcp + 12, 0x5010);
  }

  /** Copies the `struct mmsghdr` at `from` with its data into the first receive message, with UDP_GRO for UDP_SEGMENT. */
  #carry(from: number): number {
    const engine = this.#engine;
    const view = this.#view;
    engine.prepareReceive(4);
    const to = engine.receiveMessagesAddress(4);
    const source = this.#pointer(from + 16);
    const target = this.#pointer(to + 16);
    const length = view.getUint32(source + 8, true);
    const data = this.#pointer(source);
    this.#bytes.copyWithin(this.#pointer(target), data, data + length);
    view.setUint32(to + 56, length, true);
    view.setUint32(this.#pointer(to), 2, true);
    const segmented = view.getUint32(from + 40, true) > 0;
    view.setUint32(to + 40, segmented ? 24 : 0, true);
    if (segmented) {
      const control = this.#pointer(to + 32);
      view.setUint32(control, 20, true);
      view.setUint32(control + 8, 17, true);
      view.setUint32(control + 12, 104, true);
      view.setUint32(control + 16, view.getUint16(this.#pointer(from + 32) + 16, true), true);
    }
    return engine.inbound(4, 1, 1, 0);
  }

  /** A pointer in a kernel structure: the engine of a warm-up has host base 0, so it is an offset. */
  #pointer(at: number): number {
    return this.#view.getUint32(at, true);
  }
}
