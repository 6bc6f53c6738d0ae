// The baseline of the regression check: the commit to be compared with, and what was measured when it was accepted. The commit itself is
// built beside the working tree, so that old and new can take turns on one machine.

import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** bench/baseline.json. */
export interface Baseline {
  /** Full hash of the commit. */
  readonly commit: string;
  /** ISO 8601. */
  readonly acceptedAt: string;
  /** What the ratios were measured on; with anything else they cannot be compared. */
  readonly machine: Machine;
  readonly ratios: Readonly<Record<string, number>>;
}

/** What a ratio depends on besides the code. */
export interface Machine {
  /** Major version. */
  readonly node: string;
  readonly cpu: string;
}

/** Root of the working tree: this file is in dist/bench/check/. */
export const ROOT = fileURLToPath(new URL("../../../", import.meta.url));
const FILE = join(ROOT, "bench", "baseline.json");

/** This machine. */
export function thisMachine(): Machine {
  return { node: process.versions.node.split(".")[0] ?? "", cpu: cpus()[0]?.model ?? "unknown" };
}

/** The baseline; `undefined`: none was accepted yet. */
export function readBaseline(): Baseline | undefined {
  return existsSync(FILE) ? (JSON.parse(readFileSync(FILE, "utf8")) as Baseline) : undefined;
}

/** Makes the commit that is checked out the baseline. @throws Error when it differs from what was measured. */
export function acceptBaseline(ratios: Readonly<Record<string, number>>): Baseline {
  const changes = git("status", "--porcelain", "--", "assembly", "src", "scripts", "bench/check", "bench/engine");
  if (changes !== "") throw new Error(`commit first: what was measured differs from the last commit\n${changes}`);
  const rounded = Object.fromEntries(Object.entries(ratios).map(([name, ratio]) => [name, Number(ratio.toFixed(3))]));
  const baseline: Baseline = {
    commit: git("rev-parse", "HEAD"),
    acceptedAt: new Date().toISOString(),
    machine: thisMachine(),
    ratios: rounded,
  };
  writeFileSync(FILE, `${JSON.stringify(baseline, undefined, 2)}\n`);
  return baseline;
}

/**
 * Builds a commit in build/baseline-… and returns the path of its measuring program; `undefined` where the commit is not in the
 * repository's history, as in a shallow clone.
 *
 * @throws Error when it cannot be built.
 */
export function buildCommit(commit: string, progress: (line: string) => void): string | undefined {
  const folder = join(ROOT, "build", `baseline-${commit.slice(0, 12)}`);
  const program = join(folder, "dist", "bench", "check", "measure-main.js");
  if (existsSync(program)) return program;
  if (spawnSync("git", ["cat-file", "-e", `${commit}^{commit}`], { cwd: ROOT }).status !== 0) return undefined;
  progress(`building ${commit.slice(0, 12)}`);
  const unfinished = `${folder}.unfinished`;
  rmSync(unfinished, { recursive: true, force: true });
  mkdirSync(unfinished, { recursive: true });
  const archive = spawnSync("git", ["archive", commit], { cwd: ROOT, maxBuffer: 2 ** 30 });
  run("tar", ["-x"], unfinished, archive.stdout);
  symlinkSync(join(ROOT, "node_modules"), join(unfinished, "node_modules"));
  run(process.execPath, ["scripts/build.mjs", "--force"], unfinished);
  renameSync(unfinished, folder);
  return program;
}

function git(...args: readonly string[]): string {
  return run("git", args, ROOT).trim();
}

function run(program: string, args: readonly string[], cwd: string, input?: Buffer): string {
  const { status, stdout, stderr } = spawnSync(program, args, { cwd, encoding: "utf8", ...(input && { input }) });
  if (status !== 0) throw new Error(`${program} ${args.join(" ")} failed\n${stderr}`);
  return stdout;
}
