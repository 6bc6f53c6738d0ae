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
import { type Duration, earliest, type Instant, MINUTE, SECOND } from "../base/time.js";
import type { ClientNode } from "../connection/client-node.js";
import type { Answer } from "../connection/events.js";
import { parseIpPacket } from "../packet/ip.js";
import type { ClientEvent, InterfaceConfiguration, RouteDestination } from "./events.js";
import { PacketBuffer } from "./packet-buffer.js";
import { goodbyeTo, parsePeerMessage } from "./peer-message.js";
import { PROXY_RANGES } from "./ranges.js";
import { RecentGateways } from "./recent-gateways.js";
import {
  type ActivePrefix,
  activePrefixes,
  compareResources,
  isRoutedDifferently,
  lookup,
  type Resource,
  type ResourceStatus,
  type ResourceView,
} from "./resources.js";
import { type ConnectionActivity, type ConnectionEnd, type Connections, StateOverNode } from "./state-over-node.js";

/** Least time between two intents for one resource. */
export const INTENT_INTERVAL: Duration = 2 * SECOND;
/** How long a site counts as offline after the portal said so. */
export const OFFLINE_TIME: Duration = 5 * MINUTE;

/**
 * Bounds of the time that a grant may take to reach the gateway. Nobody acknowledges the access to a CIDR resource, so the
 * client waits as long as the portal took to answer its intent: the grant goes half that way twice.
 */
const MIN_SETTLE_TIME: Duration = 5;
const MAX_SETTLE_TIME: Duration = 500;

/**
 * How long after its release a resource's packets may still come from the datapath as without route: they were on their way to us. Later
 * ones mean that it has no room for the route; sending them would bring them back for ever.
 */
const RELEASE_WINDOW: Duration = SECOND;

/**
 * A connection that ends against our will within this time after its last packet is made again at once: who downloads sends nothing that
 * would ask for it. ICE takes a third of it to see that a path is dead.
 */
const RECENT_USE: Duration = 30 * SECOND;
/** Resources that are asked for again at once when their connections have ended; the others wait for a packet. */
const MAX_RENEWALS = 16;

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

/** An intent that waits for routing details. */
interface Intent {
  readonly packets: PacketBuffer;
}

interface Gateway {
  readonly siteId: string;
  phase: "offered" | "connecting" | "established";
  readonly resources: Map<string, Access>;
  /** Last packet that the datapath has carried, in either direction. */
  usedAt: Instant;
}

/** A resource's access to its gateway. */
interface Access {
  /** `queued`: to be requested when the answer has come. */
  state: "queued" | "settling" | "granted";
  /** Time from intent to routing details. */
  readonly roundTrip: Duration;
  /** When the grant has arrived, as far as one can know. */
  settledAt: Instant;
  /** When its packets were released: the datapath has the route since then. */
  releasedAt: Instant | undefined;
  readonly packets: PacketBuffer;
}

/** The client's state. */
export class ClientState extends StateOverNode<ClientConnections, ClientEvent> {
  readonly counters: ClientCounters = { unroutable: 0, noResource: 0, buffered: 0 };

  readonly #resources = new Map<string, Resource>();
  #disabled: ReadonlySet<string> = new Set();
  #active: ReadonlyMap<string, ActivePrefix> = new Map();
  readonly #resourceToGateway = new Map<string, string>();
  readonly #gateways = new Map<string, Gateway>();
  readonly #intents = new Map<string, Intent>();
  /** When the last intent for a resource was sent, whatever came of it: refusals must not make a storm of them. */
  readonly #intentSentAt = new Map<string, Instant>();
  readonly #recent = new RecentGateways();
  /** When resources were used last over a connection that has ended. They are asked for again whatever becomes of the first attempt. */
  readonly #usedAt = new Map<string, Instant>();
  readonly #onlineSites = new Set<string>();
  /** Site → when it stops counting as offline. */
  readonly #offlineSites = new Map<string, Instant>();
  #interface: InterfaceConfiguration | undefined;
  #tunRoutes = "";
  #views = "";

