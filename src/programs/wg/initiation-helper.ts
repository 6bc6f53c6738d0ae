// Opens batches of initiations in a thread of its own. The datapath's threads are no help: each is occupied by an endless loop. The thread
// starts with the first batch and ends when there has been none for a while: most devices never need it.

import { fileURLToPath } from "node:url";
import { Piscina } from "piscina";
import type { Duration } from "../../base/time.js";
import { REKEY_TIMEOUT } from "../../wireguard/constants.js";
import { type BatchResult, InitiationBlock } from "../../wireguard/initiation-block.js";
import { type InitiationBatch, type InitiationQueue, MAX_BATCHES } from "../../wireguard/initiation-queue.js";
import type { InitiationTask } from "./initiation-task.js";

const TASK_MODULE = fileURLToPath(new URL("./initiation-task.js", import.meta.url));

/** How long the thread waits for further batches, in milliseconds. */
const IDLE_TIMEOUT = 30_000;

/**
 * How long a batch may take, in milliseconds; one takes 2. After REKEY_TIMEOUT initiators begin again and want no answers to what they sent before, so
 * that a thread which takes longer is of no use, even if it should only be short of a core.
 */
export const BATCH_TIME_LIMIT: Duration = REKEY_TIMEOUT;

/** Whose initiations are opened. */
export interface InitiationSource {
  readonly batchCounters: Readonly<InitiationQueue["counters"]>;
  pollBatch(): InitiationBatch | undefined;
  /** Takes what came of a batch; `undefined`: nothing. */
  handleBatch(id: number, results: readonly BatchResult[] | undefined): void;
}

/** What may be chosen. */
export interface InitiationHelperOptions {
  /** File whose default export is the thread's task. */
  readonly taskModule?: string;
}

/** See the head of this file. */
export class InitiationHelper {
  readonly #source: InitiationSource;
  readonly #onError: (error: unknown) => void;
  readonly #taskModule: string;
  readonly #blocks = Array.from({ length: MAX_BATCHES }, () => new InitiationBlock());
  readonly #free = [...this.#blocks];
  #threads: Piscina<InitiationTask, void> | undefined;
  /** Resolves when all threads that were ended have. */
  #ending: Promise<unknown> = Promise.resolve();
  #stopped = false;
  /** Initiations that the source has dropped without being opened, as far as {@link takeDropped} has told. */
  #droppedTold = 0;

  /** @param onError is told why a batch was not computed. */
  constructor(source: InitiationSource, onError: (error: unknown) => void, options: InitiationHelperOptions = {}) {
    this.#source = source;
    this.#onError = onError;
    this.#taskModule = options.taskModule ?? TASK_MODULE;
  }

  /** Opens what waits at the source, as far as there is room, and goes on whenever a batch is done. To be called when something may wait. */
  openWaiting(): void {
    while (this.hasRoom) {
      const batch = this.#source.pollBatch();
      if (batch === undefined) return;
      void this.open(batch).then((results) => {
        this.#source.handleBatch(batch.id, results);
        this.openWaiting();
      });
    }
  }

  /** How many initiations the source has dropped without their being opened, since the last call. */
  takeDropped(): number {
    const { full, failed, outdated } = this.#source.batchCounters;
    const dropped = full + failed + outdated - this.#droppedTold;
    this.#droppedTold += dropped;
    return dropped;
  }

  /** Whether it can take a batch: one whose key has changed occupies its place until it is done, although the source has forgotten it. */
  get hasRoom(): boolean {
    return this.#free.length > 0 && !this.#stopped;
  }

  /** What comes of a batch; `undefined`: nothing, and the reason has been reported. Only while there is room. */
  async open(batch: InitiationBatch): Promise<readonly BatchResult[] | undefined> {
    const block = this.#free.pop();
    if (block === undefined) throw new RangeError("no room for a batch");
    const { length: count } = batch.initiations;
    let threads: Piscina<InitiationTask, void> | undefined;
    try {
      block.write(batch);
      threads = this.#threads ??= this.#start();
      await this.#withinLimit(threads, threads.run({ memory: block.memory, count }));
      return batch.initiations.map((_, i) => block.read(i));
    } catch (error) {
      // Whoever ended the thread has told why.
      if (this.#threads === threads) this.#onError(error);
      // Until it has ended it may write: not into the next batch.
      await this.#ending;
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
    await this.#end();
  }

  /**
   * Ends the thread when it takes too long for a task. A signal to Piscina would do so too, but a thread whose task has one gets no second task, and no
   * other thread starts for what waits.
   */
  async #withinLimit(threads: Piscina<InitiationTask, void>, task: Promise<void>): Promise<void> {
    const limit = setTimeout(() => {
      if (this.#threads !== threads) return;
      this.#onError(new Error(`no answer within ${BATCH_TIME_LIMIT / 1000} s`));
      void this.#end();
    }, BATCH_TIME_LIMIT);
    try {
      await task;
    } finally {
      clearTimeout(limit);
    }
  }

  /** Ends the thread, and all batches in it with errors; the next batch starts another. */
  #end(): Promise<unknown> {
    this.#ending = Promise.all([this.#ending, this.#threads?.destroy()]);
    this.#threads = undefined;
    return this.#ending;
  }

  #start(): Piscina<InitiationTask, void> {
    const threads = new Piscina<InitiationTask, void>({
      filename: this.#taskModule,
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
