// Two datapaths in one process, each in a network namespace of its own, joined by a veth pair and by one WireGuard session with
// fixed keys; no handshake, no control plane.
//
//   namespace left                                        namespace right
//   wl0  198.51.100.1  2001:db8:2::1                      wl0  198.51.100.2  2001:db8:2::2     tunnel
//   net0 192.0.2.1     2001:db8:1::1 ───────────────────  net0 192.0.2.2     2001:db8:1::2     underlay

import { type AddressFamily, IpAddress, IpPrefix, SocketAddress } from "../../src/base/address.js";
import { Datapath, type DatapathOptions } from "../../src/datapath/datapath.js";
import { type SessionKeys, Tables } from "../../src/engine/index.js";
import { monotonicNow } from "../../src/system/clock.js";
import { NetworkNamespace } from "./network-namespace.js";

/** Options of both datapaths, and the family of the underlay. */
export interface PairOptions {
  readonly workers?: number;
  readonly offloads?: boolean;
  readonly underlay?: AddressFamily;
}

/** One end. */
export interface PairEnd {
  readonly namespace: NetworkNamespace;
  readonly datapath: Datapath;
  readonly tables: Tables;
  /** Connection slot of the other end. */
  readonly connection: number;
  /** What `onFailure` reported. */
  readonly failures: Error[];
}

/** Two joined namespaces. */
export class PairNetwork {
  readonly left = new NetworkNamespace("left");
  readonly right = new NetworkNamespace("right");

  constructor() {
    this.left.ip("link", "add", "net0", "type", "veth", "peer", "name", "net0", "netns", this.right.name);
    for (const [namespace, host] of [
      [this.left, 1],
      [this.right, 2],
    ] as const) {
      namespace.ip("addr", "add", `192.0.2.${host}/24`, "dev", "net0");
      namespace.ip("addr", "add", `2001:db8:1::${host}/64`, "dev", "net0", "nodad");
      namespace.ip("link", "set", "net0", "up");
    }
  }

  /** Deletes both namespaces. */
  delete(): void {
    this.left.delete();
    this.right.delete();
  }
}

/** Two ends that can talk to each other. */
export interface Pair {
  readonly left: PairEnd;
  readonly right: PairEnd;
  /** Stops both. */
  stop(): Promise<void>;
}

/** Starts both ends and joins them. */
export async function startPair(network: PairNetwork, options: PairOptions = {}): Promise<Pair> {
  const left = await startEnd(network.left, 1, options);
  const right = await startEnd(network.right, 2, options);
  join(left, right, options.underlay ?? 4);
  const stop = async () => {
    await left.datapath.stop();
    await right.datapath.stop();
  };
  return { left, right, stop };
}

/** Points the ends' paths at each other's present ports. */
export function join(left: PairEnd, right: PairEnd, underlay: AddressFamily): void {
  const address = (end: PairEnd, host: number) => {
    const port = underlay === 4 ? end.datapath.localPorts.ipv4 : end.datapath.localPorts.ipv6;
    return socketAddress(underlay === 4 ? `192.0.2.${host}:${port}` : `[2001:db8:1::${host}]:${port}`);
  };
  left.tables.setPath(left.connection, { local: address(left, 1), remote: address(right, 2) });
  right.tables.setPath(right.connection, { local: address(right, 2), remote: address(left, 1) });
}

/** Parses an address that is known to be one. */
export function socketAddress(text: string): SocketAddress {
  const address = SocketAddress.parse(text);
  if (address === undefined) throw new Error(`${text} is no socket address`);
  return address;
}

/** Parses a prefix that is known to be one. */
export function prefix(text: string): IpPrefix {
  const parsed = IpPrefix.parse(text);
  if (parsed === undefined) throw new Error(`${text} is no prefix`);
  return parsed;
}

/** Parses an IP address that is known to be one. */
export function ip(text: string): IpAddress {
  const parsed = IpAddress.parse(text);
  if (parsed === undefined) throw new Error(`${text} is no IP address`);
  return parsed;
}

/** Starts one end; `host` is 1 or 2. */
async function startEnd(namespace: NetworkNamespace, host: 1 | 2, options: PairOptions): Promise<PairEnd> {
  const failures: Error[] = [];
  const offloads = options.offloads ?? true;
  const datapathOptions: DatapathOptions = {
    engine: { workers: options.workers ?? 1, connections: 16, sessions: 64, paths: 32, routes: 64, filters: 64 },
    tun: { name: "wl0", offloads },
    udp: { port: 0, offloads },
    onFailure: (error) => failures.push(error),
  };
  const datapath = await namespace.enterAsync(() => Datapath.start(datapathOptions));
  configureTun(namespace, host);

  const tables = await Tables.create({ memory: datapath.memory, layout: datapath.layout });
  const connection = tables.allocateConnection({ filtered: false, learnEndpoint: false });
  if (connection === undefined) throw new Error("no connection slot");
  installSession(tables, connection, host);
  const other = 3 - host;
  tables.setRoute(prefix(`198.51.100.${other}/32`), connection);
  tables.setRoute(prefix(`2001:db8:2::${other}/128`), connection);
  return { namespace, datapath, tables, connection, failures };
}

/** Gives a fresh TUN device its addresses. */
export function configureTun(namespace: NetworkNamespace, host: 1 | 2): void {
  namespace.ip("addr", "add", `198.51.100.${host}/24`, "dev", "wl0");
  namespace.ip("addr", "add", `2001:db8:2::${host}/64`, "dev", "wl0", "nodad");
  namespace.ip("link", "set", "wl0", "mtu", "1280", "gso_max_segs", "48", "up");
}

/** The session that both ends know. */
function installSession(tables: Tables, connection: number, host: 1 | 2): void {
  const keys = { 1: new Uint8Array(32).fill(0x11), 2: new Uint8Array(32).fill(0x22) };
  const other = host === 1 ? 2 : 1;
  const session: SessionKeys = {
    connection,
    localIndex: 0x1000 + host,
    remoteIndex: 0x1000 + other,
    sendKey: keys[host],
    receiveKey: keys[other],
    confirmed: true,
    createdAt: monotonicNow(),
  };
  tables.installSession(session);
  tables.setCurrentSession(connection, session.localIndex);
}
