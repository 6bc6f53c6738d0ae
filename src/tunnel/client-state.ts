// The client (spec 04, sections 3 and 4): resources and who serves them, intents, routing details, access, and the packets that
// wait meanwhile. Established traffic never comes here: the datapath's routing table carries it.
//
// A resource's way to a gateway:
//
//   idle ──packet──► intent sent ──routing details──► gateway offered ──answer──► connecting ──established──► connected
//    ▲                  │ offline                          │ no answer, error          │ ICE or WireGuard fails    │
//    └──────────────────┴──────────────────────────────────┴───────────────────────────┴───────────────────────────┘
//
// A further resource of the same gateway joins at whatever stage the gateway is; its access is requested as soon as the answer
// proves that the gateway knows us (section 4.8), and its packets wait until the grant had time to arrive there.

import type { IpAddress } from "../base/address.js";
import { earliest, type Instant } from "../base/time.js";
import type { ClientNode } from "../connection/client-node.js";
import type { Answer } from "../connection/events.js";
import { parseIpPacket } from "../packet/ip.js";
import { Access } from "./access.js";
import type { ClientEvent, InterfaceConfiguration } from "./events.js";
import { Gateways } from "./gateways.js";
import { Intents } from "./intents.js";
import type { PacketBuffer } from "./packet-buffer.js";
import { goodbyeTo, parsePeerMessage } from "./peer-message.js";
import { PROXY_RANGES } from "./ranges.js";
import { Renewals } from "./renewals.js";
import {
  type ActivePrefix,
  activePrefixes,
  compareResources,
  isRoutedDifferently,
  lookup,
  type Resource,
  type ResourceView,
} from "./resources.js";
import { SiteStatus } from "./site-status.js";
import { type ConnectionActivity, type ConnectionEnd, type Connections, StateOverNode } from "./state-over-node.js";

/** What the client needs of a connection node. */
export type ClientConnections = Connections & Pick<ClientNode, "newConnection" | "acceptAnswer" | "reset">;

/** Packets dropped, by reason. */
export interface ClientCounters {
  /** No IP packet, a fragment, multicast, to ourselves, or not from our tunnel address. */
  unroutable: number;
  /** To an address that no resource covers. */
  noResource: number;
  /** Pushed out of a full buffer, or dropped with a connection that failed. */
  buffered: number;
}

/** The client's state. */
export class ClientState extends StateOverNode<ClientConnections, ClientEvent> {
  readonly counters: ClientCounters = { unroutable: 0, noResource: 0, buffered: 0 };

  readonly #resources = new Map<string, Resource>();
  #disabled: ReadonlySet<string> = new Set();
  #active: ReadonlyMap<string, ActivePrefix> = new Map();
  readonly #gateways = new Gateways();
  readonly #intents = new Intents();
  readonly #renewals = new Renewals();
  readonly #sites = new SiteStatus();
  #interface: InterfaceConfiguration | undefined;
  #tunRoutes = "";
  #views = "";

  // ---- Configuration

  /** Tunnel addresses and DNS servers, from `init` or `config_changed`. */
  setInterface(configuration: InterfaceConfiguration): void {
    const before = this.#interface;
    this.#interface = configuration;
    if (before !== undefined && describe(before) === describe(configuration)) return;
    this.report({ type: "tun-interface-updated", configuration });
    this.#tunRoutes = "";
    this.#updateTables();
  }

