// A client and a gateway, with their tunnel states, nodes and simulated datapaths, and a portal between them, in simulated time.

import { IpPrefix } from "../../src/base/address.js";
import type { Duration, Instant } from "../../src/base/time.js";
import type { ClientNode } from "../../src/connection/client-node.js";
import type { NodeEvent, Offer } from "../../src/connection/events.js";
import type { GatewayNode } from "../../src/connection/gateway-node.js";
import { parseIpPacket } from "../../src/packet/ip.js";
import { type ClientConnections, ClientState } from "../../src/tunnel/client-state.js";
import type { ClientEvent, Filter, FilterRule, GatewayEvent, RouteDestination } from "../../src/tunnel/events.js";
import { isAllowed } from "../../src/tunnel/filters.js";
import { type GatewayConnections, GatewayState } from "../../src/tunnel/gateway-state.js";
import type { Resource } from "../../src/tunnel/resources.js";
import { udpPacket } from "./ip-packets.js";
import { CLIENT_ID, clientNode, GATEWAY_ID, gatewayNode } from "./node-network.js";
import { ipAddress, SimulatedHost, socketAddress, UNIX_TIME } from "./simulated-host.js";
import { SimulatedNetwork } from "./simulated-network.js";

/** Site of all resources, unless a test says otherwise. */
export const SITE = { id: "site", name: "Site" };

/** Tunnel addresses of the client. */
export const TUNNEL_IPV4 = ipAddress("100.64.0.7");
export const TUNNEL_IPV6 = ipAddress("fd00:2021:1111::7");

/** What the portal tells the client of itself. */
export const INTERFACE = { ipv4: TUNNEL_IPV4, ipv6: TUNNEL_IPV6, upstreamDns: [] };

/** Parses a prefix. */
export function prefix(text: string): IpPrefix {
  const parsed = IpPrefix.parse(text);
  if (parsed === undefined) throw new Error(`${text} is not a prefix`);
  return parsed;
}

/** A CIDR resource. */
export function cidr(id: string, address: string, extra: Partial<Resource> = {}): Resource & { readonly type: "cidr" } {
  const { name = id, sites = [SITE] } = extra;
  return { type: "cidr", id, name, sites, address: prefix(address) };
}

/** A UDP packet from the client to an address, with a payload that tells it from others. */
export function packetTo(destination: string, mark = 0, destinationPort = 53): Uint8Array {
  const to = ipAddress(destination);
  return udpPacket({
    source: to.family === 4 ? TUNNEL_IPV4 : TUNNEL_IPV6,
    destination: to,
    sourcePort: 40_000,
    destinationPort,
    payload: Uint8Array.of(mark >> 8, mark & 255),
  });
}

/** A node without network: records what it is asked, and reports what the test says. */
export class StubClientNode implements ClientConnections {
  readonly calls: string[] = [];
  readonly packets: { readonly connection: string; readonly packet: Uint8Array }[] = [];
  readonly #events: NodeEvent[] = [];

  newConnection(id: string): Offer {
    this.calls.push(`new ${id}`);
    return { sessionKey: new Uint8Array(32), credentials: { username: "user", password: "password" } };
  }
  acceptAnswer(...[id]: Parameters<ClientNode["acceptAnswer"]>): void {
    this.calls.push(`answer ${id}`);
  }
  addRemoteCandidate(...[id, candidate]: Parameters<ClientNode["addRemoteCandidate"]>): void {
    this.calls.push(`candidate ${id} ${candidate}`);
  }
  removeRemoteCandidate(...[id, candidate]: Parameters<ClientNode["removeRemoteCandidate"]>): void {
    this.calls.push(`no candidate ${id} ${candidate}`);
  }
  addLocalHostCandidate(): boolean {
    return true;
  }
  removeLocalHostCandidate(): void {
    this.calls.push("address removed");
  }
  updateRelays(): void {
    this.calls.push("relays");
  }
  removeConnection(id: string): void {
    this.calls.push(`remove ${id}`);
    this.#events.push({ type: "connection-removed", connection: id });
  }
  reset(): void {
    this.calls.push("reset");
  }
  close(): void {
    this.calls.push("close");
  }
  handleEndpointMoved(): void {
    this.calls.push("moved");
  }
  handleInput(): void {
    this.calls.push("input");
  }
  handlePacket(connection: string, packet: Uint8Array): void {
    this.packets.push({ connection, packet });
  }
  handleActivity(): void {
    this.calls.push("activity");
  }
  handleSessionConfirmed(): void {
    this.calls.push("confirmed");
  }
  handleTimeout(): void {
    // Events wait already.
  }
  pollTimeout(): undefined {
    return undefined;
  }
  pollTransmit(): undefined {
    return undefined;
  }
  pollEvent(): NodeEvent | undefined {
    return this.#events.shift();
  }
  /** To be reported at the next opportunity. */
  emit(...events: readonly NodeEvent[]): void {
    this.#events.push(...events);
  }
}

