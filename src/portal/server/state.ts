// The portal's state and what it does with messages (spec 01, sections 11 and 12), without sockets: sessions and texts come in,
// texts and closings come out.

import type { Random } from "../../base/random.js";
import { randomBelow, randomUuid } from "../../base/random.js";
import type { UnixTime } from "../../base/time.js";
import { decodeKey } from "../values.js";
import type { Configuration, ConfiguredResource } from "./configuration.js";
import { type AddressBook, derivedId, type TunnelAddresses } from "./identity.js";
import { renderForClient, renderForGateway, resourceId, routingOf, siteId } from "./rendering.js";

/** A socket that has signed in. */
export interface Session {
  readonly role: "client" | "gateway" | "relay";
  /** Token that it signed in with. */
  readonly token: string;
  /** Actor of a client, site of a gateway. */
  readonly owner: string;
  /** Id of the device: stable over reconnects. */
  readonly id: string;
  readonly addresses: TunnelAddresses | undefined;
  readonly publicKey: string;
  readonly remoteIp: string;
  /** End of the token; absent: none. */
  readonly expiresAt: UnixTime | undefined;
  joined: boolean;
}

/** What the shell has to do. */
export type PortalOutput =
  | { readonly type: "send"; readonly session: Session; readonly text: string }
  | { readonly type: "close"; readonly session: Session };

/** Parameters of a login. */
export interface Login {
  readonly token: string | undefined;
  readonly externalId: string | undefined;
  readonly publicKey: string | undefined;
  readonly remoteIp: string;
}

/** Result of a login: a session, or an HTTP status with text (spec 01, section 11.2). */
export type LoginResult =
  | { readonly type: "accepted"; readonly session: Session }
  | { readonly type: "refused"; readonly status: 401 | 422 | 503; readonly text: string };

interface Flow {
  readonly clientId: string;
  readonly actor: string;
  readonly gatewayId: string;
  readonly resourceId: string;
}

interface PendingRequest {
  readonly client: Session;
  readonly envelopeRef: unknown;
  readonly resourceId: string;
  readonly gateway: Session;
}

/** Requests that wait for a gateway, at most; the oldest is forgotten, its client times out. */
const MAX_PENDING = 10_000;
/** Flows remembered for revocation, at most; the oldest is forgotten (its grant ends at its expiry). */
const MAX_FLOWS = 100_000;

/** The portal. */
export class PortalState {
  readonly #random: Random;
  readonly #addresses: AddressBook;
  #configuration: Configuration;
  readonly #sessions = new Set<Session>();
  readonly #pending = new Map<string, PendingRequest>();
  readonly #flows = new Map<string, Flow>();
  #outputs: PortalOutput[] = [];

  constructor(configuration: Configuration, random: Random, addresses: AddressBook) {
    this.#configuration = configuration;
    this.#random = random;
    this.#addresses = addresses;
  }

  /** Sessions that are online. */
  get sessions(): ReadonlySet<Session> {
    return this.#sessions;
  }

  pollOutput(): PortalOutput | undefined {
    return this.#outputs.shift();
  }

  /** Judges a login. The session is online once it has joined. */
  login(role: Session["role"], login: Login, now: UnixTime): LoginResult {
    const { token, externalId, publicKey } = login;
    if (token === undefined || token === "") return { type: "refused", status: 401, text: "Missing token" };
    const owner = this.#ownerOf(role, token, now);
    if (owner === undefined) return { type: "refused", status: 401, text: "Invalid token" };
    if (role !== "relay") {
      const missing = externalId === undefined || externalId === "" ? "external_id" : "public_key";
      if (missing === "external_id" || publicKey === undefined || decodeKey(publicKey) === undefined) {
        const text = `Invalid or missing connection parameters: ${missing}: is invalid\n`;
        return { type: "refused", status: 422, text };
      }
    }
    const identity = `${role} ${owner.name} ${externalId ?? login.remoteIp}`;
    const addresses = role === "relay" ? undefined : this.#addresses.addressesOf(identity);
    if (role !== "relay" && addresses === undefined)
      return { type: "refused", status: 503, text: "No tunnel address is free" };
    const session: Session = {
      role,
      token,
      owner: owner.name,
      id: derivedId("device", identity),
      addresses,
      publicKey: publicKey ?? "",
      remoteIp: login.remoteIp,
      expiresAt: owner.expiresAt,
      joined: false,
    };
    this.#sessions.add(session);
    return { type: "accepted", session };
  }

