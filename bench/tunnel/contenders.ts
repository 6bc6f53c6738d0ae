// The WireGuard programs that the tunnel suite compares: ours, those of others that are on this machine, and no tunnel at all.

import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { LabHost } from "../../scripts/lab/host.js";

/** A program that makes a WireGuard device. */
export interface Contender {
  readonly name: string;
  /** Starts the device `interfaceName` on `host`, in the foreground, and resolves with its process id when wg(8) can configure it. */
  readonly start: (host: LabHost, interfaceName: string) => Promise<number>;
}

/** A contender that is not on this machine. */
export interface MissingContender {
  readonly name: string;
  /** What to do to have it. */
  readonly advice: string;
}

const MAIN = fileURLToPath(new URL("../../src/programs/main.js", import.meta.url));

/** How to run a program in the foreground. */
interface Program {
  readonly name: string;
  readonly file: string;
  readonly args: (interfaceName: string) => readonly string[];
  readonly env?: NodeJS.ProcessEnv;
  readonly advice: string;
}

/** Ours, on the Node version at `node`. */
export function wirelane(node = process.execPath): Contender {
  return contender({
    name: "wirelane wg",
    file: node,
    args: (interfaceName) => [MAIN, "wg", "-f", interfaceName],
    advice: "npm run build",
  });
}

/** The programs of others: those found, and those missing. */
export function peers(): { found: Contender[]; missing: MissingContender[] } {
  const built = process.env["WIRELANE_TEST_PEERS"] ?? "";
  const programs: (Program | undefined)[] = [
    program("wireguard-go (current)", join(built, "wireguard"), ["-f"], "bash scripts/install-test-peers.sh"),
    program("wireguard-go (Debian)", inPath("wireguard-go"), ["-f"], "apt-get install wireguard-go"),
    program(
      "boringtun-cli",
      join(built, "boringtun-cli"),
      ["--foreground", "--disable-drop-privileges"],
      "bash scripts/install-test-peers.sh",
    ),
  ];
  const found: Contender[] = [];
  const missing: MissingContender[] = [];
  for (const candidate of programs) {
    if (candidate === undefined) continue;
    if (existsSync(candidate.file)) found.push(contender(candidate));
    else missing.push({ name: candidate.name, advice: candidate.advice });
  }
  return { found, missing };
}

function program(name: string, file: string, flags: readonly string[], advice: string): Program {
  // wireguard-go prints a warning on Linux unless told that it is meant.
  const env = { WG_I_PREFER_BUGGY_USERSPACE_TO_POLISHED_KMOD: "1", WG_PROCESS_FOREGROUND: "1" };
  return { name, file, args: (interfaceName) => [...flags, interfaceName], advice, env };
}

function inPath(name: string): string {
  const folders = (process.env["PATH"] ?? "").split(delimiter);
  return folders.map((folder) => join(folder, name)).find((file) => existsSync(file)) ?? name;
}

/** How long a program may take to create its device, in ms. */
const START_LIMIT = 15_000;

function contender({ name, file, args, env }: Program): Contender {
  return {
    name,
    async start(host, interfaceName) {
      const child = host.spawn(file, args(interfaceName), {
        stdio: ["ignore", "ignore", "pipe"],
        env: { ...process.env, ...env },
      });
      let output = "";
      child.stderr?.on("data", (chunk: Buffer) => {
        if (output.length < 65536) output += chunk.toString();
      });
      const end = Date.now() + START_LIMIT;
      for (;;) {
        const { status } = await host.run("wg", ["show", interfaceName], { allowFailure: true });
        if (status === 0) return child.pid ?? 0;
        if (child.exitCode !== null || Date.now() > end)
          throw new Error(`${name} did not create ${interfaceName} within ${START_LIMIT} ms\n${output}`);
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    },
  };
}
