// A second thread that does jobs of engines (assembly/jobs.ts), as a datapath worker that was woken does: for benchmarks and tests
// of engines without a datapath.

import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { Engine } from "../../src/engine/engine.js";
import type { Layout } from "../../src/engine/layout.js";
import type { EngineBuild } from "../../src/engine/module.js";
import type { SharedMemory } from "../../src/engine/webassembly.js";

/** Looks in vain at one memory before the next one has its turn: a few microseconds. */
const PATIENCE = 400;

/** Words that both threads see: what the helper is to do, and jobs that it did. */
enum Word {
  Order,
  Jobs,
}

enum Order {
  Sleep,
  Help,
  End,
}

interface HelperTask {
  readonly layout: Layout;
  readonly memories: readonly SharedMemory[];
  readonly build: EngineBuild;
  readonly words: Int32Array;
}

/** Handle on the thread. It is slot 2 of the layout in every memory. It sleeps at first; while it helps, it spins. */
export class Helper {
  readonly #thread: Worker;
  readonly #words: Int32Array;

  private constructor(task: HelperTask) {
    this.#words = task.words;
    this.#thread = new Worker(new URL(import.meta.url), { workerData: task });
  }

  /** Starts it; resolves when it is at work, rejects when it fails to start. */
  static async start(layout: Layout, memories: readonly SharedMemory[], build: EngineBuild): Promise<Helper> {
    const words = new Int32Array(new SharedArrayBuffer(8));
    const helper = new Helper({ layout, memories, build, words });
    await new Promise((resolve, reject) => {
      helper.#thread.once("message", resolve);
      helper.#thread.once("error", reject);
    });
    return helper;
  }

  /** Jobs that it did so far. */
  get jobs(): number {
    return Atomics.load(this.#words, Word.Jobs);
  }

  /** Begins to look for jobs, or sleeps again. */
  setActive(on: boolean): void {
    this.#give(on ? Order.Help : Order.Sleep);
  }

  /** Ends it. */
  async stop(): Promise<void> {
    const ended = new Promise((resolve) => this.#thread.once("exit", resolve));
    this.#give(Order.End);
    await ended;
  }

  #give(order: Order): void {
    Atomics.store(this.#words, Word.Order, order);
    Atomics.notify(this.#words, Word.Order);
  }
}

async function help(task: HelperTask): Promise<void> {
  const { layout, memories, build, words } = task;
  const engines: Engine[] = [];
  for (const memory of memories) engines.push(await Engine.create({ memory, layout, slot: 2, build }));
  parentPort?.postMessage("ready");
  for (let order = Order.Sleep; order !== Order.End; order = Atomics.load(words, Word.Order)) {
    if (order === Order.Sleep) Atomics.wait(words, Word.Order, order);
    else for (const engine of engines) Atomics.add(words, Word.Jobs, engine.help(PATIENCE));
  }
}

if (!isMainThread && isHelperTask(workerData)) await help(workerData);

function isHelperTask(data: unknown): data is HelperTask {
  return typeof data === "object" && data !== null && "memories" in data && "words" in data;
}
