// The gateway (spec 04, section 6, with section 4.10): clients, what they were granted, and until when. It says what the datapath
// lets through: a client's tunnel addresses lead to its connection, and its filters name what it may reach. Deny by default.
//
// Grants and connections live apart: a grant may arrive before the connection (section 4.8) and outlive it, until it expires or
// is revoked (section 6.13).

import { type IpAddress, IpPrefix } from "../base/address.js";
import { BoundedQueue } from "../base/queue.js";
import { type Duration, earliest, type Instant, nextTurn, SECOND, type UnixTime } from "../base/time.js";
import type { Answer, Offer } from "../connection/events.js";
import type { GatewayNode } from "../connection/gateway-node.js";
import { type IpPacket, isIcmpError, parseIpPacket } from "../packet/ip.js";
import { AddressHolders } from "./address-holders.js";
import { EarlyGrants } from "./early-grants.js";
import type { GatewayEvent } from "./events.js";
import { isAllowed } from "./filters.js";
import { type GatewayResource, type Grant, Grants, isGrantable } from "./grants.js";
import { goodbyeTo, parsePeerMessage } from "./peer-message.js";
import { TUNNEL_RANGES } from "./ranges.js";
import { type ConnectionEnd, type Connections, StateOverNode } from "./state-over-node.js";

/** How often expiry is looked at, about. */
export const HOUSEKEEPING_INTERVAL: Duration = SECOND;
/** Clients known at most. One that is not connected is forgotten for one more; further ones are refused. */
export const MAX_CLIENTS = 10_000;
/** How long a packet waits for the grant that allows it: grants of CIDR resources are not acknowledged, so packets may overtake them. */
export const EARLY_PACKET_TIME: Duration = SECOND;
/** Packets per client that wait for a grant, at most; the oldest goes. */
export const MAX_EARLY_PACKETS = 16;

/** A request for a connection. */
export interface ConnectionRequest extends Grant {
  readonly clientId: string;
  /** 32 bytes. */
  readonly publicKey: Uint8Array;
  readonly offer: Offer;
  readonly ipv4: IpAddress;
  readonly ipv6: IpAddress;
}

/** A grant for a client that may be connected. */
export interface AccessRequest extends Grant {
  readonly clientId: string;
  /** Tunnel addresses of the client; portals of August 2024 do not send them. */
  readonly ipv4?: IpAddress | undefined;
  readonly ipv6?: IpAddress | undefined;
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

interface Client {
  readonly ipv4: IpAddress;
  readonly ipv6: IpAddress;
  readonly grants: Grants;
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
  readonly #holders = new AddressHolders();
  readonly #early = new EarlyGrants(MAX_CLIENTS);
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
    if (!isGrantable(request, unixNow)) return undefined;
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
    for (const early of this.#early.take(request.clientId)) if (isGrantable(early, unixNow)) this.#grant(client, early);
    this.drainNode(now);
    this.#update(request.clientId);
    return answer;
  }

  /** Grants a resource to a client, connected or not yet. */
  handleAccess(request: AccessRequest, now: Instant, unixNow: UnixTime): void {
    if (!isGrantable(request, unixNow)) return;
    const known = this.#clients.get(request.clientId);
    const { ipv4, ipv6 } = request;
    if (known === undefined && (ipv4 === undefined || ipv6 === undefined)) {
      if (!this.#early.add(request.clientId, request, now)) this.counters.clientsRefused++;
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
    this.#early.remove(clientId, resourceId);
    const client = this.#clients.get(clientId);
    if (client?.grants.remove(resourceId) !== true) return;
    this.#letGo(clientId, now);
    this.#update(clientId);
  }

  /** A resource's filters have changed, for all clients that hold it. Its address does not change in this way. */
  handleResourceUpdate(resource: GatewayResource): void {
    for (const [clientId, { grants }] of this.#clients) if (grants.update(resource)) this.#update(clientId);
    this.#early.update(resource);
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
    if (!client.grants.covers(packet.source) && !isIcmpError(packet)) {
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
    this.#housekeepingAt = nextTurn(now, HOUSEKEEPING_INTERVAL);
    for (const [clientId, client] of this.#clients) {
      this.#releaseEarlyPackets(client, now);
      if (!client.grants.expire(unixNow)) continue;
      this.#letGo(clientId, now);
      this.#update(clientId);
    }
    this.#early.handleTimeout(now);
  }

  override pollTimeout(): Instant | undefined {
    // Without clients there is nothing that could expire.
    const idle = this.#clients.size === 0 && this.#early.isEmpty;
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
      grants: known?.grants ?? new Grants(),
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

  #grant({ grants }: Client, grant: Grant): void {
    if (!grants.add(grant)) this.counters.grantsPushedOut++;
  }

  /** Delivers what is allowed now, keeps what may still be, drops the rest. */
  #releaseEarlyPackets(client: Client, now: Instant): void {
    if (client.early.length === 0) return;
    const filters = client.grants.filters();
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

  /** Tells the datapath the client's filters, and where its addresses lead. */
  #update(clientId: string): void {
    const client = this.#clients.get(clientId);
    const isConnected = client?.isConnected === true;
    if (isConnected) this.report({ type: "filters-set", connection: clientId, filters: client.grants.filters() });
    for (const { address, holder } of this.#holders.set(clientId, isConnected ? [client.ipv4, client.ipv6] : []))
      this.setRoute(
        IpPrefix.host(address),
        holder === undefined ? undefined : { type: "connection", connection: holder },
      );
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
