// The host's side of a tunnel, for client and gateway: datapath, device with its addresses and routes, and the local addresses that are
// offered to others. The programs put a state machine on top (driver.ts) and speak with the portal (portal-connection.ts).
//
//   TUN device, UDP sockets ◄─► datapath workers ◄─ tables, exceptions ─► state machine
//   interface, routes, rules ◄─ rtnetlink ◄─ events of the state machine

import { type IpAddress, type IpPrefix, SocketAddress } from "../../base/address.js";
import type { Instant } from "../../base/time.js";
import { Datapath } from "../../datapath/datapath.js";
import { DEFAULT_ENGINE_CONFIG } from "../../engine/layout.js";
import type { ConnectionOptions } from "../../engine/tables.js";
import { changeLink, getLink } from "../../system/linux/rtnetlink/links.js";
import { NetlinkSocket } from "../../system/linux/rtnetlink/netlink.js";
import { TUNNEL_MARK, TunnelInterface } from "../../system/linux/tunnel-interface.js";
import { Dataplane } from "../dataplane.js";
import { forcedBuild } from "./engine-build.js";
import { localAddresses } from "./local-addresses.js";
import type { TargetLog } from "./log.js";

/** Name of the tunnel's interface, of client and gateway alike (spec 05, section 1.2). */
export const TUNNEL_INTERFACE = "tun-firezone";
/** MTU of the tunnel's interface in bytes (spec 05, section 1.2). */
export const TUNNEL_MTU = 1280;
/** Segments of a frame that the kernel leaves to us: what fits into one UDP send of 64 KiB with all headers. */
const GSO_MAX_SEGMENTS = 48;

/** What to start. */
export interface TunnelHostOptions {
  readonly connections: ConnectionOptions;
  /** Our static public key, 32 bytes: handshake messages for others are dropped. */
  readonly publicKey: Uint8Array;
  readonly log: TargetLog;
  /** Datapath threads. */
  readonly workers: number;
  /** The datapath has ended by itself; the program must end too. */
  readonly onFailure: (error: Error) => void;
}

/** Who is told about local addresses. */
export interface HostCandidateSink {
  addLocalHostCandidate(address: SocketAddress, now: Instant): boolean;
  removeLocalHostCandidate(address: SocketAddress, now: Instant): void;
}

/** See the head of this file. */
export class TunnelHost {
  readonly datapath: Datapath;
  readonly dataplane: Dataplane;
  readonly #log: TargetLog;
  readonly #netlink: NetlinkSocket;
  readonly #interface: TunnelInterface;
  /** Of the tunnel. */
  readonly interfaceName: string;
  #tunnelAddresses: readonly IpAddress[] = [];
  #offered = new Map<string, SocketAddress>();

  private constructor(datapath: Datapath, dataplane: Dataplane, netlink: NetlinkSocket, name: string, log: TargetLog) {
    this.datapath = datapath;
    this.dataplane = dataplane;
    this.#netlink = netlink;
    this.#interface = new TunnelInterface(netlink, name);
    this.interfaceName = name;
    this.#log = log;
  }

  /**
   * Creates the device and binds the sockets; the interface has no addresses yet.
   *
   * @throws with words for the user; nothing is left behind then.
   */
  static async start(options: TunnelHostOptions): Promise<TunnelHost> {
    const { log, connections, publicKey, workers, onFailure } = options;
    const datapath = await Datapath.start({
      engine: { ...DEFAULT_ENGINE_CONFIG, workers },
      build: forcedBuild(),
      tun: { name: TUNNEL_INTERFACE },
      udp: { port: 0, mark: TUNNEL_MARK },
      onFailure,
    });
    try {
      log.info("Packet engine chosen", { ...datapath.build });
      for (const missing of datapath.missingFamilies) log.warn("An IP version has no socket", { reason: missing });
      const dataplane = await Dataplane.create(datapath, connections, (table) =>
        log.warn("A table of the datapath is full", { table }),
      );
      dataplane.setIdentity(publicKey);
      const name = datapath.tun?.name ?? TUNNEL_INTERFACE;
      const netlink = NetlinkSocket.open();
      changeLink(netlink, getLink(netlink, name).index, { gsoMaxSegments: GSO_MAX_SEGMENTS });
      return new TunnelHost(datapath, dataplane, netlink, name, log);
    } catch (error) {
      await datapath.stop();
      throw error;
    }
  }

  /** Gives the interface its addresses and brings it up. @throws SystemCallError when no IP version works. */
  setAddresses(ipv4: IpAddress, ipv6: IpAddress): void {
    this.#tunnelAddresses = [ipv4, ipv6];
    this.#warn(this.#interface.setAddresses(ipv4, ipv6, TUNNEL_MTU).warnings);
  }

  /** Lets exactly these networks lead into the tunnel. */
  setRoutes(prefixes: readonly IpPrefix[]): void {
    this.#log.debug("Setting new routes", { routes: prefixes.join(" ") });
    this.#warn(this.#interface.setRoutes(prefixes).warnings);
  }

  /** Whether a datagram came through the tunnel itself: its address must not be offered as a way to carry the tunnel. */
  isTunnelAddress(address: SocketAddress): boolean {
    return this.#tunnelAddresses.some((own) => own.equals(address.ip));
  }

  /** Tells `sink` which of this host's addresses have come and gone since the last call. */
  updateHostCandidates(sink: HostCandidateSink, now: Instant): void {
    const { ipv4, ipv6 } = this.datapath.localPorts;
    const current = new Map<string, SocketAddress>();
    for (const ip of localAddresses(this.interfaceName, TUNNEL_MARK)) {
      const port = ip.family === 4 ? ipv4 : ipv6;
      if (port === undefined) continue;
      const address = new SocketAddress(ip, port);
      current.set(address.key, address);
    }
    for (const [key, address] of this.#offered) if (!current.has(key)) sink.removeLocalHostCandidate(address, now);
    for (const [key, address] of current) if (!this.#offered.has(key)) sink.addLocalHostCandidate(address, now);
    this.#offered = current;
  }

  /** The same for a `sink` that has just forgotten all of them. */
  renewHostCandidates(sink: HostCandidateSink, now: Instant): void {
    this.#offered.clear();
    this.updateHostCandidates(sink, now);
  }

  /** Binds fresh ports: the network has changed. */
  async rebind(): Promise<void> {
    await this.datapath.rebind();
  }

  /** Takes everything back: interface, routes, rules, sockets, workers. */
  async stop(): Promise<void> {
    this.#warn(this.#interface.remove().warnings);
    this.#netlink.close();
    await this.datapath.stop();
  }

  #warn(warnings: readonly Error[]): void {
    for (const { message } of warnings) this.#log.warn("The interface is not as it should be", { reason: message });
  }
}
