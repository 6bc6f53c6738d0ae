// The gateway in this process (spec 05, section 9): tunnel host, forwarding, state and portal put together.

import type { StateMachine } from "../../base/state-machine.js";
import { GatewayNode } from "../../connection/gateway-node.js";
import { monotonicNow, unixNow } from "../../system/clock.js";
import { nodeCrypto, systemRandom } from "../../system/crypto.js";
import { SystemCallError } from "../../system/linux/errno.js";
import { Forwarding } from "../../system/linux/forwarding.js";
import { type Masquerade, startMasquerade } from "../../system/linux/masquerade.js";
import type { ServiceNotifier } from "../../system/linux/service-notify.js";
import { TUNNEL_MARK } from "../../system/linux/tunnel-interface.js";
import type { GatewayEvent } from "../../tunnel/events.js";
import { GatewayState } from "../../tunnel/gateway-state.js";
import { TUNNEL_RANGES } from "../../tunnel/ranges.js";
import type { LocalIdentity } from "../../wireguard/identity.js";
import { Tai64nClock } from "../../wireguard/tai64n.js";
import { Driver } from "../common/driver.js";
import type { Log, TargetLog } from "../common/log.js";
import { PortalConnection, type PortalEvent } from "../common/portal-connection.js";
import { rehearse } from "../common/rehearsal.js";
import { StatisticsReporter } from "../common/statistics.js";
import { TUNNEL_INTERFACE, TunnelHost } from "../common/tunnel-host.js";
import { GatewayAdapter, type InterfaceAddresses } from "./adapter.js";

/** How often removed table entries are freed and local addresses looked at, in milliseconds. */
const HOUSEKEEPING_INTERVAL = 1000;
/** Housekeeping turns between two looks at the local addresses. */
const ADDRESS_TURNS = 5;

/** What to run. */
export interface GatewayProgramOptions {
  readonly loginUrl: URL;
  readonly userAgent: string;
  readonly identity: LocalIdentity;
  readonly maxPartitionTime: number | undefined;
  readonly workers: number;
  readonly notifier: ServiceNotifier;
  readonly log: Log;
}

/** Why a gateway has to end although nobody asked it to. */
export interface GatewayEnd {
  readonly message: string;
}

/** A running gateway. */
export class GatewayProgram {
  /** Resolves when the gateway has to end; {@link stop} is still to be called. */
  readonly ended: Promise<GatewayEnd>;
  readonly #log: TargetLog;
  readonly #options: GatewayProgramOptions;
  readonly #host: TunnelHost;
  readonly #state: GatewayState;
  readonly #driver: Driver<GatewayEvent>;
  readonly #adapter: GatewayAdapter;
  readonly #statistics: StatisticsReporter;
  readonly #housekeeping: NodeJS.Timeout;
  #portal: PortalConnection | undefined;
  #forwarding: Forwarding | undefined;
  #masquerade: Masquerade | undefined;
  #end: (end: GatewayEnd) => void;
  #isReady = false;
  #turns = 0;
  #isStopped = false;

