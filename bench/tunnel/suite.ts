// The tunnel suite: two hosts on one machine, a tunnel between them, iperf3 through it. The contenders take turns, round by
// round, so that the machine's moods hit all of them alike; a figure is the median of the rounds, and a ratio is the median of
// the rounds' ratios.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { LabHost } from "../../scripts/lab/host.js";
import { Lab } from "../../scripts/lab/lab.js";
import { median, medianRatio } from "../statistics.js";
import { type Contender, type MissingContender, peers, wirelane } from "./contenders.js";
import { LOADS, type LoadName, measure, type Sample } from "./measure.js";

/** What to run. */
export interface TunnelSuiteOptions {
  /** Rounds of alternation. */
  readonly rounds: number;
  /** Seconds per measurement. */
  readonly seconds: number;
  /** MTU of the tunnels, bytes. */
  readonly mtu: number;
  readonly loads: readonly LoadName[];
  /** Node binary for ours. */
  readonly node?: string;
  /** Only contenders whose name contains one of these; empty: all. */
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
  readonly gigabitsPerSecond: number;
  readonly cpuSecondsPerGigabyte: number;
  /** Ours divided by this contender's, round by round; absent for ours itself. */
  readonly wirelaneRatio?: number;
}

/** Results of the suite. */
export interface TunnelSuiteResult {
  readonly suite: "tunnel";
  readonly options: Omit<TunnelSuiteOptions, "progress">;
  readonly contenders: readonly ContenderResult[];
  readonly missing: readonly MissingContender[];
}

/** A tunnel between the two hosts, ready for iperf3. */
interface Tunnel {
  readonly name: string;
  readonly client: LabHost;
  /** Where the iperf3 server is reached through the tunnel. */
  readonly address: string;
}

/** Runs the suite. Needs root (or a user namespace with CAP_SYS_ADMIN), iperf3 and wg. */
export async function runTunnelSuite(options: TunnelSuiteOptions): Promise<TunnelSuiteResult> {
  const { found, missing } = peers();
  const wanted = (name: string) => options.only.length === 0 || options.only.some((word) => name.includes(word));
  const ours = wirelane(options.node);
  const contenders = [ours, ...found].filter(({ name }) => name === ours.name || wanted(name));

  const lab = Lab.create();
  try {
    const tunnels: Tunnel[] = [];
    if (wanted("veth")) tunnels.push(await bareTunnel(lab));
    for (const [index, contender] of contenders.entries()) {
      options.progress(`starting ${contender.name}`);
      tunnels.push(await startTunnel(lab, contender, index, options.mtu));
    }

    const samples = new Map<string, Sample[]>();
    for (let round = 1; round <= options.rounds; round++) {
      for (const load of options.loads) {
        for (const tunnel of tunnels) {
          options.progress(`round ${round}/${options.rounds}: ${LOADS[load].name}, ${tunnel.name}`);
          const sample = await measure(tunnel.client, tunnel.address, LOADS[load], options.seconds);
          const key = `${tunnel.name} ${load}`;
          samples.set(key, [...(samples.get(key) ?? []), sample]);
        }
      }
    }
    const { progress: _, ...plainOptions } = options;
    return {
      suite: "tunnel",
      options: plainOptions,
      contenders: tunnels.map(({ name }) => summarize(name, ours.name, options.loads, samples)),
      missing,
    };
  } finally {
    await lab.destroy();
  }
}

function summarize(
  name: string,
  ours: string,
  loads: readonly LoadName[],
  samples: ReadonlyMap<string, readonly Sample[]>,
): ContenderResult {
  const results: Partial<Record<LoadName, LoadResult>> = {};
  for (const load of loads) {
    const own = samples.get(`${name} ${load}`) ?? [];
    const bits = (list: readonly Sample[]) => list.map((sample) => sample.bitsPerSecond);
    results[load] = {
      samples: own,
      gigabitsPerSecond: median(bits(own)) / 1e9,
      cpuSecondsPerGigabyte: median(own.map((sample) => sample.cpuSecondsPerGigabyte)),
      ...(name === ours ? {} : { wirelaneRatio: medianRatio(bits(samples.get(`${ours} ${load}`) ?? []), bits(own)) }),
    };
  }
  return { name, loads: results };
}

async function bareTunnel(lab: Lab): Promise<Tunnel> {
  const [client, server] = [lab.host("veth client"), lab.host("veth server")];
  lab.connect(client, server, { ipv4: ["192.0.2.1/24", "192.0.2.2/24"] });
  startIperfServer(server);
  return { name: "bare veth", client, address: "192.0.2.2" };
}

/** Port that WireGuard listens on, both ends. */
const LISTEN_PORT = "51820";

async function startTunnel(lab: Lab, contender: Contender, index: number, mtu: number): Promise<Tunnel> {
  const [client, server] = [lab.host(`${contender.name} client`), lab.host(`${contender.name} server`)];
  lab.connect(client, server, { ipv4: ["192.0.2.1/24", "192.0.2.2/24"] });
  // The configuration socket is named after the interface, in a folder that all namespaces share.
  const ends = [
    { host: client, device: `wlb${index}c`, outer: "192.0.2.2", inner: "10.99.0.1/24", peer: "10.99.0.2/32" },
    { host: server, device: `wlb${index}s`, outer: "192.0.2.1", inner: "10.99.0.2/24", peer: "10.99.0.1/32" },
  ] as const;
  const keys = await Promise.all(
    ends.map(async ({ host }) => {
      const privateKey = (await host.run("wg", ["genkey"])).stdout.trim();
      return { privateKey, publicKey: (await host.run("wg", ["pubkey"], { input: `${privateKey}\n` })).stdout.trim() };
    }),
  );
  for (const [end, { host, device, outer, inner, peer }] of ends.entries()) {
    await contender.start(host, device);
    const configuration = `[Interface]\nPrivateKey = ${keys[end]?.privateKey}\nListenPort = ${LISTEN_PORT}\n
[Peer]\nPublicKey = ${keys[1 - end]?.publicKey}\nEndpoint = ${outer}:${LISTEN_PORT}\nAllowedIPs = ${peer}\n`;
    await configure(host, device, configuration);
    host.configure(device, { addresses: [inner], mtu });
  }
  startIperfServer(server);
  return { name: contender.name, client, address: "10.99.0.2" };
}

/** A file and not a pipe: wg(8) opens its standard input by name, which does not work for what Node calls a pipe. */
async function configure(host: LabHost, device: string, configuration: string): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "wirelane-bench-"));
  try {
    const file = join(folder, "device.conf");
    writeFileSync(file, configuration, { mode: 0o600 });
    await host.run("wg", ["setconf", device, file]);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function startIperfServer(host: LabHost): void {
  host.spawn("iperf3", ["--server"], { stdio: "ignore" });
}
