// The tunnel suite: two hosts on one machine, a tunnel between them, iperf3 and ping through it. The contenders take turns, round
// by round, so that the machine's moods hit all of them alike; a figure is the median of the rounds, and a ratio is the median of
// the rounds' ratios.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Lab } from "../../scripts/lab/lab.js";
import { median, medianRatio } from "../statistics.js";
import { type MissingContender, peers, wirelane } from "./contenders.js";
import { LOADS, type LoadName } from "./loads.js";
import { measure, measureIdle, type Sample } from "./measure.js";
import { bareTunnel, PRODUCT_NAME, productTunnel, type Tunnel, wireguardTunnel } from "./tunnels.js";

/** What to run. */
export interface TunnelSuiteOptions {
  /** Rounds of alternation. */
  readonly rounds: number;
  /** Seconds per measurement. */
  readonly seconds: number;
  /** MTU of the WireGuard tunnels in bytes; client and gateway have the product's. */
  readonly mtu: number;
  readonly loads: readonly LoadName[];
  /** Node binary that runs wirelane. */
  readonly node?: string | undefined;
  /** Only contenders whose name contains one of these words, besides `wirelane wg`; empty: all. */
  readonly only: readonly string[];
  /** Called before each measurement. */
  readonly progress: (line: string) => void;
}

/** Results of one contender. */
export interface ContenderResult {
  readonly name: string;
  /** Per load: samples of the rounds, and medians. */
  readonly loads: Partial<Record<LoadName, LoadResult>>;
}

/** Results of one load. */
export interface LoadResult {
  readonly samples: readonly Sample[];
  /** Medians of the samples' fields. */
  readonly figure: number;
  readonly cpuSecondsPerGigabyte?: NonNullable<Sample["cpuSecondsPerGigabyte"]>;
  readonly lost?: number;
  readonly residentBytes?: number;
  /** The figure of `wirelane wg` divided by this contender's, round by round; absent for itself. */
  readonly wirelaneRatio?: number;
  /** The same for the CPU time of the whole machine. */
  readonly wirelaneCpuRatio?: number;
}

/** Results of the suite. */
export interface TunnelSuiteResult {
  readonly suite: "tunnel";
  readonly options: Omit<TunnelSuiteOptions, "progress" | "node">;
  readonly contenders: readonly ContenderResult[];
  readonly missing: readonly MissingContender[];
}

/** Runs the suite. Needs root (or a user namespace with CAP_SYS_ADMIN), iperf3, ping and wg. */
export async function runTunnelSuite(options: TunnelSuiteOptions): Promise<TunnelSuiteResult> {
  const { rounds, seconds, mtu, loads, node, only, progress } = options;
  const { found, missing } = peers();
  const wanted = (name: string) => only.length === 0 || only.some((word) => name.includes(word));

  const lab = Lab.create();
  const directory = mkdtempSync(join(tmpdir(), "wirelane-bench-"));
  try {
    const ours = wirelane(node);
    const tunnels: Tunnel[] = [];
    if (wanted("bare veth")) tunnels.push(bareTunnel(lab));
    for (const [index, contender] of [ours, ...found].entries()) {
      if (contender !== ours && !wanted(contender.name)) continue;
      progress(`starting ${contender.name}`);
      tunnels.push(await wireguardTunnel(lab, contender, index, mtu));
    }
    if (wanted(PRODUCT_NAME)) {
      progress("starting wirelane portal, gateway, client");
      tunnels.push(await productTunnel(lab, directory, node));
    }

    const samples = new Map<string, Sample[]>(
      tunnels.flatMap(({ name }) => loads.map((load): [string, Sample[]] => [`${name} ${load}`, []])),
    );
    // All idle at once, and once, at the end: it takes a while.
    const programs = tunnels.filter(({ processes: { client, server } }) => client.length + server.length > 0);
    const traffic = loads.filter((load) => load !== "idle");
    const steps = rounds * traffic.length * tunnels.length + (loads.length - traffic.length);
    let step = 0;
    for (let round = 1; round <= rounds; round++) {
      for (const load of traffic) {
        for (const tunnel of tunnels) {
          progress(`${++step}/${steps}: round ${round}, ${LOADS[load].title}, ${tunnel.name}`);
          samples.get(`${tunnel.name} ${load}`)?.push(await measure(tunnel, load, seconds));
        }
      }
    }
    if (loads.includes("idle")) {
      progress(`${++step}/${steps}: ${LOADS.idle.title}`);
      const found = await measureIdle(programs, seconds);
      for (const [i, sample] of found.entries()) samples.get(`${programs[i]?.name} idle`)?.push(sample);
    }
    const contenders = tunnels.map(({ name }) => summarize(name, ours.name, loads, samples));
    return { suite: "tunnel", options: { rounds, seconds, mtu, loads, only }, contenders, missing };
  } finally {
    await lab.destroy();
    rmSync(directory, { recursive: true, force: true });
  }
}

function summarize(
  name: string,
  ours: string,
  loads: readonly LoadName[],
  samples: ReadonlyMap<string, readonly Sample[]>,
): ContenderResult {
  const figures = (list: readonly Sample[]) => list.map((sample) => sample.figure);
  const cpu = (list: readonly Sample[], who: "machine" | "client" | "server" = "machine") =>
    list.map((sample) => sample.cpuSecondsPerGigabyte?.[who] ?? Number.NaN);
  const results: Partial<Record<LoadName, LoadResult>> = {};
  for (const load of loads) {
    const own = samples.get(`${name} ${load}`) ?? [];
    if (own.length === 0) continue;
    const best = samples.get(`${ours} ${load}`) ?? [];
    const isTransfer = LOADS[load].type === "transfer";
    const lost = own.map((sample) => sample.lost).filter((share) => share !== undefined);
    const memory = own.map((sample) => sample.residentBytes).filter((bytes) => bytes !== undefined);
    results[load] = {
      samples: own,
      figure: median(figures(own)),
      ...(isTransfer && {
        cpuSecondsPerGigabyte: {
          machine: median(cpu(own)),
          client: median(cpu(own, "client")),
          server: median(cpu(own, "server")),
        },
      }),
      ...(lost.length > 0 && { lost: median(lost) }),
      ...(memory.length > 0 && { residentBytes: median(memory) }),
      ...(name !== ours && { wirelaneRatio: medianRatio(figures(best), figures(own)) }),
      ...(name !== ours && isTransfer && { wirelaneCpuRatio: medianRatio(cpu(best), cpu(own)) }),
    };
  }
  return { name, loads: results };
}
