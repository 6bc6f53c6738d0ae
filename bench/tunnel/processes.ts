// What processes and the whole machine have cost so far, from /proc.

import { readdirSync, readFileSync } from "node:fs";

/** Clock ticks per second in /proc (USER_HZ, fixed at 100 in the kernel's interface to user space). */
const USER_HZ = 100;

/** CPU time in seconds that the machine has spent on anything but idling since it started. */
export function machineBusySeconds(): number {
  const [line = ""] = readFileSync("/proc/stat", "utf8").split("\n");
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0] = line.trim().split(/\s+/).slice(1).map(Number);
  return (user + nice + system + irq + softirq) / USER_HZ;
}

/** CPU time in seconds that processes have spent, their threads included and their children not. Ended ones count as 0. */
export function processSeconds(pids: readonly number[]): number {
  return pids.map(secondsOf).reduce((sum, seconds) => sum + seconds, 0);
}

function secondsOf(pid: number): number {
  const text = readOrEmpty(`/proc/${pid}/stat`);
  // The name, in parentheses, may contain anything; fields count from behind it (proc(5): utime is field 14).
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11] ?? 0) + Number(fields[12] ?? 0)) / USER_HZ;
}

/** The same for a process's threads that live, to the nanosecond: for what takes little. */
export function threadSeconds(pid: number): number {
  // schedstat: nanoseconds on a processor, nanoseconds of waiting for one, turns.
  const nanoseconds = listOrEmpty(`/proc/${pid}/task`).map((thread) =>
    Number(readOrEmpty(`/proc/${pid}/task/${thread}/schedstat`).split(" ")[0]),
  );
  return nanoseconds.reduce((sum, value) => sum + value, 0) / 1e9;
}

/** Resident memory of a process in bytes; 0 for an ended one. */
export function residentBytes(pid: number): number {
  const kibibytes = /^VmRSS:\s+(\d+) kB$/m.exec(readOrEmpty(`/proc/${pid}/status`))?.[1];
  return 1024 * Number(kibibytes ?? 0);
}

/** A file's text; nothing when its process has ended. */
function readOrEmpty(path: string): string {
  return ofLiving(() => readFileSync(path, "utf8"), "");
}

/** A directory's entries; none when its process has ended. */
function listOrEmpty(path: string): string[] {
  return ofLiving(() => readdirSync(path), []);
}

/** What `read` returns, or `otherwise` when the process that it is about has ended. */
function ofLiving<T>(read: () => T, otherwise: T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof Error && "code" in error && (error.code === "ENOENT" || error.code === "ESRCH"))
      return otherwise;
    throw error;
  }
}
