// A client node and a gateway node in simulated time, over a simulated network, and a portal that passes their candidates on.

import assert from "node:assert/strict";
import type { Random } from "../../src/base/random.js";
import type { Duration, Instant } from "../../src/base/time.js";
import { ClientNode } from "../../src/connection/client-node.js";
import type { NodeEvent, Offer } from "../../src/connection/events.js";
import { GatewayNode } from "../../src/connection/gateway-node.js";
import { nodeCrypto } from "../../src/system/crypto.js";
import { LocalIdentity } from "../../src/wireguard/identity.js";
import { Tai64nClock } from "../../src/wireguard/tai64n.js";
import { ipAddress, SimulatedHost, socketAddress, UNIX_TIME } from "./simulated-host.js";
import { SimulatedNetwork } from "./simulated-network.js";
import { relayAddress, SimulatedRelay } from "./simulated-relay.js";

/** What {@link NodePair} can vary. */
export interface NodePairOptions {
  readonly seed?: number;
  /** From one side to the other through the portal, one way. Default 20 ms. */
  readonly signallingLatency?: Duration;
  readonly clientAddresses?: readonly string[];
  readonly gatewayAddresses?: readonly string[];
}

/** Name of the connection on the client: the gateway's id. */
export const GATEWAY_ID = "gateway";
/** Name of the connection on the gateway: the client's id. */
export const CLIENT_ID = "client";

/** A client node and a gateway node with a portal between them that passes candidates on. */
export class NodePair {
  readonly network: SimulatedNetwork;
  readonly client: SimulatedHost<NodeEvent, ClientNode>;
  readonly gateway: SimulatedHost<NodeEvent, GatewayNode>;
  /** The portal drops candidates for which this is false. */
  passesCandidates: (from: "client" | "gateway", candidate: string) => boolean = () => true;
  readonly #signallingLatency: Duration;

  constructor(options: NodePairOptions = {}) {
    this.network = new SimulatedNetwork(options.seed);
    this.#signallingLatency = options.signallingLatency ?? 20;
    const client = (options.clientAddresses ?? ["192.0.2.1:51820"]).map(socketAddress);
    const gateway = (options.gatewayAddresses ?? ["198.51.100.1:51820"]).map(socketAddress);
    this.client = new SimulatedHost<NodeEvent, ClientNode>("client", clientNode(this.network.random, 1), client);
    this.gateway = new SimulatedHost<NodeEvent, GatewayNode>("gateway", gatewayNode(this.network.random, 2), gateway);
    this.network.add(this.client);
    this.network.add(this.gateway);
    this.client.onEvent = (event) => this.#signal("client", event);
    this.gateway.onEvent = (event) => this.#signal("gateway", event);
    for (const host of [this.client, this.gateway])
      for (const address of host.addresses) host.machine.addLocalHostCandidate(address, this.now);
  }

  get now(): Instant {
    return this.network.now;
  }

  /** Offer, answer and candidates, with the latencies of the portal. */
  connect(): Offer {
    const offer = this.client.machine.newConnection(GATEWAY_ID, this.now);
    this.client.drain(this.now);
    this.connectWith(offer);
    return offer;
  }

  /** The gateway accepts an offer, and the client its answer. */
  connectWith(offer: Offer): void {
    this.network.schedule(this.#signallingLatency, () => {
      const answer = this.gateway.machine.acceptConnection(CLIENT_ID, offer, this.client.machine.publicKey, this.now);
      this.gateway.drain(this.now);
      if (answer === undefined) return;
      this.network.schedule(this.#signallingLatency, () => {
        this.client.machine.acceptAnswer(GATEWAY_ID, this.gateway.machine.publicKey, answer, this.now);
        this.client.drain(this.now);
      });
    });
  }

  /** Connects and waits for it. */
  establish(): Offer {
    const before = [this.client, this.gateway].map((host) => host.of("connection-established").length);
    const offer = this.connect();
    this.network.wait(2000);
    const after = [this.client, this.gateway].map((host) => host.of("connection-established").length);
    assert.deepEqual(
      after,
      before.map((count) => count + 1),
      "client and gateway have a session",
    );
    return offer;
  }

  /** Why the connections failed, on the client and on the gateway. */
  failures(): { readonly client: string[]; readonly gateway: string[] } {
    const of = (host: SimulatedHost<NodeEvent>) => host.of("connection-failed").map(({ reason }) => reason);
    return { client: of(this.client), gateway: of(this.gateway) };
  }

  /** Sends a packet from each side and asserts that both arrive. */
  assertPasses(message = "packets pass"): void {
    const before = [this.client.delivered.length, this.gateway.delivered.length];
    this.client.send(GATEWAY_ID, Uint8Array.of(0x45, 1), this.now);
    this.gateway.send(CLIENT_ID, Uint8Array.of(0x45, 2), this.now);
    this.network.wait(1000);
    assert.deepEqual(
      [this.client.delivered.length, this.gateway.delivered.length],
      before.map((count) => count + 1),
      message,
    );
  }

  #signal(from: "client" | "gateway", event: NodeEvent): void {
    if (event.type !== "new-ice-candidate" && event.type !== "invalidate-ice-candidate") return;
    const { type, candidate } = event;
    if (!this.passesCandidates(from, candidate)) return;
    this.network.schedule(this.#signallingLatency, () => {
      const [to, id] = from === "client" ? [this.gateway, CLIENT_ID] : [this.client, GATEWAY_ID];
      if (type === "new-ice-candidate") to.machine.addRemoteCandidate(id, candidate, this.now);
      else to.machine.removeRemoteCandidate(id, candidate, this.now);
      to.drain(this.now);
    });
  }
}

/** Two sides that do not reach each other directly, and relays. */
export function behindFirewalls(
  relays: number,
  options: NodePairOptions = {},
): { readonly pair: NodePair; readonly relays: readonly SimulatedRelay[] } {
  const addresses = { clientAddresses: ["10.1.0.2:51820"], gatewayAddresses: ["10.2.0.2:51820"] };
  const pair = new NodePair({ ...addresses, ...options });
  pair.client.nat = { address: ipAddress("192.0.2.10"), symmetric: true };
  pair.gateway.nat = { address: ipAddress("198.51.100.10"), symmetric: true };
  const all = Array.from(
    { length: relays },
    (_, i) => new SimulatedRelay(pair.network, `relay-${i}`, relayAddress(`203.0.113.${i + 1}`)),
  );
  tellRelays(pair, [], all);
  pair.network.wait(500);
  return { pair, relays: all };
}

/** The portal's news of relays, for both sides. */
export function tellRelays(pair: NodePair, removed: readonly string[], added: readonly SimulatedRelay[]): void {
  for (const host of [pair.client, pair.gateway]) {
    host.machine.updateRelays(
      removed,
      added.map(({ description }) => description),
      pair.now,
    );
    host.drain(pair.now);
  }
}

/** A client's node; its private key is 32 times `key`. */
export function clientNode(random: Random, key: number): ClientNode {
  return new ClientNode(nodeOptions(random, key));
}

/** A gateway's node; its private key is 32 times `key`. */
export function gatewayNode(random: Random, key: number): GatewayNode {
  return new GatewayNode(nodeOptions(random, key));
}

function nodeOptions(random: Random, key: number) {
  return {
    identity: new LocalIdentity(new Uint8Array(32).fill(key), nodeCrypto),
    crypto: nodeCrypto,
    random,
    clock: new Tai64nClock(0, UNIX_TIME),
  };
}
