// A thread's instance of the engine as a relay: received messages in, messages to send out, in runs for one socket each. JavaScript makes
// one call per receive and touches no datagram. The work is done in assembly/relay.
//
//    begin ─► per socket: prepareReceive ─► recvmmsg(receiveAddress) ─► relay ─► per run: sendmmsg(messageAddress(first), count) ─► begin

import type { Drop } from "../../assembly/abi.js";
import { MMSGHDR_SIZE, SPLIT_HEADERS, TRANSMIT_4 } from "../../assembly/regions.js";
import {
  IN_MESSAGES,
  OUT_RUNS,
  RELAY_SOCKETS,
  RUN_COUNT,
  RUN_FD,
  RUN_FIRST,
  SOCKET_FAMILY,
  SOCKET_FD,
  SOCKET_SIZE,
} from "../../assembly/relay/records.js";
import type { AddressFamily } from "../base/address.js";
import type { Instant } from "../base/time.js";
import { Engine } from "./engine.js";
import { HostAddresses } from "./host-addresses.js";
import { type EngineExports, instantiate } from "./module.js";
import type { RelayLayout } from "./relay-tables.js";
import type { SharedMemory } from "./webassembly.js";

/** What a {@link RelayEngine} works on. */
export interface RelayEngineOptions {
  readonly memory: SharedMemory;
  readonly layout: RelayLayout;
  /** 1 and up: number of the worker. */
  readonly slot: number;
  /** Address of the memory in this process, for the kernel; 0 (the default) where nothing is handed to the kernel. */
  readonly hostBase?: number;
}

/** See the head of this file. Not to be shared among threads. */
export class RelayEngine {
  readonly #engine: Engine;
  readonly #exports: EngineExports;
  readonly #region: number;
  readonly #relay: number;
  readonly #sockets: number;
  readonly #addresses: HostAddresses;
  readonly #words: Int32Array;
  #run = 0;

  private constructor(options: RelayEngineOptions, engine: Engine, exports: EngineExports, region: number) {
    const { memory, layout, hostBase = 0 } = options;
    this.#engine = engine;
    this.#exports = exports;
    this.#region = region;
    this.#relay = layout.relay;
    this.#addresses = new HostAddresses(hostBase);
    this.#words = new Int32Array(memory.buffer);
    this.#sockets = this.#words[(layout.relay + RELAY_SOCKETS) / 4] ?? 0;
    this.begin();
  }

  /** @throws RangeError when the layout has no such slot; Error when the program was not built. */
  static async create(options: RelayEngineOptions): Promise<RelayEngine> {
    const { memory, layout, slot, hostBase = 0 } = options;
    const engine = await Engine.create({ memory, layout: layout.engine, slot, hostBase });
    const exports = await instantiate(memory);
    return new RelayEngine(options, engine, exports, layout.engine.regions[slot] ?? 0);
  }

  /** File descriptor of a socket; -1 when it was removed. */
  fd(socket: number): number {
    return Atomics.load(this.#words, (this.#sockets + socket * SOCKET_SIZE + SOCKET_FD) / 4);
  }

  /** Family of a socket. */
  family(socket: number): AddressFamily {
    return this.#words[(this.#sockets + socket * SOCKET_SIZE + SOCKET_FAMILY) / 4] === 6 ? 6 : 4;
  }

  /** Begins a batch. What the last one had to send has been sent. */
  begin(): void {
    this.#exports.beginRelayBatch(this.#region);
  }

  /** Prepares to receive at `receiveAddress`; returns how many messages there is room for. 0: send, and begin another batch. */
  prepareReceive(family: AddressFamily): number {
    return this.#exports.prepareRelayReceive(this.#region, family);
  }

  /** Address of the headers to receive into. */
  receiveAddress(family: AddressFamily): number {
    const used = this.#words[(this.#region + IN_MESSAGES) / 4] ?? 0;
    return this.#engine.receiveMessagesAddress(family) + used * MMSGHDR_SIZE;
  }

  /** Handles the next `count` messages of the batch, which came to a socket. */
  relay(socket: number, count: number, now: Instant): void {
    this.#exports.relayDatagrams(this.#region, this.#relay, socket, count, now);
  }

  /** Runs that the batch has to send. */
  get runs(): number {
    return this.#words[(this.#region + OUT_RUNS) / 4] ?? 0;
  }

  /** Chooses the run that the following speak of. */
  selectRun(i: number): void {
    this.#run = this.#exports.relayRun(this.#region, i) / 4;
  }

  get runFd(): number {
    return this.#words[this.#run + RUN_FD / 4] ?? -1;
  }

  get runFirst(): number {
    return this.#words[this.#run + RUN_FIRST / 4] ?? 0;
  }

  get runCount(): number {
    return this.#words[this.#run + RUN_COUNT / 4] ?? 0;
  }

  /** Address of a message to send. */
  messageAddress(i: number): number {
    return this.#addresses.at(this.#exports.relayMessage(this.#region, i));
  }

  /** Makes a message that the kernel does not segment several, at `splitAddress`; returns their number. */
  split(i: number): number {
    return this.#exports.splitRelayed(this.#region, i);
  }

  get splitAddress(): number {
    return this.#addresses.at(this.#region + TRANSMIT_4 + SPLIT_HEADERS);
  }

  /** As the methods of {@link Engine} of these names. */
  setSegmentationOffload(on: boolean): void {
    this.#engine.setSegmentationOffload(on);
  }

  countDrop(reason: Drop, n: number): void {
    this.#engine.countDrop(reason, n);
  }

  exceptionsPending(): boolean {
    return this.#engine.exceptionsPending();
  }

  enterQuiescent(): void {
    this.#engine.enterQuiescent();
  }

  leaveQuiescent(): void {
    this.#engine.leaveQuiescent();
  }
}
