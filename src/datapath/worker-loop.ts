// The loop of a datapath worker, run to completion: what comes in on one side goes out on the other before anything else is looked
// at. It sleeps in poll and allocates nothing per packet. Order and limits (design, section 1.2; datapath findings):
//
//        ┌────────────────────────── poll: TUN, UDP IPv4, UDP IPv6, event counter ◄─────────────────┐
//        ▼                                                                                          │
//   another assignment? stop? ─► receive IPv4 ─► receive IPv6 ─► flush what waited ─► TUN: seal, send ─┘
//
// A worker that was woken by a busier one does its jobs meanwhile (work-sharing.ts).
//
// - Each source is drained up to a limit, then the next one has its turn; poll does not sleep while a source has more.
// - A full socket holds up the TUN device, never the receiving side: the kernel's queue of the device is the right place to wait,
//   because TCP above it notices. Sending goes on when poll reports room.

import type { AddressFamily } from "../base/address.js";
import type { Instant } from "../base/time.js";
import type { WorkerEngine } from "../engine/engine.js";
import { POLLERR, POLLHUP, POLLIN, POLLNVAL, POLLOUT } from "../system/linux/libc.js";
import { PollSet } from "../system/linux/poll.js";
import { AssignmentFlag, Statistic, type WorkerControl, WorkerState } from "./control-block.js";
import type { DatapathIo } from "./io.js";
import { checkWait, receiveMessages } from "./receive.js";
import { BLOCKED_LIMIT, Transmitter } from "./transmitter.js";
import { TunPort } from "./tun-port.js";
import type { WorkSharing } from "./work-sharing.js";

/** Frames read from the TUN device, or datagram buffers received from a socket, before the next source has its turn. */
export const DRAIN_LIMIT = 16;

/** Bytes of TUN frames after which the sealed datagrams leave: half a full frame, so that big frames leave at once. */
const FLUSH_BYTES = 32 * 1024;

/** What a worker loop works with. */
export interface WorkerLoopParts {
  readonly engine: WorkerEngine;
  readonly io: DatapathIo;
  readonly control: WorkerControl;
  readonly sharing: WorkSharing;
  /** The engine's memory, and the host address of its first byte. */
  readonly memory: Uint8Array;
  readonly hostBase: number;
  /** File descriptor of the event counter by which the main thread wakes the worker. */
  readonly wakeFd: number;
  /** Sets that counter back. */
  readonly clearWake: () => void;
  /** Monotonic clock; must not allocate. */
  readonly now: () => Instant;
  /** Tells the main thread that exceptions wait. */
  readonly signalExceptions: () => void;
  /** Counts frames that the TUN device refused. */
  readonly countTunWriteError: () => void;
}

/** Entries of the poll set. */
enum Entry {
  Wake,
  Tun,
  Udp4,
  Udp6,
  Count,
}

/** The loop of one worker. */
export class WorkerLoop {
  readonly #parts: WorkerLoopParts;
  readonly #transmitter: Transmitter;
  readonly #tun: TunPort;
  readonly #pollSet = new PollSet(Entry.Count);
  readonly #statistics: Float64Array;
  #generation = 0;
  #udp4 = -1;
  #udp6 = -1;
  #port4 = 0;
  #port6 = 0;
  /** Whether a source stopped at its limit in the last turn, so that more waits there. */
  #more = false;

  constructor(parts: WorkerLoopParts) {
    const { engine, io, control, memory, hostBase } = parts;
    this.#parts = parts;
    this.#statistics = control.statistics;
    this.#transmitter = new Transmitter(engine, io, control.statistics);
    this.#tun = new TunPort(engine, io, control.statistics, memory, hostBase, parts.countTunWriteError);
    this.#pollSet.set(Entry.Wake, parts.wakeFd, POLLIN);
  }

  /** Works until the main thread asks to stop. Throws what ends the worker: removal of the device, an error of the kernel, a bug. */
  run(): void {
    this.#parts.control.enter(WorkerState.Running);
    while (this.turn());
    this.#parts.control.enter(WorkerState.Stopped);
  }

