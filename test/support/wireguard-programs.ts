// WireGuard programs for interoperation tests: ours, and those of others where they are installed.

import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { LabHost } from "../../scripts/lab/host.js";
import { labSkip } from "./lab-skip.js";

/** Our executable. */
export const MAIN = fileURLToPath(new URL("../../src/programs/main.js", import.meta.url));

/** A program that makes a WireGuard device, configured by wg(8). */
export interface WireGuardProgram {
  readonly name: string;
  readonly file: string;
  /** Arguments for staying in the foreground. */
  readonly args: (interfaceName: string) => readonly string[];
}

/** `wirelane wg`. */
export const wirelane: WireGuardProgram = {
  name: "wirelane wg",
  file: process.execPath,
  args: (interfaceName) => [MAIN, "wg", "-f", interfaceName],
};

/** Programs of others, whether they are installed or not: see {@link programSkip}. */
export const otherPrograms: readonly WireGuardProgram[] = [
  { name: "wireguard-go of Debian", file: find("wireguard-go"), args: (name) => ["-f", name] },
  { name: "wireguard-go, current", file: find("wireguard"), args: (name) => ["-f", name] },
  {
    name: "boringtun-cli",
    file: find("boringtun-cli"),
    args: (name) => ["--foreground", "--disable-drop-privileges", name],
  },
];

/** Looks for a program in the folder that WIRELANE_TEST_PEERS names, then in PATH. */
function find(name: string): string {
  const { WIRELANE_TEST_PEERS: peers, PATH = "" } = process.env;
  const folders = [...(peers === undefined ? [] : [peers]), ...PATH.split(delimiter)];
  return folders.map((folder) => join(folder, name)).find((file) => existsSync(file)) ?? name;
}

/** Why a test with these programs cannot run here; `false` when it can. */
export function programSkip(...programs: readonly WireGuardProgram[]): string | false {
  if (labSkip !== false) return labSkip;
  if (!existsSync("/dev/net/tun")) return "needs /dev/net/tun";
  if (!existsSync(find("wg"))) return "needs wg(8): bash scripts/install-test-peers.sh";
  const missing = programs.filter(({ file }) => !existsSync(file));
  return (
    missing.length > 0 &&
    `${missing.map(({ name }) => name).join(", ")} is not installed: bash scripts/install-test-peers.sh`
  );
}

/** Longest start of a program, in milliseconds. */
const START_LIMIT = 15_000;

/** Starts of a program of others before its failure is a test's failure. */
const START_TRIES = 3;

/**
 * Starts a device in the foreground; resolves with what stops it when wg(8) can configure it.
 *
 * A program of others that ends by itself while it starts is started again, since its start is not what is tested: Debian's
 * wireguard-go does so about once in several hundred starts on a busy machine. Ours has one try.
 */
export async function startDevice(
  host: LabHost,
  program: WireGuardProgram,
  interfaceName: string,
  env: NodeJS.ProcessEnv = {},
): Promise<ReturnType<LabHost["spawn"]>> {
  const tries = program === wirelane ? 1 : START_TRIES;
  for (let attempt = 1; ; attempt += 1) {
    const started = await tryStart(host, program, interfaceName, env);
    if ("child" in started) return started.child;
    if (attempt === tries) throw new Error(started.error);
    process.stderr.write(`${started.error}\nStarting it again (${attempt} of ${tries} tries).\n`);
  }
}

type Started = { readonly child: ReturnType<LabHost["spawn"]> } | { readonly error: string };

async function tryStart(
  host: LabHost,
  program: WireGuardProgram,
  interfaceName: string,
  env: NodeJS.ProcessEnv,
): Promise<Started> {
  const child = host.spawn(program.file, program.args(interfaceName), {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, WG_I_PREFER_BUGGY_USERSPACE_TO_POLISHED_KMOD: "1", ...env },
  });
  let output = "";
  const keep = (chunk: Buffer) => {
    if (output.length < 65_536) output += chunk.toString();
  };
  child.stdout?.on("data", keep);
  child.stderr?.on("data", keep);
  const end = Date.now() + START_LIMIT;
  for (;;) {
    const { status } = await host.run("wg", ["show", interfaceName], { allowFailure: true });
    if (status === 0) return { child };
    const { exitCode, signalCode } = child;
    if (exitCode !== null || signalCode !== null)
      return {
        error: `${program.name} ended with ${signalCode ?? exitCode} before ${interfaceName} was usable\n${output}`,
      };
    if (Date.now() > end) {
      child.kill("SIGKILL");
      return { error: `${program.name} did not create ${interfaceName} within ${START_LIMIT} ms\n${output}` };
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/**
 * Runs wg(8) with a file of `content` in the place of the argument "-": it opens files by name, which the pipes of a child process
 * do not have.
 */
export async function wg(host: LabHost, args: readonly string[], content = ""): Promise<string> {
  const directory = mkdtempSync(join(tmpdir(), "wirelane-wg-"));
  try {
    const file = join(directory, "input");
    writeFileSync(file, content, { mode: 0o600 });
    const { stdout } = await host.run(
      "wg",
      args.map((argument) => (argument === "-" ? file : argument)),
    );
    return stdout;
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** A key pair from wg(8), in its base64. */
export async function generateKeys(host: LabHost): Promise<{ privateKey: string; publicKey: string }> {
  const privateKey = (await wg(host, ["genkey"])).trim();
  return { privateKey, publicKey: (await host.run("wg", ["pubkey"], { input: privateKey })).stdout.trim() };
}
