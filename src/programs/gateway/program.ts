// The gateway in this process (spec 05, section 9): the gateway's state on a tunnel runner, and a host that forwards.

import type { Instant } from "../../base/time.js";
import { GatewayNode } from "../../connection/gateway-node.js";
import { monotonicNow, unixNow } from "../../system/clock.js";
import { nodeCrypto, systemRandom } from "../../system/crypto.js";
import { SystemCallError } from "../../system/linux/errno.js";
import { Forwarding } from "../../system/linux/forwarding.js";
import { type Masquerade, startMasquerade } from "../../system/linux/masquerade.js";
import type { GatewayEvent } from "../../tunnel/events.js";
import { GatewayState } from "../../tunnel/gateway-state.js";
import { TUNNEL_RANGES } from "../../tunnel/ranges.js";
import { Tai64nClock } from "../../wireguard/tai64n.js";
import type { RunningProgram } from "../common/lifecycle.js";
import type { TargetLog } from "../common/log.js";
import { TUNNEL_INTERFACE } from "../common/tunnel-host.js";
import { type TunnelKind, type TunnelOptions, TunnelRunner, type TunnelState } from "../common/tunnel-runner.js";
import { GatewayAdapter, type InterfaceAddresses } from "./adapter.js";

/** Target of the gateway's log lines. */
export const GATEWAY_TARGET = "firezone_gateway";

const KIND: TunnelKind = {
  role: "gateway",
  target: GATEWAY_TARGET,
  peerField: "client_id",
  connections: { filtered: true, learnEndpoint: true },
};

/**
 * Starts a gateway.
 *
 * @throws with words for the user; nothing is left behind then.
 */
export async function startGateway(options: TunnelOptions): Promise<RunningProgram> {
  const { identity } = options;
  const clock = new Tai64nClock(monotonicNow(), unixNow());
  const state = new GatewayState(new GatewayNode({ identity, crypto: nodeCrypto, random: systemRandom, clock }));
  // Before the portal sends clients.
  const forwarder = Forwarder.start(options.log.target(GATEWAY_TARGET));
  let runner: TunnelRunner<GatewayEvent>;
  try {
    runner = await TunnelRunner.start<GatewayEvent>(options, KIND, (parts) => new Gateway(parts, state));
  } catch (error) {
    forwarder.stop();
    throw error;
  }
  return {
    ended: runner.ended,
    reset: async () => adaptGateway(runner, state),
    reportStatistics: () => runner.reportStatistics(),
    stop: async () => {
      forwarder.stop();
      await runner.stop();
    },
  };
}

/** By hand or after a change of network. */
function adaptGateway(runner: TunnelRunner<GatewayEvent>, state: GatewayState, portalStays = false): void {
  runner.adapt((now) => state.handleNetworkChange(now), portalStays);
}

/** What the gateway does with events and messages. */
class Gateway {
  readonly state: TunnelState<GatewayEvent>;
  readonly #runner: TunnelRunner<GatewayEvent>;
  readonly #gateway: GatewayState;
  readonly #adapter: GatewayAdapter;

  constructor(runner: TunnelRunner<GatewayEvent>, state: GatewayState) {
    this.#runner = runner;
    this.#gateway = state;
    this.state = withWallClock(state);
    this.#adapter = new GatewayAdapter({
      state,
      send: (message) => runner.send(message),
      onInterface: (addresses) => this.#configure(addresses),
      log: runner.log,
    });
  }

  handlePush(event: string, payload: unknown, now: Instant): void {
    this.#adapter.handlePush(event, payload, now, unixNow());
  }

  handleReply(): void {
    // The portal confirms messages; nothing follows from that.
  }

  handleErrorReply(_ref: number, reason: string): void {
    this.#runner.log.warn("The portal refused a message", { reason });
  }

  async handleNetworkChange(hasOnlyGrown: boolean): Promise<void> {
    adaptGateway(this.#runner, this.#gateway, hasOnlyGrown);
  }

  handleEvent(event: GatewayEvent): void {
    const { log } = this.#runner;
    switch (event.type) {
      case "added-ice-candidates":
      case "removed-ice-candidates":
        this.#adapter.handleCandidates(event);
        return;
      case "client-connected":
        log.info("Connection established", { client_id: event.clientId });
        return;
      case "client-disconnected":
        log.info("Connection ended", { client_id: event.clientId, reason: event.reason });
        return;
      default:
        this.#runner.apply(event);
    }
  }

  #configure({ ipv4, ipv6 }: InterfaceAddresses): void {
    try {
      this.#runner.host.setAddresses(ipv4, ipv6);
      this.#runner.host.setRoutes(TUNNEL_RANGES);
      this.#runner.reportReady();
    } catch (error) {
      if (!(error instanceof SystemCallError)) throw error;
      this.#runner.fail(error.message);
    }
  }
}

/** Forwarding and masquerading: without them clients reach less, so neither is a reason to give up. */
class Forwarder {
  readonly #log: TargetLog;
  readonly #forwarding: Forwarding;
  readonly #masquerade: Masquerade | undefined;

  private constructor(log: TargetLog, forwarding: Forwarding, masquerade: Masquerade | undefined) {
    this.#log = log;
    this.#forwarding = forwarding;
    this.#masquerade = masquerade;
  }

  static start(log: TargetLog): Forwarder {
    const forwarding = Forwarding.enable();
    warn(log, forwarding.problems);
    const result = startMasquerade({ tunnelInterface: TUNNEL_INTERFACE });
    switch (result.type) {
      case "active":
        warn(log, result.problems);
        log.info("Masquerading clients", { tool: result.masquerade.tool });
        return new Forwarder(log, forwarding, result.masquerade);
      case "unavailable":
        log.warn("Masquerading is unavailable: resources need a route back to the clients' tunnel addresses", {
          reason: result.reason,
        });
        return new Forwarder(log, forwarding, undefined);
    }
  }

  /** Takes back what was set up. */
  stop(): void {
    warn(this.#log, this.#masquerade?.remove() ?? []);
    warn(this.#log, this.#forwarding.restore());
  }
}

function warn(log: TargetLog, problems: readonly string[]): void {
  for (const reason of problems) log.warn("The host is not as it should be", { reason });
}

/** The state with the wall clock, by which grants expire. */
function withWallClock(state: GatewayState): TunnelState<GatewayEvent> {
  return {
    addLocalHostCandidate: (address, now) => state.addLocalHostCandidate(address, now),
    removeLocalHostCandidate: (address, now) => state.removeLocalHostCandidate(address, now),
    handleInput: (local, from, datagram, now) => state.handleInput(local, from, datagram, now),
    handlePacket: (clientId, packet, now) => state.handlePacket(clientId, packet, now),
    handleDeniedPacket: (clientId, packet, now) => state.handleDeniedPacket(clientId, packet, now),
    handleSessionConfirmed: (clientId, index, now) => state.handleSessionConfirmed(clientId, index, now),
    handleEndpointMoved: (clientId, now) => state.handleEndpointMoved(clientId, now),
    handleActivity: (clientId, activity, now) => state.handleActivity(clientId, activity, now),
    handleTimeout: (now) => state.handleTimeoutAt(now, unixNow()),
    handlePeerMessage: (clientId, packet, now) => state.handlePeerMessage(clientId, packet, now),
    close: (now) => state.close(now),
    pollTimeout: () => state.pollTimeout(),
    pollTransmit: () => state.pollTransmit(),
    pollEvent: () => state.pollEvent(),
  };
}
