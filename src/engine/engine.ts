// A thread's instance of the packet engine: packets in one direction, kernel message headers in the other. JavaScript makes one
// call per TUN frame and per batch of datagrams and touches no packet. The work is done in assembly/.
//
//    read(tunReadAddress)  ─► hold, outboundHeld ─► sendmmsg(transmitMessagesAddress, transmitCount) ─► transmitDone
//    prepareReceive ─► recvmmsg(receiveMessagesAddress) ─► inbound ─► write(frameAddress(i), frameLength(i))

import type { Drop } from "../../assembly/abi.js";
import {
  CONNECTIONS,
  COUNTERS,
  DOOR,
  EPOCH,
  EXCEPTIONS_PUSHED,
  FILTER_SETS,
  FILTERS,
  FRAME_PLACE,
  FRAMES,
  HELD_COUNT,
  HOST_BASE,
  JOBS_POSTED,
  JOBS_SHARED,
  JOBS_STALLED,
  MERGE_TCP,
  MERGE_UDP,
  PATHS,
  QUEUE_4,
  QUEUE_6,
  QUEUE_FULL,
  RECEIVE_4,
  RECEIVE_6,
  RECEIVE_HEADERS,
  RECEIVE_MESSAGES,
  RING_SIZE,
  ROUTES,
  SEGMENTATION_OFFLOAD,
  SESSION_INDEX,
  SESSIONS,
  TOUCHED,
  TUN_FRAME,
  TUN_FRAME_CAPACITY,
} from "../../assembly/regions.js";
import type { AddressFamily } from "../base/address.js";
import type { Instant } from "../base/time.js";
import { HostAddresses } from "./host-addresses.js";
import type { Layout } from "./layout.js";
import { type EngineBuild, type EngineExports, instantiate } from "./module.js";
import type { SharedMemory } from "./webassembly.js";

/** What an {@link Engine} works on. */
export interface EngineOptions {
  readonly memory: SharedMemory;
  readonly layout: Layout;
  /** 0 for the main thread, 1 to `layout.config.workers` for the workers. Only one engine may exist per slot at a time. */
  readonly slot: number;
  /** Address of the memory in this process, for the kernel; 0 (the default) where nothing is handed to the kernel. */
  readonly hostBase?: number;
  /** Which build of the engine; the one that is good everywhere by default. */
  readonly build?: EngineBuild;
}

/** Which offloads the TUN device has (TUNSETOFFLOAD): checksum, TCP and UDP segmentation. */
export interface TunOffloads {
  readonly checksum: boolean;
  readonly tso: boolean;
  readonly uso: boolean;
}

/** How often a helper looks for jobs before it gives up: some 100 µs, which is longer than a busy worker spends in the kernel between two batches. */
export const HELP_PATIENCE = 20_000;

/**
 * The packet engine as one thread uses it. Not to be shared among threads. All `…Address` values are addresses in the process
 * (`hostBase` added), ready for system calls.
 */
export interface WorkerEngine {
  /** Where to read() the next TUN frame to: virtio_net_hdr (10 bytes) and packet. Changes with every frame that is held. */
  readonly tunReadAddress: number;
  /** Bytes of the largest frame. */
  readonly tunReadCapacity: number;
  /**
   * Takes the frame at `tunReadAddress`, of as many bytes as read() returned, to be handled later: with several small ones at hand the
   * engine waits for memory less. Returns whether another one may be read before {@link WorkerEngine.outboundHeld}.
   */
  hold(frameLength: number): boolean;
  /**
   * Handles the frames that are held, in their order: routes, segments, seals; appends to the transmit queues, or pushes
   * exceptions, or counts drops. Must not be called while `transmitFull`, nor may a frame be held then.
   */
  outboundHeld(now: Instant): void;
  /** Appends an empty transport message for a connection; false (and counted) when it has no usable session or path. */
  sealKeepalive(connection: number, now: Instant): boolean;
  /**
   * Appends the packet of `length` bytes that lies in the TUN buffer behind the virtio header to a connection, whatever the routes say; false
   * as {@link Engine.sealKeepalive}.
   */
  sealForPeer(connection: number, length: number, now: Instant): boolean;

  /**
   * Messages of the transmit queue of a family that can be sent now: sealed and complete. Those that other workers still seal are not
   * counted; see {@link WorkerEngine.finishSealing}.
   */
  transmitCount(family: AddressFamily): number;
  /** Sees that all waiting messages can be sent. */
  finishSealing(): void;
  /** The first of them: an array of struct mmsghdr. Valid until the next call of another method. */
  transmitMessagesAddress(family: AddressFamily): number;
  /** The first `sent` messages left; the others move up. */
  transmitDone(family: AddressFamily, sent: number): void;
  /** The kernel refused the first message for good: drops it and counts its datagrams as `Drop.UdpSendFailed`. */
  transmitDropFirst(family: AddressFamily): void;
  /** The kernel refused the first message for its UDP_SEGMENT (EIO, EINVAL): makes it as many messages as it has datagrams. */
  transmitSplitFirst(family: AddressFamily): void;
  /** Whether one of the queues has no room for another frame: send before the next frame. */
  readonly transmitFull: boolean;
  /** Whether messages may carry several datagrams (UDP_SEGMENT); on at first. Messages that wait already stay as they are. */
  setSegmentationOffload(on: boolean): void;