/** The same for a gateway. */
export class StubGatewayNode extends StubClientNode implements GatewayConnections {
  accepts = true;

  restartRelays(): void {
    this.calls.push("restart relays");
  }

  acceptConnection(...[id]: Parameters<GatewayNode["acceptConnection"]>) {
    this.calls.push(`accept ${id}`);
    return this.accepts ? { credentials: { username: "user", password: "password" } } : undefined;
  }
}

/** Takes all events out of a state. */
export function drain<Event>(state: { pollEvent(): Event | undefined }): Event[] {
  const events: Event[] = [];
  for (let event = state.pollEvent(); event !== undefined; event = state.pollEvent()) events.push(event);
  return events;
}

/** Tells time by the simulation. */
class TimedGatewayState extends GatewayState {
  override handleTimeout(now: Instant): void {
    this.handleTimeoutAt(now, UNIX_TIME + now);
  }
}

/** See the head of this file. */
export class TunnelPair {
  readonly network: SimulatedNetwork;
  readonly client: SimulatedHost<ClientEvent, ClientState>;
  readonly gateway: SimulatedHost<GatewayEvent, GatewayState>;
  /** Packets that the gateway's network has received. */
  readonly reached: Uint8Array[] = [];
  readonly tunnelAddresses = [TUNNEL_IPV4, TUNNEL_IPV6] as const;
  /** From the client to the portal, or from there to the gateway, and back. */
  portalLatency: Duration = 20;
  /** How much longer messages to the gateway of this kind take. */
  delays: Partial<Record<"request-connection" | "request-access", Duration>> = {};
  /** Portals of August 2024 do not say whose access it is. */
  sendsClientAddresses = true;
  filters: readonly FilterRule[] = [];
  /** End of grants; `undefined`: none. */
  expiresAt: Instant | undefined;

  readonly #routes = new Map<string, { readonly prefix: IpPrefix; readonly target: RouteDestination }>();
  #gatewayFilters: readonly Filter[] = [];
  readonly #resources = new Map<string, Resource>();

