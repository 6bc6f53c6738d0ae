// When workers help each other (assembly/jobs.ts says how). A busy worker wakes one that sleeps, which then looks for jobs between
// turns of its own loop, as long as it finds any. Whoever looks in vain sleeps again and costs nothing; whoever was woken for nothing
// is woken less often.
//
//               busy turn, nobody helps, interval over                       looked in vain
//   (sleeping) ───────────────── wake ────────────────► (helping: jobs, poll(0), jobs …) ──────► (sleeping)

import type { Duration, Instant } from "../base/time.js";
import type { WorkerEngine } from "../engine/engine.js";
import type { WorkerControl } from "./control-block.js";

/** Jobs of one turn that are worth a helper: below, it would find them done when it is awake. */
const BUSY_JOBS = 4;
/** Time between two attempts to get a helper: at first, and at most after many in vain. */
const MIN_INTERVAL: Duration = 1;
const MAX_INTERVAL: Duration = 256;
/** How long nothing is shared after this worker had to wait for a helper that had lost its core. */
const STALL_PAUSE: Duration = 1000;

/** The part of an engine that has to do with sharing. */
export type SharingEngine = Pick<WorkerEngine, "shareJobs" | "jobsPosted" | "jobsStalled" | "help">;

/** What {@link WorkSharing} works with. */
export interface WorkSharingParts {
  readonly engine: SharingEngine;
  /** Index of this worker in `controls`, which has one entry per worker. */
  readonly index: number;
  readonly controls: readonly WorkerControl[];
  /** Wakes a worker. */
  readonly wake: (index: number) => void;
}

/** One worker's part in the sharing of work. */
export class WorkSharing {
  /** There is nobody to share with. */
  readonly alone: boolean;
  readonly #parts: WorkSharingParts;
  #helping = false;
  /** Whether this helper has found anything since it was woken. */
  #found = false;
  #posted: number;
  #stalled: number;
  #inVain = 0;
  #interval = MIN_INTERVAL;
  /** When this worker last woke another, and whom it asks next. */
  #wokenAt: Instant = Number.NEGATIVE_INFINITY;
  #next: number;
  /** When sharing, which is switched off, may begin again; 0 while it is on. */
  #pausedUntil: Instant = 0;

  constructor(parts: WorkSharingParts) {
    this.#parts = parts;
    this.alone = parts.controls.length < 2;
    this.#posted = parts.engine.jobsPosted;
    this.#stalled = parts.engine.jobsStalled;
    this.#next = parts.index + 1;
    parts.engine.shareJobs(!this.alone);
  }

  /** Whether this worker looks for jobs of others: it must not sleep. */
  get helping(): boolean {
    return this.#helping;
  }

  /** Somebody has woken this worker, perhaps to be helped. */
  beginHelping(): void {
    if (this.alone) return;
    this.#helping = true;
    this.#found = false;
    this.#own().setHelping(true);
  }

  /** Does jobs of others, if this worker is helping; returns how many. */
  help(): number {
    if (!this.#helping) return 0;
    const done = this.#parts.engine.help();
    if (done > 0) {
      this.#found = true;
      return done;
    }
    this.#helping = false;
    this.#own().setHelping(false);
    if (!this.#found) this.#own().countInVain();
    return 0;
  }

  /** After each turn of the loop: gets a helper when the turn was busy. */
  endTurn(now: Instant): void {
    const { engine } = this.#parts;
    const posted = (engine.jobsPosted - this.#posted) >>> 0;
    this.#posted = engine.jobsPosted;
    if (this.#pausedUntil !== 0) {
      if (now < this.#pausedUntil) return;
      this.#pausedUntil = 0;
      engine.shareJobs(true);
    }
    if (engine.jobsStalled !== this.#stalled) {
      this.#stalled = engine.jobsStalled;
      this.#pausedUntil = now + STALL_PAUSE;
      engine.shareJobs(false);
      return;
    }
    if (posted >= BUSY_JOBS && now - this.#wokenAt >= this.#interval) this.#wakeOne(now);
  }

  /** Wakes the next worker that does not help already. */
  #wakeOne(now: Instant): void {
    const { controls, index, wake } = this.#parts;
    let inVain = 0;
    for (let i = 0; i < controls.length; i++) inVain += controls[i]?.inVain ?? 0;
    this.#interval = inVain === this.#inVain ? MIN_INTERVAL : Math.min(2 * this.#interval, MAX_INTERVAL);
    this.#inVain = inVain;
    for (let i = 0; i < controls.length; i++) {
      const other = this.#next++ % controls.length;
      if (other === index || (controls[other]?.helping ?? true)) continue;
      this.#wokenAt = now;
      wake(other);
      return;
    }
  }

  #own(): WorkerControl {
    const control = this.#parts.controls[this.#parts.index];
    if (control === undefined) throw new RangeError(`no control for worker ${this.#parts.index}`);
    return control;
  }
}
