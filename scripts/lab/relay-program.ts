// Relays of a laboratory: wirelane's own (`wirelane relay`, spec 03, section 4.1) and, as its stand-in and for comparison, coturn's
// turnserver, which the portal names to everybody with a fixed user.

import { type ChildProcess, spawnSync } from "node:child_process";
import { once } from "node:events";
import { createWriteStream } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { defaultToolPath } from "../../src/system/linux/tool.js";
import type { LabHost } from "./host.js";
import { LabProgram, type ProgramEnd } from "./program.js";

/** Which program relays. */
export type RelayKind = "wirelane" | "coturn";

/** A relay to start. */
export interface RelayOptions {
  /** For messages and the log's name, as "relay-1". */
  readonly name: string;
  readonly ipv4: string | undefined;
  readonly ipv6: string | undefined;
  /** Where the portal is. */
  readonly apiUrl: string;
  readonly token: string;
  readonly logFile: string;
  readonly env: NodeJS.ProcessEnv;
  /** More arguments. */
  readonly args?: readonly string[];
  /** Node binary that runs wirelane. Default: that of this process. */
  readonly node?: string | undefined;
}

/** A running relay. */
export interface RunningRelay {
  readonly running: boolean;
  readonly pid: number;
  /** Its last words. */
  readonly tail: string;
  /** Resolves when it serves. */
  ready(timeout: number): Promise<void>;
  signal(signal: NodeJS.Signals): void;
  stop(signal?: NodeJS.Signals, timeout?: number): Promise<ProgramEnd>;
}

/** UDP port of STUN and TURN (RFC 8656, section 19). */
export const RELAY_PORT = 3478;

/** coturn's user, whom the portal names to clients and gateways. */
export const COTURN_USER = { username: "lab-user", password: "lab-password" } as const;
/** The realm of all relays (spec 02, section 2.5). */
const REALM = "firezone";

const WIRELANE = fileURLToPath(new URL("../../src/programs/main.js", import.meta.url));

/** Time between two looks whether coturn has its port, milliseconds. */
const POLL_INTERVAL = 20;

/** Why relays of this kind cannot be started here; `undefined`: they can. */
export function whyNoRelay(kind: RelayKind): string | undefined {
  if (!problems.has(kind)) problems.set(kind, tryRelay(kind));
  return problems.get(kind);
}

/** What was found out by trying, once. */
const problems = new Map<RelayKind, string | undefined>();

function tryRelay(kind: RelayKind): string | undefined {
  const [program, args] =
    kind === "coturn" ? ["turnserver", ["--version"]] : [process.execPath, [WIRELANE, "relay", "--help"]];
  const trial = spawnSync(program, args, {
    encoding: "utf8",
    timeout: 20_000,
    env: { ...process.env, PATH: defaultToolPath() },
  });
  if (trial.error !== undefined) return `${kind} cannot be started: ${trial.error.message}`;
  // turnserver prints its version whatever it ends with.
  if (kind === "wirelane" && trial.status !== 0) return "this wirelane has no relay";
  return undefined;
}

/** Starts a relay on a host. */
export function startRelay(kind: RelayKind, host: LabHost, options: RelayOptions): RunningRelay {
  return kind === "wirelane" ? startWirelane(host, options) : new Coturn(host, options);
}

function startWirelane(host: LabHost, options: RelayOptions): RunningRelay {
  const { ipv4, ipv6, apiUrl, token, name, logFile, env, node, args = [] } = options;
  const program = LabProgram.start(host, {
    name,
    script: WIRELANE,
    args: [
      "relay",
      ...(ipv4 === undefined ? [] : ["--public-ip4-addr", ipv4]),
      ...(ipv6 === undefined ? [] : ["--public-ip6-addr", ipv6]),
      ...["--api-url", apiUrl, "--log-format", "json", "--health-check-addr", "127.0.0.1:8080"],
      ...args,
      token,
      name,
    ],
    env,
    logFile,
    ...(node === undefined ? {} : { node }),
  });
  const from = program.mark;
  return Object.assign(program, {
    async ready(timeout: number) {
      await program.waitFor(({ message }) => message.startsWith("Listening for incoming traffic"), { timeout, from });
      await program.waitFor("Connected to portal", { timeout, from });
    },
  });
}

/** coturn. It knows nothing of the portal. */
class Coturn implements RunningRelay {
  readonly #child: ChildProcess;
  readonly #host: LabHost;
  #end: ProgramEnd | undefined;
  #tail = "";

  constructor(host: LabHost, { ipv4, ipv6, logFile }: RelayOptions) {
    const { username, password } = COTURN_USER;
    const addresses = [ipv4, ipv6].filter((address) => address !== undefined);
    this.#host = host;
    this.#child = host.spawn(
      "turnserver",
      [
        ...["-n", "--no-cli", "--no-tls", "--no-dtls", "--no-tcp", "--log-file", "stdout", "--simple-log"],
        ...["--lt-cred-mech", "--realm", REALM, "--user", `${username}:${password}`, "--fingerprint"],
        ...["--listening-port", String(RELAY_PORT), "--pidfile", "/dev/null"],
        ...addresses.flatMap((address) => ["--listening-ip", address, "--relay-ip", address]),
      ],
      { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, PATH: defaultToolPath() } },
    );
    const log = createWriteStream(logFile, { flags: "a" });
    for (const stream of [this.#child.stdout, this.#child.stderr])
      stream?.setEncoding("utf8").on("data", (text: string) => {
        log.write(text);
        this.#tail = (this.#tail + text).slice(-2000);
      });
    const end = (status: number | null, signal: NodeJS.Signals | null) => {
      this.#end = { status, signal };
      log.end();
    };
    this.#child.once("close", end);
    this.#child.once("error", (error) => {
      this.#tail += error.message;
      end(null, null);
    });
  }

  get running(): boolean {
    return this.#end === undefined;
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  get tail(): string {
    return this.#tail;
  }

  async ready(timeout: number): Promise<void> {
    const start = Date.now();
    const port = `:${RELAY_PORT.toString(16).toUpperCase().padStart(4, "0")} `;
    for (;;) {
      const { stdout } = await this.#host.run("cat", ["/proc/self/net/udp", "/proc/self/net/udp6"], {
        allowFailure: true,
      });
      if (stdout.includes(port)) return;
      if (!this.running || Date.now() - start > timeout) throw new Error(`turnserver does not serve\n${this.#tail}`);
      await sleep(POLL_INTERVAL);
    }
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  async stop(signal: NodeJS.Signals = "SIGTERM", timeout = 5000): Promise<ProgramEnd> {
    if (this.#end !== undefined) return this.#end;
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), timeout);
    const closed = once(this.#child, "close");
    this.#child.kill(signal);
    await closed;
    clearTimeout(timer);
    return this.#end ?? { status: null, signal };
  }
}
