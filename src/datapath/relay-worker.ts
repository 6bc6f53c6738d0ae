// Entry of a relay's worker thread: makes the engine of its slot and runs the loop until the main thread asks it to stop.

import { release } from "node:os";
import { RelayEngine } from "../engine/relay-engine.js";
import type { RelayLayout } from "../engine/relay-tables.js";
import type { SharedMemory } from "../engine/webassembly.js";
import { EpollWaiter } from "../system/linux/epoll.js";
import { clearEventCounter } from "../system/linux/eventfd.js";
import { addressOf, allocate } from "../system/linux/libc.js";
import { monotonicClock } from "../system/linux/monotonic-clock.js";
import { segmentationIsSound } from "../system/linux/udp.js";
import { WorkerControl } from "./control-block.js";
import { linuxIo } from "./io.js";
import type { WorkerTaskBase } from "./pool.js";
import { RelayLoop } from "./relay-loop.js";
import { signalExceptions } from "./signal.js";

/** Sockets handled per wait at most: the others have their turn in the next. */
const EVENTS = 64;

/** What the main thread gives the worker. */
export interface RelayTask {
  readonly memory: SharedMemory;
  readonly layout: RelayLayout;
  /** File descriptor of the set of sockets. */
  readonly epollFd: number;
}

/** Runs the worker; see {@link RelayLoop}. Throws what ends it. */
export default async function relayWorker(task: RelayTask & WorkerTaskBase): Promise<void> {
  const { memory, layout, index } = task;
  const hostBase = addressOf(new Uint8Array(memory.buffer));
  const engine = await RelayEngine.create({ memory, layout, slot: index + 1, hostBase });
  engine.setSegmentationOffload(segmentationIsSound(release()));
  const scratch = allocate(8);
  const loop = new RelayLoop({
    engine,
    io: linuxIo,
    waiter: new EpollWaiter(task.epollFd, EVENTS),
    control: new WorkerControl(task.block, index, task.workers),
    clearWake: () => clearEventCounter(task.wakeFd, scratch.address),
    now: monotonicClock(),
    signalExceptions: signalExceptions(memory, layout.engine),
  });
  loop.run();
}
