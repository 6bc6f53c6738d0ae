// Log files (spec 05, section 2.4): a pair per process start, `connlib.<UTC time>.jsonl` and `.log`, readable for the group only.

import { fchmodSync, mkdirSync, openSync } from "node:fs";
import { join } from "node:path";

/** Owner writes, group reads: the group may export logs. */
const MODE = 0o640;

/** A file of a pair. */
export type LogFileKind = "jsonl" | "log";

/** Opens a log file for appending, and makes its directory. Its name tells the time. @returns its descriptor. @throws the system's error. */
export function openLogFile(directory: string, kind: LogFileKind, now: Date): number {
  mkdirSync(directory, { recursive: true });
  const descriptor = openSync(join(directory, logFileName(kind, now)), "a", MODE);
  // Whatever the umask: services run with one that would keep the group out.
  fchmodSync(descriptor, MODE);
  return descriptor;
}

/** Name of a log file that begins at `time`. */
export function logFileName(kind: LogFileKind, time: Date): string {
  return `connlib.${time.toISOString().slice(0, 19).replace(/[T:]/g, "-")}.${kind}`;
}