  /** The session's socket is gone. */
  disconnected(session: Session): void {
    this.#sessions.delete(session);
    for (const [ref, pending] of this.#pending)
      if (pending.client === session || pending.gateway === session) this.#pending.delete(ref);
  }

  /** The session's token has expired. */
  expire(session: Session): void {
    this.#push(session, "disconnect", { reason: "token_expired" });
    this.#push(session, "phx_close", {});
    this.#outputs.push({ type: "close", session });
    this.disconnected(session);
  }

  /** A text frame of a session. */
  handleText(session: Session, text: string): void {
    const message = parseMessage(text);
    if (message === undefined || !this.#sessions.has(session)) {
      this.#outputs.push({ type: "close", session });
      return;
    }
    const { topic, event, ref } = message;
    if (topic === "phoenix" && event === "heartbeat") {
      this.#reply(session, "phoenix", ref, {});
      return;
    }
    if (topic === session.role && event === "phx_join") {
      this.#join(session, ref, message.payload);
      return;
    }
    if (topic !== session.role || !session.joined) {
      this.#error(session, topic, ref, "unmatched topic");
      return;
    }
    if (event === "phx_leave") {
      session.joined = false;
      this.#reply(session, topic, ref, {});
    } else if (session.role === "client") {
      this.#handleClient(session, event, message.payload, ref);
    } else if (session.role === "gateway") {
      this.#handleGateway(session, event, message.payload, ref);
    }
  }

  #ownerOf(
    role: Session["role"],
    token: string,
    now: UnixTime,
  ): { readonly name: string; readonly expiresAt?: UnixTime | undefined } | undefined {
    const { actors, sites, relays } = this.#configuration;
    switch (role) {
      case "client":
        for (const actor of actors)
          for (const { token: candidate, expiresAt } of actor.tokens)
            if (candidate === token && (expiresAt === undefined || expiresAt > now))
              return { name: actor.name, expiresAt };
        return undefined;
      case "gateway": {
        const site = sites.find(({ tokens }) => tokens.includes(token));
        return site === undefined ? undefined : { name: site.name };
      }
      case "relay":
        return relays.tokens.includes(token) ? { name: "relays" } : undefined;
    }
  }

