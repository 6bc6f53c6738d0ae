// What the main thread and the datapath workers tell each other, besides tables and rings: a block of shared words. The main
// thread gives a worker file descriptors to work on, and learns from the worker that it has let go of the ones before.
//
//   word 0              stop: 1 asks all workers to return
//   then per worker     (WORDS_PER_WORKER words, one writer each: M the main thread, W the worker)
//     M  wanted         generation of the assignment below; incremented after it was written
//     W  adopted        generation that the worker works with; the file descriptors of earlier ones are free
//     W  state          WorkerState
//     M  assignment     tun, udp4, udp6 file descriptors (-1: none), port4, port6, AssignmentFlag bits
//     W  helping        1 while the worker looks for jobs of others (work-sharing.ts)
//     W  in vain        times that it looked without finding any
//   then per worker     (8-byte aligned) statistics as f64, written by the worker only: Statistic
//
// The main thread wakes a sleeping worker by its event counter; the worker notifies `adopted` and `state`.

/** Life of a worker as it reports it. */
export enum WorkerState {
  /** The thread is starting, compiling and warming up the engine. */
  Starting,
  /** The loop runs. */
  Running,
  /** The loop has returned on request. */
  Stopped,
}

/** Bits of an assignment: what the kernel offers on its file descriptors. */
export enum AssignmentFlag {
  VirtioHeader = 1,
  TunChecksum = 2,
  TunTso = 4,
  TunUso = 8,
  UdpSegmentation = 16,
}

/** What a worker counts, besides the engine's packet counters. */
export enum Statistic {
  /** Times the worker slept in poll. */
  Sleeps,
  /** Jobs done for other workers. */
  JobsHelped,
  /** Frames read from and written to the TUN device; a frame may hold 64 KiB of TCP. */
  TunReads,
  TunWrites,
  /** Frames that the device refused. */
  TunWriteErrors,
  /** Send calls that moved something, messages that left by them (each may hold 64 KiB of datagrams), and messages dropped. */
  SendCalls,
  SentMessages,
  SendErrors,
  /** Times a full socket held up the TUN device. */
  SendBlocked,
  /** Receive calls that brought something, and messages that came with them. */
  ReceiveCalls,
  ReceivedMessages,
  /** 1: the kernel refused UDP_SEGMENT at run time, and it was switched off. */
  SegmentationRefused,
  /** 1: the device refused a coalesced frame at run time, and coalescing was switched off. */
  CoalescingRefused,
  /** Number of statistics. */
  Count,
}

/** What a worker works on; -1 stands for "none". */
export interface Assignment {
  readonly tun: number;
  readonly udp4: number;
  readonly udp6: number;
  readonly port4: number;
  readonly port6: number;
  /** {@link AssignmentFlag} bits. */
  readonly flags: number;
}

/** Nothing to work on. */
export const NO_ASSIGNMENT: Assignment = { tun: -1, udp4: -1, udp6: -1, port4: 0, port6: 0, flags: 0 };

const WANTED = 0;
const ADOPTED = 1;
const STATE = 2;
const ASSIGNMENT = 3;
const HELPING = 9;
const IN_VAIN = 10;
const WORDS_PER_WORKER = 16;
/** Words in front of the first worker's: the stop word, padded so that statistics stay aligned. */
const HEADER_WORDS = 16;

/** Creates the block for `workers` workers: all starting, without assignment. */
export function createControlBlock(workers: number): SharedArrayBuffer {
  return new SharedArrayBuffer(4 * (HEADER_WORDS + workers * WORDS_PER_WORKER) + 8 * workers * Statistic.Count);
}

/** One worker's part of the block, seen from either side. */
export class WorkerControl {
  /** The worker's statistics, indexed by {@link Statistic}. */
  readonly statistics: Float64Array;
  /** All words of the block; for waiting on {@link WorkerControl.adoptedIndex} and {@link WorkerControl.stateIndex}. */
  readonly words: Int32Array;
  readonly #base: number;

  /**
   * @param index of the worker, from 0
   * @param workers number of workers the block was created for
   */
  constructor(block: SharedArrayBuffer, index: number, workers: number) {
    const words = HEADER_WORDS + workers * WORDS_PER_WORKER;
    this.words = new Int32Array(block, 0, words);
    this.#base = HEADER_WORDS + index * WORDS_PER_WORKER;
    this.statistics = new Float64Array(block, 4 * words + 8 * index * Statistic.Count, Statistic.Count);
  }

  /** Whether the workers are asked to return. */
  get stopWanted(): boolean {
    return Atomics.load(this.words, 0) !== 0;
  }

  /** Main thread: asks all workers to return. The event counters wake them. */
  askToStop(): void {
    Atomics.store(this.words, 0, 1);
  }

  /** Generation of the newest assignment. */
  get wanted(): number {
    return Atomics.load(this.words, this.#base + WANTED);
  }

  /** Main thread: publishes an assignment; returns its generation. The event counter wakes the worker. */
  assign(assignment: Assignment): number {
    const first = this.#base + ASSIGNMENT;
    const { tun, udp4, udp6, port4, port6, flags } = assignment;
    for (const [i, value] of [tun, udp4, udp6, port4, port6, flags].entries())
      Atomics.store(this.words, first + i, value);
    return Atomics.add(this.words, this.#base + WANTED, 1) + 1;
  }

  /** Worker: the newest assignment. The main thread writes no newer one before this one is adopted. */
  assignment(): Assignment {
    const first = this.#base + ASSIGNMENT;
    return {
      tun: Atomics.load(this.words, first),
      udp4: Atomics.load(this.words, first + 1),
      udp6: Atomics.load(this.words, first + 2),
      port4: Atomics.load(this.words, first + 3),
      port6: Atomics.load(this.words, first + 4),
      flags: Atomics.load(this.words, first + 5),
    };
  }

  /** Generation that the worker works with. */
  get adopted(): number {
    return Atomics.load(this.words, this.adoptedIndex);
  }

  /** Index of the word behind {@link WorkerControl.adopted}. */
  get adoptedIndex(): number {
    return this.#base + ADOPTED;
  }

  /** Worker: reports that it has let go of everything older than `generation`. */
  adopt(generation: number): void {
    Atomics.store(this.words, this.adoptedIndex, generation);
    Atomics.notify(this.words, this.adoptedIndex);
  }

  /** Whether the worker is looking for jobs of others. */
  get helping(): boolean {
    return Atomics.load(this.words, this.#base + HELPING) !== 0;
  }

  /** Worker: begins or ends looking for jobs of others. */
  setHelping(on: boolean): void {
    Atomics.store(this.words, this.#base + HELPING, on ? 1 : 0);
  }

  /** Times that the worker looked for jobs of others and found none, modulo 2^32. */
  get inVain(): number {
    return Atomics.load(this.words, this.#base + IN_VAIN);
  }

  /** Worker: counts one. */
  countInVain(): void {
    Atomics.add(this.words, this.#base + IN_VAIN, 1);
  }

  /** Where the worker is in its life. */
  get state(): WorkerState {
    return Atomics.load(this.words, this.stateIndex);
  }

  /** Index of the word behind {@link WorkerControl.state}. */
  get stateIndex(): number {
    return this.#base + STATE;
  }

  /** Worker: reports its state. */
  enter(state: WorkerState): void {
    Atomics.store(this.words, this.stateIndex, state);
    Atomics.notify(this.words, this.stateIndex);
  }
}
