// Going to the background once the device is usable (https://www.wireguard.com/xplatform/, "Interface"): Node cannot fork, so
// this process starts the same program again, detached, waits for its report, and ends.
//
//   parent: spawn ──► child: device starts ──► { type: "ready" } or { type: "failed", message } ──► parent: exit

import { spawn } from "node:child_process";

/** Set in the child: do not go to the background again. The variable of all userspace WireGuard programs. */
export const FOREGROUND_VARIABLE = "WG_PROCESS_FOREGROUND";

/** What the child reports, once. */
export type StartReport =
  | { readonly type: "ready" }
  /** It could not start, and why. */
  | { readonly type: "failed"; readonly message: string };

/**
 * Runs this program with the same arguments in the background.
 *
 * @param keepOutput whether the child writes to our standard output and error; otherwise to nowhere.
 * @returns what it reported, or how it ended without a report.
 */
export function startInBackground(keepOutput: boolean): Promise<StartReport> {
  const output = keepOutput ? "inherit" : "ignore";
  const child = spawn(process.execPath, [...process.execArgv, ...process.argv.slice(1)], {
    detached: true,
    stdio: ["ignore", output, output, "ipc"],
    cwd: "/",
    env: { ...process.env, [FOREGROUND_VARIABLE]: "1" },
  });
  return new Promise((resolve) => {
    child.once("message", (report: StartReport) => {
      resolve(report);
      child.disconnect();
      child.unref();
    });
    child.once("error", (error) => resolve({ type: "failed", message: error.message }));
    child.once("exit", (code, signal) =>
      resolve({ type: "failed", message: `the device ended while starting (${signal ?? `exit code ${code}`})` }),
    );
  });
}

/** In the child: tells the parent, if there is one that waits. */
export function reportStart(report: StartReport): void {
  if (process.send === undefined) return;
  process.send(report);
  // Whether the parent lives on is no concern of ours any more.
  if (report.type === "ready") process.disconnect();
}
