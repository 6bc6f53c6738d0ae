// A WireGuard device in this process: datapath, device and configuration socket put together.

import { writeFileSync } from "node:fs";
import { Datapath, INTERFACE_REMOVED } from "../../datapath/index.js";
import type { EngineConfig } from "../../engine/layout.js";
import { monotonicNow, unixNow } from "../../system/clock.js";
import { nodeCrypto, systemRandom } from "../../system/crypto.js";
import { SystemCallError } from "../../system/linux/errno.js";
import { changeLink, getLink } from "../../system/linux/rtnetlink/links.js";
import { NetlinkSocket } from "../../system/linux/rtnetlink/netlink.js";
import { TRANSMIT_QUEUE_LENGTH } from "../../system/linux/tunnel-interface.js";
import { Turns } from "../../system/turns.js";
import { ERRNO, type ErrorNumber } from "../../uapi/errno.js";
import { socketPath, UapiServer } from "../../uapi/server.js";
import type { DeviceChange, DeviceConfiguration } from "../../wireguard/configuration.js";
import { WireGuardDevice } from "../../wireguard/device.js";
import type { DeviceEvent } from "../../wireguard/device-events.js";
import { Tai64nClock } from "../../wireguard/tai64n.js";
import { Driver } from "../common/driver.js";
import { forcedBuild } from "../common/engine-build.js";
import { DeviceDataplane } from "./device-dataplane.js";
import { InitiationHelper } from "./initiation-helper.js";
import type { DeviceLog } from "./log.js";
import { SourceWatch } from "./source-watch.js";

/** MTU of a new interface in bytes, that of all WireGuard implementations: 1500 less the outer headers over IPv6, rounded. */
const DEFAULT_MTU = 1420;

/** How often removed table entries are looked after, in milliseconds. */
const RECLAIM_INTERVAL = 1000;

/**
 * Capacities: ten thousand peers with their sessions, and a table of routes of the size of the internet's cores in one peer's allowed IPs. What is not
 * used costs address space, not memory. Devices have no filters.
 */
const DEVICE_CONFIG: Omit<EngineConfig, "workers"> = {
  connections: 16_384,
  sessions: 65_536,
  paths: 32_768,
  routes: 524_288,
  filters: 1,
  rules: 1,
  ringBytes: 1024 * 1024,
};

/** What to run. */
export interface DeviceProgramOptions {
  readonly interfaceName: string;
  /** Datapath threads. */
  readonly workers: number;
  readonly log: DeviceLog;
  /** Where to write the interface's name, for scripts that let the kernel choose it (`wg%d`). */
  readonly nameFile: string | undefined;
}

/** Why a device ended by itself. */
export type DeviceEnd =
  | { readonly type: "interface-removed" }
  | { readonly type: "socket-removed" }
  | { readonly type: "failed"; readonly error: Error };

/** A running device. */
export class DeviceProgram {
  /** Resolves when the device has to end although nobody called {@link stop}; {@link stop} is still to be called. */
  readonly ended: Promise<DeviceEnd>;
  readonly #log: DeviceLog;
  readonly #datapath: Datapath;
  readonly #dataplane: DeviceDataplane;
  readonly #device: WireGuardDevice;
  readonly #driver: Driver<DeviceEvent>;
  readonly #helper: InitiationHelper;
  readonly #reclaiming: Turns;
  #server: UapiServer | undefined;
  #sourceWatch: SourceWatch | undefined;