  private constructor(
    options: GatewayProgramOptions,
    host: TunnelHost,
    ended: Promise<GatewayEnd>,
    end: (end: GatewayEnd) => void,
  ) {
    this.ended = ended;
    this.#end = end;
    this.#options = options;
    this.#log = options.log.target("firezone_gateway");
    this.#host = host;
    const { identity } = options;
    const clock = new Tai64nClock(monotonicNow(), unixNow());
    const state = new GatewayState(new GatewayNode({ identity, crypto: nodeCrypto, random: systemRandom, clock }));
    this.#state = state;
    this.#driver = new Driver(withWallClock(state), {
      transmit: (transmit) => host.dataplane.transmit(transmit),
      event: (event) => this.#handleEvent(event),
      beforeTimeout: (now) =>
        host.dataplane.forEachActivity((connection, activity) => state.handleActivity(connection, activity, now)),
    });
    this.#adapter = new GatewayAdapter({
      state,
      send: (message) => {
        if (this.#portal === undefined) throw new Error("a message before there is a portal");
        this.#portal.send(message);
      },
      onInterface: (addresses) => this.#configure(addresses),
      log: this.#log,
    });
    this.#statistics = new StatisticsReporter(host, this.#log);
    host.dataplane.connect({
      handleDatagram: (local, from, datagram) => {
        if (!host.isTunnelAddress(local)) state.handleInput(local, from, datagram, monotonicNow());
      },
      handlePacket: (connection, packet) => state.handlePacket(connection, packet, monotonicNow()),
      handleDeniedPacket: (connection, packet) => state.handleDeniedPacket(connection, packet, monotonicNow()),
      handleSessionConfirmed: (connection, index) => state.handleSessionConfirmed(connection, index, monotonicNow()),
      endOfBatch: () => this.#driver.drain(),
    });
    this.#driver.input((now) => host.updateHostCandidates(state, now));
    this.#housekeeping = setInterval(() => this.#keepHouse(), HOUSEKEEPING_INTERVAL);
  }

  /**
   * Creates the device, lets the host forward, and starts connecting to the portal.
   *
   * @throws with words for the user; nothing is left behind then.
   */
  static async start(options: GatewayProgramOptions): Promise<GatewayProgram> {
    let end: (end: GatewayEnd) => void = () => undefined;
    const ended = new Promise<GatewayEnd>((resolve) => {
      end = resolve;
    });
    const host = await TunnelHost.start({
      connections: { filtered: true, learnEndpoint: false },
      log: options.log.target("firezone_gateway"),
      workers: options.workers,
      onFailure: (error) => end({ message: error.message }),
    });
    const program = new GatewayProgram(options, host, ended, end);
    try {
      program.#forward();
      await program.#connect();
      return program;
    } catch (error) {
      await program.stop();
      throw error;
    }
  }

  /** Logs statistics. */
  reportStatistics(): void {
    this.#statistics.report();
  }

  /** Ends the gateway and takes back what it did to the host. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    clearInterval(this.#housekeeping);
    this.#statistics.stop();
    this.#portal?.close();
    this.#driver.stop();
    this.#warn(this.#masquerade?.remove() ?? []);
    this.#warn(this.#forwarding?.restore() ?? []);
    await this.#host.stop();
    this.#options.identity.wipe();
  }

  /** Forwarding and masquerading: without them clients reach less, so neither is a reason to give up. */
  #forward(): void {
    this.#forwarding = Forwarding.enable();
    this.#warn(this.#forwarding.problems);
    const result = startMasquerade({ tunnelInterface: TUNNEL_INTERFACE });
    switch (result.type) {
      case "active":
        this.#masquerade = result.masquerade;
        this.#warn(result.problems);
        this.#log.info("Masquerading clients", { tool: result.masquerade.tool });
        return;
      case "unavailable":
        this.#log.warn("Masquerading is unavailable: resources need a route back to the clients' tunnel addresses", {
          reason: result.reason,
        });
        return;
    }
  }

  async #connect(): Promise<void> {
    const { loginUrl, userAgent, maxPartitionTime } = this.#options;
    this.#portal = await PortalConnection.start({
      url: loginUrl,
      userAgent,
      topic: "gateway",
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
        this.#driver.input((now) => this.#adapter.handlePush(event.event, event.payload, now, unixNow()));
        return;
      case "reply":
        return;
      case "error-reply":
        this.#log.warn("The portal refused a message", { reason: event.reason });
        return;
      case "ignored":
        this.#log.debug("Ignored something of the portal", { what: event.what });
        return;
      case "failed":
        this.#end({
          message: `Firezone disconnected: ${event.reason}${event.authentication ? " (check the token)" : ""}`,
        });
        return;
    }
  }

  #handleEvent(event: GatewayEvent): void {
    switch (event.type) {
      case "added-ice-candidates":
      case "removed-ice-candidates":
        this.#adapter.handleCandidates(event);
        return;
      case "client-connected":
        this.#log.info("Connection established", { client_id: event.clientId });
        return;
      case "client-disconnected":
        this.#log.info("Connection ended", { client_id: event.clientId, reason: event.reason });
        return;
      default:
        this.#host.dataplane.apply(event);
    }
  }

  #configure({ ipv4, ipv6 }: InterfaceAddresses): void {
    try {
      this.#host.setAddresses(ipv4, ipv6);
      this.#host.setRoutes(TUNNEL_RANGES);
    } catch (error) {
      if (!(error instanceof SystemCallError)) throw error;
      this.#end({ message: error.message });
      return;
    }
    if (this.#isReady) return;
    this.#isReady = true;
    this.#log.info("Tunnel ready");
    const result = this.#options.notifier.ready();
    if (result.type === "failed") this.#log.warn("Cannot notify the service manager", { reason: result.reason });
    // Now there is time until somebody needs the first connection.
    rehearse(() => this.#isStopped).catch((error: Error) => this.#end({ message: error.message }));
  }

  #keepHouse(): void {
    this.#host.dataplane.reclaim();
    if (++this.#turns % ADDRESS_TURNS === 0)
      this.#driver.input((now) => this.#host.updateHostCandidates(this.#state, now));
  }

  #warn(problems: readonly string[]): void {
    for (const reason of problems) this.#log.warn("The host is not as it should be", { reason });
  }
}

/** The state with the wall clock, by which grants expire. */
function withWallClock(state: GatewayState): StateMachine<GatewayEvent> {
  return {
    handleTimeout: (now) => state.handleTimeoutAt(now, unixNow()),
    pollTimeout: () => state.pollTimeout(),
    pollTransmit: () => state.pollTransmit(),
    pollEvent: () => state.pollEvent(),
  };
}
