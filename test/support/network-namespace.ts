// Network namespaces for tests that need interfaces of their own: made by iproute2's `ip`, entered by the test's own thread.

import { execFile, execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { promisify } from "node:util";
import { CLONE_NEWNET, check, close, O_CLOEXEC, O_RDONLY, open, setns } from "../../src/system/linux/libc.js";

/** Why tests that create interfaces or namespaces cannot run here; `false` when they can. */
export const namespaceSkip: string | false = whyNoNamespaces();

function whyNoNamespaces(): string | false {
  if (process.platform !== "linux") return "needs Linux";
  if (process.getuid?.() !== 0) return "needs root, to create interfaces and network namespaces";
  if (!existsSync("/dev/net/tun")) return "needs /dev/net/tun";
  try {
    execFileSync("ip", ["-V"], { stdio: "ignore" });
  } catch (error) {
    return `needs iproute2: ${error instanceof Error ? error.message : error}`;
  }
  return false;
}

let created = 0;

/** A network namespace with its loopback interface up. */
export class NetworkNamespace {
  /** Name under /run/netns. */
  readonly name: string;

  constructor(label: string) {
    created++;
    this.name = `wl-${process.pid}-${created}-${label}`;
    execFileSync("ip", ["netns", "add", this.name]);
    this.ip("link", "set", "lo", "up");
  }

  /** Runs `ip` with these arguments inside; returns what it prints. */
  ip(...args: string[]): string {
    return execFileSync("ip", ["-n", this.name, ...args], { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
  }

  /** Runs a program inside and blocks this thread; returns what it prints. Throws when it fails. */
  run(program: string, ...args: string[]): string {
    return execFileSync("ip", ["netns", "exec", this.name, program, ...args], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "pipe"],
      timeout: 60_000,
    });
  }

  /** Runs a program inside while this thread goes on; resolves with what it prints. Rejects with its output when it fails. */
  async start(program: string, ...args: string[]): Promise<string> {
    const command = ["netns", "exec", this.name, program, ...args];
    return (await promisify(execFile)("ip", command, { timeout: 60_000, maxBuffer: 16 * 1024 * 1024 })).stdout;
  }

  /** Calls `action` with this thread inside: sockets and devices that it opens stay there. `action` must not await. */
  enter<T>(action: () => T): T {
    const leave = this.#enter();
    try {
      return action();
    } finally {
      leave();
    }
  }

  /** The same for an action that awaits. Whatever this thread does meanwhile happens inside, so nothing else should. */
  async enterAsync<T>(action: () => Promise<T>): Promise<T> {
    const leave = this.#enter();
    try {
      return await action();
    } finally {
      leave();
    }
  }

  /** Deletes it; interfaces that nobody holds open vanish. */
  delete(): void {
    execFileSync("ip", ["netns", "delete", this.name]);
  }

  #enter(): () => void {
    const home = check(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC, 0), "open own namespace");
    const target = check(open(`/run/netns/${this.name}`, O_RDONLY | O_CLOEXEC, 0), `open namespace ${this.name}`);
    check(setns(target, CLONE_NEWNET), "setns");
    close(target);
    return () => {
      check(setns(home, CLONE_NEWNET), "setns back");
      close(home);
    };
  }
}