  /** One round: sleeps until there is work and does a bounded amount of it. Returns whether to go on. */
  turn(): boolean {
    const { control } = this.#parts;
    if (control.wanted !== this.#generation) this.#adopt();
    if (control.stopWanted) return false;
    this.#wait();
    if (this.#isReady(Entry.Wake)) {
      this.#parts.clearWake();
      this.#parts.sharing.beginHelping();
      // File descriptors may be about to change: look before using them.
      if (control.wanted !== this.#generation || control.stopWanted) {
        this.#more = true;
        return true;
      }
    }
    this.#work();
    this.#share();
    return true;
  }

  /** Gets help for this worker, or helps another. */
  #share(): void {
    const { sharing } = this.#parts;
    if (sharing.alone) return;
    sharing.endTurn(this.#parts.now());
    this.#count(Statistic.JobsHelped, sharing.help());
  }

  #adopt(): void {
    const { control } = this.#parts;
    const generation = control.wanted;
    const { tun, udp4, udp6, port4, port6, flags } = control.assignment();
    this.#udp4 = udp4;
    this.#udp6 = udp6;
    this.#port4 = port4;
    this.#port6 = port6;
    this.#transmitter.useSockets(udp4, udp6, (flags & AssignmentFlag.UdpSegmentation) !== 0);
    this.#tun.useDevice(tun, flags);
    // What waited for a full socket.
    this.#transmitter.flush(this.#parts.now());
    this.#generation = generation;
    this.#more = false;
    control.adopt(generation);
  }

  /** Sleeps in poll. Readers of the tables may reuse what was removed from them meanwhile: this worker holds nothing. */
  #wait(): void {
    const { engine, io } = this.#parts;
    const transmitter = this.#transmitter;
    const blocked = transmitter.blocked;
    this.#pollSet.set(Entry.Tun, blocked ? -1 : this.#tun.fd, POLLIN);
    this.#pollSet.set(Entry.Udp4, this.#udp4, transmitter.isBlocked(4) ? POLLIN | POLLOUT : POLLIN);
    this.#pollSet.set(Entry.Udp6, this.#udp6, transmitter.isBlocked(6) ? POLLIN | POLLOUT : POLLIN);
    const timeout = this.#more || this.#parts.sharing.helping ? 0 : blocked ? BLOCKED_LIMIT : -1;
    if (timeout !== 0) this.#count(Statistic.Sleeps, 1);
    engine.enterQuiescent();
    const ready = io.wait(this.#pollSet, timeout);
    engine.leaveQuiescent();
    checkWait(ready, io, "poll");
  }

  #work(): void {
    const now = this.#parts.now();
    this.#more = false;
    if (this.#isReady(Entry.Udp4)) this.#receive(4, this.#udp4, this.#port4, now);
    if (this.#isReady(Entry.Udp6)) this.#receive(6, this.#udp6, this.#port6, now);
    if (this.#transmitter.blocked) this.#transmitter.flush(now);
    if (!this.#transmitter.blocked && this.#isReady(Entry.Tun)) this.#drainTun(now);
    if (this.#parts.engine.exceptionsPending()) this.#parts.signalExceptions();
  }

  /** Whether poll found something; an error counts, because the call on the file descriptor will name it. */
  #isReady(entry: Entry): boolean {
    return (this.#pollSet.ready(entry) & (POLLIN | POLLERR | POLLHUP | POLLNVAL)) !== 0;
  }

  #receive(family: AddressFamily, fd: number, port: number, now: Instant): void {
    const { engine, io } = this.#parts;
    for (let taken = 0; taken < DRAIN_LIMIT; taken += engine.receiveCapacity) {
      engine.prepareReceive(family);
      const address = engine.receiveMessagesAddress(family);
      const count = receiveMessages(io, this.#statistics, fd, family, address, engine.receiveCapacity);
      if (count === -1) return;
      this.#tun.writeFrames(engine.inbound(family, count, port, now));
      if (count < engine.receiveCapacity) return;
    }
    this.#more = true;
  }

  #drainTun(now: Instant): void {
    const { engine } = this.#parts;
    let bytes = 0;
    for (let i = 0; i < DRAIN_LIMIT; i++) {
      const length = this.#tun.read();
      if (length === 0) {
        engine.outboundHeld(now);
        this.#flushAll(now);
        return;
      }
      bytes += length;
      if (engine.hold(length)) continue;
      engine.outboundHeld(now);
      if (bytes >= FLUSH_BYTES || engine.transmitFull) {
        this.#transmitter.flush(now);
        if (this.#transmitter.blocked) return;
        bytes = 0;
      }
    }
    engine.outboundHeld(now);
    this.#flushAll(now);
    this.#more = true;
  }

  /** Sends what is sealed while others seal, then the rest. */
  #flushAll(now: Instant): void {
    this.#transmitter.flush(now);
    if (this.#parts.sharing.alone || this.#transmitter.blocked) return;
    this.#parts.engine.finishSealing();
    this.#transmitter.flush(now);
  }

  #count(statistic: Statistic, amount: number): void {
    this.#statistics[statistic] = (this.#statistics[statistic] ?? 0) + amount;
  }
}
