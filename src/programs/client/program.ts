// The client in this process (spec 05, section 6): tunnel host, state and portal put together.

import { ClientNode } from "../../connection/client-node.js";
import { monotonicNow, unixNow } from "../../system/clock.js";
import { nodeCrypto, systemRandom } from "../../system/crypto.js";
import type { ServiceNotifier } from "../../system/linux/service-notify.js";
import { TUNNEL_MARK } from "../../system/linux/tunnel-interface.js";
import { ClientState } from "../../tunnel/client-state.js";
import type { ClientEvent } from "../../tunnel/events.js";
import type { LocalIdentity } from "../../wireguard/identity.js";
import { Tai64nClock } from "../../wireguard/tai64n.js";
import { Driver } from "../common/driver.js";
import type { Log, TargetLog } from "../common/log.js";
import { PortalConnection, type PortalEvent } from "../common/portal-connection.js";
import { rehearse } from "../common/rehearsal.js";
import { StatisticsReporter } from "../common/statistics.js";
import { TunnelHost } from "../common/tunnel-host.js";
import { ClientAdapter } from "./adapter.js";

/** How often counters are fed, removed table entries freed and local addresses looked at, in milliseconds. */
const HOUSEKEEPING_INTERVAL = 1000;
/** Housekeeping turns between two looks at the local addresses. */
const ADDRESS_TURNS = 5;

/** What to run. */
export interface ClientProgramOptions {
  readonly loginUrl: URL;
  readonly userAgent: string;
  readonly identity: LocalIdentity;
  /** Give up on the portal after failing for this long (milliseconds); absent: never. */
  readonly maxPartitionTime: number | undefined;
  readonly workers: number;
  readonly notifier: ServiceNotifier;
  readonly log: Log;
}

/** Why a client has to end although nobody asked it to. */
export interface ClientEnd {
  readonly message: string;
}

/** A running client. */
export class ClientProgram {
  /** Resolves when the client has to end; {@link stop} is still to be called. */
  readonly ended: Promise<ClientEnd>;
  /** Resolves when the interface is configured for the first time. */
  readonly ready: Promise<void>;
  readonly #log: TargetLog;
  readonly #options: ClientProgramOptions;
  readonly #host: TunnelHost;
  readonly #state: ClientState;
  readonly #driver: Driver<ClientEvent>;
  readonly #adapter: ClientAdapter;
  readonly #statistics: StatisticsReporter;
  readonly #startedAt = monotonicNow();
  readonly #housekeeping: NodeJS.Timeout;
  #portal: PortalConnection | undefined;
  #end: (end: ClientEnd) => void;
  #setReady: () => void = () => undefined;
  #isConfigured = false;
  #isReady = false;
  #turns = 0;
  #isStopped = false;

