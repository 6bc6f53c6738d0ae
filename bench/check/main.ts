// npm run bench:check: has anything become slower since the baseline? Compares ratios, never times (measure-main.ts). Where the baseline's
// commit is at hand, it is built, and old and new take turns; otherwise the ratios of bench/baseline.json are what new ones are compared
// with, if they were measured on the same kind of machine.

import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { Command, InvalidArgumentError } from "commander";
import { median } from "../statistics.js";
import { acceptBaseline, buildCommit, ROOT, readBaseline, thisMachine } from "./baseline.js";

/** Exit codes besides 0. */
const SLOWER = 1;
const NOTHING_TO_COMPARE = 2;

/** A fall below this is never reported: code that did not change moves by as much, by its place in memory. */
const LEAST_FALL = 0.03;
/** How many times its own noise a fall must be. */
const SIGNIFICANT = 3;

type Ratios = Readonly<Record<string, number>>;

/** A noise above which more rounds are measured, up to so many times the rounds that were asked for. */
const PRECISE = 0.04;
const MOST_ROUNDS = 5;

/** How one ratio has changed. */
interface Change {
  readonly name: string;
  /** New divided by old. */
  readonly factor: number;
  /** A fall of up to this share is noise. */
  readonly tolerance: number;
}

const command = new Command("npm run bench:check --")
  .description("Compares the speed of the packet engine with that of an accepted commit; exits 1 and names what fell.")
  .option("--rounds <n>", "measurements of old and new in turn; more where they are noisy", positive, 5)
  .option("--accept", "measure, and make the commit that is checked out the baseline (bench/baseline.json)")
  .option("--json", "print the comparison as JSON")
  .addHelpText(
    "after",
    `
A slower commit that is meant to be slower: commit it, run  npm run bench:check -- --accept  and commit bench/baseline.json with the reason.
Exit codes: 0 nothing fell, 1 something fell, 2 there is nothing to compare with.`,
  )
  .action(check);

interface Options {
  readonly rounds: number;
  readonly accept?: boolean;
  readonly json?: boolean;
}

const progress = (line: string) => process.stderr.write(`${line}\n`);
const OWN_PROGRAM = join(ROOT, "dist", "bench", "check", "measure-main.js");

function check({ rounds, accept, json }: Options): void {
  if (accept === true) {
    const { commit } = acceptBaseline(medians(measureRounds([OWN_PROGRAM], rounds)[0] ?? []));
    progress(`the baseline is ${commit} now: commit bench/baseline.json`);
    return;
  }
  const baseline = readBaseline();
  if (baseline === undefined) {
    fail(NOTHING_TO_COMPARE, "there is no baseline: npm run bench:check -- --accept");
    return;
  }
  const old = buildCommit(baseline.commit, progress);
  const machine = thisMachine();
  const isSame = machine.node === baseline.machine.node && machine.cpu === baseline.machine.cpu;
  if (old === undefined && !isSame) {
    const { node, cpu } = baseline.machine;
    fail(
      NOTHING_TO_COMPARE,
      `commit ${baseline.commit} is not in this clone, and its ratios are of Node ${node} on ${cpu}`,
    );
    return;
  }
  const programs = old === undefined ? [OWN_PROGRAM] : [OWN_PROGRAM, old];
  const results = programs.map((): Ratios[] => []);
  let changes: Change[] = [];
  for (let part = 1; part <= MOST_ROUNDS; part++) {
    for (const [i, more] of measureRounds(programs, rounds).entries()) results[i]?.push(...more);
    const [news = [], olds = news.map(() => baseline.ratios)] = results;
    changes = compare(news, olds);
    if (changes.every(({ tolerance }) => tolerance <= PRECISE)) break;
  }
  report(changes, baseline.commit, json === true);
}

/** Runs the programs in turn; the ratios of each, round by round. */
function measureRounds(programs: readonly string[], rounds: number): Ratios[][] {
  const results = programs.map((): Ratios[] => []);
  for (let round = 1; round <= rounds; round++) {
    progress(`round ${round} of ${rounds}`);
    // Who goes first takes turns too.
    const order = round % 2 === 1 ? [...programs.keys()] : [...programs.keys()].reverse();
    for (const i of order) {
      const { status, stdout, stderr } = spawnSync(process.execPath, [programs[i] ?? ""], { encoding: "utf8" });
      if (status !== 0) throw new Error(`${programs[i]} failed\n${stderr}`);
      results[i]?.push(JSON.parse(stdout) as Ratios);
    }
  }
  return results;
}

function medians(rounds: readonly Ratios[]): Ratios {
  const names = Object.keys(rounds[0] ?? {});
  return Object.fromEntries(names.map((name) => [name, median(rounds.map((ratios) => ratios[name] ?? Number.NaN))]));
}

function compare(news: readonly Ratios[], olds: readonly Ratios[]): Change[] {
  return Object.keys(news[0] ?? {}).flatMap((name): Change[] => {
    const factors = news.map((ratios, i) => (ratios[name] ?? Number.NaN) / (olds[i]?.[name] ?? Number.NaN));
    if (factors.some(Number.isNaN)) return [];
    const factor = median(factors);
    // The median absolute deviation, as a standard deviation of the median (1.4826, and 1.2533 over the root of n).
    const deviation = median(factors.map((each) => Math.abs(each - factor)));
    const noise = (1.4826 * 1.2533 * deviation) / Math.sqrt(factors.length);
    return [{ name, factor, tolerance: Math.max(LEAST_FALL, SIGNIFICANT * noise) }];
  });
}

function report(changes: readonly Change[], commit: string, json: boolean): void {
  const fallen = changes.filter(({ factor, tolerance }) => factor < 1 - tolerance);
  if (json) {
    process.stdout.write(`${JSON.stringify({ commit, changes, fallen: fallen.map(({ name }) => name) })}\n`);
  } else {
    const width = Math.max(...changes.map(({ name }) => name.length));
    for (const { name, factor, tolerance } of changes) {
      const change = 100 * (factor - 1);
      const sign = change >= 0 ? "+" : "";
      const verdict = factor < 1 - tolerance ? "  FELL" : "";
      process.stdout.write(
        `${name.padEnd(width)}  ${`${sign}${change.toFixed(1)} %`.padStart(8)}  (noise up to ${(100 * tolerance).toFixed(1)} %)${verdict}\n`,
      );
    }
  }
  if (fallen.length === 0) return;
  const words = fallen.map(({ name, factor }) => `${name} fell by ${(100 * (1 - factor)).toFixed(1)} %`);
  fail(SLOWER, `slower than ${commit.slice(0, 12)}: ${words.join("; ")}`);
}

function fail(exitCode: number, message: string): void {
  progress(message);
  process.exitCode = exitCode;
}

function positive(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new InvalidArgumentError("a whole number above 0");
  return value;
}

try {
  command.parse();
} catch (error) {
  fail(NOTHING_TO_COMPARE, error instanceof Error ? error.message : String(error));
}
