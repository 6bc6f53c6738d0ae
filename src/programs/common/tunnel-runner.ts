// What client and gateway do alike around their state: they drive it between the datapath and the portal, watch the network, keep house,
// tell the service manager that they are ready, and end.
//
//     portal ◄─ requests ─┐                       ┌─ tables, packets ─► datapath
//                         ├── state ─ events ──►──┤
//     portal ── pushes ─►─┘                       └─ exceptions, activity ◄── datapath

import type { SocketAddress } from "../../base/address.js";
import type { StateMachine } from "../../base/state-machine.js";
import type { Instant } from "../../base/time.js";
import type { RelayFailed } from "../../connection/events.js";
import type { ConnectionOptions } from "../../engine/tables.js";
import { monotonicNow } from "../../system/clock.js";
import { SystemCallError } from "../../system/linux/errno.js";
import type { Finding } from "../../system/linux/network/change-detector.js";
import { NetworkMonitor } from "../../system/linux/network/monitor.js";
import { hasOnlyGrown } from "../../system/linux/network/state.js";
import type { ServiceNotifier } from "../../system/linux/service-notify.js";
import { TUNNEL_MARK } from "../../system/linux/tunnel-interface.js";
import { Turns } from "../../system/turns.js";
import type { LocalIdentity } from "../../wireguard/identity.js";
import type { Activity } from "../../wireguard/timers.js";
import type { DataplaneUpdate } from "../dataplane.js";
import { Driver } from "./driver.js";
import type { Log, TargetLog } from "./log.js";
import { messageOf } from "./options.js";
import { logPath } from "./paths.js";
import { PortalConnection, type PortalEvent } from "./portal-connection.js";
import { rehearse } from "./rehearsal.js";
import { StatisticsReporter } from "./statistics.js";
import { type HostCandidateSink, TunnelHost } from "./tunnel-host.js";
import { keepYoungGenerationSmall } from "./young-generation.js";

/** How often removed table entries are freed, in milliseconds. */
const HOUSEKEEPING_INTERVAL = 1000;
/** Housekeeping turns between two looks at the local addresses, for what the network monitor does not care about. */
const ADDRESS_TURNS = 5;

/** What a program is told on its command line, and what it is. */
export interface TunnelOptions {
  /** With token: never logged. */
  readonly loginUrl: URL;
  readonly userAgent: string;
  readonly identity: LocalIdentity;
  /** Give up on the portal after failing for this long (milliseconds); absent: never. */
  readonly maxPartitionTime: number | undefined;
  /** Datapath threads. */
  readonly workers: number;
  readonly notifier: ServiceNotifier;
  readonly log: Log;
}

/** What a program is by nature. */
export interface TunnelKind {
  readonly role: "client" | "gateway";
  /** Target of its log lines (spec 05, section 2.1). */
  readonly target: string;
  /** What the other side's id is called in them. */
  readonly peerField: "gateway_id" | "client_id";
  readonly connections: ConnectionOptions;
}

/** The inputs of a state that come from the datapath. */
export interface TunnelState<Event> extends StateMachine<Event>, HostCandidateSink {
  handleInput(local: SocketAddress, from: SocketAddress, datagram: Uint8Array, now: Instant): void;
  handlePacket(connection: string | undefined, packet: Uint8Array, now: Instant): void;
  handleDeniedPacket?(connection: string, packet: Uint8Array, now: Instant): void;
  handlePeerMessage(connection: string, packet: Uint8Array, now: Instant): void;
  handleSessionConfirmed(connection: string, localIndex: number, now: Instant): void;
  handleEndpointMoved(connection: string, now: Instant): void;
  handleActivity(connection: string, activity: Activity, now: Instant): void;
  /** The program ends: what was lent is given back. */
  close(now: Instant): void;
}

/** What a program adds to the runner. */
export interface TunnelParts<Event> {
  readonly state: TunnelState<Event>;
  /** Acts on an event of the state. */
  handleEvent(event: Event): void;
  /** Takes a push of the portal. */
  handlePush(event: string, payload: unknown, now: Instant): void;
  /** Takes the reply to a request. */
  handleReply(ref: number, response: unknown, now: Instant): void;
  /** Takes the refusal of a request. */
  handleErrorReply(ref: number, reason: string, now: Instant): void;
  /**
   * The network has changed, and there is one: connections, or what they rest on, are to be made anew.
   *
   * @param hasOnlyGrown addresses have come, and nothing else has changed: what was connected before still is.
   */
  handleNetworkChange(hasOnlyGrown: boolean): Promise<void>;
}

/** Why a program has to end although nobody asked it to. */
export interface TunnelEnd {
  readonly message: string;
}

