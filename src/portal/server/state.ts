// The portal's state and what it does with messages (spec 01, sections 11 and 12), without sockets: sessions and texts come in,
// texts and closings come out.

import type { Random } from "../../base/random.js";
import { randomUuid } from "../../base/random.js";
import type { UnixTime } from "../../base/time.js";
import { decodeKey } from "../values.js";
import type { Configuration, ConfiguredResource } from "./configuration.js";
import { type Flow, FlowTable } from "./flows.js";
import { isUsable, selectGateway } from "./gateway-selection.js";
import { Grants, resourceChanges } from "./grants.js";
import { type AddressBook, derivedId } from "./identity.js";
import { field, hasField, parseMessage, stringField, stringList } from "./messages.js";
import { RelayDirectory } from "./relays.js";
import { renderForClient, renderForGateway, resourceId, routingOf, siteId } from "./rendering.js";
import { checkParameters, type Login, type LoginResult, type Session } from "./session.js";
import { TokenTable, tokenDigest } from "./tokens.js";

export type { Login, LoginResult, Session } from "./session.js";

/** What the shell has to do. */
export type PortalOutput =
  | { readonly type: "send"; readonly session: Session; readonly text: string }
  | { readonly type: "close"; readonly session: Session };

/** How long a relay may be away before others hear of it, milliseconds (spec 01, section 11.9). */
export const RELAY_QUIET_TIME = 1000;

/** How many pushes of each kind a new configuration has caused, and how many sockets it has closed. */
export interface ConfigurationChanges {
  readonly created_or_updated: number;
  readonly deleted: number;
  readonly rejected: number;
  readonly closed: number;
}

interface PendingRequest {
  readonly client: Session;
  readonly envelopeRef: unknown;
  readonly resourceId: string;
  readonly gatewayId: string;
}

/** Requests that wait for a gateway, at most; the oldest is forgotten, its client times out. */
const MAX_PENDING = 10_000;
/** Keepalive that clients and gateways are told, seconds; nobody uses it (spec 01, section 11.7). */
const PERSISTENT_KEEPALIVE = 25;

/** The portal. */
export class PortalState {
  readonly #random: Random;
  readonly #addresses: AddressBook;
  #grants: Grants;
  #tokens: TokenTable;
  readonly #sessions = new Set<Session>();
  readonly #pending = new Map<string, PendingRequest>();
  readonly #flows = new FlowTable();
  readonly #relays: RelayDirectory<Session>;
  #relaysRevision = 0;
  #outputs: PortalOutput[] = [];

  constructor(configuration: Configuration, random: Random, addresses: AddressBook) {
    this.#grants = new Grants(configuration);
    this.#tokens = new TokenTable(configuration);
    this.#random = random;
    this.#addresses = addresses;
    this.#relays = new RelayDirectory(random);
    this.#relays.setFixed(configuration);
  }

  /** Sessions that are signed in. */
  get sessions(): ReadonlySet<Session> {
    return this.#sessions;
  }

  /** The configuration in force. */
  get configuration(): Configuration {
    return this.#grants.configuration;
  }

  /** Counts changes of the set of relays: call {@link announceRelays} when it has been quiet for {@link RELAY_QUIET_TIME}. */
  get relaysRevision(): number {
    return this.#relaysRevision;
  }

  pollOutput(): PortalOutput | undefined {
    return this.#outputs.shift();
  }

