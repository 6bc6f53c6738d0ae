// The datapath's worker threads: one endless piscina task each. The pool hands them file descriptors, wakes and stops them, and
// notices when one dies: a datapath without all its workers is no datapath, so a death ends it with a clear error.

import timers from "node:timers/promises";
import { Piscina } from "piscina";
import { EventCounter } from "../system/linux/eventfd.js";
import { type Assignment, createControlBlock, WorkerControl, WorkerState } from "./control-block.js";
import { waitAsync } from "./wait-async.js";

/** How long workers may take to start: compiling and warming up the engine, in ms. */
const START_LIMIT = 30_000;
/** How long a worker may take to answer the main thread, or to stop, in ms. One turn of its loop takes well below a millisecond. */
const ANSWER_LIMIT = 5_000;

/** What every task carries besides what the caller gives it: how to talk to the main thread. */
export interface WorkerTaskBase {
  readonly block: SharedArrayBuffer;
  /** Index of this worker, from 0, and number of workers. */
  readonly index: number;
  readonly workers: number;
  /** Event counter by which the main thread wakes the worker. */
  readonly wakeFd: number;
  /** Those of all workers, this one's included: a busy worker wakes others to help it. */
  readonly wakeFds: readonly number[];
}

/** A worker is gone, or no longer answers. The datapath cannot go on. */
export class WorkerFailure extends Error {
  constructor(index: number, reason: string, cause?: unknown) {
    super(`datapath worker ${index} ${reason}`, { cause });
    this.name = "WorkerFailure";
  }
}

/** What to start. */
export interface WorkerPoolOptions<Task> {
  readonly workers: number;
  /** Path of the module whose default export takes a `Task & WorkerTaskBase` and returns when asked to stop. */
  readonly filename: string;
  /** The rest of worker `index`'s task; must survive structured cloning. */
  readonly task: (index: number) => Task;
  /** Called for each worker before it starts, with the file descriptor that becomes readable when it is to wake up. */
  readonly onWaker?: (index: number, fd: number) => void;
  /** Called once, when a worker dies after the start and other than by {@link WorkerPool.stop}. */
  readonly onFailure: (failure: WorkerFailure) => void;
  /** Limit of each worker's JavaScript heap in MiB; default: the runtime's. */
  readonly heapLimit?: number;
}

/** Running workers. */
export class WorkerPool {
  /** One per worker. */
  readonly controls: readonly WorkerControl[];
  readonly #threads: Piscina<WorkerTaskBase, void>;
  readonly #wakers: readonly EventCounter[];
  readonly #onFailure: (failure: WorkerFailure) => void;
  #tasks: Promise<void>[] = [];
  #failure: WorkerFailure | undefined;
  #started = false;
  #stopping = false;
  readonly #stopAtExit = () => this.#askToStop();

