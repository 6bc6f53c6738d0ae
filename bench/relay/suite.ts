// The relay against coturn's turnserver, in namespaces. First the same client program for both: figures are relayed datagrams per second of
// the server's CPU time, and what was lost; the client sends at a fixed rate, so that both have the same work. Then our client and gateway
// over either (path.ts).

import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { LabHost } from "../../scripts/lab/host.js";
import { Lab } from "../../scripts/lab/lab.js";
import type { RelayKind } from "../../scripts/lab/relay-program.js";
import { runUclient, startTurnServer, type TurnServerProcess } from "../../scripts/lab/turn-programs.js";
import { median, medianRatio } from "../statistics.js";
import { LOADS } from "../tunnel/loads.js";
import { processSeconds, residentBytes } from "../tunnel/processes.js";
import { measurePaths, PATH_LOADS, type PathFigure } from "./path.js";

const SERVER = "192.0.2.1";
const CLIENT = "192.0.2.2";

/**
 * Loads: arguments of turnutils_uclient. With -y clients send to each other in pairs, so every datagram is relayed twice; with -e they send
 * to a program that sends back what it gets.
 */
export const RELAY_LOADS = {
  sparse: {
    title: "50 clients in pairs, 1200 bytes, 50/s each",
    args: ["-y", "-m", "50", "-l", "1200", "-n", "600", "-z", "20"],
  },
  echo: {
    title: "50 clients with a peer, 1200 bytes, 50/s each",
    args: ["-e", CLIENT, "-m", "50", "-l", "1200", "-n", "600", "-z", "20"],
  },
  dense: {
    title: "110 clients in pairs, 1200 bytes, 1.06 Gbit/s",
    args: ["-y", "-m", "110", "-l", "1200", "-n", "2000", "-z", "1"],
  },
  small: {
    title: "50 clients in pairs, 100 bytes, 1000/s each",
    args: ["-y", "-m", "50", "-l", "100", "-n", "2000", "-z", "1"],
  },
} as const;

/** Before the first load. */
const WARM_UP = ["-y", "-m", "50", "-l", "1200", "-n", "2000", "-z", "1"] as const;

/** Name of a load. */
export type RelayLoadName = keyof typeof RELAY_LOADS;

/** What a server did with a load: medians over the rounds. */
export interface RelayFigure {
  readonly load: RelayLoadName;
  readonly server: string;
  /** Datagrams relayed per second of the server's CPU time. */
  readonly packetsPerCpuSecond: number;
  /** Share of the datagrams that did not arrive. */
  readonly lost: number;
  /** Bytes of the server's memory after the load. */
  readonly residentBytes: number;
  /** The server's datagrams per CPU-second as a multiple of coturn's; absent for coturn. */
  readonly timesCoturn?: number;
}

/** Results of the suite. */
export interface RelaySuiteResult {
  readonly suite: "relay";
  readonly rounds: number;
  readonly figures: readonly RelayFigure[];
  readonly paths: readonly PathFigure[];
  /** What is not installed, with the command that installs it. */
  readonly missing: readonly string[];
}

/** Options of the suite. */
export interface RelaySuiteOptions {
  readonly rounds: number;
  /** Seconds per measurement over client and gateway. */
  readonly seconds: number;
  /** Node that runs wirelane; default: this one. */
  readonly node?: string | undefined;
  readonly progress: (line: string) => void;
}

interface Contender {
  readonly name: string;
  readonly host: LabHost;
  readonly server: TurnServerProcess;
}

interface Sample {
  readonly packetsPerCpuSecond: number;
  readonly lost: number;
  readonly residentBytes: number;
}

const ADVICE = "coturn (bash scripts/install-test-peers.sh)";

