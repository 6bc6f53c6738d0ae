// The loop of a relay's worker: what has come to the sockets that are ready leaves by others before anything else is received, so nothing
// is copied and nothing waits. A batch takes from many sockets, because most of them bring one datagram only, and what leaves by the socket
// of the clients leaves at once. A full socket loses datagrams, as any router does; they are counted.
//
//        ┌──────────── epoll: clients' sockets, sockets of allocations, event counter ◄────────────────┐
//        ▼                                                                                             │
//   stop? ─► per ready socket: receive ─► engine ─► batch full, or no more sockets: per run: send ─────┘

import { Drop } from "../../assembly/abi.js";
import { MMSGHDR_SIZE } from "../../assembly/regions.js";
import type { Instant } from "../base/time.js";
import type { RelayEngine } from "../engine/relay-engine.js";
import { Errno, SystemCallError } from "../system/linux/errno.js";
import { Statistic, type WorkerControl, WorkerState } from "./control-block.js";
import type { DatapathIo } from "./io.js";
import { checkWait, receiveMessages } from "./receive.js";

/** Number of the event counter in the epoll set; sockets have lower ones. */
export const WAKE_NUMBER = 0xffff_ffff;

/** Times that one socket is received from before the next has its turn. */
const DRAIN_LIMIT = 4;

/** What a relay loop needs to wait: see {@link import("../system/linux/epoll.js").EpollWaiter}. */
export interface RelayWaiter {
  wait(timeout: number): number;
  number(i: number): number;
}

/** What a relay loop works with. */
export interface RelayLoopParts {
  readonly engine: RelayEngine;
  readonly io: Pick<DatapathIo, "send" | "receive" | "errno">;
  readonly waiter: RelayWaiter;
  readonly control: WorkerControl;
  /** Sets the event counter back by which the main thread wakes the worker. */
  readonly clearWake: () => void;
  /** Monotonic clock; must not allocate. */
  readonly now: () => Instant;
  /** Tells the main thread that exceptions wait. */
  readonly signalExceptions: () => void;
}

/** The loop of one worker. */
export class RelayLoop {
  readonly #parts: RelayLoopParts;
  readonly #statistics: Float64Array;

  constructor(parts: RelayLoopParts) {
    this.#parts = parts;
    this.#statistics = parts.control.statistics;
  }

  /** Works until the main thread asks to stop. Throws what ends the worker: an error of the kernel, a bug. */
  run(): void {
    this.#parts.control.enter(WorkerState.Running);
    while (this.turn());
    this.#parts.control.enter(WorkerState.Stopped);
  }

  /** One round: sleeps until there is work and does a bounded amount of it. Returns whether to go on. */
  turn(): boolean {
    const { control, engine, io, waiter } = this.#parts;
    if (control.stopWanted) return false;
    engine.enterQuiescent();
    const ready = waiter.wait(-1);
    engine.leaveQuiescent();
    checkWait(ready, io, "epoll_wait");
    const now = this.#parts.now();
    for (let i = 0; i < ready; i++) {
      const number = waiter.number(i);
      if (number === WAKE_NUMBER) this.#parts.clearWake();
      else this.#receive(number, now);
    }
    this.#sendBatch();
    if (engine.exceptionsPending()) this.#parts.signalExceptions();
    return true;
  }

  #receive(socket: number, now: Instant): void {
    const { engine, io } = this.#parts;
    const fd = engine.fd(socket);
    const family = engine.family(socket);
    for (let i = 0; fd >= 0 && i < DRAIN_LIMIT; i++) {
      let room = engine.prepareReceive(family);
      if (room === 0) {
        this.#sendBatch();
        room = engine.prepareReceive(family);
      }
      const count = receiveMessages(io, this.#statistics, fd, family, engine.receiveAddress(family), room);
      if (count === -1) return;
      engine.relay(socket, count, now);
      if (count < room) return;
    }
  }

  /** Sends what was received since the last time. */
  #sendBatch(): void {
    const { engine } = this.#parts;
    const runs = engine.runs;
    for (let run = 0; run < runs; run++) {
      engine.selectRun(run);
      this.#send(engine.runFd, engine.runFirst, engine.runCount);
    }
    engine.begin();
  }

  /** Sends messages through one socket. */
  #send(fd: number, first: number, count: number): void {
    const { engine, io } = this.#parts;
    const end = first + count;
    for (let next = first; next < end; ) {
      const sent = io.send(fd, engine.messageAddress(next), end - next);
      if (sent > 0) {
        this.#count(Statistic.SendCalls, 1);
        this.#count(Statistic.SentMessages, sent);
        next += sent;
        continue;
      }
      const code = io.errno();
      if (code === Errno.EINTR) continue;
      if (code === Errno.EAGAIN) {
        this.#count(Statistic.SendBlocked, 1);
        this.#drop(end - next);
        return;
      }
      this.#recover(fd, next, code);
      next++;
    }
  }

  /** What can be done about a message that the kernel refused. */
  #recover(fd: number, message: number, code: number): void {
    const { engine } = this.#parts;
    switch (code) {
      // No checksum offload on the way out: the kernel cannot segment there.
      case Errno.EIO:
        engine.setSegmentationOffload(false);
        this.#statistics[Statistic.SegmentationRefused] = 1;
        this.#sendSplit(fd, message);
        return;
      // Larger than the link: the kernel fragments single datagrams, but does not segment into such.
      case Errno.EINVAL:
      case Errno.EMSGSIZE:
        this.#sendSplit(fd, message);
        return;
      case Errno.EBADF:
      case Errno.EFAULT:
        throw new SystemCallError("sendmmsg UDP", code);
      default:
        this.#drop(1);
    }
  }

  #sendSplit(fd: number, message: number): void {
    const { engine, io } = this.#parts;
    const count = engine.split(message);
    if (count < 2) {
      this.#drop(1);
      return;
    }
    for (let next = 0; next < count; ) {
      const sent = io.send(fd, engine.splitAddress + MMSGHDR_SIZE * next, count - next);
      if (sent > 0) {
        next += sent;
      } else if (io.errno() !== Errno.EINTR) {
        this.#drop(1);
        next++;
      }
    }
  }

  #drop(count: number): void {
    this.#parts.engine.countDrop(Drop.UdpSendFailed, count);
    this.#count(Statistic.SendErrors, count);
  }

  #count(statistic: Statistic, amount: number): void {
    this.#statistics[statistic] = (this.#statistics[statistic] ?? 0) + amount;
  }
}
