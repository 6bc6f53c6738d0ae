// Opens batches of initiations in a thread of its own. The datapath's threads are no help: each is occupied by an endless loop. The thread
// starts with the first batch and ends when there has been none for a while: most devices never need it.

import { fileURLToPath } from "node:url";
import { Piscina } from "piscina";
import { type BatchResult, InitiationBlock } from "../../wireguard/initiation-block.js";
import { type InitiationBatch, MAX_BATCHES } from "../../wireguard/initiation-queue.js";
import type { InitiationTask } from "./initiation-task.js";

const TASK_MODULE = fileURLToPath(new URL("./initiation-task.js", import.meta.url));

/** How long the thread waits for further batches, in milliseconds. */
const IDLE_TIMEOUT = 30_000;

/** See the head of this file. */
export class InitiationHelper {
  readonly #onError: (error: unknown) => void;
  readonly #blocks = Array.from({ length: MAX_BATCHES }, () => new InitiationBlock());
  readonly #free = [...this.#blocks];
  #threads: Piscina<InitiationTask, void> | undefined;
  #stopped = false;

  /** @param onError is told why a batch was not computed. */
  constructor(onError: (error: unknown) => void) {
    this.#onError = onError;
  }

  /** Whether it can take a batch: one whose key has changed occupies its place until it is done, although the device has forgotten it. */
  get hasRoom(): boolean {
    return this.#free.length > 0 && !this.#stopped;
  }

  /** What comes of a batch; `undefined`: nothing, and the reason has been reported. Only while there is room. */
  async open(batch: InitiationBatch): Promise<readonly BatchResult[] | undefined> {
    const block = this.#free.pop();
    if (block === undefined) throw new RangeError("no room for a batch");
    const { length: count } = batch.initiations;
    try {
      block.write(batch);
      this.#threads ??= this.#start();
      await this.#threads.run({ memory: block.memory, count });
      return batch.initiations.map((_, i) => block.read(i));
    } catch (error) {
      if (!this.#stopped) this.#onError(error);
      return undefined;
    } finally {
      block.wipe();
      this.#free.push(block);
    }
  }

  /** The private key is not in use any more: what is being computed with it is of no use either. */
  wipe(): void {
    for (const block of this.#blocks) block.wipe();
  }

  /** Ends the thread. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.wipe();
    await this.#threads?.destroy();
  }

  #start(): Piscina<InitiationTask, void> {
    const threads = new Piscina<InitiationTask, void>({
      filename: TASK_MODULE,
      minThreads: 0,
      maxThreads: 1,
      // The next batch is there when one is done.
      concurrentTasksPerWorker: MAX_BATCHES,
      idleTimeout: IDLE_TIMEOUT,
      recordTiming: false,
    });
    // Of a thread that dies without a task; the next batch starts another.
    threads.on("error", (error: unknown) => this.#onError(error));
    return threads;
  }
}
