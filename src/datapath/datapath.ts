// The main thread's handle on the datapath: device, sockets, workers, exceptions. Start-up order (design, section 1.3): the
// engine is compiled and warmed up and the workers run before device and sockets are opened and handed to them.
//
//   Datapath.start ─► build of the engine chosen ─► engine at full speed ─► workers run idle ─► open TUN, bind UDP ─► assign ─► packets flow
//   rebind, replaceTun: open new ─► assign ─► every worker has let go of the old ─► close old
//   stop: workers return ─► close everything

import { fileURLToPath } from "node:url";
import type { Transmit } from "../base/state-machine.js";
import { type BuildChoice, chooseBuild } from "../engine/builds.js";
import { createLayout, createMemory, type EngineConfig, type Layout } from "../engine/layout.js";
import type { EngineBuild } from "../engine/module.js";
import type { SharedMemory } from "../engine/webassembly.js";
import { openTun, type TunDevice, type TunOffloads, type TunOptions } from "../system/linux/tun.js";
import { bindUdp, setMark, type UdpBinding, type UdpOptions, type UdpSockets } from "../system/linux/udp.js";
import { type Assignment, AssignmentFlag, NO_ASSIGNMENT } from "./control-block.js";
import { type ExceptionHandler, type ExceptionPump, pumpExceptions } from "./exception-pump.js";
import { MainPort, type MainPortCounters } from "./main-port.js";
import { WorkerPool } from "./pool.js";
import { warmUpEngine } from "./warm-up.js";
import type { DatapathTask } from "./worker.js";

const WORKER_MODULE = fileURLToPath(new URL("./worker.js", import.meta.url));

/** The device; the datapath chooses the number of queues. */
export type DatapathTunOptions = Omit<TunOptions, "queues">;

/** The sockets; the datapath chooses their number. */
export type DatapathUdpOptions = Omit<UdpOptions, "workers">;

/** What to start. */
export interface DatapathOptions {
  /** Capacities of the tables, and the number of workers. */
  readonly engine?: Partial<EngineConfig>;
  /** Build of the engine to use whatever is faster here; absent: the faster one. */
  readonly build?: EngineBuild | undefined;
  /** Absent: no device for now; see {@link Datapath.replaceTun}. */
  readonly tun?: DatapathTunOptions;
  readonly udp: DatapathUdpOptions;
  /**
   * The datapath has come to an end by itself: a worker died, the device was removed, an exception handler threw. Called once;
   * the owner stops the datapath and ends the program with the error's message.
   */
  readonly onFailure: (error: Error) => void;
}

/** Ports the sockets are bound to; a family without socket is absent. */
export interface LocalPorts {
  readonly ipv4?: number;
  readonly ipv6?: number;
}

/** What the kernel granted to the sockets of a family. */
export type SocketReport = Omit<UdpSockets, "fds">;

/** What the kernel granted and what was counted. */
export interface DatapathStatistics {
  readonly tun: { readonly name: string; readonly offloads: TunOffloads } | undefined;
  readonly sockets: readonly SocketReport[];
  /** Per worker, indexed by `Statistic`. */
  readonly workers: readonly Float64Array[];
  readonly main: MainPortCounters;
}

/** Something to close once no worker uses it any more. */
interface Closable {
  close(): void;
}

/** A running datapath. */
export class Datapath {
  /** The memory that tables, rings and packet buffers live in; for table writers. */
  readonly memory: SharedMemory;
  readonly layout: Layout;
  /** Which build of the engine runs, and why. */
  readonly build: BuildChoice;
  readonly #main: MainPort;
  readonly #pool: WorkerPool;
  readonly #onFailure: (error: Error) => void;
  #pump: ExceptionPump | undefined;
  #tun: TunDevice | undefined;
  #udp: UdpBinding | undefined;
  #udpOptions: DatapathUdpOptions;
  /** Everything open, including what workers may still hold on to. */
  readonly #open = new Set<Closable>();
  /** The end of the last change of file descriptors: changes happen one after the other. */
  #lastChange: Promise<void> = Promise.resolve();
  #stopped: Promise<void> | undefined;

  private constructor(
    memory: SharedMemory,
    layout: Layout,
    build: BuildChoice,
    main: MainPort,
    pool: WorkerPool,
    udpOptions: DatapathUdpOptions,
    onFailure: (error: Error) => void,
  ) {
    this.memory = memory;
    this.layout = layout;
    this.build = build;
    this.#main = main;
    this.#pool = pool;
    this.#udpOptions = udpOptions;
    this.#onFailure = onFailure;
  }