  /** An array of `receiveCapacity` struct mmsghdr with buffers of 64 KiB. */
  receiveMessagesAddress(family: AddressFamily): number;
  readonly receiveCapacity: number;
  /** Resets the fields that recvmmsg() overwrote. Before every recvmmsg(). */
  prepareReceive(family: AddressFamily): void;
  /**
   * Handles received messages: splits trains of datagrams (UDP_GRO), classifies, opens, checks source and filters, coalesces.
   * The frames stay valid until the next `inbound` or `prepareReceive` of the family.
   *
   * @param messageCount - messages that recvmmsg() returned.
   * @param localPort - port of the socket.
   * @returns the number of frames to write to the TUN device, in order.
   */
  inbound(family: AddressFamily, messageCount: number, localPort: number, now: Instant): number;
  /** The `i`-th frame of the last `inbound`: virtio_net_hdr and packet. */
  frameAddress(i: number): number;
  /** Its bytes. */
  frameLength(i: number): number;
  /** What the TUN device can do; nothing at first. TCP is coalesced with checksum and tso, UDP with checksum and uso. */
  setTunOffloads(offloads: TunOffloads): void;

  /** Whether others may seal and open packets for this worker; off at first. */
  shareJobs(on: boolean): void;
  /** Jobs ever offered to others, and times that this worker had to sleep until another had done its part; both modulo 2^32. */
  readonly jobsPosted: number;
  readonly jobsStalled: number;
  /** Does jobs of other workers; returns how many, 0 after looking `patience` times in vain ({@link HELP_PATIENCE}). */
  help(patience?: number): number;

  /** Adds to this slot's counter of a drop reason. */
  countDrop(reason: Drop, n: number): void;
  /**
   * Whether exceptions were pushed since the last call. If so the caller wakes the main thread: `Atomics.add` and
   * `Atomics.notify` on the Int32 at `layout.exceptionSignal`.
   */
  exceptionsPending(): boolean;
  /** This thread is about to sleep and holds nothing of the tables. Around poll(). */
  enterQuiescent(): void;
  /** This thread is awake and may hold entries of the tables. A thread that never called it counts as quiescent. */
  leaveQuiescent(): void;
}

/** The packet engine of one slot. */
export class Engine implements WorkerEngine {
  readonly tunReadCapacity = TUN_FRAME_CAPACITY;
  readonly receiveCapacity = RECEIVE_MESSAGES;

  readonly #exports: EngineExports;
  readonly #region: number;
  /** Region of the first worker, bytes of a region, number of workers. */
  readonly #firstRegion: number;
  readonly #regionBytes: number;
  readonly #workers: number;
  readonly #addresses: HostAddresses;
  readonly #words: Uint32Array;
  readonly #counters: BigUint64Array;

  private constructor(options: EngineOptions, region: number, exports: EngineExports) {
    this.#exports = exports;
    this.#region = region;
    const { regions, regionBytes, config } = options.layout;
    this.#firstRegion = regions[1] ?? 0;
    this.#regionBytes = regionBytes;
    this.#workers = config.workers;
    this.#addresses = new HostAddresses(options.hostBase ?? 0);
    this.#words = new Uint32Array(options.memory.buffer);
    this.#counters = new BigUint64Array(options.memory.buffer);
  }

  /**
   * The engine of a slot, in its initial state: whatever an earlier engine of the slot left in its queues is gone, its counters
   * and its exception ring stay.
   *
   * @throws RangeError when the layout has no such slot; Error when the program was not built.
   */
  static async create(options: EngineOptions): Promise<Engine> {
    const { memory, layout, slot } = options;
    const region = layout.regions[slot];
    if (region === undefined) throw new RangeError(`the layout has no slot ${slot}`);
    const exports = await instantiate(memory, options.build ?? "narrow");
    const view = new DataView(memory.buffer);
    view.setBigUint64(region + HOST_BASE, BigInt(options.hostBase ?? 0), true);
    for (const [field, value] of [
      [ROUTES, layout.routes],
      [SESSION_INDEX, layout.sessionIndex],
      [SESSIONS, layout.sessions],
      [CONNECTIONS, layout.connections],
      [PATHS, layout.paths],
      [FILTERS, layout.filters],
      [FILTER_SETS, layout.filterSets],
      [DOOR, layout.door],
      [TOUCHED, layout.touched],
      [RING_SIZE, layout.config.ringBytes],
      [SEGMENTATION_OFFLOAD, 1],
      [MERGE_TCP, 0],
      [MERGE_UDP, 0],
    ] as const) {
      view.setUint32(region + field, value, true);
    }
    const engine = new Engine(options, region, exports);
    exports.initialize(region);
    engine.enterQuiescent();
    return engine;
  }

