// What one measurement of a tunnel is: iperf3 between two namespaces, with the CPU time of the whole machine around it.

import { readFileSync } from "node:fs";
import type { LabHost } from "../../scripts/lab/host.js";

/** One direction and kind of load. */
export interface Load {
  readonly name: string;
  /** Arguments of iperf3 besides the address, the time and `--json`. */
  readonly iperf: readonly string[];
}

/** The result of one load over one tunnel. */
export interface Sample {
  /** Payload received, bits per second. */
  readonly bitsPerSecond: number;
  /** CPU-seconds that the whole machine spent per 10^9 payload bytes, iperf3 included. */
  readonly cpuSecondsPerGigabyte: number;
  /** Share of datagrams lost; UDP only. */
  readonly lost?: number;
  /** TCP segments sent again. */
  readonly retransmits?: number;
}

/** The loads of the suite, in the order they run. */
export const LOADS = {
  "tcp-1": { name: "TCP, 1 stream", iperf: [] },
  "tcp-1-reverse": { name: "TCP, 1 stream, reverse", iperf: ["--reverse"] },
  "tcp-4": { name: "TCP, 4 streams", iperf: ["--parallel", "4"] },
  "tcp-4-reverse": { name: "TCP, 4 streams, reverse", iperf: ["--parallel", "4", "--reverse"] },
  "udp-1200": {
    name: "UDP, 1200 bytes at 1 Gbit/s",
    iperf: ["--udp", "--length", "1200", "--bandwidth", "1G", "--window", "4M"],
  },
} as const satisfies Record<string, Load>;

/** Name of a load. */
export type LoadName = keyof typeof LOADS;

interface IperfReport {
  readonly error?: string;
  readonly end?: {
    readonly sum_received?: { readonly bits_per_second: number; readonly bytes: number };
    readonly sum_sent?: { readonly retransmits?: number };
    readonly sum?: { readonly bits_per_second: number; readonly bytes: number; readonly lost_percent?: number };
  };
}

/** Runs one load from `client` to the iperf3 server at `address` for `seconds`. Throws with iperf3's words when it fails. */
export async function measure(client: LabHost, address: string, load: Load, seconds: number): Promise<Sample> {
  const busyBefore = machineBusySeconds();
  const { stdout } = await client.run("iperf3", [
    "--client",
    address,
    "--time",
    String(seconds),
    "--json",
    "--connect-timeout",
    "3000",
    ...load.iperf,
  ]);
  const busy = machineBusySeconds() - busyBefore;
  const report = JSON.parse(stdout) as IperfReport;
  if (report.error !== undefined) throw new Error(`iperf3: ${report.error}`);
  const received = report.end?.sum_received ?? report.end?.sum;
  if (received === undefined) throw new Error("iperf3 reported no result");
  const lost = report.end?.sum?.lost_percent;
  const retransmits = report.end?.sum_sent?.retransmits;
  return {
    bitsPerSecond: received.bits_per_second,
    cpuSecondsPerGigabyte: busy / (received.bytes / 1e9),
    ...(lost === undefined ? {} : { lost: lost / 100 }),
    ...(retransmits === undefined ? {} : { retransmits }),
  };
}

/** Clock ticks per second in /proc/stat (USER_HZ, fixed at 100 in the kernel's interface to user space). */
const USER_HZ = 100;

/** CPU time in seconds that the machine has spent on anything but idling since it started. */
export function machineBusySeconds(): number {
  const [line = ""] = readFileSync("/proc/stat", "utf8").split("\n");
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0] = line.trim().split(/\s+/).slice(1).map(Number);
  return (user + nice + system + irq + softirq) / USER_HZ;
}