  #join(session: Session, ref: unknown, payload: unknown): void {
    if (session.role === "relay" && stringField(payload, "stamp_secret") === undefined) {
      this.#error(session, "relay", ref, "join crashed");
      return;
    }
    session.joined = true;
    this.#reply(session, session.role, ref, {});
    const { ipv4, ipv6 } = session.addresses ?? {};
    switch (session.role) {
      case "client":
        this.#push(session, "init", {
          interface: { ipv4, ipv6, upstream_dns: this.#upstreamDns() },
          resources: this.#resourcesOf(session.owner).map(renderForClient),
          relays: this.#relays(session.expiresAt),
        });
        return;
      case "gateway":
        this.#push(session, "init", {
          interface: { ipv4, ipv6 },
          config: { ipv4_masquerade_enabled: true, ipv6_masquerade_enabled: true },
          relays: this.#relays(undefined),
        });
        return;
      case "relay":
        this.#push(session, "init", {});
    }
  }

  #handleClient(session: Session, event: string, payload: unknown, ref: unknown): void {
    switch (event) {
      case "prepare_connection":
        this.#prepareConnection(session, payload, ref);
        return;
      case "request_connection":
      case "reuse_connection":
        this.#requestAccess(session, event, payload, ref);
        return;
      case "broadcast_ice_candidates":
        this.#forwardCandidates(session, "gateway", "ice_candidates", payload, "gateway_ids", "client_id");
        return;
      case "broadcast_invalidated_ice_candidates":
        this.#forwardCandidates(session, "gateway", "invalidate_ice_candidates", payload, "gateway_ids", "client_id");
        return;
      default:
        this.#error(session, session.role, ref, "unknown_message");
    }
  }

  #handleGateway(session: Session, event: string, payload: unknown, ref: unknown): void {
    switch (event) {
      case "connection_ready":
        this.#connectionReady(session, payload, ref);
        return;
      case "broadcast_ice_candidates":
        this.#forwardCandidates(session, "client", "ice_candidates", payload, "client_ids", "gateway_id");
        return;
      case "broadcast_invalidated_ice_candidates":
        this.#forwardCandidates(session, "client", "invalidate_ice_candidates", payload, "client_ids", "gateway_id");
        return;
      case "metrics":
        this.#reply(session, session.role, ref, {});
        return;
      default:
        this.#error(session, session.role, ref, "unknown_message");
    }
  }

  #prepareConnection(session: Session, payload: unknown, ref: unknown): void {
    const resource = this.#resourceOf(session.owner, stringField(payload, "resource_id"));
    if (resource === undefined) {
      this.#error(session, "client", ref, "not_found");
      return;
    }
    const online = this.#gatewaysOf(resource);
    const connected = stringList(payload, "connected_gateway_ids");
    const preferred = online
      .filter(({ id }) => connected.includes(id))
      .sort((a, b) => connected.indexOf(a.id) - connected.indexOf(b.id));
    const gateway = preferred[0] ?? online[online.length === 0 ? 0 : randomBelow(this.#random, online.length)];
    if (gateway === undefined) {
      this.#error(session, "client", ref, "offline");
      return;
    }
    this.#reply(session, "client", ref, {
      resource_id: resourceId(resource),
      gateway_id: gateway.id,
      gateway_group_id: siteId(gateway.owner),
      gateway_remote_ip: gateway.remoteIp,
    });
  }

  #requestAccess(
    session: Session,
    event: "request_connection" | "reuse_connection",
    payload: unknown,
    envelopeRef: unknown,
  ): void {
    const resource = this.#resourceOf(session.owner, stringField(payload, "resource_id"));
    const gatewayId = stringField(payload, "gateway_id");
    const known = [...this.#sessions].some(({ role, id }) => role === "gateway" && id === gatewayId);
    if (resource === undefined || !known) {
      this.#error(session, "client", envelopeRef, "not_found");
      return;
    }
    const gateway = this.#gatewaysOf(resource).find(({ id }) => id === gatewayId);
    if (gateway === undefined) {
      this.#error(session, "client", envelopeRef, "offline");
      return;
    }
    const ref = Buffer.from(this.#random.bytes(18)).toString("base64url");
    remember(
      this.#pending,
      ref,
      { client: session, envelopeRef, resourceId: resourceId(resource), gateway },
      MAX_PENDING,
    );
    const flowId = this.#recordFlow(session, gateway, resourceId(resource));
    const common = {
      ref,
      flow_id: flowId,
      resource: renderForGateway(resource),
      expires_at: session.expiresAt === undefined ? null : Math.floor(session.expiresAt / 1000),
    };
    const { ipv4, ipv6 } = session.addresses ?? {};
    if (event === "reuse_connection") {
      const access = {
        client_id: session.id,
        client_ipv4: ipv4,
        client_ipv6: ipv6,
        payload: field(payload, "payload"),
      };
      this.#push(gateway, "allow_access", { ...common, ...access });
      return;
    }
    this.#push(gateway, "request_connection", {
      ...common,
      actor: { id: derivedId("actor", session.owner) },
      client: {
        id: session.id,
        peer: {
          public_key: session.publicKey,
          preshared_key: field(payload, "client_preshared_key"),
          ipv4,
          ipv6,
          persistent_keepalive: 25,
        },
        payload: field(payload, "client_payload"),
      },
    });
  }

  #connectionReady(session: Session, payload: unknown, ref: unknown): void {
    const key = stringField(payload, "ref") ?? "";
    const pending = this.#pending.get(key);
    if (pending === undefined || pending.gateway !== session) {
      this.#error(session, "gateway", ref, "invalid_ref");
      return;
    }
    this.#pending.delete(key);
    this.#reply(session, "gateway", ref, {});
    this.#reply(pending.client, "client", pending.envelopeRef, {
      resource_id: pending.resourceId,
      persistent_keepalive: 25,
      gateway_public_key: session.publicKey,
      gateway_payload: field(payload, "gateway_payload"),
    });
  }

  #forwardCandidates(
    session: Session,
    role: Session["role"],
    event: string,
    payload: unknown,
    targets: string,
    sender: string,
  ): void {
    const ids = stringList(payload, targets);
    const candidates = stringList(payload, "candidates");
    for (const target of this.#sessions)
      if (target.role === role && ids.includes(target.id))
        this.#push(target, event, { [sender]: session.id, candidates });
  }

  /** Replaces the configuration and tells everybody what has changed for them (spec 01, section 11.10). */
  setConfiguration(next: Configuration, now: UnixTime): void {
    const previous = this.#configuration;
    const before = new Map<string, readonly ConfiguredResource[]>();
    for (const { name } of previous.actors) before.set(name, this.#resourcesOf(name));
    const dnsBefore = JSON.stringify(this.#upstreamDns());
    this.#configuration = next;

    for (const session of [...this.#sessions]) {
      const owner = this.#ownerOf(session.role, session.token, now);
      if (owner?.name === session.owner) continue;
      // A withdrawn token closes the socket; the attempt to come back is refused with 401.
      this.#revoke(session.role === "client" ? (flow) => flow.clientId === session.id : () => false);
      this.#outputs.push({ type: "close", session });
      this.disconnected(session);
    }

    const dnsChanged = dnsBefore !== JSON.stringify(this.#upstreamDns());
    for (const session of this.#sessions) {
      if (session.role !== "client" || !session.joined) continue;
      if (dnsChanged) {
        const { ipv4, ipv6 } = session.addresses ?? {};
        this.#push(session, "config_changed", { interface: { ipv4, ipv6, upstream_dns: this.#upstreamDns() } });
      }
      this.#pushResourceChanges(session, before.get(session.owner) ?? []);
    }
    this.#revokeChangedFlows(previous);
    this.#pushUpdatesToGateways(previous);
  }

  #pushResourceChanges(session: Session, before: readonly ConfiguredResource[]): void {
    const after = this.#resourcesOf(session.owner);
    const ids = new Set(after.map(resourceId));
    for (const resource of before)
      if (!ids.has(resourceId(resource))) this.#push(session, "resource_deleted", resourceId(resource));
    const old = new Map(before.map((resource) => [resourceId(resource), JSON.stringify(renderForClient(resource))]));
    for (const resource of after) {
      const rendered = renderForClient(resource);
      if (old.get(resourceId(resource)) !== JSON.stringify(rendered))
        this.#push(session, "resource_created_or_updated", rendered);
    }
  }

  /** Ends flows whose resource is no longer granted, or leads elsewhere. */
  #revokeChangedFlows(previous: Configuration): void {
    const routing = new Map(previous.resources.map((resource) => [resourceId(resource), routingOf(resource)]));
    this.#revoke((flow) => {
      const resource = this.#resourceOf(flow.actor, flow.resourceId);
      return resource === undefined || routing.get(flow.resourceId) !== routingOf(resource);
    });
  }

  #revoke(ended: (flow: Flow) => boolean): void {
    const rejected = new Set<string>();
    for (const [id, flow] of this.#flows) {
      if (!ended(flow)) continue;
      this.#flows.delete(id);
      const key = `${flow.gatewayId} ${flow.clientId} ${flow.resourceId}`;
      if (rejected.has(key)) continue;
      rejected.add(key);
      for (const session of this.#sessions)
        if (session.role === "gateway" && session.id === flow.gatewayId)
          this.#push(session, "reject_access", {
            flow_id: id,
            client_id: flow.clientId,
            resource_id: flow.resourceId,
          });
    }
  }

  #pushUpdatesToGateways(previous: Configuration): void {
    const old = new Map(
      previous.resources.map((resource) => [resourceId(resource), JSON.stringify(renderForGateway(resource))]),
    );
    const served = new Set(Array.from(this.#flows.values(), (flow) => `${flow.gatewayId} ${flow.resourceId}`));
    for (const resource of this.#configuration.resources) {
      const id = resourceId(resource);
      const rendered = renderForGateway(resource);
      if (old.get(id) === JSON.stringify(rendered)) continue;
      for (const session of this.#sessions)
        if (session.role === "gateway" && served.has(`${session.id} ${id}`))
          this.#push(session, "resource_updated", rendered);
    }
  }

  #recordFlow(client: Session, gateway: Session, resource: string): string {
    const id = randomUuid(this.#random);
    const flow = { clientId: client.id, actor: client.owner, gatewayId: gateway.id, resourceId: resource };
    remember(this.#flows, id, flow, MAX_FLOWS);
    return id;
  }

  /** Resources that a policy grants to an actor, each once, in the file's order. */
  #resourcesOf(actorName: string): ConfiguredResource[] {
    const { actors, policies, resources } = this.#configuration;
    const groups = actors.find(({ name }) => name === actorName)?.groups ?? [];
    const granted = new Set(
      policies
        .filter(({ actor, group }) => actor === actorName || (group !== undefined && groups.includes(group)))
        .map(({ resource }) => resource),
    );
    return resources.filter(({ name }) => granted.has(name));
  }

  #resourceOf(actorName: string, id: string | undefined): ConfiguredResource | undefined {
    return this.#resourcesOf(actorName).find((resource) => resourceId(resource) === id);
  }

  #gatewaysOf(resource: ConfiguredResource): Session[] {
    return [...this.#sessions].filter(
      (session) => session.role === "gateway" && session.joined && resource.sites.includes(session.owner),
    );
  }

  #upstreamDns(): object[] {
    return this.#configuration.upstream_dns.map((address) => ({ protocol: "ip_port", address: address.toString() }));
  }

  #relays(expiresAt: UnixTime | undefined): object[] {
    return this.#configuration.relays.static.map(({ address, username, password }) => ({
      id: derivedId("relay", address.toString()),
      type: "turn",
      addr: address.toString(),
      username,
      password,
      expires_at: Math.floor((expiresAt ?? FAR_FUTURE) / 1000),
    }));
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
}