  /** Judges a login. The session is online once it has joined; {@link disconnected} must be called at its end. */
  login(role: Session["role"], login: Login, now: UnixTime): LoginResult {
    if (login.token === undefined || login.token === "") return { type: "refused", status: 401, text: "Missing token" };
    const digest = tokenDigest(login.token);
    const owner = this.#tokens.find(role, digest, now);
    if (owner === undefined) return { type: "refused", status: 401, text: "Invalid token" };

    const parameters = checkParameters(role, login);
    if (parameters.type === "invalid") {
      const text = `Invalid or missing connection parameters: ${parameters.problems.join("\n")}\n`;
      return { type: "refused", status: 422, text };
    }
    const { key, publicKey, version } = parameters;
    const identity = `${role} ${owner.name} ${key}`;
    const addresses = role === "relay" ? undefined : this.#addresses.addressesOf(identity);
    if (role !== "relay" && addresses === undefined)
      return { type: "refused", status: 503, text: "No tunnel address is free" };
    const session: Session = {
      role,
      tokenDigest: digest,
      owner: owner.name,
      id: derivedId("device", identity),
      addresses,
      relayAddresses: parameters.relayAddresses,
      publicKey,
      remoteIp: login.remoteIp,
      location: login.location,
      version,
      expiresAt: owner.expiresAt,
      joined: false,
    };
    this.#sessions.add(session);
    return { type: "accepted", session };
  }