/** Measures every load with every server in turn. Takes a few minutes. @throws Error where namespaces cannot be made. */
export async function runRelaySuite(options: RelaySuiteOptions): Promise<RelaySuiteResult> {
  const { rounds, node, progress } = options;
  if (!existsSync("/usr/bin/turnutils_uclient")) {
    progress(`relay: not measured, the load needs ${ADVICE}`);
    return { suite: "relay", rounds, figures: [], paths: [], missing: [ADVICE] };
  }
  const figures = await inLab(async (lab) => {
    const contenders: Contender[] = [];
    for (const kind of ["wirelane", "coturn"] as const) contenders.push(await start(lab, kind, node, progress));
    // Programs compile themselves at their first work: that is not what is measured.
    for (const { host } of contenders) await runUclient(host, SERVER, ...WARM_UP);
    return measureAll(contenders, rounds, progress);
  });
  const directory = mkdtempSync(join(tmpdir(), "wirelane-bench-"));
  try {
    const paths = await inLab((lab) => measurePaths(lab, { ...options, node, directory }));
    return { suite: "relay", rounds, figures, paths, missing: [] };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

async function inLab<T>(use: (lab: Lab) => Promise<T>): Promise<T> {
  const lab = Lab.create();
  try {
    return await use(lab);
  } finally {
    await lab.destroy();
  }
}

async function start(lab: Lab, kind: RelayKind, node: string | undefined, progress: (line: string) => void) {
  const name = kind === "wirelane" ? "wirelane relay" : "coturn turnserver";
  progress(`relay: starting ${name}`);
  const relay = lab.host(`${kind}-relay`);
  const host = lab.host(`${kind}-client`);
  lab.connect(relay, host, { ipv4: [`${SERVER}/24`, `${CLIENT}/24`] });
  host.spawn("turnutils_peer", ["-L", CLIENT], { stdio: "ignore" });
  const server = await startTurnServer(kind, relay, { ipv4: SERVER, ...(node !== undefined && { node }) });
  return { name, host, server };
}

async function measureAll(
  contenders: readonly Contender[],
  rounds: number,
  progress: (line: string) => void,
): Promise<RelayFigure[]> {
  const figures: RelayFigure[] = [];
  for (const load of Object.keys(RELAY_LOADS) as RelayLoadName[]) {
    const samples = contenders.map((): Sample[] => []);
    for (let round = 1; round <= rounds; round++) {
      for (const [i, contender] of contenders.entries()) {
        progress(`relay: round ${round} of ${rounds}, ${RELAY_LOADS[load].title}, ${contender.name}`);
        samples[i]?.push(await measure(contender, load));
      }
    }
    const speeds = (list: readonly Sample[] = []) => list.map(({ packetsPerCpuSecond }) => packetsPerCpuSecond);
    const coturn = speeds(samples.at(-1));
    for (const [i, { name }] of contenders.entries()) {
      const own = samples[i] ?? [];
      figures.push({
        load,
        server: name,
        packetsPerCpuSecond: median(speeds(own)),
        lost: median(own.map(({ lost }) => lost)),
        residentBytes: median(own.map((sample) => sample.residentBytes)),
        ...(i < contenders.length - 1 && { timesCoturn: medianRatio(speeds(own), coturn) }),
      });
    }
  }
  return figures;
}

async function measure({ host, server }: Contender, load: RelayLoadName): Promise<Sample> {
  const before = processSeconds([server.pid]);
  const { sent, received } = await runUclient(host, SERVER, ...RELAY_LOADS[load].args);
  const seconds = processSeconds([server.pid]) - before;
  return {
    packetsPerCpuSecond: (2 * received) / seconds,
    lost: 1 - received / sent,
    residentBytes: residentBytes(server.pid),
  };
}

/** The results as a table. */
export function formatRelay({ figures, paths, rounds, missing }: RelaySuiteResult): string {
  const lines = [`Relay, medians of ${rounds} alternating rounds`];
  for (const [name, { title }] of Object.entries(RELAY_LOADS)) {
    const rows = figures.filter(({ load }) => load === name);
    if (rows.length === 0) continue;
    lines.push("", `${title.padEnd(48)} datagrams/CPU-s  lost    memory  times coturn`);
    for (const { server, packetsPerCpuSecond, lost, residentBytes: bytes, timesCoturn } of rows)
      lines.push(
        `${server.padEnd(48)} ${packetsPerCpuSecond.toFixed(0).padStart(15)}  ${`${(100 * lost).toFixed(1)} %`.padStart(6)}` +
          `  ${(bytes / 1e6).toFixed(0).padStart(4)} MB  ${timesCoturn?.toFixed(2).padStart(12) ?? ""}`,
      );
  }
  for (const name of PATH_LOADS) {
    const rows = paths.filter(({ load }) => load === name);
    if (rows.length === 0) continue;
    const title = `client and gateway, ${LOADS[name].title}, through`;
    lines.push("", `${title.padEnd(48)}  Gbit/s  relay's CPU-s/GB  times coturn's speed  times its CPU time`);
    for (const { relay, bitsPerSecond, cpuSecondsPerGigabyte, timesCoturn, cpuTimesCoturn } of rows)
      lines.push(
        `${relay.padEnd(48)}  ${(bitsPerSecond / 1e9).toFixed(2).padStart(6)}  ${cpuSecondsPerGigabyte.toFixed(2).padStart(16)}` +
          `  ${(timesCoturn?.toFixed(2) ?? "").padStart(20)}  ${(cpuTimesCoturn?.toFixed(2) ?? "").padStart(18)}`,
      );
  }
  for (const name of missing) lines.push(`not measured without ${name}`);
  return `${lines.join("\n")}\n`;
}
