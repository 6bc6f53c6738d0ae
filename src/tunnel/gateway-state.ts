// The gateway (spec 04, section 6, with section 4.10): clients, what they were granted, and until when. It says what the datapath
// lets through: a client's tunnel addresses lead to its connection, and its filters name what it may reach. Deny by default.
//
// Grants and connections live apart: a grant may arrive before the connection (section 4.8) and outlive it, until it expires or
// is revoked (section 6.13).

import { type IpAddress, IpPrefix } from "../base/address.js";
import { BoundedQueue } from "../base/queue.js";
import { type Duration, earliest, type Instant, SECOND, type UnixTime } from "../base/time.js";
import type { Answer, Offer } from "../connection/events.js";
import type { GatewayNode } from "../connection/gateway-node.js";
import { type IpPacket, isIcmpError, parseIpPacket } from "../packet/ip.js";
import type { Filter, FilterRule, GatewayEvent } from "./events.js";
import { isAllowed } from "./filters.js";
import { goodbyeTo, parsePeerMessage } from "./peer-message.js";
import { DEFAULT_ROUTES, TUNNEL_RANGES } from "./ranges.js";
import { type ConnectionEnd, type Connections, StateOverNode } from "./state-over-node.js";

/** How often expiry is looked at. */
export const HOUSEKEEPING_INTERVAL: Duration = SECOND;
/** Clients known at most. One that is not connected is forgotten for one more; further ones are refused. */
export const MAX_CLIENTS = 10_000;
/** Grants per client at most; the one that was granted first goes. */
export const MAX_GRANTS = 1000;
/** How long grants for a client that is not connected and whose addresses are unknown are kept (section 4.10, rule 2). */
export const EARLY_GRANT_TIME: Duration = 20 * SECOND;
/** How long a packet waits for the grant that allows it: grants of CIDR resources are not acknowledged, so packets may overtake them. */
export const EARLY_PACKET_TIME: Duration = SECOND;
/** Packets per client that wait for a grant, at most; the oldest goes. */
export const MAX_EARLY_PACKETS = 16;
/** Early grants per client at most. */
export const MAX_EARLY_GRANTS = 100;

/** A resource as the portal describes it to gateways. */
export type GatewayResource =
  | { readonly type: "cidr"; readonly id: string; readonly address: IpPrefix; readonly filters: readonly FilterRule[] }
  /** Names need address translation, which comes with `src/dns`: access to them is refused until then. */
  | { readonly type: "dns"; readonly id: string; readonly address: string; readonly filters: readonly FilterRule[] }
  | { readonly type: "internet"; readonly id: string };

/** A request for a connection. */
export interface ConnectionRequest {
  readonly clientId: string;
  /** 32 bytes. */
  readonly publicKey: Uint8Array;
  readonly offer: Offer;
  readonly ipv4: IpAddress;
  readonly ipv6: IpAddress;
  readonly resource: GatewayResource;
  /** End of the grant; absent: none. */
  readonly expiresAt: UnixTime | undefined;
}

/** A grant for a client that may be connected. */
export interface AccessRequest {
  readonly clientId: string;
  /** Tunnel addresses of the client; portals of August 2024 do not send them. */
  readonly ipv4?: IpAddress | undefined;
  readonly ipv6?: IpAddress | undefined;
  readonly resource: GatewayResource;
  readonly expiresAt: UnixTime | undefined;
}

/** What the gateway needs of a connection node. */
export type GatewayConnections = Connections & Pick<GatewayNode, "acceptConnection" | "restartRelays">;

/** What was refused or dropped, by reason. */
export interface GatewayCounters {
  /** Packets for a tunnel address of no client, or no IP packets. */
  unroutable: number;
  /** Packets from sources, or to destinations, that the client has no grant for. */
  notGranted: number;
  /** Requests of clients that are one too many, or whose addresses, keys or credentials cannot be used. */
  clientsRefused: number;
  grantsPushedOut: number;
}

interface Grant {
  readonly resource: GatewayResource;
  readonly expiresAt: UnixTime | undefined;
}

interface Client {
  readonly ipv4: IpAddress;
  readonly ipv6: IpAddress;
  /** By resource id: granting again replaces (section 4.10, rule 4). */
  readonly grants: Map<string, Grant>;
  isConnected: boolean;
  /** Packets that wait for a grant. */
  readonly early: BoundedQueue<EarlyPacket>;
}