  private constructor(
    options: ClientProgramOptions,
    host: TunnelHost,
    ended: Promise<ClientEnd>,
    end: (end: ClientEnd) => void,
  ) {
    this.ended = ended;
    this.#end = end;
    this.ready = new Promise((resolve) => {
      this.#setReady = resolve;
    });
    this.#options = options;
    this.#log = options.log.target("firezone_headless_client");
    this.#host = host;
    const { identity } = options;
    const clock = new Tai64nClock(monotonicNow(), unixNow());
    this.#state = new ClientState(new ClientNode({ identity, crypto: nodeCrypto, random: systemRandom, clock }));
    this.#driver = new Driver(this.#state, {
      transmit: (transmit) => host.dataplane.transmit(transmit),
      event: (event) => this.#handleEvent(event),
      beforeTimeout: (now) =>
        host.dataplane.forEachActivity((connection, activity) => this.#state.handleActivity(connection, activity, now)),
    });
    this.#adapter = new ClientAdapter(
      this.#state,
      (message) => {
        if (this.#portal === undefined) throw new Error("a request before there is a portal");
        return this.#portal.send(message);
      },
      options.log.target("connlib_client_shared"),
    );
    this.#statistics = new StatisticsReporter(host, this.#log);
    host.dataplane.connect({
      handleDatagram: (local, from, datagram) => {
        if (!host.isTunnelAddress(local)) this.#state.handleInput(local, from, datagram, monotonicNow());
      },
      handlePacket: (connection, packet) => this.#state.handlePacket(connection, packet, monotonicNow()),
      handleSessionConfirmed: (connection, index) =>
        this.#state.handleSessionConfirmed(connection, index, monotonicNow()),
      endOfBatch: () => this.#driver.drain(),
    });
    this.#driver.input((now) => host.updateHostCandidates(this.#state, now));
    this.#housekeeping = setInterval(() => this.#keepHouse(), HOUSEKEEPING_INTERVAL);
  }

  /**
   * Starts connecting to the portal and creates the device.
   *
   * @throws with words for the user; nothing is left behind then.
   */
  static async start(options: ClientProgramOptions): Promise<ClientProgram> {
    let end: (end: ClientEnd) => void = () => undefined;
    const ended = new Promise<ClientEnd>((resolve) => {
      end = resolve;
    });
    const host = await TunnelHost.start({
      // Who may send what is decided by the routes: a packet's source must lead back to the connection that it came over.
      connections: { filtered: false, learnEndpoint: false },
      log: options.log.target("firezone_headless_client"),
      workers: options.workers,
      onFailure: (error) => end({ message: error.message }),
    });
    const program = new ClientProgram(options, host, ended, end);
    try {
      await program.#connect();
      return program;
    } catch (error) {
      await program.stop();
      throw error;
    }
  }

  /** The network has changed (SIGHUP): new sockets, new connections, a new socket to the portal. */
  async reset(): Promise<void> {
    this.#log.info("Resetting all connections");
    await this.#host.rebind();
    this.#driver.input((now) => {
      this.#state.reset(now);
      this.#host.updateHostCandidates(this.#state, now);
    });
    this.#portal?.reconnect();
  }

  /** Logs statistics. */
  reportStatistics(): void {
    this.#statistics.report();
  }

  /** Ends the client and takes back what it did to the host. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    clearInterval(this.#housekeeping);
    this.#statistics.stop();
    this.#portal?.close();
    this.#driver.stop();
    await this.#host.stop();
    this.#options.identity.wipe();
  }

  async #connect(): Promise<void> {
    const { loginUrl, userAgent, maxPartitionTime } = this.#options;
    this.#portal = await PortalConnection.start({
      url: loginUrl,
      userAgent,
      topic: "client",
      mark: TUNNEL_MARK,
      maxPartitionTime,
      onEvent: (event) => this.#handlePortalEvent(event),
    });
  }

  #handlePortalEvent(event: PortalEvent): void {
    switch (event.type) {
      case "joined":
        this.#log.info("Connected to portal");
        return;
      case "hiccup":
        this.#log.warn("Lost the portal, will try again", { reason: event.reason, delay_ms: Math.round(event.delay) });
        return;
      case "push":
        this.#driver.input((now) => this.#adapter.handlePush(event.event, event.payload, now));
        // Not sooner: addresses, routes and the workers' tables are all in place.
        if (this.#isConfigured) this.#reportReady();
        return;
      case "reply":
        this.#driver.input((now) => this.#adapter.handleReply(event.ref, event.response, now));
        return;
      case "error-reply":
        this.#driver.input((now) => this.#adapter.handleErrorReply(event.ref, event.reason, now));
        return;
      case "ignored":
        this.#log.debug("Ignored something of the portal", { what: event.what });
        return;
      case "failed":
        this.#end({
          message: `Firezone disconnected: ${event.reason}${event.authentication ? " (sign in again)" : ""}`,
        });
        return;
    }
  }

  #handleEvent(event: ClientEvent): void {
    switch (event.type) {
      case "connection-intent":
      case "request-connection":
      case "request-access":
      case "added-ice-candidates":
      case "removed-ice-candidates":
        this.#adapter.handleRequest(event);
        return;
      case "resources-changed":
        this.#log.debug("Resources changed", { count: event.resources.length });
        for (const { resource } of event.resources)
          if (resource.type === "dns")
            this.#log.debug("DNS resources are not supported yet", { resource_id: resource.id });
        return;
      case "tun-interface-updated":
        this.#configure(() => this.#host.setAddresses(event.configuration.ipv4, event.configuration.ipv6));
        this.#isConfigured = true;
        return;
      case "tun-routes-updated":
        this.#configure(() => this.#host.setRoutes(event.prefixes));
        return;
      case "gateway-connected":
        this.#log.info("Connection established", { gateway_id: event.gatewayId });
        return;
      case "gateway-disconnected":
        this.#log.info("Connection ended", { gateway_id: event.gatewayId, reason: event.reason });
        return;
      default:
        this.#host.dataplane.apply(event);
    }
  }

  /** A host that cannot be configured is the end (spec 05, section 6.5). */
  #configure(change: () => void): void {
    try {
      change();
    } catch (error) {
      this.#end({ message: error instanceof Error ? error.message : String(error) });
    }
  }

  #reportReady(): void {
    if (this.#isReady) return;
    this.#isReady = true;
    this.#log.info("Tunnel ready", { elapsed_ms: Math.round(monotonicNow() - this.#startedAt) });
    const result = this.#options.notifier.ready();
    if (result.type === "failed") this.#log.warn("Cannot notify the service manager", { reason: result.reason });
    // Now there is time until somebody needs the first connection.
    rehearse(() => this.#isStopped).catch((error: Error) => this.#end({ message: error.message }));
    this.#setReady();
  }

  #keepHouse(): void {
    this.#host.dataplane.reclaim();
    if (++this.#turns % ADDRESS_TURNS === 0)
      this.#driver.input((now) => this.#host.updateHostCandidates(this.#state, now));
  }
}