  constructor(resources: readonly Resource[], seed = 1) {
    this.network = new SimulatedNetwork(seed);
    const { random } = this.network;
    const addresses = [socketAddress("192.0.2.1:51820"), socketAddress("198.51.100.1:51820")] as const;
    const [client, gateway] = [new ClientState(clientNode(random, 1)), new TimedGatewayState(gatewayNode(random, 2))];
    this.client = new SimulatedHost<ClientEvent, ClientState>("client", client, [addresses[0]]);
    this.gateway = new SimulatedHost<GatewayEvent, GatewayState>("gateway", gateway, [addresses[1]]);
    for (const host of [this.client, this.gateway]) this.network.add(host);
    client.addLocalHostCandidate(addresses[0], this.now);
    gateway.addLocalHostCandidate(addresses[1], this.now);
    this.client.onEvent = (event) => this.#handleClientEvent(event);
    this.gateway.onEvent = (event) => this.#handleGatewayEvent(event);
    this.gateway.onPacket = ({ connection, packet, at }) => {
      const parsed = parseIpPacket(packet);
      if (parsed !== undefined && isAllowed(this.#gatewayFilters, parsed)) this.reached.push(packet);
      else gateway.handleDeniedPacket(connection, packet, at);
    };
    client.setInterface(INTERFACE);
    for (const resource of resources) this.#resources.set(resource.id, resource);
    client.setResources(resources, this.now);
    this.client.drain(this.now);
  }

  get now(): Instant {
    return this.network.now;
  }

  /** Sends a packet as an application does: by the datapath's routes. */
  send(packet: Uint8Array): void {
    const parsed = parseIpPacket(packet);
    const routes = [...this.#routes.values()].filter(({ prefix }) => parsed && prefix.contains(parsed.destination));
    const route = routes.sort((a, b) => b.prefix.length - a.prefix.length)[0];
    if (route?.target.type === "connection") this.client.send(route.target.connection, packet, this.now);
    else this.client.machine.handlePacket(undefined, packet, this.now);
    this.client.drain(this.now);
  }

  /** Events that the client sent to the portal. */
  requests(): string[] {
    return this.client.events
      .map(({ event }) => event)
      .filter(({ type }) => ["connection-intent", "request-connection", "request-access"].includes(type))
      .map((event) => ("resourceId" in event ? `${event.type} ${event.resourceId}` : event.type));
  }

  #handleClientEvent(event: ClientEvent): void {
    switch (event.type) {
      case "route-set":
        this.#routes.set(event.prefix.key, event);
        return;
      case "route-removed":
        this.#routes.delete(event.prefix.key);
        return;
      case "connection-removed":
        for (const [key, { target }] of this.#routes)
          if (target.type === "connection" && target.connection === event.connection) this.#routes.delete(key);
        return;
      case "connection-intent":
        this.network.schedule(2 * this.portalLatency, () => {
          this.client.machine.handleRoutingDetails(event.resourceId, GATEWAY_ID, SITE.id, this.now);
          this.client.drain(this.now);
        });
        return;
      case "request-connection":
        this.#toGateway(event.type, () => {
          const { presharedKey: sessionKey, credentials } = event;
          const request = {
            clientId: CLIENT_ID,
            publicKey: clientNode(this.network.random, 1).publicKey,
            offer: { sessionKey, credentials },
            ipv4: TUNNEL_IPV4,
            ipv6: TUNNEL_IPV6,
            ...this.#grant(event.resourceId),
          };
          const answer = this.gateway.machine.handleConnectionRequest(request, this.now, UNIX_TIME + this.now);
          if (answer === undefined) return;
          this.network.schedule(2 * this.portalLatency, () => {
            const { publicKey } = gatewayNode(this.network.random, 2);
            this.client.machine.handleAnswer(GATEWAY_ID, publicKey, answer, this.now);
            this.client.drain(this.now);
          });
        });
        return;
      case "request-access":
        this.#toGateway(event.type, () => {
          const addresses = this.sendsClientAddresses ? { ipv4: TUNNEL_IPV4, ipv6: TUNNEL_IPV6 } : {};
          const request = { clientId: CLIENT_ID, ...addresses, ...this.#grant(event.resourceId) };
          this.gateway.machine.handleAccess(request, this.now, UNIX_TIME + this.now);
        });
        return;
      case "added-ice-candidates":
        this.#toGateway(event.type, () => this.gateway.machine.handleCandidates(CLIENT_ID, event.candidates, this.now));
        return;
      case "removed-ice-candidates":
        this.#toGateway(event.type, () =>
          this.gateway.machine.handleInvalidatedCandidates(CLIENT_ID, event.candidates, this.now),
        );
        return;
      default:
        return;
    }
  }

  #handleGatewayEvent(event: GatewayEvent): void {
    switch (event.type) {
      case "filters-set":
        this.#gatewayFilters = event.filters;
        return;
      case "deliver-packet":
        this.reached.push(event.packet);
        return;
      case "added-ice-candidates":
      case "removed-ice-candidates": {
        const { type, candidates } = event;
        this.network.schedule(2 * this.portalLatency, () => {
          if (type === "added-ice-candidates") this.client.machine.handleCandidates(GATEWAY_ID, candidates, this.now);
          else this.client.machine.handleInvalidatedCandidates(GATEWAY_ID, candidates, this.now);
          this.client.drain(this.now);
        });
        return;
      }
      default:
        return;
    }
  }

  #toGateway(type: ClientEvent["type"], act: () => void): void {
    const delay = type === "request-connection" || type === "request-access" ? (this.delays[type] ?? 0) : 0;
    this.network.schedule(2 * this.portalLatency + delay, () => {
      act();
      this.gateway.drain(this.now);
    });
  }

  #grant(id: string) {
    const resource = this.#resources.get(id);
    if (resource?.type !== "cidr") throw new Error(`${id} is no CIDR resource of this test`);
    const { address } = resource;
    const expiresAt = this.expiresAt === undefined ? undefined : UNIX_TIME + this.expiresAt;
    return { resource: { type: "cidr", id, address, filters: this.filters } as const, expiresAt };
  }
}