interface EarlyPacket {
  readonly packet: IpPacket;
  readonly until: Instant;
}

/** The gateway's state. */
export class GatewayState extends StateOverNode<GatewayConnections, GatewayEvent> {
  readonly counters: GatewayCounters = { unroutable: 0, notGranted: 0, clientsRefused: 0, grantsPushedOut: 0 };

  readonly #clients = new Map<string, Client>();
  readonly #early = new Map<string, { readonly until: Instant; readonly grants: AccessRequest[] }>();
  #housekeepingAt: Instant | undefined;

  /** Ids of the clients that hold grants or are connected. */
  get clients(): readonly string[] {
    return [...this.#clients.keys()];
  }

  // ---- Messages of the portal

  /**
   * Accepts a connection and grants its resource. Grants that the client has already stay (section 4.10, rule 5).
   *
   * @returns the answer; `undefined` when the request is refused: there is no reply to the portal then, the client times out.
   */
  handleConnectionRequest(request: ConnectionRequest, now: Instant, unixNow: UnixTime): Answer | undefined {
    if (!isGrantable(request.resource) || isExpired(request.expiresAt, unixNow)) return undefined;
    const client = this.#client(request.clientId, request.ipv4, request.ipv6);
    if (client === undefined) return undefined;
    const answer = this.node.acceptConnection(request.clientId, request.offer, request.publicKey, now);
    if (answer === undefined) {
      this.counters.clientsRefused++;
      this.#letGo(request.clientId, now);
      return undefined;
    }
    client.isConnected = true;
    this.#grant(client, request);
    const early = this.#early.get(request.clientId);
    this.#early.delete(request.clientId);
    for (const access of early?.grants ?? []) if (!isExpired(access.expiresAt, unixNow)) this.#grant(client, access);
    this.drainNode(now);
    this.#update(request.clientId);
    return answer;
  }

  /** Grants a resource to a client, connected or not yet. */
  handleAccess(request: AccessRequest, now: Instant, unixNow: UnixTime): void {
    if (!isGrantable(request.resource) || isExpired(request.expiresAt, unixNow)) return;
    const known = this.#clients.get(request.clientId);
    const { ipv4, ipv6 } = request;
    if (known === undefined && (ipv4 === undefined || ipv6 === undefined)) {
      this.#grantLater(request, now);
      return;
    }
    const client = known ?? (ipv4 && ipv6 && this.#client(request.clientId, ipv4, ipv6));
    if (client === undefined) return;
    this.#grant(client, request);
    this.#update(request.clientId);
    this.#releaseEarlyPackets(client, now);
  }

  /** Withdraws a resource from a client. */
  handleRejection(clientId: string, resourceId: string, now: Instant): void {
    const early = this.#early.get(clientId);
    if (early !== undefined) {
      const grants = early.grants.filter(({ resource }) => resource.id !== resourceId);
      this.#early.set(clientId, { until: early.until, grants });
    }
    const client = this.#clients.get(clientId);
    if (client?.grants.delete(resourceId) !== true) return;
    this.#letGo(clientId, now);
    this.#update(clientId);
  }

  /** A resource's filters have changed, for all clients that hold it. Its address does not change in this way. */
  handleResourceUpdate(resource: GatewayResource): void {
    for (const [clientId, { grants }] of this.#clients) {
      const grant = grants.get(resource.id);
      if (grant === undefined) continue;
      grants.set(resource.id, { ...grant, resource: withFiltersOf(grant.resource, resource) });
      this.#update(clientId);
    }
    for (const { grants } of this.#early.values())
      for (const [i, grant] of grants.entries())
        if (grant.resource.id === resource.id)
          grants[i] = { ...grant, resource: withFiltersOf(grant.resource, resource) };
  }

  /**
   * The network has changed. Clients' connections stay: who loses the way makes a new one, and cannot be reached by us before it does. Our
   * addresses are told as they come and go; relays are asked anew.
   */
  handleNetworkChange(now: Instant): void {
    this.node.restartRelays(now);
    this.drainNode(now);
  }

  /** Ends: clients are told, and what was lent is given back. */
  override close(now: Instant): void {
    for (const [clientId, { isConnected }] of this.#clients) if (isConnected) this.report(goodbyeTo(clientId));
    super.close(now);
  }

  // ---- Packets and datagrams

  /** A packet from the private network that no session carries: its client is known but has no session, or it has no client. */
  handlePacket(clientId: string | undefined, bytes: Uint8Array, now: Instant): void {
    const packet = parseIpPacket(bytes);
    const client = clientId === undefined ? undefined : this.#clients.get(clientId);
    if (packet === undefined || packet.isFragment || clientId === undefined || client?.isConnected !== true) {
      this.counters.unroutable++;
      return;
    }
    // What the client may not reach may not reach it either; but routers on the way may say what is wrong (section 6.11).
    const isGranted = [...client.grants.values()].some(({ resource }) => covers(resource, packet.source));
    if (!isGranted && !isIcmpError(packet)) {
      this.counters.notGranted++;
      return;
    }
    this.node.handlePacket(clientId, packet.bytes, now);
    this.drainNode(now);
  }

  /** A packet of a client that its filters do not allow (yet). The state owns the bytes from now on. */
  handleDeniedPacket(clientId: string, bytes: Uint8Array, now: Instant): void {
    const packet = parseIpPacket(bytes);
    const client = this.#clients.get(clientId);
    if (packet === undefined || client === undefined || !client.isConnected) {
      this.counters.unroutable++;
      return;
    }
    if (!client.early.push({ packet, until: now + EARLY_PACKET_TIME })) this.counters.notGranted++;
    // The grant may have come while the packet was on its way here.
    this.#releaseEarlyPackets(client, now);
  }

  /** A message of a client. */
  handlePeerMessage(clientId: string, packet: Uint8Array, now: Instant): void {
    if (parsePeerMessage(packet)?.type !== "goodbye" || this.#clients.get(clientId)?.isConnected !== true) return;
    this.node.removeConnection(clientId, now);
    this.#disconnected(clientId, "the client said goodbye", now);
    this.drainNode(now);
  }

  // ---- State machine

  /** {@link handleTimeout} with the wall clock, by which grants expire; without one nothing does. */
  handleTimeoutAt(now: Instant, unixNow: UnixTime): void {
    super.handleTimeout(now);
    if (this.#housekeepingAt !== undefined && now < this.#housekeepingAt) return;
    this.#housekeepingAt = now + HOUSEKEEPING_INTERVAL;
    for (const [clientId, client] of this.#clients) {
      this.#releaseEarlyPackets(client, now);
      let changed = false;
      for (const [resourceId, { expiresAt }] of client.grants)
        if (isExpired(expiresAt, unixNow)) changed = client.grants.delete(resourceId);
      if (!changed) continue;
      this.#letGo(clientId, now);
      this.#update(clientId);
    }
    for (const [clientId, { until }] of this.#early) if (until <= now) this.#early.delete(clientId);
  }

  override pollTimeout(): Instant | undefined {
    // Without clients there is nothing that could expire.
    const idle = this.#clients.size === 0 && this.#early.size === 0;
    return earliest(super.pollTimeout(), idle ? undefined : (this.#housekeepingAt ?? 0));
  }

  // ---- Details, in order of use

  /** The client with this id, made if need be; `undefined` when there are too many, or its addresses are none of the tunnel's. */
  #client(id: string, ipv4: IpAddress, ipv6: IpAddress): Client | undefined {
    const known = this.#clients.get(id);
    if (known?.ipv4.equals(ipv4) === true && known.ipv6.equals(ipv6)) return known;
    const valid = TUNNEL_RANGES[0].contains(ipv4) && TUNNEL_RANGES[1].contains(ipv6);
    if (!valid || (known === undefined && !this.#makeRoom())) {
      this.counters.clientsRefused++;
      return undefined;
    }
    const client: Client = {
      ipv4,
      ipv6,
      grants: known?.grants ?? new Map(),
      isConnected: known?.isConnected ?? false,
      early: new BoundedQueue(MAX_EARLY_PACKETS, "drop-oldest"),
    };
    this.#clients.set(id, client);
    return client;
  }

  /** Forgets the client that is disconnected for longest when there are too many. @returns false when all are connected. */
  #makeRoom(): boolean {
    if (this.#clients.size < MAX_CLIENTS) return true;
    for (const [id, { isConnected, grants }] of this.#clients) {
      if (isConnected) continue;
      this.counters.grantsPushedOut += grants.size;
      return this.#clients.delete(id);
    }
    return false;
  }

  #grant(client: Client, { resource, expiresAt }: Grant): void {
    client.grants.delete(resource.id);
    client.grants.set(resource.id, { resource, expiresAt });
    if (client.grants.size <= MAX_GRANTS) return;
    const [oldest] = client.grants.keys();
    if (oldest !== undefined) client.grants.delete(oldest);
    this.counters.grantsPushedOut++;
  }

  #grantLater(request: AccessRequest, now: Instant): void {
    const early = this.#early.get(request.clientId) ?? { until: now + EARLY_GRANT_TIME, grants: [] };
    const isFull = !this.#early.has(request.clientId) && this.#early.size >= MAX_CLIENTS;
    if (early.grants.length >= MAX_EARLY_GRANTS || isFull) {
      this.counters.clientsRefused++;
      return;
    }
    early.grants.push(request);
    this.#early.set(request.clientId, early);
  }

  /** Delivers what is allowed now, keeps what may still be, drops the rest. */
  #releaseEarlyPackets(client: Client, now: Instant): void {
    const filters = filtersOf(client.grants.values());
    for (const early of client.early.drain()) {
      if (isAllowed(filters, early.packet)) this.report({ type: "deliver-packet", packet: early.packet.bytes });
      else if (early.until > now) client.early.push(early);
      else this.counters.notGranted++;
    }
  }

  /** Ends the connection of a client without grants, and forgets a client with neither. */
  #letGo(clientId: string, now: Instant): void {
    const client = this.#clients.get(clientId);
    if (client === undefined || client.grants.size > 0) return;
    this.#clients.delete(clientId);
    this.counters.notGranted += client.early.length;
    if (!client.isConnected) return;
    this.node.removeConnection(clientId, now);
    this.report({ type: "client-disconnected", clientId, reason: "no grant is left" });
    this.drainNode(now);
  }

  /** Tells the datapath the client's filters, and the routes to all clients. */
  #update(clientId: string): void {
    const client = this.#clients.get(clientId);
    if (client?.isConnected === true)
      this.report({ type: "filters-set", connection: clientId, filters: filtersOf(client.grants.values()) });
    const routes = [];
    for (const [id, { ipv4, ipv6, isConnected }] of this.#clients) {
      if (!isConnected) continue;
      for (const address of [ipv4, ipv6])
        routes.push({ prefix: IpPrefix.host(address), target: { type: "connection", connection: id } as const });
    }
    this.setRoutes(routes);
  }

  protected override handleEstablished(clientId: string): void {
    this.report({ type: "client-connected", clientId });
  }

  protected override handleEnded({ connection, reason }: ConnectionEnd, now: Instant): void {
    this.#disconnected(connection, reason, now);
  }

  /** The connection is gone; grants stay for the next one. */
  #disconnected(clientId: string, reason: string, now: Instant): void {
    const client = this.#clients.get(clientId);
    if (client === undefined) return;
    client.isConnected = false;
    this.report({ type: "client-disconnected", clientId, reason });
    this.#letGo(clientId, now);
    this.#update(clientId);
  }
}

/** A granted resource with the filters of its newer description, if it is still of the same type and has some. */
function withFiltersOf(granted: GatewayResource, newer: GatewayResource): GatewayResource {
  return granted.type === "cidr" && newer.type === "cidr" ? { ...granted, filters: newer.filters } : granted;
}

function isGrantable(resource: GatewayResource): boolean {
  return resource.type !== "dns";
}

/** Expiry is inclusive (spec 04, 10.3.23). */
function isExpired(expiresAt: UnixTime | undefined, unixNow: UnixTime): boolean {
  return expiresAt !== undefined && expiresAt <= unixNow;
}

function prefixes(resource: GatewayResource): readonly IpPrefix[] {
  switch (resource.type) {
    case "cidr":
      return [resource.address];
    case "internet":
      return DEFAULT_ROUTES;
    case "dns":
      return [];
  }
}

function covers(resource: GatewayResource, address: IpAddress): boolean {
  return prefixes(resource).some((prefix) => prefix.contains(address));
}

function filtersOf(grants: Iterable<Grant>): Filter[] {
  const filters: Filter[] = [];
  for (const { resource } of grants)
    for (const prefix of prefixes(resource))
      filters.push({ prefix, rules: resource.type === "internet" ? [] : resource.filters });
  return filters;
}