  /**
   * Starts workers, device and sockets.
   *
   * @throws what {@link chooseBuild}, {@link openTun} and {@link bindUdp} throw; WorkerFailure when a worker does not come up. Nothing is left open then.
   */
  static async start(options: DatapathOptions): Promise<Datapath> {
    const layout = createLayout(options.engine);
    const memory = createMemory(layout);
    const choice = await chooseBuild(options.build);
    const { build } = choice;
    await warmUpEngine(build);
    const main = await MainPort.create(memory, layout, build);
    const onFailure = once(options.onFailure);
    const task: DatapathTask = { memory, layout, build };
    const pool = await WorkerPool.start<DatapathTask>({
      workers: layout.config.workers,
      filename: WORKER_MODULE,
      task: () => task,
      onFailure,
    });
    const datapath = new Datapath(memory, layout, choice, main, pool, options.udp, onFailure);
    try {
      await datapath.#change(async () => {
        if (options.tun !== undefined) datapath.#tun = datapath.#openTun(options.tun);
        datapath.#udp = datapath.#bindUdp(options.udp);
        await datapath.#assign();
      });
      return datapath;
    } catch (error) {
      await datapath.stop();
      throw error;
    }
  }

  /** Name and offloads of the device; `undefined` while there is none. */
  get tun(): Pick<TunDevice, "name" | "offloads"> | undefined {
    return this.#tun;
  }

  /** Ports of the sockets, to be joined with local addresses into candidates. */
  get localPorts(): LocalPorts {
    const { ipv4, ipv6 } = this.#udp ?? {};
    return { ...(ipv4 && { ipv4: ipv4.port }), ...(ipv6 && { ipv6: ipv6.port }) };
  }

  /** Why a family has no socket, in words: for the log. */
  get missingFamilies(): readonly string[] {
    return this.#udp?.missing ?? [];
  }

  /** Calls `handler` for every exception from now on, in bounded batches. To be called once. */
  onExceptions(handler: ExceptionHandler): void {
    if (this.#pump !== undefined) throw new Error("exceptions have a handler already");
    this.#pump = pumpExceptions(this.memory, this.layout, handler, this.#onFailure);
  }

  /** Sends a datagram of the control plane; see {@link MainPort.sendControl}. */
  sendControl(transmit: Transmit): void {
    this.#main.sendControl(transmit);
  }

  /** Sends an IP packet into the tunnel; see {@link MainPort.injectPacket}. */
  injectPacket(packet: Uint8Array): void {
    this.#main.injectPacket(packet);
  }

  /** Sends an empty transport message on a connection; see {@link MainPort.sendKeepalive}. */
  sendKeepalive(connection: number): boolean {
    return this.#main.sendKeepalive(connection);
  }

  /** Sends a packet to the peer of a connection itself; see {@link MainPort.sendToPeer}. */
  sendToPeer(connection: number, packet: Uint8Array): boolean {
    return this.#main.sendToPeer(connection, packet);
  }

  /** Writes an IP packet to the device; see {@link MainPort.deliverToTun}. */
  deliverToTun(packet: Uint8Array): boolean {
    return this.#main.deliverToTun(packet);
  }

  /**
   * Replaces the sockets, with other options where given: another port or mark, or fresh ports after a change of network. When it
   * resolves the new ones carry all traffic and the old ones are closed. Where only the mark changes, the sockets stay. Otherwise a port that
   * stays the same is closed before it is bound again; should that fail, there are no sockets until the next attempt.
   */
  rebind(changes: Partial<DatapathUdpOptions> = {}): Promise<void> {
    return this.#change(async () => {
      let old = this.#udp;
      const options = { ...this.#udpOptions, ...changes };
      const { port, mark = 0 } = options;
      if (old !== undefined && isBoundAs(old, this.#udpOptions, options)) {
        setMark(old, mark);
        this.#udpOptions = options;
        return;
      }
      if (port !== 0 && (old?.ipv4?.port === port || old?.ipv6?.port === port)) {
        this.#udp = undefined;
        await this.#release(old);
        old = undefined;
      }
      this.#udp = this.#bindUdp(options);
      this.#udpOptions = options;
      await this.#release(old);
    });
  }

  /** Replaces the device, or takes it away. The new one has no addresses. A device of the same name is closed first. */
  replaceTun(options: DatapathTunOptions | undefined): Promise<void> {
    return this.#change(async () => {
      const old = this.#tun;
      this.#tun = undefined;
      await this.#release(old);
      if (options === undefined) return;
      this.#tun = this.#openTun(options);
      await this.#assign();
    });
  }

  /** What the kernel granted and what was counted so far. */
  statistics(): DatapathStatistics {
    const { ipv4, ipv6 } = this.#udp ?? {};
    return {
      tun: this.#tun && { name: this.#tun.name, offloads: this.#tun.offloads },
      sockets: [ipv4, ipv6].filter((sockets) => sockets !== undefined).map(withoutFds),
      workers: this.#pool.controls.map((control) => control.statistics.slice()),
      main: { ...this.#main.counters },
    };
  }

  /** Ends the workers and closes device and sockets. Nothing is sent or handled afterwards. */
  stop(): Promise<void> {
    this.#stopped ??= this.#stop();
    return this.#stopped;
  }

  async #stop(): Promise<void> {
    this.#pump?.stop();
    await this.#lastChange;
    await this.#pool.stop();
    this.#main.use(NO_ASSIGNMENT);
    for (const closable of this.#open) closable.close();
    this.#open.clear();
    this.#tun = undefined;
    this.#udp = undefined;
  }

  #openTun(options: DatapathTunOptions): TunDevice {
    const device = openTun({ ...options, queues: this.layout.config.workers });
    this.#open.add(device);
    return device;
  }

  #bindUdp(options: DatapathUdpOptions): UdpBinding {
    const binding = bindUdp({ ...options, workers: this.layout.config.workers });
    this.#open.add(binding);
    return binding;
  }

  /** Runs `action` after all earlier changes. */
  #change(action: () => Promise<void>): Promise<void> {
    const change = this.#lastChange.then(() => {
      if (this.#stopped !== undefined) throw new Error("the datapath was stopped");
      return action();
    });
    // A failure is the caller's to handle, not the next change's.
    const settle = () => undefined;
    this.#lastChange = change.then(settle, settle);
    return change;
  }

  /** Makes everybody work with the present device and sockets, and closes `old`. */
  async #release(old: Closable | undefined): Promise<void> {
    await this.#assign();
    if (old === undefined) return;
    old.close();
    this.#open.delete(old);
  }

  /** Makes main thread and workers work with the present device and sockets. */
  async #assign(): Promise<void> {
    const assignments = Array.from({ length: this.layout.config.workers }, (_, index) => this.#assignment(index));
    const [first = NO_ASSIGNMENT] = assignments;
    this.#main.use(first);
    await this.#pool.assign(assignments);
  }

  #assignment(index: number): Assignment {
    const { ipv4, ipv6 } = this.#udp ?? {};
    const offloads = this.#tun?.offloads;
    const segmentation = (ipv4?.segmentation ?? true) && (ipv6?.segmentation ?? true);
    return {
      tun: this.#tun?.queues[index] ?? -1,
      udp4: ipv4?.fds[index] ?? -1,
      udp6: ipv6?.fds[index] ?? -1,
      port4: ipv4?.port ?? 0,
      port6: ipv6?.port ?? 0,
      flags:
        (offloads?.virtioHeader === true ? AssignmentFlag.VirtioHeader : 0) |
        (offloads?.checksum === true ? AssignmentFlag.TunChecksum : 0) |
        (offloads?.tso === true ? AssignmentFlag.TunTso : 0) |
        (offloads?.uso === true ? AssignmentFlag.TunUso : 0) |
        (segmentation ? AssignmentFlag.UdpSegmentation : 0),
    };
  }
}

/** Whether sockets that were bound with `before` may serve for `after`, with another mark. */
function isBoundAs(binding: UdpBinding, before: DatapathUdpOptions, after: DatapathUdpOptions): boolean {
  const isSame = before.families === after.families && before.offloads === after.offloads;
  // Port 0 asks for another one.
  return (
    isSame && after.mark !== before.mark && after.port !== 0 && after.port === (binding.ipv4 ?? binding.ipv6)?.port
  );
}

function withoutFds(sockets: UdpSockets): SocketReport {
  const { family, port, receiveBuffer, sendBuffer, segmentation, coalescing } = sockets;
  return { family, port, receiveBuffer, sendBuffer, segmentation, coalescing };
}

/** Calls `report` for the first error only. */
function once(report: (error: Error) => void): (error: Error) => void {
  let reported = false;
  return (error) => {
    if (reported) return;
    reported = true;
    report(error);
  };
}
