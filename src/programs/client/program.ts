// The client in this process (spec 05, section 6): the client's state on a tunnel runner.

import { ClientNode } from "../../connection/client-node.js";
import { monotonicNow, unixNow } from "../../system/clock.js";
import { nodeCrypto, systemRandom } from "../../system/crypto.js";
import { ClientState } from "../../tunnel/client-state.js";
import type { ClientEvent } from "../../tunnel/events.js";
import { Tai64nClock } from "../../wireguard/tai64n.js";
import type { RunningProgram } from "../common/lifecycle.js";
import { type TunnelKind, type TunnelOptions, TunnelRunner } from "../common/tunnel-runner.js";
import { ClientAdapter, isSignallingRequest } from "./adapter.js";

/** Target of the client's log lines. */
export const CLIENT_TARGET = "firezone_headless_client";

const KIND: TunnelKind = {
  role: "client",
  target: CLIENT_TARGET,
  peerField: "gateway_id",
  // Who may send what is decided by the routes: a packet's source must lead back to the connection that it came over.
  connections: { filtered: false, learnEndpoint: true },
};

/**
 * Starts a client.
 *
 * @param exitWhenReady whether it is done as soon as the tunnel is up.
 * @throws with words for the user; nothing is left behind then.
 */
export async function startClient(options: TunnelOptions, exitWhenReady: boolean): Promise<RunningProgram> {
  const { identity } = options;
  const clock = new Tai64nClock(monotonicNow(), unixNow());
  const state = new ClientState(new ClientNode({ identity, crypto: nodeCrypto, random: systemRandom, clock }));
  const runner = await TunnelRunner.start<ClientEvent>(options, KIND, (parts) => {
    const adapter = new ClientAdapter(
      state,
      (message) => parts.send(message),
      options.log.target("connlib_client_shared"),
    );
    return new Client(parts, state, adapter);
  });
  return {
    ended: runner.ended,
    ...(exitWhenReady && { done: runner.ready }),
    reset: () => resetClient(runner, state),
    reportStatistics: () => runner.reportStatistics(),
    stop: () => runner.stop(),
  };
}

/** By hand or after a change of network. */
function resetClient(runner: TunnelRunner<ClientEvent>, state: ClientState): Promise<void> {
  return runner.reset((now) => state.reset(now));
}

/** What the client does with events and messages. */
class Client {
  readonly state: ClientState;
  readonly #runner: TunnelRunner<ClientEvent>;
  readonly #adapter: ClientAdapter;

  constructor(runner: TunnelRunner<ClientEvent>, state: ClientState, adapter: ClientAdapter) {
    this.#runner = runner;
    this.state = state;
    this.#adapter = adapter;
  }

  handlePush(event: string, payload: unknown, now: number): void {
    this.#adapter.handlePush(event, payload, now);
  }

  handleReply(ref: number, response: unknown, now: number): void {
    this.#adapter.handleReply(ref, response, now);
  }

  handleErrorReply(ref: number, reason: string, now: number): void {
    this.#adapter.handleErrorReply(ref, reason, now);
  }

  handleNetworkChange(): Promise<void> {
    return resetClient(this.#runner, this.state);
  }

  handleEvent(event: ClientEvent): void {
    const { host, log } = this.#runner;
    if (isSignallingRequest(event)) {
      this.#adapter.handleRequest(event);
      return;
    }
    switch (event.type) {
      case "resources-changed":
        log.debug("Resources changed", { count: event.resources.length });
        for (const { resource } of event.resources)
          if (resource.type === "dns") log.debug("DNS resources are not supported yet", { resource_id: resource.id });
        return;
      case "tun-interface-updated":
        this.#configure(() => host.setAddresses(event.configuration.ipv4, event.configuration.ipv6));
        // After the events that wait behind this one: then routes and the workers' tables are in place too.
        setImmediate(() => this.#runner.reportReady());
        return;
      case "tun-routes-updated":
        this.#configure(() => host.setRoutes(event.prefixes));
        return;
      case "gateway-connected":
        log.info("Connection established", { gateway_id: event.gatewayId });
        return;
      case "gateway-disconnected":
        log.info("Connection ended", { gateway_id: event.gatewayId, reason: event.reason });
        return;
      default:
        this.#runner.apply(event);
    }
  }

  /** A host that cannot be configured is the end (spec 05, section 6.5). */
  #configure(change: () => void): void {
    try {
      change();
    } catch (error) {
      this.#runner.fail(error instanceof Error ? error.message : String(error));
    }
  }
}
