// The privilege to make network namespaces for people who are not root: an unprivileged user namespace (user_namespaces(7)), in which
// the caller is root over networks of its own and over nothing else. Needs unshare(1) and a kernel that lets users do so.

import { spawn, spawnSync } from "node:child_process";
import { accessSync, constants, readFileSync } from "node:fs";
import { SystemCallError } from "../../src/system/linux/errno.js";
import { NetworkNamespace } from "../../src/system/linux/namespace.js";
import { changeLink, getLink } from "../../src/system/linux/rtnetlink/links.js";
import { NetlinkSocket } from "../../src/system/linux/rtnetlink/netlink.js";

/** How a program comes by its privilege. */
export type LabPrivilege =
  /** Network namespaces can be made: go on. */
  | { readonly type: "granted" }
  /** The program has run again in a user namespace and ended: exit with its code. */
  | { readonly type: "finished"; readonly exitCode: number }
  /** Network namespaces cannot be made; `reason` says what is needed. */
  | { readonly type: "denied"; readonly reason: string };

/** Set in the second run. */
const MARKER = "WIRELANE_USER_NAMESPACE";

const UNSHARE = ["--user", "--map-root-user", "--net", "--mount"] as const;

/** Exit code of a program that a signal ended: 128 + the signal's number is the shells' custom. */
const SIGNAL_EXIT_CODES: Readonly<Record<string, number>> = { SIGHUP: 129, SIGINT: 130, SIGKILL: 137, SIGTERM: 143 };

/**
 * Makes sure that network namespaces can be made, by running the current program again in a user namespace if need be.
 *
 *   const privilege = await rerunInUserNamespace();
 *   if (privilege.type === "finished") process.exit(privilege.exitCode);
 */
export async function rerunInUserNamespace(): Promise<LabPrivilege> {
  const missingDevice = tunDeviceProblem();
  if (missingDevice !== undefined) return { type: "denied", reason: missingDevice };
  const failure = namespaceFailure();
  const again = process.env[MARKER] !== undefined;
  if (failure === undefined) {
    if (again) bringLoopbackUp();
    return { type: "granted" };
  }
  if (again) return { type: "denied", reason: `even in a user namespace: ${failure}` };

  const trial = spawnSync("unshare", [...UNSHARE, "true"], { encoding: "utf8" });
  if (trial.error !== undefined) {
    return {
      type: "denied",
      reason: `network namespaces need root, or unshare (package util-linux): ${trial.error.message}`,
    };
  }
  if (trial.status !== 0) return { type: "denied", reason: whyNoUserNamespace(trial.stderr.trim()) };
  return { type: "finished", exitCode: await runAgain() };
}

/** Why user namespaces are refused, and what the administrator can do about it. `words`: what unshare said. */
export function whyNoUserNamespace(words: string, readSetting = readKernelSetting): string {
  const advice = switchedOff(readSetting);
  return `network namespaces need root, and the kernel refuses user namespaces (${words}). Run with sudo, or ${advice}`;
}

function switchedOff(readSetting: (name: string) => string | undefined): string {
  if (readSetting("kernel/unprivileged_userns_clone") === "0")
    return "allow them: sysctl kernel.unprivileged_userns_clone=1";
  if (readSetting("user/max_user_namespaces") === "0") return "allow them: sysctl user.max_user_namespaces=10000";
  if (readSetting("user/max_net_namespaces") === "0") return "allow them: sysctl user.max_net_namespaces=10000";
  if (readSetting("kernel/apparmor_restrict_unprivileged_userns") === "1")
    return "allow them: sysctl kernel.apparmor_restrict_unprivileged_userns=0";
  return "in a container, start it with the capability SYS_ADMIN or a seccomp profile that allows unshare";
}

function readKernelSetting(name: string): string | undefined {
  try {
    return readFileSync(`/proc/sys/${name}`, "utf8").trim();
  } catch (error) {
    if (error instanceof Error && "code" in error) return undefined;
    throw error;
  }
}

/** Why this process cannot make network namespaces; `undefined` when it can. */
function namespaceFailure(): string | undefined {
  try {
    NetworkNamespace.create().close();
    return undefined;
  } catch (error) {
    if (error instanceof SystemCallError) return error.message;
    throw error;
  }
}

/** Root of a user namespace cannot create device nodes, so the tun device must be there and open to everybody. */
function tunDeviceProblem(): string | undefined {
  if (process.getuid?.() === 0) return undefined;
  try {
    accessSync("/dev/net/tun", constants.R_OK | constants.W_OK);
    return undefined;
  } catch (error) {
    if (!(error instanceof Error && "code" in error)) throw error;
    return error.code === "ENOENT"
      ? "/dev/net/tun is missing: load the driver (modprobe tun), in a container pass the device in"
      : "/dev/net/tun is not open to this user: run with sudo, or allow it (chmod 666 /dev/net/tun)";
  }
}

function bringLoopbackUp(): void {
  const netlink = NetlinkSocket.open();
  changeLink(netlink, getLink(netlink, "lo").index, { up: true });
  netlink.close();
}

async function runAgain(): Promise<number> {
  const child = spawn("unshare", [...UNSHARE, process.execPath, ...process.execArgv, ...process.argv.slice(1)], {
    stdio: "inherit",
    env: { ...process.env, [MARKER]: "1" },
  });
  // The terminal sends SIGINT to both of us: the child decides what it means. Other signals reach only this process.
  const ignore = () => undefined;
  const forward = (signal: NodeJS.Signals) => child.kill(signal);
  process.on("SIGINT", ignore).on("SIGTERM", forward).on("SIGHUP", forward);
  try {
    return await new Promise((resolve, reject) => {
      child.once("error", reject);
      child.once("exit", (code, signal) => resolve(code ?? SIGNAL_EXIT_CODES[signal ?? ""] ?? 1));
    });
  } finally {
    process.off("SIGINT", ignore).off("SIGTERM", forward).off("SIGHUP", forward);
  }
}
