// The crypto suite: the engine's AEAD, checksum and copying against what else a Node program could use, at packet sizes.
// Every figure is measured with Benchmark.js in short runs that alternate between the implementations, because machines drift:
// operations per second are medians over the rounds, ratios are medians of the rounds' ratios.

import Benchmark from "benchmark";
import { type AeadExports, instantiateAead } from "../../src/engine/module.js";
import { webAssembly } from "../../src/engine/webassembly.js";
import { median, medianRatio } from "../statistics.js";
import { implementations } from "./implementations.js";

/** What to measure and how long. */
export interface SuiteOptions {
  /** Message sizes in bytes; 64, 256, 1280, 1420 and 16384 by default. */
  readonly sizes?: readonly number[];
  /** Rounds, in each of which every implementation runs once; 15 by default. */
  readonly rounds?: number;
  /** Seconds that one implementation runs in a round; 0.02 by default. */
  readonly seconds?: number;
  /** Prints the tables to standard output; true by default. */
  readonly print?: boolean;
}

/** One implementation in one case. */
export interface ImplementationResult {
  readonly implementation: string;
  /** Messages per second, median over the rounds. */
  readonly opsPerSecond: number;
  /** Payload bytes per second, from the same median. */
  readonly bytesPerSecond: number;
  /** How many times as fast as the case's other implementations, by their names: medians of the rounds' ratios. */
  readonly times: Readonly<Record<string, number>>;
}

/** One operation at one size. */
export interface CaseResult {
  /** "seal", "open", "checksum" or "copy". */
  readonly name: string;
  /** Bytes of the message. */
  readonly size: number;
  readonly results: readonly ImplementationResult[];
}

/** The suite's outcome: plain data, fit for JSON. */
export interface SuiteResult {
  readonly suite: "crypto";
  readonly node: string;
  readonly rounds: number;
  readonly cases: readonly CaseResult[];
}

/** Sizes by default: an acknowledgement, a DNS answer, this tunnel's MTU, WireGuard's, a large record. */
const SIZES = [64, 256, 1280, 1420, 16_384];

/** Pages of memory for what has to do with one message or two. */
const PAGES = 4;

/** Runs the suite. Throws when an implementation fails, a tag that does not verify included. */
export async function runCryptoSuite(options: SuiteOptions = {}): Promise<SuiteResult> {
  const { sizes = SIZES, rounds = 15, seconds = 0.02, print = true } = options;
  const cases: CaseResult[] = [];
  for (const size of sizes) {
    const all = await implementations(size);
    const contenders = (operation: "seal" | "open") =>
      all.map(({ name, batch, [operation]: run }) => ({ name, messages: batch, run }));
    cases.push(measureCase("seal", size, contenders("seal"), rounds, seconds));
    cases.push(measureCase("open", size, contenders("open"), rounds, seconds));
    cases.push(measureCase("checksum", size, await checksums(size), rounds, seconds));
    cases.push(measureCase("copy", size, await copies(size), rounds, seconds));
    if (print) for (const result of cases.slice(-4)) process.stdout.write(formatCase(result));
  }
  return { suite: "crypto", node: process.version, rounds, cases };
}

interface Contender {
  readonly name: string;
  /** Messages that one run handles. */
  readonly messages: number;
  readonly run: () => void;
}

function measureCase(
  name: string,
  size: number,
  contenders: readonly Contender[],
  rounds: number,
  seconds: number,
): CaseResult {
  const benchmarks = contenders.map(({ name, run }) => new Benchmark(name, run, benchmarkOptions(seconds)));
  const rates = contenders.map(() => [] as number[]);
  // The first round warms up: V8 compiles the WebAssembly functions again once they are hot.
  for (let round = 0; round <= rounds; round++) {
    for (const [i, benchmark] of benchmarks.entries()) {
      const rate = (contenders[i]?.messages ?? 1) * runOnce(benchmark);
      if (round > 0) rates[i]?.push(rate);
    }
  }
  const results = contenders.map((contender, i) => {
    const own = rates[i] ?? [];
    const others = contenders.flatMap((other, j) => (i === j ? [] : [[other.name, medianRatio(own, rates[j] ?? [])]]));
    const opsPerSecond = median(own);
    return {
      implementation: contender.name,
      opsPerSecond,
      bytesPerSecond: opsPerSecond * size,
      times: Object.fromEntries(others) as Record<string, number>,
    };
  });
  return { name, size, results };
}

/** One sample a run: the rounds do the repeating. */
function benchmarkOptions(seconds: number): Benchmark.Options {
  return { minSamples: 1, minTime: seconds, maxTime: seconds, initCount: 1, async: false };
}

/** Runs the benchmark once; its rate in calls per second. */
function runOnce(benchmark: Benchmark): number {
  benchmark.reset();
  benchmark.run({ async: false });
  if (benchmark.error !== undefined) throw new Error(`${benchmark.name}: ${String(benchmark.error)}`);
  return benchmark.hz;
}

/** An instance of the engine in a memory of its own. */
async function instance(): Promise<{ engine: AeadExports; bytes: Uint8Array }> {
  const memory = new webAssembly.Memory({ initial: PAGES, maximum: PAGES, shared: true });
  return { engine: await instantiateAead(memory, "narrow"), bytes: new Uint8Array(memory.buffer) };
}

/** The internet checksum: the engine's, and a plain loop over 16-bit words. */
async function checksums(size: number): Promise<Contender[]> {
  const { engine, bytes } = await instance();
  const view = new DataView(bytes.buffer);
  return [
    { name: "wirelane", messages: 1, run: () => engine.checksumFold(engine.checksumSum(0x10000, size, 0n)) },
    {
      name: "JavaScript",
      messages: 1,
      run: () => {
        let sum = 0;
        for (let i = 0; i + 1 < size; i += 2) sum += view.getUint16(0x10000 + i);
        return ((sum & 0xffff) + (sum >>> 16)) & 0xffff;
      },
    },
  ];
}

/** Copying a message within the engine's memory: by the engine, and by what JavaScript has. */
async function copies(size: number): Promise<Contender[]> {
  const { engine, bytes } = await instance();
  const source = 0x10000;
  const destination = 0x20000;
  const buffer = Buffer.from(bytes.buffer);
  return [
    { name: "wirelane", messages: 1, run: () => engine.copyBytes(destination, source, size) },
    { name: "copyWithin", messages: 1, run: () => bytes.copyWithin(destination, source, source + size) },
    { name: "set", messages: 1, run: () => bytes.set(bytes.subarray(source, source + size), destination) },
    { name: "Buffer.copy", messages: 1, run: () => buffer.copy(buffer, destination, source, source + size) },
  ];
}

/** A table of one case: messages and megabytes per second, and how many times as fast as it the project's own are. */
export function formatCase({ name, size, results }: CaseResult): string {
  const own = results.filter(({ implementation }) => implementation.startsWith("wirelane"));
  const heading = ["", "ops/s", "MB/s", ...own.map(({ implementation }) => `${implementation} is faster by`)];
  const rows = results.map(({ implementation, opsPerSecond, bytesPerSecond }) => [
    implementation,
    Math.round(opsPerSecond).toLocaleString("en-US"),
    (bytesPerSecond / 1e6).toFixed(0),
    ...own.map(({ times }) => times[implementation]?.toFixed(2) ?? ""),
  ]);
  const table = [heading, ...rows];
  const widths = heading.map((_, column) => Math.max(...table.map((row) => row[column]?.length ?? 0)));
  const lines = table.map((row) =>
    row
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0)))
      .join("  "),
  );
  return `${name}, ${size} bytes\n${lines.join("\n")}\n\n`;
}
