// A worker thread with an engine of its own, for test/engine/threads.test.ts: it sends or receives until everything is done, and
// reports what it saw.

import { parentPort, workerData } from "node:worker_threads";
import { Engine, type Layout, type SharedMemory } from "../../src/engine/index.js";

/** What the test gives a thread. */
export interface ThreadTask {
  readonly memory: SharedMemory;
  readonly layout: Layout;
  readonly slot: number;
  /** Int32: how many threads are ready; they start together once it is `start`. */
  readonly barrier: Int32Array;
  readonly start: number;
  readonly work:
    | { readonly kind: "send"; readonly frames: readonly Uint8Array[]; readonly rounds: number }
    | { readonly kind: "receive"; readonly datagrams: readonly Uint8Array[] };
}

/** What it reports. */
export interface ThreadResult {
  /** Counters of the messages it sent, in order. */
  readonly counters: bigint[];
  /** Frames that came out of what it received. */
  readonly frames: number;
}

const task: ThreadTask = workerData;
const engine = await Engine.create(task);
const bytes = new Uint8Array(task.memory.buffer);
const view = new DataView(task.memory.buffer);
const counters: bigint[] = [];
let frames = 0;

Atomics.add(task.barrier, 0, 1);
while (Atomics.load(task.barrier, 0) < task.start);

if (task.work.kind === "send") {
  for (let round = 0; round < task.work.rounds; round++) {
    engine.leaveQuiescent();
    for (const frame of task.work.frames) {
      bytes.set(frame, engine.tunReadAddress);
      engine.outbound(frame.length, 0);
    }
    drain();
    engine.enterQuiescent();
  }
} else {
  for (const datagram of task.work.datagrams) {
    engine.leaveQuiescent();
    engine.prepareReceive(4);
    const header = engine.receiveMessagesAddress(4);
    const vector = Number(view.getBigUint64(header + 16, true));
    bytes.set(datagram, Number(view.getBigUint64(vector, true)));
    view.setBigUint64(header + 40, 0n, true);
    view.setUint32(header + 56, datagram.length, true);
    frames += engine.inbound(4, 1, 1, 0);
    engine.enterQuiescent();
  }
}
parentPort?.postMessage({ counters, frames } satisfies ThreadResult);

/** Notes the counters of everything that waits. */
function drain(): void {
  const count = engine.transmitCount(4);
  const first = engine.transmitMessagesAddress(4);
  for (let i = 0; i < count; i++) {
    const vector = Number(view.getBigUint64(first + 64 * i + 16, true));
    let at = Number(view.getBigUint64(vector, true));
    const end = at + Number(view.getBigUint64(vector + 8, true));
    const control = Number(view.getBigUint64(first + 64 * i + 32, true));
    const controlLength = Number(view.getBigUint64(first + 64 * i + 40, true));
    // The test's path has no local address: UDP_SEGMENT is the only control message.
    const stride = controlLength === 0 ? end - at : view.getUint16(control + 16, true);
    for (; at < end; at += stride) counters.push(view.getBigUint64(at + 8, true));
  }
  engine.transmitDone(4, count);
}
