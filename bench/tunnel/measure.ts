// What one measurement of a tunnel is: iperf3, ping or nothing between two hosts, with the CPU time of the machine and of the tunnel's
// processes around it.

import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { LabHost } from "../../scripts/lab/host.js";
import { median } from "../statistics.js";
import { LOADS, type PingLoad, type TrafficLoadName, type TransferLoad } from "./loads.js";
import { machineBusySeconds, processSeconds, residentBytes, threadSeconds } from "./processes.js";
import type { Tunnel } from "./tunnels.js";

/** The result of one load over one tunnel. */
export interface Sample {
  /** Payload received in bits per second, the median round-trip time in seconds, or CPU time in seconds per minute of idling. */
  readonly figure: number;
  /** CPU-seconds per 10^9 payload bytes; transfers only. */
  readonly cpuSecondsPerGigabyte?: {
    /** That the whole machine spent, iperf3 included. */
    readonly machine: number;
    /** That the tunnel's program spent at either end. */
    readonly client: number;
    readonly server: number;
    /** That a relay between them spent; absent where there is none. */
    readonly relay?: number;
  };
  /** Share of datagrams lost, and of datagrams out of order; UDP only. */
  readonly lost?: number;
  readonly outOfOrder?: number;
  /** TCP segments sent again. */
  readonly retransmits?: number;
  /** Memory of the larger end's program; idling only. */
  readonly residentBytes?: number;
}

/** Runs one load for `seconds`. Throws with the tool's words when it fails. */
export function measure(tunnel: Tunnel, name: TrafficLoadName, seconds: number): Promise<Sample> {
  const load: TransferLoad | PingLoad = LOADS[name];
  return load.type === "transfer" ? transfer(tunnel, load, seconds) : ping(tunnel, load, seconds);
}

/**
 * When idling begins, in seconds after the last load: some seconds later V8 collects what is left of it, and paths are looked after more often for
 * twenty. And how long idling is watched at least.
 */
const IDLE_AFTER = 30;
const IDLE_FOR = 20;

/** Watches all tunnels idle at the same time. */
export async function measureIdle(tunnels: readonly Tunnel[], seconds: number): Promise<Sample[]> {
  await sleep(1000 * IDLE_AFTER);
  const ends = tunnels.map(({ processes: { client, server } }) => [...client, ...server]);
  const before = ends.map((pids) => pids.map(threadSeconds));
  const watched = Math.max(seconds, IDLE_FOR);
  await sleep(1000 * watched);
  return ends.map((pids, i) => {
    const spent = pids.map((pid, k) => threadSeconds(pid) - (before[i]?.[k] ?? 0));
    return {
      figure: (60 * Math.max(...spent)) / watched,
      residentBytes: Math.max(...pids.map(residentBytes)),
    };
  });
}

interface IperfSum {
  readonly bits_per_second: number;
  readonly bytes: number;
  readonly lost_percent?: number;
  readonly packets?: number;
  readonly out_of_order?: number;
}

interface IperfReport {
  readonly error?: string;
  readonly end?: {
    readonly sum_received?: IperfSum;
    readonly sum_received_bidir_reverse?: IperfSum;
    readonly sum_sent?: { readonly retransmits?: number };
    readonly sum?: IperfSum;
    readonly streams?: readonly { readonly udp?: { readonly out_of_order?: number } }[];
  };
}

async function transfer(tunnel: Tunnel, load: TransferLoad, seconds: number): Promise<Sample> {
  const { client: clients, server: servers, relay: relays } = tunnel.processes;
  const costs = () => [machineBusySeconds(), ...[clients, servers, relays ?? []].map(processSeconds)];
  const before = costs();
  const address = load.family === 4 ? tunnel.ipv4 : tunnel.ipv6;
  const flood = load.flood === true ? startFlood(tunnel, seconds + 1) : undefined;
  const report = await runIperf(tunnel.client, address, load.iperf, seconds);
  await flood;
  const after = costs();

  const { end } = report;
  const received = end?.sum_received ?? end?.sum;
  if (received === undefined) throw new Error(`${tunnel.name}: iperf3 reported no result`);
  const back = end?.sum_received_bidir_reverse;
  const gigabytes = (received.bytes + (back?.bytes ?? 0)) / 1e9;
  const [machine = 0, client = 0, server = 0, relay = 0] = after.map(
    (cost, i) => (cost - (before[i] ?? 0)) / gigabytes,
  );
  const lost = end?.sum?.lost_percent;
  const retransmits = end?.sum_sent?.retransmits;
  const outOfOrder = end?.streams?.map(({ udp }) => udp?.out_of_order ?? 0).reduce((sum, count) => sum + count, 0);
  return {
    figure: received.bits_per_second + (back?.bits_per_second ?? 0),
    cpuSecondsPerGigabyte: { machine, client, server, ...(relays !== undefined && { relay }) },
    ...(lost === undefined ? {} : { lost: lost / 100, outOfOrder: (outOfOrder ?? 0) / (end?.sum?.packets ?? 1) }),
    ...(retransmits === undefined ? {} : { retransmits }),
  };
}

const FLOOD = fileURLToPath(new URL("./flood-main.js", import.meta.url));

/** Resolves at the flood's end. */
async function startFlood({ client, handshakes }: Tunnel, seconds: number): Promise<void> {
  if (handshakes === undefined) return;
  const { address, port, publicKey } = handshakes;
  await client.run(process.execPath, [FLOOD, address, port, publicKey, String(seconds)]);
}

async function runIperf(
  client: LabHost,
  address: string,
  args: readonly string[],
  seconds: number,
): Promise<IperfReport> {
  const common = ["--client", address, "--time", String(seconds), "--json", "--connect-timeout", "3000"];
  const { stdout } = await client.run("iperf3", [...common, ...args], { allowFailure: true });
  const report = JSON.parse(stdout) as IperfReport;
  if (report.error !== undefined) throw new Error(`iperf3: ${report.error}`);
  return report;
}

/** Seconds from one echo request to the next. */
const PING_INTERVAL = 0.02;
/** How long the load beside it takes to reach its speed, in milliseconds. */
const SETTLING = 500;

async function ping({ client, ipv4 }: Tunnel, load: PingLoad, seconds: number): Promise<Sample> {
  // The load lasts longer than the pings, and is awaited.
  const beside = load.beside === undefined ? undefined : runIperf(client, ipv4, load.beside, seconds + 1);
  if (beside !== undefined) await sleep(SETTLING);
  const count = Math.ceil(seconds / PING_INTERVAL);
  const args = ["-n", "-i", String(PING_INTERVAL), "-c", String(count), ipv4];
  const { stdout } = await client.run("ping", args, { allowFailure: true });
  await beside;
  const times = Array.from(stdout.matchAll(/ time=([\d.]+) ms/g), ([, time]) => Number(time) / 1000);
  if (times.length === 0) throw new Error(`no reply from ${ipv4}: ${stdout}`);
  return { figure: median(times), lost: 1 - times.length / count };
}