  /** The session's socket is gone. */
  disconnected(session: Session): void {
    this.#sessions.delete(session);
    this.#leave(session);
    for (const [ref, pending] of this.#pending) if (pending.client === session) this.#pending.delete(ref);
  }

  /** The session's token has expired. */
  expire(session: Session): void {
    this.#push(session, "disconnect", { reason: "token_expired" });
    this.#push(session, "phx_close", {});
    this.#close(session);
  }

  /** A text frame of a session. */
  handleText(session: Session, text: string): void {
    const message = parseMessage(text);
    if (message === undefined || !this.#sessions.has(session)) {
      this.#close(session);
      return;
    }
    const { topic, event, payload, ref } = message;
    if (topic === "phoenix" && event === "heartbeat") {
      this.#reply(session, "phoenix", ref, {});
    } else if (topic === session.role && event === "phx_join") {
      this.#join(session, ref, payload);
    } else if (topic !== session.role || !session.joined) {
      this.#error(session, topic, ref, "unmatched topic");
    } else if (event === "phx_leave") {
      this.#leave(session);
      this.#reply(session, topic, ref, {});
    } else if (!this.#handle(session, event, payload, ref)) {
      this.#error(session, topic, ref, "unknown_message");
    }
  }

  /** Tells everybody whose relays have gone, or who has too few, what there is. */
  announceRelays(): void {
    for (const { user, disconnectedIds, connected } of this.#relays.changes())
      this.#push(user, "relays_presence", { disconnected_ids: disconnectedIds, connected });
  }

  /** Replaces the configuration and tells everybody what has changed for them (spec 01, section 11.10). */
  setConfiguration(next: Configuration, now: UnixTime): ConfigurationChanges {
    const before = this.#grants;
    this.#grants = new Grants(next);
    this.#tokens = new TokenTable(next);
    this.#relays.setFixed(next);

    // A withdrawn token closes the socket; the attempt to come back is refused with 401. A token with another end signs in anew.
    const withdrawn = [...this.#sessions].filter((session) => !this.#isTokenOf(session.role, session, now));
    for (const session of withdrawn) this.#close(session);

    const dnsChanged = JSON.stringify(upstreamDns(before.configuration)) !== JSON.stringify(upstreamDns(next));
    const counts = { created_or_updated: 0, deleted: 0 };
    for (const session of this.#sessions) {
      if (session.role !== "client" || !session.joined) continue;
      if (dnsChanged) this.#push(session, "config_changed", { interface: this.#interfaceOf(session) });
      const { deleted, changed } = resourceChanges(before, this.#grants, session.owner, session.version);
      for (const id of deleted) this.#push(session, "resource_deleted", id);
      for (const resource of changed) this.#push(session, "resource_created_or_updated", resource);
      counts.deleted += deleted.length;
      counts.created_or_updated += changed.length;
    }
    const rejected = this.#revokeFlows(before, now);
    this.#pushUpdatesToGateways(before);
    this.#relaysRevision++;
    return { ...counts, rejected, closed: withdrawn.length };
  }

  #join(session: Session, ref: unknown, payload: unknown): void {
    const { role, version } = session;
    if (role === "client" && version === undefined) {
      this.#error(session, role, ref, "invalid_version");
      return;
    }
    const stampSecret = stringField(payload, "stamp_secret");
    if (role === "relay" && stampSecret === undefined) {
      this.#error(session, role, ref, "join crashed");
      return;
    }
    session.joined = true;
    this.#reply(session, role, ref, {});
    switch (role) {
      case "client":
        this.#push(session, "init", {
          interface: this.#interfaceOf(session),
          resources: this.#grants.resourcesOf(session.owner).flatMap((resource) => renderForClient(resource, version)),
          relays: this.#relays.give(session),
        });
        return;
      case "gateway":
        this.#push(session, "init", {
          interface: this.#interfaceOf(session),
          config: { ipv4_masquerade_enabled: true, ipv6_masquerade_enabled: true },
          relays: this.#relays.give(session),
        });
        // What was taken back while the gateway was away.
        this.#pushRejections(session.id);
        return;
      case "relay":
        this.#push(session, "init", {});
        this.#relays.add(session, session.relayAddresses, session.location, stampSecret ?? "");
        this.#relaysRevision++;
    }
  }

  #leave(session: Session): void {
    session.joined = false;
    this.#relays.forget(session);
    if (this.#relays.remove(session)) this.#relaysRevision++;
  }

  /** A message on a joined channel; whether there is such a message. */
  #handle(session: Session, event: string, payload: unknown, ref: unknown): boolean {
    const { role } = session;
    switch (event) {
      case "prepare_connection":
        if (role === "client") this.#prepareConnection(session, payload, ref);
        return role === "client";
      case "request_connection":
      case "reuse_connection":
        return role === "client" && this.#requestAccess(session, event, payload, ref);
      case "connection_ready":
        if (role === "gateway") this.#connectionReady(session, payload, ref);
        return role === "gateway";
      case "broadcast_ice_candidates":
        return this.#forwardCandidates(session, "ice_candidates", payload);
      case "broadcast_invalidated_ice_candidates":
        return this.#forwardCandidates(session, "invalidate_ice_candidates", payload);
      case "metrics":
        if (role === "gateway") this.#reply(session, role, ref, {});
        return role === "gateway";
      default:
        return false;
    }
  }

  #prepareConnection(session: Session, payload: unknown, ref: unknown): void {
    const resource = this.#grants.resource(session.owner, stringField(payload, "resource_id"));
    if (resource === undefined) {
      this.#error(session, "client", ref, "not_found");
      return;
    }
    const online = this.#gatewaysOf(resource);
    if (online.length === 0) {
      this.#error(session, "client", ref, "offline");
      return;
    }
    const gateway = selectGateway(
      online.filter((candidate) => isUsable(session, candidate, resource)),
      session,
      stringList(payload, "connected_gateway_ids"),
      this.#random,
    );
    if (gateway === undefined) {
      this.#error(session, "client", ref, "not_found");
      return;
    }
    this.#reply(session, "client", ref, {
      resource_id: resourceId(resource),
      gateway_id: gateway.id,
      gateway_group_id: siteId(gateway.owner),
      gateway_remote_ip: gateway.remoteIp,
    });
  }

  /** Whether the message was complete. */
  #requestAccess(
    session: Session,
    event: "request_connection" | "reuse_connection",
    payload: unknown,
    envelopeRef: unknown,
  ): boolean {
    const presharedKey = stringField(payload, "client_preshared_key");
    if (event === "request_connection" && (presharedKey === undefined || decodeKey(presharedKey) === undefined))
      return false;
    if (!hasField(payload, event === "request_connection" ? "client_payload" : "payload")) return false;

    const resource = this.#grants.resource(session.owner, stringField(payload, "resource_id"));
    const gatewayId = stringField(payload, "gateway_id");
    const known = [...this.#sessions].some(({ role, id }) => role === "gateway" && id === gatewayId);
    if (resource === undefined || !known) {
      this.#error(session, "client", envelopeRef, "not_found");
      return true;
    }
    const gateway = this.#gatewaysOf(resource).find(({ id }) => id === gatewayId);
    const rendered = gateway && renderForGateway(resource, gateway.version)[0];
    if (gateway === undefined || rendered === undefined) {
      this.#error(session, "client", envelopeRef, "offline");
      return true;
    }
    const id = resourceId(resource);
    const ref = Buffer.from(this.#random.bytes(18)).toString("base64url");
    remember(this.#pending, ref, { client: session, envelopeRef, resourceId: id, gatewayId: gateway.id }, MAX_PENDING);
    const common = {
      ref,
      flow_id: this.#recordFlow(session, gateway, id),
      resource: rendered,
      expires_at: session.expiresAt === undefined ? null : Math.floor(session.expiresAt / 1000),
    };
    const { ipv4, ipv6 } = session.addresses ?? {};
    if (event === "reuse_connection") {
      this.#pushToDevice("gateway", gateway.id, "allow_access", {
        ...common,
        client_id: session.id,
        client_ipv4: ipv4,
        client_ipv6: ipv6,
        payload: field(payload, "payload"),
      });
      return true;
    }
    this.#pushToDevice("gateway", gateway.id, "request_connection", {
      ...common,
      actor: { id: derivedId("actor", session.owner) },
      client: {
        id: session.id,
        peer: {
          public_key: session.publicKey,
          preshared_key: presharedKey,
          ipv4,
          ipv6,
          persistent_keepalive: PERSISTENT_KEEPALIVE,
        },
        payload: field(payload, "client_payload"),
      },
    });
    return true;
  }

  #connectionReady(session: Session, payload: unknown, ref: unknown): void {
    const key = stringField(payload, "ref") ?? "";
    const pending = this.#pending.get(key);
    if (pending === undefined || pending.gatewayId !== session.id) {
      this.#error(session, "gateway", ref, "invalid_ref");
      return;
    }
    this.#pending.delete(key);
    this.#reply(session, "gateway", ref, {});
    this.#reply(pending.client, "client", pending.envelopeRef, {
      resource_id: pending.resourceId,
      persistent_keepalive: PERSISTENT_KEEPALIVE,
      gateway_public_key: session.publicKey,
      gateway_payload: field(payload, "gateway_payload"),
    });
  }

  /** Whether the sender is one who has candidates. Those who may not meet hear nothing of each other. */
  #forwardCandidates(sender: Session, event: string, payload: unknown): boolean {
    if (sender.role === "relay") return false;
    const isClient = sender.role === "client";
    const ids = new Set(stringList(payload, isClient ? "gateway_ids" : "client_ids"));
    const candidates = stringList(payload, "candidates");
    for (const target of this.#sessions) {
      if (target.role !== (isClient ? "gateway" : "client") || !target.joined || !ids.has(target.id)) continue;
      const [client, gateway] = isClient ? [sender, target] : [target, sender];
      if (!this.#grants.mayMeet(client.owner, gateway.owner)) continue;
      this.#push(target, event, { [isClient ? "client_id" : "gateway_id"]: sender.id, candidates });
    }
    return true;
  }

  #isTokenOf(
    role: Session["role"],
    holder: {
      readonly tokenDigest: Uint8Array;
      readonly expiresAt: UnixTime | undefined;
      readonly owner: string;
    },
    now: UnixTime,
  ): boolean {
    const owner = this.#tokens.find(role, holder.tokenDigest, now);
    return owner?.name === holder.owner && owner.expiresAt === holder.expiresAt;
  }

  /** Ends flows whose token or grant is gone, or whose resource leads elsewhere; how many gateways were told. */
  #revokeFlows(before: Grants, now: UnixTime): number {
    const routing = new Map(
      before.configuration.resources.map((resource) => [resourceId(resource), routingOf(resource)]),
    );
    this.#flows.revoke((flow) => {
      const holder = { tokenDigest: flow.tokenDigest, expiresAt: flow.expiresAt, owner: flow.actor };
      if (!this.#isTokenOf("client", holder, now)) return true;
      const resource = this.#grants.resource(flow.actor, flow.resourceId);
      return resource === undefined || routing.get(flow.resourceId) !== routingOf(resource);
    });
    const gateways = new Set(
      [...this.#sessions].filter(({ role, joined }) => role === "gateway" && joined).map(({ id }) => id),
    );
    let count = 0;
    for (const id of gateways) count += this.#pushRejections(id);
    return count;
  }

  #pushRejections(gatewayId: string): number {
    const flows = this.#flows.takeRevoked(gatewayId);
    for (const { id, clientId, resourceId } of flows)
      this.#pushToDevice("gateway", gatewayId, "reject_access", {
        flow_id: id,
        client_id: clientId,
        resource_id: resourceId,
      });
    return flows.length;
  }

  #pushUpdatesToGateways(before: Grants): void {
    const old = new Map(before.configuration.resources.map((resource) => [resourceId(resource), resource]));
    for (const session of this.#sessions) {
      if (session.role !== "gateway" || !session.joined) continue;
      const served = this.#flows.servedBy(session.id);
      for (const resource of this.configuration.resources) {
        const previous = old.get(resourceId(resource));
        if (previous === undefined || !served.has(resourceId(resource))) continue;
        const [rendered] = renderForGateway(resource, session.version);
        const [renderedBefore] = renderForGateway(previous, session.version);
        if (rendered !== undefined && JSON.stringify(rendered) !== JSON.stringify(renderedBefore))
          this.#push(session, "resource_updated", rendered);
      }
    }
  }

  #recordFlow(client: Session, gateway: Session, resource: string): string {
    const flow: Flow = {
      id: randomUuid(this.#random),
      clientId: client.id,
      gatewayId: gateway.id,
      resourceId: resource,
      actor: client.owner,
      tokenDigest: client.tokenDigest,
      expiresAt: client.expiresAt,
    };
    this.#flows.add(flow);
    return flow.id;
  }

  /** Gateways that can reach a resource, each once: a device that is signed in twice is represented by its latest session. */
  #gatewaysOf(resource: ConfiguredResource): Session[] {
    const byId = new Map<string, Session>();
    for (const session of this.#sessions)
      if (session.role === "gateway" && session.joined && resource.sites.includes(session.owner))
        byId.set(session.id, session);
    return [...byId.values()];
  }

  #interfaceOf({ role, addresses }: Session): object {
    const { ipv4, ipv6 } = addresses ?? {};
    return role === "client" ? { ipv4, ipv6, upstream_dns: upstreamDns(this.configuration) } : { ipv4, ipv6 };
  }

  /** To all sessions of a device: one of two sockets may be dead without anybody knowing (spec 01, section 11.11). */
  #pushToDevice(role: Session["role"], id: string, event: string, payload: unknown): void {
    for (const session of this.#sessions)
      if (session.role === role && session.joined && session.id === id) this.#push(session, event, payload);
  }

  #push(session: Session, event: string, payload: unknown): void {
    this.#send(session, { topic: session.role, event, payload, ref: null });
  }

  #reply(session: Session, topic: string, ref: unknown, response: object): void {
    this.#send(session, { topic, event: "phx_reply", ref, payload: { status: "ok", response } });
  }

  #error(session: Session, topic: string, ref: unknown, reason: string): void {
    this.#send(session, { topic, event: "phx_reply", ref, payload: { status: "error", response: { reason } } });
  }

  #send(session: Session, message: object): void {
    this.#outputs.push({ type: "send", session, text: JSON.stringify(message) });
  }

  #close(session: Session): void {
    this.#outputs.push({ type: "close", session });
    this.disconnected(session);
  }
}

function upstreamDns(configuration: Configuration): object[] {
  return configuration.upstream_dns.map((address) => ({ protocol: "ip_port", address: address.toString() }));
}

/** Adds an entry to a bounded map; the oldest one goes when it is full. */
function remember<V>(map: Map<string, V>, key: string, value: V, capacity: number): void {
  if (map.size >= capacity) {
    const [oldest] = map.keys();
    if (oldest !== undefined) map.delete(oldest);
  }
  map.set(key, value);
}