/** See the head of this file. */
export class TunnelRunner<Event> {
  /** Resolves when the program has to end; {@link stop} is still to be called. */
  readonly ended: Promise<TunnelEnd>;
  /** Resolves when {@link reportReady} is called for the first time. */
  readonly ready: Promise<void>;
  readonly log: TargetLog;
  readonly host: TunnelHost;
  readonly #options: TunnelOptions;
  readonly #kind: TunnelKind;
  readonly #parts: TunnelParts<Event>;
  readonly #driver: Driver<Event>;
  readonly #statistics: StatisticsReporter;
  readonly #startedAt = monotonicNow();
  readonly #housekeeping: Turns;
  readonly #end: (end: TunnelEnd) => void;
  readonly #monitor: NetworkMonitor | undefined;
  #setReady: () => void = () => undefined;
  #portal: PortalConnection | undefined;
  #isReady = false;
  #isStopped = false;
  #turns = 0;

  private constructor(
    options: TunnelOptions,
    kind: TunnelKind,
    log: TargetLog,
    host: TunnelHost,
    ended: Promise<TunnelEnd>,
    end: (end: TunnelEnd) => void,
    create: (runner: TunnelRunner<Event>) => TunnelParts<Event>,
  ) {
    this.#options = options;
    this.#kind = kind;
    this.log = log;
    this.host = host;
    this.ended = ended;
    this.#end = end;
    this.ready = new Promise((resolve) => {
      this.#setReady = resolve;
    });
    const parts = create(this);
    const { state } = parts;
    this.#parts = parts;
    this.#driver = new Driver(state, {
      transmit: (transmit) => host.dataplane.transmit(transmit),
      event: (event) => parts.handleEvent(event),
      beforeTimeout: (now) =>
        host.dataplane.forEachActivity((connection, activity) => state.handleActivity(connection, activity, now)),
    });
    this.#statistics = new StatisticsReporter(host, log);
    host.dataplane.connect({
      handleDatagram: (local, from, datagram) => {
        if (!host.isTunnelAddress(local)) state.handleInput(local, from, datagram, monotonicNow());
      },
      handlePacket: (connection, packet) => state.handlePacket(connection, packet, monotonicNow()),
      handleDeniedPacket: (connection, packet) => state.handleDeniedPacket?.(connection, packet, monotonicNow()),
      handlePeerMessage: (connection, packet) => state.handlePeerMessage(connection, packet, monotonicNow()),
      handleSessionConfirmed: (connection, index) => state.handleSessionConfirmed(connection, index, monotonicNow()),
      handleEndpointMoved: (connection) => state.handleEndpointMoved(connection, monotonicNow()),
      endOfBatch: () => this.#driver.drain(),
    });
    this.#monitor = this.#watchNetwork();
    this.updateHostCandidates();
    this.#housekeeping = new Turns(HOUSEKEEPING_INTERVAL, () => this.#keepHouse());
  }

  /**
   * Creates device and sockets, lets `prepare` change the host, and starts connecting to the portal.
   *
   * @param create makes the program's own parts. They may use the runner from their first event on.
   * @throws with words for the user; nothing of the runner's is left behind then.
   */
  static async start<Event>(
    options: TunnelOptions,
    kind: TunnelKind,
    create: (runner: TunnelRunner<Event>) => TunnelParts<Event>,
  ): Promise<TunnelRunner<Event>> {
    let end: (end: TunnelEnd) => void = () => undefined;
    const ended = new Promise<TunnelEnd>((resolve) => {
      end = resolve;
    });
    const log = options.log.target(kind.target);
    keepYoungGenerationSmall();
    const host = await TunnelHost.start({
      connections: kind.connections,
      publicKey: options.identity.publicKey,
      log,
      workers: options.workers,
      onFailure: (error) => end({ message: error.message }),
    });
    keepYoungGenerationSmall();
    const runner = new TunnelRunner(options, kind, log, host, ended, end, create);
    try {
      await runner.#connect();
      return runner;
    } catch (error) {
      await runner.stop();
      throw error;
    }
  }

  /** Sends a message to the portal; returns the ref of its reply. */
  send(message: { readonly event: string; readonly payload: unknown }): number {
    if (this.#portal === undefined) throw new Error("a message before there is a portal");
    return this.#portal.send(message);
  }

  /** Everything is in place: tells the log and the service manager, once. */
  reportReady(): void {
    if (this.#isReady || this.#isStopped) return;
    this.#isReady = true;
    this.log.info("Tunnel ready", { elapsed_ms: Math.round(monotonicNow() - this.#startedAt) });
    const result = this.#options.notifier.ready();
    if (result.type === "failed") this.log.warn("Cannot notify the service manager", { reason: result.reason });
    // Now there is time until somebody needs the first connection.
    rehearse(() => this.#isStopped).catch((error: Error) => this.fail(error.message));
    this.#setReady();
  }

  /** The program cannot go on. */
  fail(message: string): void {
    this.#end({ message });
  }

  /** Feeds the state. */
  input(feed: (now: Instant) => void): void {
    this.#driver.input(feed);
  }

  /** Acts on an event that means the same to all programs: an update of the datapath, or news for the log, or both. */
  apply(event: DataplaneUpdate | RelayFailed): void {
    const { host, log } = this;
    switch (event.type) {
      case "relay-failed":
        log.warn("A relay does not serve us; it will be tried again", { relay_id: event.relay, reason: event.reason });
        return;
      case "path-selected":
        logPath(log, this.#kind.peerField, event);
        host.dataplane.apply(event);
        return;
      default:
        host.dataplane.apply(event);
    }
  }

  /** Tells the state which local addresses have come and gone. */
  updateHostCandidates(): void {
    this.#driver.input((now) => this.host.updateHostCandidates(this.#parts.state, now));
  }

  /** The network has changed: fresh sockets, `reset` of the state, host candidates found anew, and a fresh socket to the portal. */
  async reset(reset: (now: Instant) => void): Promise<void> {
    this.log.info("Resetting all connections");
    this.#monitor?.acknowledge();
    await this.host.rebind();
    // First of all, so that what the state asks for waits for the new socket instead of being lost on the old one.
    this.#portal?.reconnect();
    this.#driver.input((now) => {
      reset(now);
      this.host.renewHostCandidates(this.#parts.state, now);
    });
  }

  /**
   * The network has changed: tells the state, with the host's addresses as they are now, and opens a fresh socket to the portal unless the old one is
   * known to work: requests that come between the two would be lost.
   */
  adapt(tell: (now: Instant) => void, portalStays: boolean): void {
    this.log.info(portalStays ? "Asking relays anew" : "Asking relays and portal anew");
    this.#monitor?.acknowledge();
    if (!portalStays) this.#portal?.reconnect();
    this.#driver.input((now) => {
      this.host.updateHostCandidates(this.#parts.state, now);
      tell(now);
    });
  }

  /** Logs statistics. */
  reportStatistics(): void {
    this.#statistics.report();
  }

  /** Ends everything and takes back what was done to the host. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#housekeeping.stop();
    this.#monitor?.stop();
    this.#statistics.stop();
    // The portal first: whoever is told goodbye and asks it for another way must not be sent here.
    this.#portal?.close();
    this.#driver.input((now) => this.#parts.state.close(now));
    this.#driver.stop();
    await this.host.stop();
    this.#options.identity.wipe();
  }

  async #connect(): Promise<void> {
    const { loginUrl, userAgent, maxPartitionTime } = this.#options;
    this.#portal = await PortalConnection.start({
      url: loginUrl,
      userAgent,
      topic: this.#kind.role,
      mark: TUNNEL_MARK,
      maxPartitionTime,
      onEvent: (event) => this.#handlePortalEvent(event),
    });
  }

  /** Without it the program works, and must be told when the network changes. */
  #watchNetwork(): NetworkMonitor | undefined {
    const warn = (reason: string) => this.log.warn("Cannot see how the network changes; use SIGHUP", { reason });
    try {
      return NetworkMonitor.start({
        tunnelInterface: this.host.interfaceName,
        onFinding: (finding) => this.#handleFinding(finding),
        onProblem: ({ message }) => warn(message),
      });
    } catch (error) {
      if (!(error instanceof SystemCallError)) throw error;
      warn(error.message);
      return undefined;
    }
  }

  #handleFinding(finding: Finding): void {
    switch (finding.type) {
      case "unchanged":
        // Addresses that others are not reached by may be among what has happened.
        this.updateHostCandidates();
        return;
      case "lost":
        this.log.info("Lost the network");
        return;
      case "changed": {
        const { come, gone, interrupted, slept } = finding;
        this.log.info("Network changed");
        this.log.debug("What has changed", {
          come: come.join(", "),
          gone: gone.join(", "),
          interrupted,
          slept_ms: Math.round(slept),
        });
        this.#parts
          .handleNetworkChange(hasOnlyGrown(finding))
          .catch((error: unknown) => this.log.error("Cannot reset", { reason: messageOf(error) }));
        return;
      }
    }
  }

  #handlePortalEvent(event: PortalEvent): void {
    switch (event.type) {
      case "joined":
        this.log.info("Connected to portal");
        return;
      case "hiccup":
        this.log.warn("Lost the portal, will try again", { reason: event.reason, delay_ms: Math.round(event.delay) });
        return;
      case "push":
        this.#driver.input((now) => this.#parts.handlePush(event.event, event.payload, now));
        return;
      case "reply":
        this.#driver.input((now) => this.#parts.handleReply(event.ref, event.response, now));
        return;
      case "error-reply":
        this.#driver.input((now) => this.#parts.handleErrorReply(event.ref, event.reason, now));
        return;
      case "ignored":
        this.log.debug("Ignored something of the portal", { what: event.what });
        return;
      case "failed":
        this.fail(`Firezone disconnected: ${event.reason}${event.authentication ? " (check the token)" : ""}`);
        return;
    }
  }

  #keepHouse(): void {
    this.host.dataplane.reclaim();
    if (++this.#turns % ADDRESS_TURNS === 0) this.updateHostCandidates();
  }
}