  constructor(node: ClientConnections) {
    super(node);
  }

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
      this.#intentSentAt.delete(id);
    }
    this.#updateTables();
  }

  /** The network has changed: forgets connections, pending intents and preferences. Resources stay; those in use are asked for again. */
  reset(now: Instant): void {
    const renewals = new Set([...this.#gateways.values()].flatMap((gateway) => this.#renewals(gateway, now)));
    for (const [id, usedAt] of this.#usedAt) {
      if (now <= usedAt + RECENT_USE) renewals.add(id);
      else this.#usedAt.delete(id);
    }
    for (const { packets } of this.#intents.values()) this.#countDropped(packets);
    this.#intents.clear();
    this.#intentSentAt.clear();
    this.node.reset(now);
    this.drainNode(now);
    this.#recent.clear();
    this.#renew([...renewals], now);
  }

  /** Ends: gateways are told, and what was lent is given back. */
  override close(now: Instant): void {
    for (const [gatewayId, { phase }] of this.#gateways) if (phase === "established") this.report(goodbyeTo(gatewayId));
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
    const gatewayId = this.#resourceToGateway.get(resourceId);
    const gateway = gatewayId === undefined ? undefined : this.#gateways.get(gatewayId);
    const access = gateway?.resources.get(resourceId);
    if (gatewayId === undefined || gateway === undefined || access === undefined) {
      this.#intent(resourceId, now).packets.push(packet);
    } else if (gateway.phase !== "established" || access.state !== "granted") {
      access.packets.push(packet);
    } else if (connection === undefined && now < (access.releasedAt ?? now) + RELEASE_WINDOW) {
      this.report({ type: "send-packet", connection: gatewayId, packet: packet.bytes });
    } else {
      // The session has ended; the node makes a new one. Perhaps of another gateway than the packet had set out for.
      this.node.handlePacket(gatewayId, packet.bytes, now);
    }
    this.drainNode(now);
  }

  /** A message of a gateway. */
  handlePeerMessage(gatewayId: string, packet: Uint8Array, now: Instant): void {
    const gateway = this.#gateways.get(gatewayId);
    if (parsePeerMessage(packet)?.type !== "goodbye" || gateway === undefined) return;
    const renewals = this.#renewals(gateway, now);
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
    const intent = this.#intents.get(resourceId);
    if (!this.#isEnabled(resourceId) || intent === undefined) return;
    this.#intents.delete(resourceId);
    // The hint to the portal is only a preference: another gateway than before is legal.
    if (this.#resourceToGateway.get(resourceId) !== gatewayId) this.#detach(resourceId, now);
    this.#resourceToGateway.set(resourceId, gatewayId);
    this.#recent.touch(gatewayId);

    const access: Access = {
      state: "queued",
      roundTrip: now - (this.#intentSentAt.get(resourceId) ?? now),
      settledAt: now,
      releasedAt: undefined,
      packets: intent.packets,
    };
    const gateway = this.#gateways.get(gatewayId);
    if (gateway === undefined) {
      // The answer to the offer implies the grant of the resource named in it.
      access.state = "granted";
      this.#gateways.set(gatewayId, {
        siteId,
        phase: "offered",
        resources: new Map([[resourceId, access]]),
        usedAt: Number.NEGATIVE_INFINITY,
      });
      const offer = this.node.newConnection(gatewayId, now);
      this.report({
        type: "request-connection",
        gatewayId,
        resourceId,
        presharedKey: offer.sessionKey,
        credentials: offer.credentials,
      });
    } else {
      gateway.resources.set(resourceId, access);
      if (gateway.phase !== "offered") this.#requestAccess(gatewayId, resourceId, access, now);
    }
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
    if (!this.#gateways.has(gatewayId)) return;
    for (const [resourceId, access] of gateway.resources)
      if (access.state === "queued") this.#requestAccess(gatewayId, resourceId, access, now);
  }

  /** The intent was refused because no gateway of the resource's sites is online. */
  handleOffline(resourceId: string, now: Instant): void {
    this.#detach(resourceId, now);
    for (const { id } of this.#resources.get(resourceId)?.sites ?? []) this.#offlineSites.set(id, now + OFFLINE_TIME);
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
    if (this.#resourceToGateway.get(resourceId) !== gatewayId) return;
    this.#detach(resourceId, now);
    this.drainNode(now);
    this.#updateTables();
  }

  // ---- State machine

  override handleTimeout(now: Instant): void {
    super.handleTimeout(now);
    this.#settle(now);
    let changed = false;
    for (const [site, until] of this.#offlineSites) if (until <= now) changed = this.#offlineSites.delete(site);
    if (changed) this.#updateViews();
  }

  override pollTimeout(): Instant | undefined {
    let deadline = super.pollTimeout();
    for (const { phase, resources } of this.#gateways.values())
      if (phase === "established")
        for (const { state, settledAt } of resources.values())
          if (state === "settling") deadline = earliest(deadline, settledAt);
    for (const until of this.#offlineSites.values()) deadline = earliest(deadline, until);
    return deadline;
  }

  /** All resources with their status, sorted. */
  resources(): ResourceView[] {
    return [...this.#resources.values()]
      .sort(compareResources)
      .map((resource) => ({ resource, status: this.#status(resource) }));
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
    this.#intentSentAt.delete(id);
    this.#usedAt.delete(id);
  }

  /** Takes a resource away from its gateway, with everything that waits for it. A gateway without resources is let go. */
  #detach(resourceId: string, now: Instant): void {
    this.#countDropped(this.#intents.get(resourceId)?.packets);
    this.#intents.delete(resourceId);
    const gatewayId = this.#resourceToGateway.get(resourceId);
    if (gatewayId === undefined) return;
    this.#resourceToGateway.delete(resourceId);
    const gateway = this.#gateways.get(gatewayId);
    if (gateway === undefined) return;
    this.#countDropped(gateway.resources.get(resourceId)?.packets);
    gateway.resources.delete(resourceId);
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

  /** The resource's intent; sends it when it is time (section 4.2). */
  #intent(resourceId: string, now: Instant): Intent {
    const intent = this.#intents.get(resourceId) ?? { packets: new PacketBuffer() };
    this.#intents.set(resourceId, intent);
    const sentAt = this.#intentSentAt.get(resourceId);
    if (sentAt !== undefined && now - sentAt < INTENT_INTERVAL) return intent;
    this.#intentSentAt.set(resourceId, now);
    this.report({ type: "connection-intent", resourceId, connectedGatewayIds: [...this.#recent.list()] });
    return intent;
  }

  /** The resources that are to be asked for again when a gateway's connection ends. */
  #renewals(gateway: Gateway | undefined, now: Instant): string[] {
    if (gateway?.phase !== "established" || now > gateway.usedAt + RECENT_USE) return [];
    const ids = [...gateway.resources.keys()];
    for (const id of ids) this.#usedAt.set(id, gateway.usedAt);
    return ids;
  }

  #renew(resourceIds: readonly string[], now: Instant): void {
    for (const id of resourceIds.slice(0, MAX_RENEWALS)) if (this.#isEnabled(id)) this.#intent(id, now);
  }

  #requestAccess(gatewayId: string, resourceId: string, access: Access, now: Instant): void {
    access.state = "settling";
    access.settledAt = now + Math.min(MAX_SETTLE_TIME, Math.max(MIN_SETTLE_TIME, access.roundTrip));
    this.report({ type: "request-access", gatewayId, resourceId });
  }

  /** Opens the way for accesses whose grant has had its time, and sends what waited: after their routes were set. */
  #settle(now: Instant): void {
    const released: { readonly gatewayId: string; readonly access: Access }[] = [];
    for (const [gatewayId, { phase, resources }] of this.#gateways) {
      if (phase !== "established") continue;
      for (const access of resources.values()) {
        if (access.state === "settling" && access.settledAt <= now) access.state = "granted";
        if (access.state === "granted" && access.releasedAt === undefined) released.push({ gatewayId, access });
      }
    }
    if (released.length === 0) return;
    this.#updateTables();
    for (const { gatewayId, access } of released) {
      access.releasedAt = now;
      this.counters.buffered += access.packets.dropped;
      access.packets.dropped = 0;
      for (const packet of access.packets.drain()) this.report({ type: "send-packet", connection: gatewayId, packet });
    }
  }

  protected override handleEstablished(gatewayId: string, now: Instant): void {
    const gateway = this.#gateways.get(gatewayId);
    if (gateway === undefined || gateway.phase === "established") return;
    gateway.phase = "established";
    this.#onlineSites.add(gateway.siteId);
    this.#offlineSites.delete(gateway.siteId);
    this.report({ type: "gateway-connected", gatewayId });
    this.#settle(now);
    // Even if nothing is released yet: the site is online.
    this.#updateTables();
  }

  protected override handleEnded(event: ConnectionEnd, now: Instant): void {
    const { type, connection, reason } = event;
    const renewals = type === "connection-failed" ? this.#renewals(this.#gateways.get(connection), now) : [];
    this.#dropGateway(connection, reason);
    this.#updateTables();
    this.#renew(renewals, now);
  }

  #dropGateway(gatewayId: string, reason: string): void {
    const gateway = this.#gateways.get(gatewayId);
    if (gateway === undefined) return;
    this.#gateways.delete(gatewayId);
    for (const [resourceId, { packets }] of gateway.resources) {
      this.#resourceToGateway.delete(resourceId);
      this.#countDropped(packets);
    }
    const siteHasOther = [...this.#gateways.values()].some(
      ({ siteId, phase }) => siteId === gateway.siteId && phase === "established",
    );
    if (!siteHasOther) this.#onlineSites.delete(gateway.siteId);
    this.report({ type: "gateway-disconnected", gatewayId, reason });
  }

  /** Derives the table of active prefixes, the datapath's routes, the device's routes and the views, and reports differences. */
  #updateTables(): void {
    const enabled = [...this.#resources.values()].filter(({ id }) => !this.#disabled.has(id));
    this.#active = activePrefixes(enabled, (id) => this.#resourceToGateway.has(id));
    const routes = Array.from(this.#active.values(), ({ prefix, resourceId }) => ({
      prefix,
      target: this.#destination(resourceId),
    }));
    this.setRoutes(routes);
    this.#updateTunRoutes();
    this.#updateViews();
  }

  #destination(resourceId: string): RouteDestination {
    const gatewayId = this.#resourceToGateway.get(resourceId);
    const gateway = gatewayId === undefined ? undefined : this.#gateways.get(gatewayId);
    if (gatewayId === undefined || gateway?.phase !== "established") return { type: "exception" };
    if (gateway.resources.get(resourceId)?.state !== "granted") return { type: "exception" };
    return { type: "connection", connection: gatewayId };
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

  #status({ sites }: Resource): ResourceStatus {
    if (sites.some(({ id }) => this.#onlineSites.has(id))) return "Online";
    return sites.length > 0 && sites.every(({ id }) => this.#offlineSites.has(id)) ? "Offline" : "Unknown";
  }
}

function prefixText(resource: Resource): string {
  return resource.type === "internet" ? "" : String(resource.address);
}

function describe({ ipv4, ipv6, upstreamDns }: InterfaceConfiguration): string {
  return [ipv4, ipv6, ...upstreamDns].join();
}