  get tunReadAddress(): number {
    return this.#addresses.at(this.#region + TUN_FRAME + FRAME_PLACE * this.#word(HELD_COUNT));
  }

  hold(frameLength: number): boolean {
    return this.#exports.holdFrame(this.#region, frameLength) !== 0;
  }

  outboundHeld(now: Instant): void {
    this.#exports.outboundHeld(this.#region, now);
  }

  /** Handles one frame, at `tunReadAddress`, at once: `hold` and `outboundHeld`. */
  outbound(frameLength: number, now: Instant): void {
    this.hold(frameLength);
    this.outboundHeld(now);
  }

  sealKeepalive(connection: number, now: Instant): boolean {
    return this.sealForPeer(connection, 0, now);
  }

  sealForPeer(connection: number, length: number, now: Instant): boolean {
    return this.#exports.sealForPeer(this.#region, connection, length, now) !== 0;
  }

  transmitCount(family: AddressFamily): number {
    return this.#exports.transmitReady(this.#region, family);
  }

  finishSealing(): void {
    this.#exports.finishSealing(this.#region);
  }

  transmitMessagesAddress(family: AddressFamily): number {
    return this.#addresses.at(this.#exports.transmitMessages(this.#region, family));
  }

  transmitDone(family: AddressFamily, sent: number): void {
    this.#exports.transmitDone(this.#region, family, sent);
  }

  transmitDropFirst(family: AddressFamily): void {
    this.#exports.transmitDropFirst(this.#region, family);
  }

  transmitSplitFirst(family: AddressFamily): void {
    this.#exports.transmitSplitFirst(this.#region, family);
  }

  get transmitFull(): boolean {
    return this.#word(QUEUE_4 + QUEUE_FULL) !== 0 || this.#word(QUEUE_6 + QUEUE_FULL) !== 0;
  }

  setSegmentationOffload(on: boolean): void {
    this.#setWord(SEGMENTATION_OFFLOAD, on ? 1 : 0);
  }

  receiveMessagesAddress(family: AddressFamily): number {
    return this.#addresses.at(this.#region + (family === 4 ? RECEIVE_4 : RECEIVE_6) + RECEIVE_HEADERS);
  }

  prepareReceive(family: AddressFamily): void {
    this.#exports.prepareReceive(this.#region, family);
  }

  inbound(family: AddressFamily, messageCount: number, localPort: number, now: Instant): number {
    return this.#exports.inbound(this.#region, family, messageCount, localPort, now);
  }

  frameAddress(i: number): number {
    return this.#addresses.at(this.#word(FRAMES + 8 * i));
  }

  frameLength(i: number): number {
    return this.#word(FRAMES + 8 * i + 4);
  }

  setTunOffloads(offloads: TunOffloads): void {
    this.#setWord(MERGE_TCP, offloads.checksum && offloads.tso ? 1 : 0);
    this.#setWord(MERGE_UDP, offloads.checksum && offloads.uso ? 1 : 0);
  }

  shareJobs(on: boolean): void {
    this.#setWord(JOBS_SHARED, on ? 1 : 0);
  }

  get jobsPosted(): number {
    return this.#word(JOBS_POSTED);
  }

  get jobsStalled(): number {
    return this.#word(JOBS_STALLED);
  }

  help(patience = HELP_PATIENCE): number {
    return this.#exports.help(this.#region, this.#firstRegion, this.#regionBytes, this.#workers, patience);
  }

  countDrop(reason: Drop, n: number): void {
    // Only this thread writes the slot's counters: a plain read and an atomic store lose nothing.
    const index = (this.#region + COUNTERS) / 8 + reason;
    Atomics.store(this.#counters, index, (this.#counters[index] ?? 0n) + BigInt(n));
  }

  exceptionsPending(): boolean {
    if (this.#word(EXCEPTIONS_PUSHED) === 0) return false;
    this.#setWord(EXCEPTIONS_PUSHED, 0);
    return true;
  }

  enterQuiescent(): void {
    this.#exports.finishSealing(this.#region);
    this.#setEpoch(0);
  }

  leaveQuiescent(): void {
    this.#setEpoch(1);
  }

  /** Moves the epoch on to an even (quiescent) or odd (active) number; does nothing when it is one already. */
  #setEpoch(parity: 0 | 1): void {
    const index = (this.#region + EPOCH) / 4;
    const epoch = Atomics.load(this.#words, index);
    if ((epoch & 1) !== parity) Atomics.store(this.#words, index, epoch + 1);
  }

  #word(field: number): number {
    return this.#words[(this.#region + field) / 4] ?? 0;
  }

  #setWord(field: number, value: number): void {
    this.#words[(this.#region + field) / 4] = value;
  }
}