  private constructor(
    options: DeviceProgramOptions,
    datapath: Datapath,
    dataplane: DeviceDataplane,
    ended: Promise<DeviceEnd>,
  ) {
    this.ended = ended;
    this.#log = options.log;
    this.#datapath = datapath;
    this.#dataplane = dataplane;
    this.#device = new WireGuardDevice({
      crypto: nodeCrypto,
      random: systemRandom,
      clock: new Tai64nClock(monotonicNow(), unixNow()),
      maxPeers: datapath.layout.config.connections,
      maxAllowedIps: datapath.layout.config.routes,
      batches: true,
    });
    this.#helper = new InitiationHelper(
      {
        batchCounters: this.#device.batchCounters,
        pollBatch: () => this.#device.pollBatch(),
        handleBatch: (id, results) => this.#driver.input((now) => this.#device.handleBatch(id, results, now)),
      },
      (error) => this.#log.error("handshake thread failed", error),
    );
    this.#driver = new Driver(this.#device, {
      transmit: (transmit) => dataplane.transmit(transmit),
      event: (event) => {
        dataplane.apply(event);
        if (event.type === "identity-changed") this.#helper.wipe();
        this.#log.deviceEvent(event);
      },
      beforeTimeout: (now) => dataplane.feedActivity(this.#device, now),
    });
    dataplane.connect(this.#device, monotonicNow, () => {
      this.#driver.drain();
      this.#helper.openWaiting();
    });
    this.#device.handleBound(this.#port);
    this.#reclaiming = new Turns(RECLAIM_INTERVAL, () => {
      dataplane.reclaim();
      this.#logDropped();
    });
  }

  /**
   * Starts a device; when it resolves, wg(8) can configure it.
   *
   * @throws with words for the user; nothing is left behind then.
   */
  static async start(options: DeviceProgramOptions): Promise<DeviceProgram> {
    const { interfaceName, workers, log } = options;
    let end: (reason: DeviceEnd) => void = () => undefined;
    const ended = new Promise<DeviceEnd>((resolve) => {
      end = resolve;
    });
    const datapath = await Datapath.start({
      engine: { ...DEVICE_CONFIG, workers },
      build: forcedBuild(),
      tun: { name: interfaceName },
      udp: { port: 0 },
      // The interface may be in another network namespace: that it is not found here would say nothing.
      onFailure: (error) =>
        end(error.message.includes(INTERFACE_REMOVED) ? { type: "interface-removed" } : { type: "failed", error }),
    });
    let program: DeviceProgram | undefined;
    try {
      const name = datapath.tun?.name ?? interfaceName;
      setUpLink(name);
      log.info(`packet engine: ${datapath.build.build} (${datapath.build.reason})`);
      for (const missing of datapath.missingFamilies) log.warn(missing);
      const dataplane = await DeviceDataplane.create(datapath, (table) => log.warn(`table full: ${table}`));
      program = new DeviceProgram(options, datapath, dataplane, ended);
      program.#watchSources();
      await program.#listen(name, () => end({ type: "socket-removed" }));
      if (options.nameFile !== undefined) writeFileSync(options.nameFile, `${name}\n`, { mode: 0o400 });
      log.info(`device ${name} is ready`);
      return program;
    } catch (error) {
      await (program === undefined ? datapath.stop() : program.stop());
      throw error;
    }
  }

  /** Ends the device: the configuration socket, all sessions, the interface. */
  async stop(): Promise<void> {
    this.#reclaiming.stop();
    this.#sourceWatch?.stop();
    await this.#server?.close();
    this.#driver.stop();
    this.#device.close(monotonicNow());
    await this.#helper.stop();
    await this.#datapath.stop();
  }

  #logDropped(): void {
    const dropped = this.#helper.takeDropped();
    if (dropped > 0) this.#log.warn(`handshake initiations dropped: ${dropped}`);
  }

  /** Without it a source address that has gone is noticed by the timers of WireGuard only. */
  #watchSources(): void {
    const report = (error: Error) => this.#log.error("cannot see how the network changes", error);
    try {
      this.#sourceWatch = new SourceWatch(() => this.#driver.input(() => this.#device.handleNetworkChange()), report);
    } catch (error) {
      if (!(error instanceof SystemCallError)) throw error;
      report(error);
    }
  }

  async #listen(interfaceName: string, onRemoved: () => void): Promise<void> {
    this.#server = await UapiServer.listen({
      path: socketPath(interfaceName),
      handler: { get: () => this.#get(), set: (change) => this.#set(change) },
      onRemoved,
      onError: (error) => this.#log.error("configuration request failed", error),
    });
  }

  #get(): DeviceConfiguration {
    this.#dataplane.feedActivity(this.#device, monotonicNow());
    return this.#device.configuration();
  }

  async #set(change: DeviceChange): Promise<ErrorNumber> {
    const errno = await this.#rebind(change);
    if (errno !== ERRNO.ok) return errno;
    let error: string | undefined;
    this.#driver.input((now) => {
      error = this.#device.configure(change, now);
    });
    if (error === undefined) return ERRNO.ok;
    this.#log.warn(`configuration refused: ${error}`);
    return ERRNO.ENOSPC;
  }

  /** Brings about another port or mark; when that fails, nothing of the change is carried out. */
  async #rebind(change: DeviceChange): Promise<ErrorNumber> {
    const { listenPort, fwmark } = this.#device.configuration();
    const port = change.listenPort ?? listenPort;
    const mark = change.fwmark ?? fwmark;
    if (port === listenPort && mark === fwmark) return ERRNO.ok;
    try {
      await this.#datapath.rebind({ port, mark });
    } catch (error) {
      if (!(error instanceof SystemCallError)) throw error;
      this.#log.error(`port ${port}, mark ${mark}`, error);
      return error.errno;
    }
    this.#driver.input(() => this.#device.handleBound(this.#port));
    return ERRNO.ok;
  }

  /** The port of the sockets; both families have the same. */
  get #port(): number {
    const { ipv4, ipv6 } = this.#datapath.localPorts;
    return ipv4 ?? ipv6 ?? 0;
  }
}

/** Whoever configures the interface may change both. */
function setUpLink(interfaceName: string): void {
  const netlink = NetlinkSocket.open();
  try {
    const link = getLink(netlink, interfaceName).index;
    changeLink(netlink, link, { mtu: DEFAULT_MTU, transmitQueueLength: TRANSMIT_QUEUE_LENGTH });
  } finally {
    netlink.close();
  }
}
