// The task of src/programs/wg/initiation-task.ts as a fault would make it: with a batch of one initiation it
// says that it has begun, on a channel with the name of this file, and never ends.

import { BroadcastChannel } from "node:worker_threads";
import openInitiations, { type InitiationTask } from "../../src/programs/wg/initiation-task.js";

/** Hangs, and writes all the time: what is not known to have ended may. */
export default function hang(task: InitiationTask): void {
  if (task.count !== 1) {
    openInitiations(task);
    return;
  }
  new BroadcastChannel("hanging-initiation-task").postMessage("hangs");
  const bytes = new Uint8Array(task.memory);
  for (;;) bytes.fill(1);
}
