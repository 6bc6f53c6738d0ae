// Kernel parameters below /proc/sys, changed for a while: sysctl(8), kernel documentation networking/ip-sysctl. What lies below
// `net` belongs to the network namespace of the calling thread.

import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** How setting a parameter ended; `error` says why it could not be set. */
export type SysctlResult =
  | { readonly type: "unchanged" }
  | { readonly type: "changed"; readonly before: string }
  | { readonly type: "failed"; readonly error: Error };

/** Changes parameters and takes the changes back. */
export class Sysctls {
  readonly #root: string;
  /** In order of the changes. */
  readonly #changes: { readonly name: string; readonly before: string; readonly after: string }[] = [];

  /** `root`: the directory with the parameters, another one in tests. */
  constructor(root = "/proc/sys") {
    this.#root = root;
  }

  /** The value of a parameter, named as in `net/ipv4/ip_forward`; `undefined` when there is none or it cannot be read. */
  get(name: string): string | undefined {
    try {
      return readFileSync(join(this.#root, name), "utf8").trim();
    } catch (error) {
      if (error instanceof Error && "code" in error) return undefined;
      throw error;
    }
  }

  /** The names in a directory of parameters, as the interfaces in `net/ipv6/conf`; none when there is no such directory. */
  list(name: string): string[] {
    try {
      return readdirSync(join(this.#root, name));
    } catch (error) {
      if (error instanceof Error && "code" in error) return [];
      throw error;
    }
  }

  /** Sets a parameter unless it has this value. The first value that it had is remembered for {@link Sysctls.restore}. */
  set(name: string, value: string): SysctlResult {
    try {
      const path = join(this.#root, name);
      const before = readFileSync(path, "utf8").trim();
      if (before === value) return { type: "unchanged" };
      writeFileSync(path, value);
      this.#changes.push({ name, before, after: value });
      return { type: "changed", before };
    } catch (error) {
      if (error instanceof Error && "code" in error) return { type: "failed", error };
      throw error;
    }
  }

  /**
   * Takes the changes back, the last one first. A parameter that somebody else has changed since is left alone, one that is gone
   * with its interface is forgotten.
   *
   * @returns why parameters could not be set.
   */
  restore(): Error[] {
    const failures: Error[] = [];
    for (const { name, before, after } of this.#changes.splice(0).reverse()) {
      if (this.get(name) !== after) continue;
      try {
        writeFileSync(join(this.#root, name), before);
      } catch (error) {
        if (!(error instanceof Error) || !("code" in error)) throw error;
        failures.push(error);
      }
    }
    return failures;
  }
}