  /** The full list of an `init`: removes what is not in it, adds and updates the rest. */
  setResources(resources: readonly Resource[], now: Instant): void {
    const ids = new Set(resources.map(({ id }) => id));
    for (const id of [...this.#resources.keys()]) if (!ids.has(id)) this.#remove(id, now);
    for (const resource of resources) this.#store(resource, now);
    this.#updateTables();
  }

  /** Adds a resource or replaces the one with its id. */
  addResource(resource: Resource, now: Instant): void {
    this.#store(resource, now);
    this.#updateTables();
  }

  /** Forgets a resource and interrupts its traffic. */
  removeResource(id: string, now: Instant): void {
    this.#remove(id, now);
    this.#updateTables();
  }

  /** Replaces the set of resources that the user switched off. */
  setDisabledResources(ids: ReadonlySet<string>, now: Instant): void {
    this.#disabled = new Set(ids);
    for (const id of ids) {
      this.#detach(id, now);
      this.#intents.forget(id);
    }
    this.#updateTables();
  }

  /** The network has changed: forgets connections, pending intents and preferences. Resources stay; those in use are asked for again. */
  reset(now: Instant): void {
    const renewals = this.#renewals.ofAll(this.#gateways.all(), now);
    for (const packets of this.#intents.clear()) this.#countDropped(packets);
    this.node.reset(now);
    this.drainNode(now);
    this.#renew(renewals, now);
  }

  /** Ends: gateways are told, and what was lent is given back. */
  override close(now: Instant): void {
    for (const [gatewayId, { phase }] of this.#gateways.entries())
      if (phase === "established") this.report(goodbyeTo(gatewayId));
    super.close(now);
  }

  // ---- Packets and datagrams

  /** A packet from the TUN device that no connection carries: `connection` names one that was to and has no usable session. */
  handlePacket(connection: string | undefined, bytes: Uint8Array, now: Instant): void {
    const packet = parseIpPacket(bytes);
    if (packet === undefined || packet.isFragment || !this.#isRoutable(packet.source, packet.destination)) {
      this.counters.unroutable++;
      return;
    }
    const active = lookup(this.#active, packet.destination);
    if (active === undefined) {
      this.counters.noResource++;
      return;
    }
    const { resourceId } = active;
    const service = this.#gateways.serviceOf(resourceId);
    if (service === undefined) {
      this.#intend(resourceId, now).push(packet);
    } else if (service.gateway.phase !== "established" || !service.access.isGranted) {
      service.access.packets.push(packet);
    } else if (connection === undefined && service.access.isReleasing(now)) {
      this.report({ type: "send-packet", connection: service.gatewayId, packet: packet.bytes });
    } else {
      // The session has ended; the node makes a new one. Perhaps of another gateway than the packet had set out for.
      this.node.handlePacket(service.gatewayId, packet.bytes, now);
    }
    this.drainNode(now);
  }

  /** A message of a gateway. */
  handlePeerMessage(gatewayId: string, packet: Uint8Array, now: Instant): void {
    const gateway = this.#gateways.get(gatewayId);
    if (parsePeerMessage(packet)?.type !== "goodbye" || gateway === undefined) return;
    const renewals = this.#renewals.of(gateway, now);
    this.#dropGateway(gatewayId, "the gateway said goodbye");
    this.node.removeConnection(gatewayId, now);
    this.drainNode(now);
    this.#updateTables();
    this.#renew(renewals, now);
  }

  /** What the datapath has counted for a connection. */
  override handleActivity(gatewayId: string, activity: ConnectionActivity, now: Instant): void {
    const gateway = this.#gateways.get(gatewayId);
    if (gateway !== undefined) gateway.usedAt = Math.max(gateway.usedAt, activity.sentDataAt, activity.receivedDataAt);
    super.handleActivity(gatewayId, activity, now);
  }

  // ---- Answers of the portal

  /** Routing details (section 4.4, with 4.9 rule 2): the resource is served by this gateway of this site. */
  handleRoutingDetails(resourceId: string, gatewayId: string, siteId: string, now: Instant): void {
    const intent = this.#isEnabled(resourceId) ? this.#intents.answer(resourceId, gatewayId, now) : undefined;
    if (intent === undefined) return;
    // The hint to the portal is only a preference: another gateway than before is legal.
    if (this.#gateways.serviceOf(resourceId)?.gatewayId !== gatewayId) this.#detach(resourceId, now);

    const gateway = this.#gateways.get(gatewayId);
    const access = new Access(intent, gateway === undefined ? "granted" : "queued");
    this.#gateways.attach(gatewayId, siteId, resourceId, access);
    if (gateway === undefined) this.#requestConnection(gatewayId, resourceId, now);
    else if (gateway.phase !== "offered") this.#requestAccess(gatewayId, resourceId, access, now);
    this.drainNode(now);
    this.#updateTables();
  }

  /** The gateway's answer to our offer. */
  handleAnswer(gatewayId: string, publicKey: Uint8Array, answer: Answer, now: Instant): void {
    const gateway = this.#gateways.get(gatewayId);
    if (gateway?.phase !== "offered") return;
    gateway.phase = "connecting";
    this.node.acceptAnswer(gatewayId, publicKey, answer, now);
    // An answer that cannot be used is the connection's end.
    this.drainNode(now);
    if (this.#gateways.get(gatewayId) === undefined) return;
    for (const [resourceId, access] of gateway.resources)
      if (access.isQueued) this.#requestAccess(gatewayId, resourceId, access, now);
  }

  /** The intent was refused because no gateway of the resource's sites is online. */
  handleOffline(resourceId: string, now: Instant): void {
    this.#detach(resourceId, now);
    for (const { id } of this.#resources.get(resourceId)?.sites ?? []) this.#sites.handleOffline(id, now);
    this.#updateTables();
  }

  /** Our request for a connection was refused: nothing will come of it. */
  handleConnectionRefused(gatewayId: string, now: Instant): void {
    if (this.#gateways.get(gatewayId)?.phase !== "offered") return;
    this.#dropGateway(gatewayId, "the portal refused the connection");
    this.node.removeConnection(gatewayId, now);
    this.drainNode(now);
    this.#updateTables();
  }

  /** Our request for access to a further resource was refused: the next packet starts over. */
  handleAccessRefused(resourceId: string, gatewayId: string, now: Instant): void {
    if (this.#gateways.serviceOf(resourceId)?.gatewayId !== gatewayId) return;
    this.#detach(resourceId, now);
    this.drainNode(now);
    this.#updateTables();
  }

  // ---- State machine

  override handleTimeout(now: Instant): void {
    super.handleTimeout(now);
    this.#settle(now);
    if (this.#sites.handleTimeout(now)) this.#updateViews();
  }

  override pollTimeout(): Instant | undefined {
    return earliest(super.pollTimeout(), earliest(this.#gateways.settledAt(), this.#sites.pollTimeout()));
  }

  /** All resources with their status, sorted. */
  resources(): ResourceView[] {
    return [...this.#resources.values()]
      .sort(compareResources)
      .map((resource) => ({ resource, status: this.#sites.of(resource) }));
  }

  // ---- Details, in order of use

  #store(resource: Resource, now: Instant): void {
    const before = this.#resources.get(resource.id);
    if (before !== undefined && isRoutedDifferently(before, resource)) this.#remove(resource.id, now);
    this.#resources.set(resource.id, resource);
  }

  #remove(id: string, now: Instant): void {
    this.#detach(id, now);
    this.#resources.delete(id);
    this.#intents.forget(id);
    this.#renewals.forget(id);
  }

  /** Takes a resource away from its gateway, with everything that waits for it. A gateway without resources is let go. */
  #detach(resourceId: string, now: Instant): void {
    this.#countDropped(this.#intents.drop(resourceId));
    const service = this.#gateways.detach(resourceId);
    if (service === undefined) return;
    const { gatewayId, gateway, access } = service;
    this.#countDropped(access.packets);
    if (gateway.resources.size > 0) return;
    this.#dropGateway(gatewayId, "no resource is left");
    this.node.removeConnection(gatewayId, now);
    this.drainNode(now);
  }

  #countDropped(packets: PacketBuffer | undefined): void {
    if (packets !== undefined) this.counters.buffered += packets.length + packets.dropped;
  }

  #isEnabled(resourceId: string): boolean {
    return this.#resources.has(resourceId) && !this.#disabled.has(resourceId);
  }

  #isRoutable(source: IpAddress, destination: IpAddress): boolean {
    if (destination.isMulticast || destination.isBroadcast || this.#interface === undefined) return false;
    const { ipv4, ipv6 } = this.#interface;
    const own = source.family === 4 ? ipv4 : ipv6;
    return source.equals(own) && !destination.equals(own);
  }

  /** Sends the resource's intent when it is time (section 4.2). @returns where its packets wait for the answer. */
  #intend(resourceId: string, now: Instant): PacketBuffer {
    const { packets, intent } = this.#intents.want(resourceId, now);
    if (intent !== undefined) this.report(intent);
    return packets;
  }

  #renew(resourceIds: readonly string[], now: Instant): void {
    for (const id of resourceIds) if (this.#isEnabled(id)) this.#intend(id, now);
  }

  /** Offers a connection. The answer implies the grant of the resource named in the request. */
  #requestConnection(gatewayId: string, resourceId: string, now: Instant): void {
    const { sessionKey, credentials } = this.node.newConnection(gatewayId, now);
    this.report({ type: "request-connection", gatewayId, resourceId, presharedKey: sessionKey, credentials });
  }

  #requestAccess(gatewayId: string, resourceId: string, access: Access, now: Instant): void {
    access.handleRequested(now);
    this.report({ type: "request-access", gatewayId, resourceId });
  }

  /** Opens the way for accesses whose grant has had its time, and sends what waited: after their routes were set. */
  #settle(now: Instant): void {
    const released = this.#gateways.settle(now);
    if (released.length === 0) return;
    this.#updateTables();
    for (const { gatewayId, access } of released) {
      access.handleReleased(now);
      this.counters.buffered += access.packets.dropped;
      access.packets.dropped = 0;
      for (const packet of access.packets.drain()) this.report({ type: "send-packet", connection: gatewayId, packet });
    }
  }

  protected override handleEstablished(gatewayId: string, now: Instant): void {
    const gateway = this.#gateways.get(gatewayId);
    if (gateway === undefined || gateway.phase === "established") return;
    gateway.phase = "established";
    this.#sites.handleConnected(gateway.siteId);
    this.report({ type: "gateway-connected", gatewayId });
    this.#settle(now);
    // Even if nothing is released yet: the site is online.
    this.#updateTables();
  }

  protected override handleEnded(event: ConnectionEnd, now: Instant): void {
    const { type, connection, reason } = event;
    const renewals = type === "connection-failed" ? this.#renewals.of(this.#gateways.get(connection), now) : [];
    this.#dropGateway(connection, reason);
    this.#updateTables();
    this.#renew(renewals, now);
  }

  #dropGateway(gatewayId: string, reason: string): void {
    const gateway = this.#gateways.remove(gatewayId);
    if (gateway === undefined) return;
    for (const { packets } of gateway.resources.values()) this.#countDropped(packets);
    if (!this.#gateways.isSiteConnected(gateway.siteId)) this.#sites.handleDisconnected(gateway.siteId);
    this.report({ type: "gateway-disconnected", gatewayId, reason });
  }

  /** Derives the table of active prefixes, the datapath's routes, the device's routes and the views, and reports differences. */
  #updateTables(): void {
    const enabled = [...this.#resources.values()].filter(({ id }) => !this.#disabled.has(id));
    this.#active = activePrefixes(enabled, (id) => this.#gateways.serviceOf(id) !== undefined);
    const routes = Array.from(this.#active.values(), ({ prefix, resourceId }) => ({
      prefix,
      target: this.#gateways.destinationOf(resourceId),
    }));
    this.setRoutes(routes);
    this.#updateTunRoutes();
    this.#updateViews();
  }

  #updateTunRoutes(): void {
    if (this.#interface === undefined) return;
    const prefixes = [...Array.from(this.#active.values(), ({ prefix }) => prefix), ...PROXY_RANGES];
    const text = prefixes.map(String).sort().join();
    if (text === this.#tunRoutes) return;
    this.#tunRoutes = text;
    this.report({ type: "tun-routes-updated", prefixes });
  }

  #updateViews(): void {
    const resources = this.resources();
    const text = JSON.stringify(
      resources.map(({ resource, status }) => [resource, String(prefixText(resource)), status]),
    );
    if (text === this.#views) return;
    this.#views = text;
    this.report({ type: "resources-changed", resources });
  }
}

function prefixText(resource: Resource): string {
  return resource.type === "internet" ? "" : String(resource.address);
}

function describe({ ipv4, ipv6, upstreamDns }: InterfaceConfiguration): string {
  return [ipv4, ipv6, ...upstreamDns].join();
}