/** 2038-01-01: what relays are told where a token has no end (spec 01, section 14.6). */
const FAR_FUTURE: UnixTime = Date.UTC(2038, 0, 1);

/** Adds an entry to a bounded map; the oldest one goes when it is full. */
function remember<V>(map: Map<string, V>, key: string, value: V, capacity: number): void {
  if (map.size >= capacity) {
    const [oldest] = map.keys();
    if (oldest !== undefined) map.delete(oldest);
  }
  map.set(key, value);
}

interface Message {
  readonly topic: string;
  readonly event: string;
  readonly payload: unknown;
  readonly ref: unknown;
}

function parseMessage(text: string): Message | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    // Not JSON: the sender's mistake, hence a value.
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
  const topic = stringField(value, "topic");
  const event = stringField(value, "event");
  if (topic === undefined || event === undefined) return undefined;
  return { topic, event, payload: field(value, "payload"), ref: field(value, "ref") };
}

function field(value: unknown, name: string): unknown {
  return typeof value === "object" && value !== null ? ((value as Record<string, unknown>)[name] ?? null) : null;
}

function stringField(value: unknown, name: string): string | undefined {
  const text = field(value, name);
  return typeof text === "string" ? text : undefined;
}

function stringList(value: unknown, name: string): string[] {
  const list = field(value, name);
  return Array.isArray(list) ? list.filter((item): item is string => typeof item === "string") : [];
}
