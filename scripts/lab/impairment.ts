// What a bad link does to the packets on it, decided from a seed: packet number n of a direction has the same fate in every run,
// whatever the machine does meanwhile. Nothing here reads a clock or sends anything: link-emulator-main.ts does.

/** Properties of one direction of a link. All default to those of a perfect link. */
export interface Impairment {
  /** Milliseconds that every packet takes. */
  readonly delay?: number;
  /** Milliseconds, at most, that a packet takes longer: uniformly distributed. Above the distance between packets it reorders them. */
  readonly jitter?: number;
  /** Share of packets that are lost, 0 to 1. */
  readonly loss?: number;
  /** Share of packets that arrive twice, 0 to 1. */
  readonly duplicate?: number;
  /** Share of packets that overtake the ones before, 0 to 1: they are spared the delay. */
  readonly reorder?: number;
  /** Bits per second of the link; absent: unlimited. */
  readonly rate?: number;
  /** Bytes that wait for their turn on a link with `rate`; more are lost. Default: what the rate carries in 100 ms, at least 64 KiB. */
  readonly queue?: number;
}

/** What happens to one packet. */
export type Fate =
  | { readonly type: "lost" }
  /** It arrives, once for each entry, so many milliseconds after its time on the wire. */
  | { readonly type: "delivered"; readonly delays: readonly number[] };

/** What a decision is about, so that the decisions on one packet are independent of each other. */
const Question = { loss: 1, duplicate: 2, reorder: 3, jitter: 4, secondJitter: 5 } as const;

const LOST: Fate = { type: "lost" };

/** The fate of packet `number` (from 0) in `direction` (0 or 1). Queueing by `rate` comes before it: see {@link Transmitter}. */
export function fateOf(seed: number, direction: number, number: number, impairment: Impairment): Fate {
  const { delay = 0, jitter = 0, loss = 0, duplicate = 0, reorder = 0 } = impairment;
  const draw = (question: number) => uniform(seed, direction, number, question);
  if (loss > 0 && draw(Question.loss) < loss) return LOST;
  const overtakes = reorder > 0 && draw(Question.reorder) < reorder;
  const first = overtakes ? 0 : delay + (jitter > 0 ? jitter * draw(Question.jitter) : 0);
  if (duplicate === 0 || draw(Question.duplicate) >= duplicate) return { type: "delivered", delays: [first] };
  const second = delay + (jitter > 0 ? jitter * draw(Question.secondJitter) : 0);
  return { type: "delivered", delays: [first, second] };
}

/** Whether a link with these properties changes nothing. */
export function isPerfect(impairment: Impairment): boolean {
  const { delay = 0, jitter = 0, loss = 0, duplicate = 0, reorder = 0, rate } = impairment;
  return delay + jitter + loss + duplicate + reorder === 0 && rate === undefined;
}

/** Smallest queue of a link with a rate, and the time that it holds by default: bytes, seconds. */
const MINIMUM_QUEUE = 64 * 1024;
const QUEUE_TIME = 0.1;

/** The wire of one direction: one packet after the other at the link's rate. */
export class Transmitter {
  /** When the wire is free again. */
  #free = Number.NEGATIVE_INFINITY;

  /**
   * Puts a packet on the wire.
   *
   * @param now milliseconds.
   * @returns when its last bit has left, in milliseconds; `undefined`: the queue is full.
   */
  transmit(now: number, bytes: number, { rate, queue }: Impairment): number | undefined {
    if (rate === undefined) return now;
    const limit = queue ?? Math.max(MINIMUM_QUEUE, (rate / 8) * QUEUE_TIME);
    const start = Math.max(now, this.#free);
    if (((start - now) * rate) / 8000 > limit) return undefined;
    this.#free = start + (bytes * 8000) / rate;
    return this.#free;
  }
}

/** A number in [0, 1) that depends on all four and looks random. */
function uniform(seed: number, direction: number, number: number, question: number): number {
  let hash = mix(Math.imul(seed, 0x9e3779b1) ^ 0x85ebca6b);
  hash = mix(hash ^ Math.imul(number + 1, 0xc2b2ae35));
  hash = mix(hash ^ Math.imul((direction + 1) * 16 + question, 0x27d4eb2f));
  return hash / 2 ** 32;
}

/** A bijection of 32-bit integers in which every input bit changes about half of the output bits (xor, shift, multiply). */
function mix(value: number): number {
  let hash = value ^ (value >>> 16);
  hash = Math.imul(hash, 0x7feb352d);
  hash ^= hash >>> 15;
  hash = Math.imul(hash, 0x846ca68b);
  return (hash ^ (hash >>> 16)) >>> 0;
}
