// TURN without a portal: servers with a fixed user, ours or coturn's turnserver, and coturn's test programs as clients. For
// interoperation tests and benchmarks of the relay.

import type { ChildProcess } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { defaultToolPath } from "../../src/system/linux/tool.js";
import type { LabHost } from "./host.js";
import { RELAY_PORT, type RelayKind } from "./relay-program.js";

/** The fixed user. */
export const TURN_USER = { name: "bench", password: "secret" } as const;
const { name: USER, password: PASSWORD } = TURN_USER;
const REALM = "wirelane";
const WIRELANE = fileURLToPath(new URL("../../src/programs/main.js", import.meta.url));

/** Longest start of a server, in milliseconds. */
const START_LIMIT = 15_000;

/** A running server. */
export interface TurnServerProcess {
  readonly pid: number;
  /** What it has printed last. */
  readonly output: () => string;
  stop(): Promise<void>;
}

/** Starts a server on a host with these addresses; resolves when it serves. @throws Error with its output when it does not. */
export async function startTurnServer(
  kind: RelayKind,
  host: LabHost,
  options: {
    readonly ipv4: string;
    readonly ipv6?: string;
    readonly node?: string;
    /** More arguments for `wirelane relay`. */
    readonly args?: readonly string[];
  },
): Promise<TurnServerProcess> {
  const { ipv4, ipv6, node = process.execPath, args = [] } = options;
  const child =
    kind === "wirelane"
      ? host.spawn(node, [
          ...[WIRELANE, "relay", "--public-ip4-addr", ipv4],
          ...(ipv6 === undefined ? [] : ["--public-ip6-addr", ipv6]),
          ...["--user", `${USER}:${PASSWORD}`, "--realm", REALM, "--health-check-addr", "127.0.0.1:8080"],
          ...args,
        ])
      : host.spawn(
          "turnserver",
          [
            ...["-n", "--no-cli", "--no-tls", "--no-dtls", "--no-tcp", "--log-file", "stdout", "--simple-log"],
            ...["--lt-cred-mech", "--realm", REALM, "--user", `${USER}:${PASSWORD}`, "--pidfile", "/dev/null"],
            ...[ipv4, ...(ipv6 === undefined ? [] : [ipv6])].flatMap((address) => [
              ...["--listening-ip", address, "--relay-ip", address],
            ]),
          ],
          { env: { ...process.env, PATH: defaultToolPath() } },
        );
  let output = "";
  for (const stream of [child.stdout, child.stderr])
    stream?.setEncoding("utf8").on("data", (text: string) => {
      output = (output + text).slice(-4000);
    });
  await untilItServes(host, child, () => output);
  return {
    pid: child.pid ?? 0,
    output: () => output,
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const ended = new Promise((resolve) => child.once("exit", resolve));
      child.kill("SIGKILL");
      await ended;
    },
  };
}

async function untilItServes(host: LabHost, child: ChildProcess, output: () => string): Promise<void> {
  const port = `:${RELAY_PORT.toString(16).toUpperCase().padStart(4, "0")} `;
  for (const end = performance.now() + START_LIMIT; ; await sleep(50)) {
    const { stdout } = await host.run("cat", ["/proc/self/net/udp"]);
    if (stdout.includes(port)) return;
    if (child.exitCode !== null || performance.now() > end)
      throw new Error(`the TURN server does not serve\n${output()}`);
  }
}

/** What `turnutils_uclient` says at its end. */
export interface UclientResult {
  readonly sent: number;
  readonly received: number;
  /** Everything that it printed. */
  readonly output: string;
}

/** Runs `turnutils_uclient` on a host against a server; `args` come before its address. @throws Error when it fails or says nothing of use. */
export async function runUclient(host: LabHost, server: string, ...args: string[]): Promise<UclientResult> {
  const { stdout, stderr } = await host.run("turnutils_uclient", ["-u", USER, "-w", PASSWORD, "-c", ...args, server], {
    timeout: 120_000,
    env: { ...process.env, PATH: defaultToolPath() },
  });
  const output = stdout + stderr;
  const [, sent, received] =
    [...output.matchAll(/start_mclient: tot_send_msgs=(\d+), tot_recv_msgs=(\d+)/g)].at(-1) ?? [];
  if (sent === undefined || received === undefined)
    throw new Error(`turnutils_uclient says nothing of messages\n${output}`);
  return { sent: Number(sent), received: Number(received), output };
}
