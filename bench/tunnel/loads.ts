// What the tunnel suite sends through a tunnel: names, and how each is measured.

/** A load. */
export type Load = TransferLoad | PingLoad | IdleLoad;

/** iperf3 for some seconds; its figure is the payload received, in bits per second. */
export interface TransferLoad {
  readonly type: "transfer";
  readonly title: string;
  /** IP version inside the tunnel. */
  readonly family: 4 | 6;
  /** Arguments of iperf3 besides address, time and output format. */
  readonly iperf: readonly string[];
  /** Beside a flood of handshake initiations (flood-main.ts). Only of WireGuard programs; others are measured without. */
  readonly flood?: boolean;
}

/** Echo requests for some seconds; its figure is the median round-trip time in seconds. */
export interface PingLoad {
  readonly type: "ping";
  readonly title: string;
  readonly family: 4 | 6;
  /** What goes on beside it. */
  readonly beside?: readonly string[];
}

/** Nothing; its figure is the CPU time that the busier end's program takes, in seconds per minute. */
export interface IdleLoad {
  readonly type: "idle";
  readonly title: string;
}

const transfer = (title: string, iperf: readonly string[], family: 4 | 6 = 4): TransferLoad => ({
  type: "transfer",
  title,
  family,
  iperf,
});

/** All loads, in the order they run. */
export const LOADS = {
  "tcp-1": transfer("TCP, 1 stream", []),
  "tcp-1-reverse": transfer("TCP, 1 stream, reverse", ["--reverse"]),
  "tcp-4": transfer("TCP, 4 streams", ["--parallel", "4"]),
  "tcp-4-reverse": transfer("TCP, 4 streams, reverse", ["--parallel", "4", "--reverse"]),
  "ipv6-4-both": transfer("TCP over IPv6, 4 streams, both directions", ["--parallel", "4", "--bidir"], 6),
  "udp-1200": transfer("UDP, 1200 bytes at 1 Gbit/s", udp(1200, "1G")),
  "udp-64": transfer("UDP, 64 bytes at 100 Mbit/s", udp(64, "100M")),
  "tcp-1-flood": { ...transfer("TCP, 1 stream, beside a flood of handshakes", []), flood: true },
  ping: { type: "ping", title: "ping, idle", family: 4 },
  "ping-loaded": { type: "ping", title: "ping beside TCP, 1 stream", family: 4, beside: [] },
  idle: { type: "idle", title: "idle, after what was measured before" },
} as const satisfies Record<string, Load>;

/** Name of a load. */
export type LoadName = keyof typeof LOADS;
/** Name of one that sends something. */
export type TrafficLoadName = Exclude<LoadName, "idle">;

function udp(length: number, bandwidth: string): string[] {
  return ["--udp", "--length", String(length), "--bandwidth", bandwidth, "--window", "4M"];
}
