// Running a program of the system (nft, iptables) to its end. Synchronous: it happens at start and at exit, and at exit nothing
// asynchronous runs any more.

import { spawnSync } from "node:child_process";

/** How a program ended. */
export type ToolResult =
  | { readonly type: "ok"; readonly output: string }
  /** It is not installed. */
  | { readonly type: "missing" }
  /** It failed; `reason` is its own words on one line. */
  | { readonly type: "failed"; readonly reason: string };

/** Time limit in milliseconds; iptables may wait up to 5 s for its lock. */
const TOOL_TIMEOUT = 10_000;

/** Folders of system programs, which PATH may lack when not root's own shell started us. */
const SYSTEM_FOLDERS = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/** Where programs are looked up by default: PATH, then the folders of system programs. */
export function defaultToolPath(): string {
  const { PATH = "/usr/local/bin:/usr/bin:/bin" } = process.env;
  return [PATH, ...SYSTEM_FOLDERS].join(":");
}

/** Runs `program`, found in `path`, with `input` as its standard input, in the thread's network namespace. */
export function runTool(program: string, args: readonly string[], path: string, input = ""): ToolResult {
  const result = spawnSync(program, args, {
    input,
    encoding: "utf8",
    timeout: TOOL_TIMEOUT,
    killSignal: "SIGKILL",
    env: { PATH: path, LC_ALL: "C" },
  });
  const command = [program, ...args].join(" ");
  const { error } = result;
  const code = error !== undefined && "code" in error ? error.code : undefined;
  if (code === "ENOENT") return { type: "missing" };
  // EPIPE: it ended without reading all of its input, and says why by its exit code.
  if (error !== undefined && code !== "EPIPE") {
    return { type: "failed", reason: `${command}: ${error.message}` };
  }
  if (result.status === 0) return { type: "ok", output: result.stdout };
  const words = result.stderr.split("\n").map((line) => line.trim());
  const end = result.signal === null ? `exit code ${result.status}` : result.signal;
  return { type: "failed", reason: `${command}: ${words.filter((line) => line !== "").join("; ") || end}` };
}
