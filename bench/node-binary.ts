// The Node binary that the suites run wirelane on: this one, a file, or a version from the npm registry.

import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { homedir } from "node:os";
import { join, resolve } from "node:path";

/** The version that the documentation recommends: the first long-term one whose V8 works with vectors of 256 bits quickly. */
const RECOMMENDED = 24;

/** What the suites run wirelane on. */
export interface NodeBinary {
  /** Absent: this process's own. */
  readonly file?: string;
  /** As "v24.9.0". */
  readonly version: string;
}

/**
 * The binary that `wanted` names: a major version, a whole version, or a file. Without it the recommended version, if this one is older
 * and the other one can be had, else this one.
 *
 * @throws Error with words for the user when what is wanted cannot be had.
 */
export function findNode(wanted: string | undefined, progress: (line: string) => void): NodeBinary {
  const own = { version: process.version };
  if (wanted !== undefined) {
    if (existsSync(wanted)) return describe(resolve(wanted));
    if (/^\d+(\.\d+){0,2}$/.test(wanted)) return wanted === major() ? own : install(wanted, progress);
    throw new Error(`--node: there is no file "${wanted}", and it is no version`);
  }
  if (Number(major()) >= RECOMMENDED) return own;
  try {
    return install(String(RECOMMENDED), progress);
  } catch (error) {
    progress(`${error instanceof Error ? error.message : String(error)}; wirelane runs on ${process.version}`);
    return own;
  }
}

const major = () => process.versions.node.split(".")[0] ?? "";

function install(version: string, progress: (line: string) => void): NodeBinary {
  const cache = process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache");
  const folder = join(cache, "wirelane", "nodes", version);
  const name = `node-linux-${process.arch}`;
  const file = join(folder, "node_modules", name, "bin", "node");
  if (!existsSync(file)) {
    progress(`installing Node ${version} (${name}) in ${folder}`);
    mkdirSync(folder, { recursive: true });
    const args = [
      "install",
      "--prefix",
      folder,
      "--no-save",
      "--no-audit",
      "--no-fund",
      "--ignore-scripts",
      "--loglevel=error",
    ];
    const { status, stderr } = spawnSync("npm", [...args, `${name}@${version}`], { encoding: "utf8" });
    if (status !== 0) {
      // npm's first line of an error is a code, the second says what it means.
      const reason = stderr.match(/^npm error .*$/gm)?.[1] ?? stderr.trim();
      throw new Error(`Node ${version} cannot be installed: ${reason}`);
    }
  }
  return describe(file);
}

function describe(file: string): NodeBinary {
  const { status, stdout } = spawnSync(file, ["--version"], { encoding: "utf8" });
  if (status !== 0) throw new Error(`${file} is no Node binary`);
  return { file, version: stdout.trim() };
}
