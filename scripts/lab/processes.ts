// Finding and ending the programs of a lab. Whatever runs in a namespace that the lab made was started by the lab, however
// many generations ago.

import { fstatSync, readdirSync, statSync } from "node:fs";
import type { NetworkNamespace } from "../../src/system/linux/namespace.js";

/** Ids of the processes whose network namespace is one of `namespaces`, except this process. */
export function processesInside(namespaces: readonly NetworkNamespace[]): number[] {
  const inodes = new Set(namespaces.map(({ fd }) => fstatSync(fd).ino));
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .map(Number)
    .filter((pid) => inodes.has(namespaceInode(pid) ?? -1));
}

/** Kills the processes in `namespaces`. @returns how many there were; they are gone a little later. */
export function killProcessesInside(namespaces: readonly NetworkNamespace[]): number {
  if (namespaces.length === 0) return 0;
  const processes = processesInside(namespaces);
  for (const pid of processes) signalProcess(pid, "SIGKILL");
  return processes.length;
}

/** Sends a signal to a process (or with a negative id to its group) that may have ended meanwhile. */
export function signalProcess(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "ESRCH")) throw error;
  }
}

function namespaceInode(pid: number): number | undefined {
  try {
    return statSync(`/proc/${pid}/ns/net`).ino;
  } catch (error) {
    // Ended meanwhile, a zombie, or not ours to look at.
    if (error instanceof Error && "code" in error) return undefined;
    throw error;
  }
}
