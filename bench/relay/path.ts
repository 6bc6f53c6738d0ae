// Our client and gateway with a relay as their only way to each other: wirelane's or coturn's. TCP through the tunnel, and what the relay
// spent on it.
//
//    client 192.0.2.130 ────── relay, portal 192.0.2.1 ────── gateway 192.0.2.140, resource 10.99.0.2
//
// The relay's host forwards nothing, so client and gateway cannot reach each other.

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import type { LabHost } from "../../scripts/lab/host.js";
import type { Lab } from "../../scripts/lab/lab.js";
import { COTURN_USER, RELAY_PORT, type RelayKind, startRelay } from "../../scripts/lab/relay-program.js";
import { median, medianRatio } from "../statistics.js";
import type { LoadName } from "../tunnel/loads.js";
import { measure, type Sample } from "../tunnel/measure.js";
import { reach, startPortal } from "../tunnel/product.js";
import { startIperfServers, type Tunnel } from "../tunnel/tunnels.js";

/** Loads of the tunnel suite that are sent through relays. */
export const PATH_LOADS = ["tcp-1", "tcp-1-reverse", "tcp-4"] as const satisfies readonly LoadName[];

/** What a relayed path did with a load: medians over the rounds. */
export interface PathFigure {
  readonly load: (typeof PATH_LOADS)[number];
  readonly relay: string;
  readonly bitsPerSecond: number;
  /** CPU-seconds of the relay per 10^9 bytes of payload. */
  readonly cpuSecondsPerGigabyte: number;
  /** Speed, and CPU time, as multiples of those with coturn; absent for coturn. */
  readonly timesCoturn?: number;
  readonly cpuTimesCoturn?: number;
}

/** Options of {@link measurePaths}. */
export interface PathOptions {
  readonly directory: string;
  readonly rounds: number;
  /** Per measurement. */
  readonly seconds: number;
  readonly node: string | undefined;
  readonly progress: (line: string) => void;
}

const RELAY = "192.0.2.1";
const CLIENT = "192.0.2.130";
const GATEWAY = "192.0.2.140";
const RESOURCE = "10.99.0.2";
const RELAY_TOKEN = "bench-relay-token";
/** Longest start of a relay, in milliseconds. */
const START_LIMIT = 15_000;

/** Measures every load over every relay in turn. */
export async function measurePaths(lab: Lab, options: PathOptions): Promise<PathFigure[]> {
  const { rounds, seconds, progress } = options;
  const paths: Tunnel[] = [];
  for (const kind of ["wirelane", "coturn"] as const) paths.push(await relayedPath(lab, kind, options));
  const figures: PathFigure[] = [];
  for (const load of PATH_LOADS) {
    const samples = paths.map((): Sample[] => []);
    for (let round = 1; round <= rounds; round++) {
      for (const [i, path] of paths.entries()) {
        progress(`relay: round ${round} of ${rounds}, ${load} through ${path.name}`);
        samples[i]?.push(await measure(path, load, seconds));
      }
    }
    const speeds = (list: readonly Sample[] = []) => list.map(({ figure }) => figure);
    const costs = (list: readonly Sample[] = []) =>
      list.map(({ cpuSecondsPerGigabyte }) => cpuSecondsPerGigabyte?.relay ?? Number.NaN);
    const coturn = samples.at(-1);
    for (const [i, { name }] of paths.entries()) {
      figures.push({
        load,
        relay: name,
        bitsPerSecond: median(speeds(samples[i])),
        cpuSecondsPerGigabyte: median(costs(samples[i])),
        ...(i < paths.length - 1 && {
          timesCoturn: medianRatio(speeds(samples[i]), speeds(coturn)),
          cpuTimesCoturn: medianRatio(costs(samples[i]), costs(coturn)),
        }),
      });
    }
  }
  return figures;
}

async function relayedPath(lab: Lab, kind: RelayKind, { directory, node, progress }: PathOptions): Promise<Tunnel> {
  const name = kind === "wirelane" ? "wirelane relay" : "coturn turnserver";
  progress(`relay: starting portal, gateway, client and ${name}`);
  const files = join(directory, kind);
  mkdirSync(files);
  const middle = lab.host(`${kind}: relay`);
  const client = lab.host(`${kind}: client`);
  const gateway = lab.host(`${kind}: gateway`);
  attach(lab, middle, "eth0", client, CLIENT);
  attach(lab, middle, "eth1", gateway, GATEWAY);
  gateway.configure("lo", { addresses: [`${RESOURCE}/32`] });
  const product = startPortal({
    host: middle,
    address: RELAY,
    resources: { ipv4: RESOURCE },
    relays:
      kind === "wirelane"
        ? { tokens: [RELAY_TOKEN] }
        : { static: [{ address: `${RELAY}:${RELAY_PORT}`, ...COTURN_USER }] },
    directory: files,
    node,
  });
  const relay = startRelay(kind, middle, {
    name: "relay",
    ipv4: RELAY,
    ipv6: undefined,
    apiUrl: product.apiUrl,
    token: RELAY_TOKEN,
    logFile: join(files, "relay.log"),
    env: product.env,
    node,
  });
  await relay.ready(START_LIMIT);
  const server = product.startGateway(gateway);
  const device = product.startClient(client);
  startIperfServers(gateway, { ipv4: RESOURCE });
  await reach(client, RESOURCE, () => [relay.tail, server.tail, device.tail].join("\n"));
  const chosen = device.records.findLast(({ message }) => message === "Path selected")?.fields["path"];
  if (chosen !== "relayed") throw new Error(`the path is ${String(chosen)}, not relayed`);
  const processes = { client: [device.pid], server: [server.pid], relay: [relay.pid] };
  return { name, client, ipv4: RESOURCE, ipv6: "", processes };
}

/** A cable to a host that is to reach this end of it only. */
function attach(lab: Lab, middle: LabHost, name: string, host: LabHost, address: string): void {
  lab.connect(middle, host, { names: [name, "eth0"], ipv4: [`${RELAY}/32`, `${address}/32`] });
  middle.route(`${address}/32`, { dev: name });
  host.route(`${RELAY}/32`, { dev: "eth0" });
  host.route("default", { via: RELAY, dev: "eth0" });
}
