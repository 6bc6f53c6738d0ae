// Slots of fixed tables: handed out, and taken back once no worker can still be using them.
//
// A worker that looked a slot up may use it until its next quiescent point (poll). So a removed slot is first hidden, then
// retired; it is free again when every worker has been quiescent since. Workers announce that with an epoch: odd while active,
// even while quiescent, different after every change.

import { EPOCH } from "../../assembly/regions.js";
import type { Layout } from "./layout.js";
import type { SharedMemory } from "./webassembly.js";

/** Numbers 0 to `count - 1`, each free or taken. Lower numbers are preferred at first, later the one freed last. */
export class SlotPool {
  readonly #free: number[];

  constructor(count: number) {
    this.#free = Array.from({ length: count }, (_, i) => count - 1 - i);
  }

  /** Number of free slots. */
  get available(): number {
    return this.#free.length;
  }

  /** Takes a free slot; `undefined` when there is none. */
  take(): number | undefined {
    return this.#free.pop();
  }

  /** Makes a taken slot free. */
  give(slot: number): void {
    this.#free.push(slot);
  }
}

/** Postpones the reuse of removed slots until every worker has passed a quiescent point. */
export class Reclaimer {
  readonly #words: Uint32Array;
  /** Index in `#words` of each worker's epoch. The main thread's own slot needs none: it never holds a slot across calls. */
  readonly #epochs: readonly number[];
  /** What was retired since the last snapshot was taken. */
  #retired: (() => void)[] = [];
  /** What is free once the workers moved on from the snapshot. */
  #waiting: (() => void)[] = [];
  #snapshot: number[] = [];

  constructor(memory: SharedMemory, layout: Layout) {
    this.#words = new Uint32Array(memory.buffer);
    this.#epochs = layout.regions.slice(1).map((region) => (region + EPOCH) / 4);
  }

  /** Runs `free` when no worker can hold what has been hidden before this call. */
  retire(free: () => void): void {
    this.#retired.push(free);
  }

  /** Frees what is due. To be called now and then; it never waits. */
  reclaim(): void {
    // Twice: with workers asleep both what waited and what was retired since are due at once.
    for (let turn = 0; turn < 2; turn++) {
      if (this.#waiting.length === 0) {
        if (this.#retired.length === 0) return;
        this.#waiting = this.#retired;
        this.#retired = [];
        this.#snapshot = this.#epochs.map((index) => Atomics.load(this.#words, index));
      }
      const passed = this.#snapshot.every(
        (epoch, i) => (epoch & 1) === 0 || Atomics.load(this.#words, this.#epochs[i] ?? 0) !== epoch,
      );
      if (!passed) return;
      const due = this.#waiting;
      this.#waiting = [];
      for (const free of due) free();
    }
  }
}
