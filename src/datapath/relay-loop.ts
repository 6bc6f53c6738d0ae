// The loop of a relay's worker: what comes to a socket leaves by others before anything else is received, so nothing is copied and
// nothing waits. A full socket loses datagrams, as any router does; they are counted.
//
//        ┌──────────── epoll: clients' sockets, sockets of allocations, event counter ◄──┐
//        ▼                                                                               │
//   stop? ─► per ready socket: receive a batch ─► engine ─► per run: send ───────────────┘

import { Drop } from "../../assembly/abi.js";
import { MMSGHDR_SIZE } from "../../assembly/regions.js";
import type { Instant } from "../base/time.js";
import type { RelayEngine } from "../engine/relay-engine.js";
import { Errno, SystemCallError } from "../system/linux/errno.js";
import { Statistic, type WorkerControl, WorkerState } from "./control-block.js";
import type { DatapathIo } from "./io.js";
import { isTransientReceiveError } from "./worker-loop.js";

/** Number of the event counter in the epoll set; sockets have lower ones. */
export const WAKE_NUMBER = 0xffff_ffff;

/** Batches received from one socket before the next has its turn. */
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
    if (ready === -1 && io.errno() !== Errno.EINTR) throw new SystemCallError("epoll_wait", io.errno());
    const now = this.#parts.now();
    for (let i = 0; i < ready; i++) {
      const number = waiter.number(i);
      if (number === WAKE_NUMBER) this.#parts.clearWake();
      else this.#relay(number, now);
    }
    if (engine.exceptionsPending()) this.#parts.signalExceptions();
    return true;
  }

  #relay(socket: number, now: Instant): void {
    const { engine, io } = this.#parts;
    const fd = engine.fd(socket);
    const family = engine.family(socket);
    for (let i = 0; fd >= 0 && i < DRAIN_LIMIT; i++) {
      engine.prepareReceive(family);
      const count = io.receive(fd, engine.receiveMessagesAddress(family), engine.receiveCapacity);
      if (count === -1) {
        if (isTransientReceiveError(io.errno())) return;
        throw new SystemCallError(`recvmmsg IPv${family} UDP`, io.errno());
      }
      this.#count(Statistic.ReceiveCalls, 1);
      this.#count(Statistic.ReceivedMessages, count);
      const runs = engine.relay(socket, count, now);
      for (let run = 0; run < runs; run++) {
        engine.selectRun(run);
        this.#send(engine.runFd, engine.runFirst, engine.runCount);
      }
      if (count < engine.receiveCapacity) return;
    }
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