  private constructor(options: WorkerPoolOptions<unknown>) {
    const { workers } = options;
    const block = createControlBlock(workers);
    this.#onFailure = options.onFailure;
    this.controls = Array.from({ length: workers }, (_, index) => new WorkerControl(block, index, workers));
    this.#wakers = Array.from({ length: workers }, () => new EventCounter());
    this.#threads = new Piscina<WorkerTaskBase, void>({
      filename: options.filename,
      minThreads: workers,
      maxThreads: workers,
      concurrentTasksPerWorker: 1,
      recordTiming: false,
      ...(options.heapLimit !== undefined && { resourceLimits: { maxOldGenerationSizeMb: options.heapLimit } }),
    });
    // A thread that dies while it has a task rejects the task; this event is for one that has none, after its task returned.
    this.#threads.on("error", (error: unknown) => this.#fail(0, "failed outside its task", error));
    for (const [index, waker] of this.#wakers.entries()) options.onWaker?.(index, waker.fd);
    const wakeFds = this.#wakers.map((waker) => waker.fd);
    this.#tasks = this.#wakers.map((waker, index) => {
      const base: WorkerTaskBase = { block, index, workers, wakeFd: waker.fd, wakeFds };
      return this.#supervise(index, this.#threads.run(Object.assign({}, options.task(index), base)));
    });
    // A worker asleep in poll cannot be terminated; without this, process.exit() would wait for it for ever.
    process.on("exit", this.#stopAtExit);
  }

  /** Starts the workers; they have nothing to work on yet. Rejects with {@link WorkerFailure} if one does not come up. */
  static async start<Task>(options: WorkerPoolOptions<Task>): Promise<WorkerPool> {
    const pool = new WorkerPool(options);
    try {
      for (const [index, control] of pool.controls.entries()) {
        const running = () => control.state === WorkerState.Running;
        await pool.#until(index, control, control.stateIndex, running, START_LIMIT);
      }
      pool.#started = true;
      return pool;
    } catch (error) {
      await pool.stop();
      throw error;
    }
  }

  /**
   * Gives worker `i` the file descriptors `assignments[i]`. When this resolves, no worker uses earlier ones any more, and they may
   * be closed. Calls must not overlap.
   */
  async assign(assignments: readonly Assignment[]): Promise<void> {
    const generations = this.controls.map((control, index) => {
      const assignment = assignments[index];
      if (assignment === undefined) throw new RangeError(`no assignment for worker ${index}`);
      return control.assign(assignment);
    });
    for (const waker of this.#wakers) waker.signal();
    for (const [index, control] of this.controls.entries()) {
      const adopted = () => control.adopted === generations[index];
      await this.#until(index, control, control.adoptedIndex, adopted, ANSWER_LIMIT);
    }
  }

  /** Ends all workers and threads. Their file descriptors are free afterwards. Never rejects because of a worker. */
  async stop(): Promise<void> {
    if (this.#stopping) return;
    this.#stopping = true;
    this.#askToStop();
    // One that hangs in JavaScript is terminated below.
    await Promise.race([Promise.all(this.#tasks), timers.setTimeout(ANSWER_LIMIT, undefined, { ref: false })]);
    await this.#threads.destroy();
    process.off("exit", this.#stopAtExit);
    for (const waker of this.#wakers) waker.close();
  }

  #askToStop(): void {
    for (const control of this.controls) control.askToStop();
    for (const waker of this.#wakers) waker.signal();
  }

  /** Resolves when the task is over, whatever the outcome; reports an outcome that nobody asked for. */
  async #supervise(index: number, task: Promise<void>): Promise<void> {
    try {
      await task;
      if (!this.#stopping) this.#fail(index, "returned without being asked to");
    } catch (error) {
      this.#fail(index, `died: ${error instanceof Error ? error.message : String(error)}`, error);
    }
  }

  #fail(index: number, reason: string, cause?: unknown): WorkerFailure {
    if (this.#failure !== undefined) return this.#failure;
    const failure = new WorkerFailure(index, reason, cause);
    this.#failure = failure;
    // Wake whoever waits for an answer that will not come.
    for (const control of this.controls) {
      Atomics.notify(control.words, control.adoptedIndex);
      Atomics.notify(control.words, control.stateIndex);
    }
    if (this.#started && !this.#stopping) this.#onFailure(failure);
    return failure;
  }

  /** Waits until `done`, which depends on the word `wordIndex` of a worker. */
  async #until(
    index: number,
    control: WorkerControl,
    wordIndex: number,
    done: () => boolean,
    limit: number,
  ): Promise<void> {
    for (;;) {
      const seen = Atomics.load(control.words, wordIndex);
      if (this.#failure !== undefined) throw this.#failure;
      if (done()) return;
      const wait = waitAsync(control.words, wordIndex, seen, limit);
      if (wait.async && (await wait.value) === "timed-out") throw this.#fail(index, `gave no answer for ${limit} ms`);
    }
  }
}
