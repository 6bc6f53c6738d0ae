// A datapath worker that handles no packets: for tests of the pool. It takes assignments and stops when asked, or misbehaves.

import { WorkerControl, WorkerState } from "../../src/datapath/control-block.js";
import type { WorkerTaskBase } from "../../src/datapath/pool.js";
import { clearEventCounter } from "../../src/system/linux/eventfd.js";
import { allocate, POLLIN } from "../../src/system/linux/libc.js";
import { PollSet } from "../../src/system/linux/poll.js";

/** What goes wrong. With `when` "start", before the worker runs; with "assigned", when it gets its first assignment. */
export interface FakeWorkerTask {
  readonly fault?: "throw" | "exit" | "memory" | "return" | "hang";
  readonly when?: "start" | "assigned";
}

/** Entry of the worker thread. */
export default function fakeWorker(task: FakeWorkerTask & WorkerTaskBase): void {
  const control = new WorkerControl(task.block, task.index, task.workers);
  const scratch = allocate(8);
  const set = new PollSet(1);
  set.set(0, task.wakeFd, POLLIN);
  if (task.when === "start" && misbehave(task.fault)) return;
  control.enter(WorkerState.Running);
  while (!control.stopWanted) {
    set.wait(-1);
    clearEventCounter(task.wakeFd, scratch.address);
    if (control.wanted === control.adopted) continue;
    if (task.when === "assigned" && misbehave(task.fault)) return;
    // Lets the test see what arrived.
    control.statistics[0] = control.assignment().tun;
    control.adopt(control.wanted);
  }
  control.enter(WorkerState.Stopped);
}

/** Whether the worker is to return. */
function misbehave(fault: FakeWorkerTask["fault"]): boolean {
  switch (fault) {
    case "throw":
      throw new Error("the device fell off");
    case "exit":
      process.exit(3);
      break;
    case "memory": {
      const hoard: number[][] = [];
      for (;;) hoard.push(Array.from({ length: 100_000 }, (_, i) => i + 0.5));
    }
    case "hang":
      for (;;);
    case "return":
      return true;
    case undefined:
      return false;
  }
  return false;
}
