// Entry of a datapath worker thread: makes the engine of its slot and runs the loop until the main thread asks it to stop.

import { Drop } from "../../assembly/abi.js";
import { Engine } from "../engine/engine.js";
import type { Layout } from "../engine/layout.js";
import type { EngineBuild } from "../engine/module.js";
import type { SharedMemory } from "../engine/webassembly.js";
import { clearEventCounter, signalEventCounter } from "../system/linux/eventfd.js";
import { addressOf, allocate } from "../system/linux/libc.js";
import { monotonicClock } from "../system/linux/monotonic-clock.js";
import { WorkerControl } from "./control-block.js";
import { linuxIo } from "./io.js";
import type { WorkerTaskBase } from "./pool.js";
import { signalExceptions } from "./signal.js";
import { WorkSharing } from "./work-sharing.js";
import { WorkerLoop } from "./worker-loop.js";

/** What the main thread gives every worker. */
export interface DatapathTask {
  readonly memory: SharedMemory;
  readonly layout: Layout;
  /** Build of the engine. */
  readonly build: EngineBuild;
}

/** Runs one worker; see {@link WorkerLoop}. Throws what ends it. */
export default async function datapathWorker(task: DatapathTask & WorkerTaskBase): Promise<void> {
  const { memory, layout, build, index } = task;
  const bytes = new Uint8Array(memory.buffer);
  const hostBase = addressOf(bytes);
  touchPages(bytes, layout.regions[index + 1] ?? 0, layout.regionBytes);
  const engine = await Engine.create({ memory, layout, slot: index + 1, hostBase, build });
  const scratch = allocate(8);
  const one = allocate(8);
  one.view.setBigUint64(0, 1n, true);
  const signal = signalExceptions(memory, layout);
  const controls = task.wakeFds.map((_, i) => new WorkerControl(task.block, i, task.workers));
  const control = new WorkerControl(task.block, index, task.workers);
  const loop = new WorkerLoop({
    engine,
    io: linuxIo,
    control,
    sharing: new WorkSharing({
      engine,
      index,
      controls,
      wake: (other) => signalEventCounter(task.wakeFds[other] ?? -1, one.address),
    }),
    memory: bytes,
    hostBase,
    wakeFd: task.wakeFd,
    clearWake: () => clearEventCounter(task.wakeFd, scratch.address),
    now: monotonicClock(),
    signalExceptions: signal,
    countTunWriteError: () => engine.countDrop(Drop.TunWriteFailed, 1),
  });
  loop.run();
}

/** Smallest page of memory that Linux gives out, in bytes. */
const PAGE_SIZE = 4096;

/** Makes the kernel back a range of memory with pages now rather than under the first packets (design, section 6). */
function touchPages(bytes: Uint8Array, start: number, length: number): void {
  // Writing counts, reading does not: untouched pages read as a shared page of zeros.
  for (let at = start; at < start + length; at += PAGE_SIZE) bytes[at] = bytes[at] ?? 0;
}
