// A trial of a build's AEAD in a memory of its own: does it compute what RFC 8439 says, and how fast is it here? A build is used
// only after its answers were right, both before and after V8 compiled it well: that compiler is what may be experimental.

import { createHash } from "node:crypto";
import {
  AEAD_SCRATCH_SIZE,
  KEY_SIZE,
  OPEN_COUNTER,
  OPEN_DESCRIPTOR_SIZE,
  OPEN_DESTINATION,
  OPEN_LENGTH,
  OPEN_OK,
  OPEN_SOURCE,
  SEAL_DESCRIPTOR_SIZE,
  SEAL_LENGTH,
  SEAL_TEXT,
  TAG_SIZE,
} from "../../assembly/aead/abi.js";
import { type EngineBuild, instantiateAead } from "./module.js";
import { type SharedMemory, webAssembly } from "./webassembly.js";

/**
 * SHA-256 over ciphertexts and tags of the trial's packets, one behind the other; test/engine/builds.test.ts computes it with
 * node:crypto.
 */
export const KNOWN_ANSWER = "64824a6267335794291ed642cb7cdae10059a502a94bae44e8637c53acfece93";

/** Lengths of the trial's packets: every path of the kernels, alone and together, with and without an incomplete block. */
export const TRIAL_LENGTHS: readonly number[] = [
  1280, 1280, 1280, 1280, 1280, 1280, 1280, 1280, 0, 1, 15, 16, 63, 64, 65, 127, 128, 192, 200, 256, 320, 448, 511, 512,
  513, 960, 1024, 1420, 1500, 2048,
];

/** First counter of the trial's packets: the next ones carry into the nonce's upper half. */
export const TRIAL_COUNTER = 0xffff_fffcn;

/** The trial's key, and the text of its packet `i`. */
export const trialKey = (): Uint8Array => Uint8Array.from({ length: KEY_SIZE }, (_, i) => 7 * i + 3);
export const trialText = (i: number): Uint8Array =>
  Uint8Array.from({ length: TRIAL_LENGTHS[i] ?? 0 }, (_, j) => 31 * i + 17 * j + (j >> 8));

/** Packets of a timing: the first of the trial's, eight of the tunnel's usual length. */
const TIMED_PACKETS = 8;

/** How many times as fast well compiled code is at least (measured: five). */
const COMPILED_WELL = 2;
const EARLY_CALLS = 4;

const PAGE = 65536;
const SCRATCH = 4096;
const KEY = SCRATCH + AEAD_SCRATCH_SIZE;
const SEAL = KEY + 64;
const OPEN = SEAL + 1024;
const TEXTS = OPEN + 4096;
/** Bytes from one packet to the next: the longest, its tag, and some that nobody may touch. */
const STRIDE = 2048 + 2 * TAG_SIZE;

/** One build under trial. */
export class AeadTrial {
  readonly build: EngineBuild;
  /** Shortest time of one call that sealed eight packets of 1280 bytes, in nanoseconds. */
  best = Number.POSITIVE_INFINITY;
  /** The shortest time of the first few, which run code that was compiled quickly. */
  #early = Number.POSITIVE_INFINITY;
  #calls = 0;
  readonly #memory: SharedMemory;
  readonly #exports: Awaited<ReturnType<typeof instantiateAead>>;

  private constructor(build: EngineBuild, memory: SharedMemory, exports: Awaited<ReturnType<typeof instantiateAead>>) {
    this.build = build;
    this.#memory = memory;
    this.#exports = exports;
    const bytes = new Uint8Array(memory.buffer);
    bytes.set(trialKey(), KEY);
  }

  /** Throws Error when the build's file is missing. */
  static async create(build: EngineBuild): Promise<AeadTrial> {
    const pages = Math.ceil((TEXTS + 2 * TRIAL_LENGTHS.length * STRIDE) / PAGE);
    const memory = new webAssembly.Memory({ initial: pages, maximum: 65535, shared: true });
    return new AeadTrial(build, memory, await instantiateAead(memory, build));
  }

  /** Whether the build seals and opens as it should, and refuses what was changed. */
  isRight(): boolean {
    const bytes = new Uint8Array(this.#memory.buffer);
    const view = new DataView(this.#memory.buffer);
    const count = TRIAL_LENGTHS.length;
    const opened = TEXTS + count * STRIDE;
    for (const [i, length] of TRIAL_LENGTHS.entries()) {
      const text = TEXTS + i * STRIDE;
      bytes.set(trialText(i), text);
      view.setUint32(SEAL + i * SEAL_DESCRIPTOR_SIZE + SEAL_TEXT, text, true);
      view.setUint32(SEAL + i * SEAL_DESCRIPTOR_SIZE + SEAL_LENGTH, length, true);
      const descriptor = OPEN + i * OPEN_DESCRIPTOR_SIZE;
      view.setUint32(descriptor + OPEN_SOURCE, text, true);
      view.setUint32(descriptor + OPEN_DESTINATION, opened + i * STRIDE, true);
      view.setUint32(descriptor + OPEN_LENGTH, length, true);
      view.setBigUint64(descriptor + OPEN_COUNTER, TRIAL_COUNTER + BigInt(i), true);
    }
    this.#exports.sealPackets(count, KEY, TRIAL_COUNTER, SEAL, SCRATCH);
    const hash = createHash("sha256");
    for (const [i, length] of TRIAL_LENGTHS.entries()) {
      // A copy: hashes do not take shared memory.
      hash.update(bytes.slice(TEXTS + i * STRIDE, TEXTS + i * STRIDE + length + TAG_SIZE));
    }
    if (hash.digest("hex") !== KNOWN_ANSWER) return false;

    this.#exports.openPackets(count, KEY, OPEN, SCRATCH);
    const isOpen = (i: number) => view.getUint32(OPEN + i * OPEN_DESCRIPTOR_SIZE + OPEN_OK, true) === 1;
    for (let i = 0; i < count; i++) {
      const from = opened + i * STRIDE;
      if (!isOpen(i) || trialText(i).some((byte, j) => byte !== bytes[from + j])) return false;
    }
    for (const [i, length] of TRIAL_LENGTHS.entries()) {
      const last = TEXTS + i * STRIDE + length + TAG_SIZE - 1;
      bytes[last] = (bytes[last] ?? 0) ^ 1;
    }
    this.#exports.openPackets(count, KEY, OPEN, SCRATCH);
    return !TRIAL_LENGTHS.some((_, i) => isOpen(i));
  }

  /** Seals once more and takes the time. After {@link isRight}. */
  time(): void {
    const start = process.hrtime.bigint();
    this.#exports.sealPackets(TIMED_PACKETS, KEY, 0n, SEAL, SCRATCH);
    const time = Number(process.hrtime.bigint() - start);
    if (this.#calls++ < EARLY_CALLS) this.#early = Math.min(this.#early, time);
    this.best = Math.min(this.best, time);
  }

  /** Whether the code that V8 compiled well has run: it is several times as fast as what comes first. */
  get isCompiledWell(): boolean {
    return this.best < this.#early / COMPILED_WELL;
  }
}
