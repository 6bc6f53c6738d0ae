// How a client and a gateway find each other through the portal (spec 01, sections 11.6 and 11.7):
//
//   client ── prepare_connection ──► portal: which gateway?
//   client ── request_connection ──► portal ── request_connection ──► gateway: offer, grant
//   client ◄────────── reply ─────── portal ◄── connection_ready ──── gateway: answer
//   client ── reuse_connection ────► portal ── allow_access ────────► gateway: a further grant
//   both   ◄─ candidates, and those that are gone ─► both
//
// What a client may reach is asked anew for every message. Each grant is recorded as a flow, so that it can be taken back.

import { type Random, randomUuid } from "../../base/random.js";
import { decodeKey } from "../values.js";
import type { Channels } from "./channels.js";
import type { FlowTable } from "./flows.js";
import { isUsable, selectGateway } from "./gateway-selection.js";
import type { Grants } from "./grants.js";
import { derivedId } from "./identity.js";
import { field, hasField, stringField, stringList } from "./messages.js";
import { renderForGateway, resourceId, siteId } from "./rendering.js";
import type { Session } from "./session.js";

/** Requests that wait for a gateway, at most; the oldest is forgotten, its client times out. */
const MAX_PENDING = 10_000;
/** Keepalive that clients and gateways are told, seconds; nobody uses it (spec 01, section 11.7). */
const PERSISTENT_KEEPALIVE = 25;

interface PendingRequest {
  /** Gateways answer requests for connections; those for access, of some versions. */
  readonly event: "request_connection" | "reuse_connection";
  readonly client: Session;
  readonly envelopeRef: unknown;
  readonly resourceId: string;
  readonly gatewayId: string;
}

/** See the head of this file. */
export class Signalling {
  readonly #channels: Channels;
  readonly #flows: FlowTable;
  readonly #random: Random;
  /** By the reference that the gateway is given. */
  readonly #pending = new Map<string, PendingRequest>();

  constructor(channels: Channels, flows: FlowTable, random: Random) {
    this.#channels = channels;
    this.#flows = flows;
    this.#random = random;
  }

  /** A message of a session that has joined. @returns whether its role has such a message, and it was complete. */
  handle(session: Session, event: string, payload: unknown, ref: unknown, grants: Grants): boolean {
    const { role } = session;
    switch (event) {
      case "prepare_connection":
        if (role === "client") this.#prepareConnection(session, payload, ref, grants);
        return role === "client";
      case "request_connection":
      case "reuse_connection":
        return role === "client" && this.#requestAccess(session, event, payload, ref, grants);
      case "connection_ready":
        if (role === "gateway") this.#connectionReady(session, payload, ref);
        return role === "gateway";
      case "broadcast_ice_candidates":
        return this.#forwardCandidates(session, "ice_candidates", payload, grants);
      case "broadcast_invalidated_ice_candidates":
        return this.#forwardCandidates(session, "invalidate_ice_candidates", payload, grants);
      default:
        return false;
    }
  }

  /** The session has joined. What its gateway was asked for on an earlier socket may have been lost there. */
  joined(session: Session): void {
    if (session.role === "gateway") this.#refuseWaitingFor(session.id);
  }

  /** The session has left: a gateway that has no other one answers nothing any more. */
  left(session: Session): void {
    if (session.role !== "gateway") return;
    for (const { joined } of this.#channels.ofDevice("gateway", session.id)) if (joined) return;
    this.#refuseWaitingFor(session.id);
  }

  /** The session's socket is gone: answers to its requests are not wanted any more. */
  disconnected(session: Session): void {
    for (const [ref, pending] of this.#pending) if (pending.client === session) this.#pending.delete(ref);
  }

  /** Clients that wait for an answer of the gateway are told that there will be none, as they would have been had they asked later. */
  #refuseWaitingFor(gatewayId: string): void {
    for (const [ref, pending] of this.#pending) {
      if (pending.gatewayId !== gatewayId || pending.event !== "request_connection") continue;
      this.#pending.delete(ref);
      this.#channels.refuse(pending.client, "client", pending.envelopeRef, "offline");
    }
  }

  #prepareConnection(session: Session, payload: unknown, ref: unknown, grants: Grants): void {
    const resource = grants.resource(session.owner, stringField(payload, "resource_id"));
    if (resource === undefined) {
      this.#channels.refuse(session, "client", ref, "not_found");
      return;
    }
    const online = this.#channels.gatewaysOf(resource);
    if (online.length === 0) {
      this.#channels.refuse(session, "client", ref, "offline");
      return;
    }
    const gateway = selectGateway(
      online.filter((candidate) => isUsable(session, candidate, resource)),
      session,
      stringList(payload, "connected_gateway_ids"),
      this.#random,
    );
    if (gateway === undefined) {
      this.#channels.refuse(session, "client", ref, "not_found");
      return;
    }
    this.#channels.reply(session, "client", ref, {
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
    grants: Grants,
  ): boolean {
    const presharedKey = stringField(payload, "client_preshared_key");
    if (event === "request_connection" && (presharedKey === undefined || decodeKey(presharedKey) === undefined))
      return false;
    if (!hasField(payload, event === "request_connection" ? "client_payload" : "payload")) return false;

    const resource = grants.resource(session.owner, stringField(payload, "resource_id"));
    const gatewayId = stringField(payload, "gateway_id") ?? "";
    const [known] = this.#channels.ofDevice("gateway", gatewayId);
    if (resource === undefined || known === undefined) {
      this.#channels.refuse(session, "client", envelopeRef, "not_found");
      return true;
    }
    const gateway = this.#channels.gatewaysOf(resource).find(({ id }) => id === gatewayId);
    const rendered = gateway && renderForGateway(resource, gateway.version)[0];
    if (gateway === undefined || rendered === undefined) {
      this.#channels.refuse(session, "client", envelopeRef, "offline");
      return true;
    }
    const id = resourceId(resource);
    const ref = Buffer.from(this.#random.bytes(18)).toString("base64url");
    this.#remember(ref, { event, client: session, envelopeRef, resourceId: id, gatewayId: gateway.id });
    const common = {
      ref,
      flow_id: this.#recordFlow(session, gateway, id),
      resource: rendered,
      expires_at: session.expiresAt === undefined ? null : Math.floor(session.expiresAt / 1000),
    };
    const { ipv4, ipv6 } = session.addresses ?? {};
    if (event === "reuse_connection") {
      this.#channels.pushToDevice("gateway", gateway.id, "allow_access", {
        ...common,
        client_id: session.id,
        client_ipv4: ipv4,
        client_ipv6: ipv6,
        payload: field(payload, "payload"),
      });
      return true;
    }
    this.#channels.pushToDevice("gateway", gateway.id, "request_connection", {
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

  #remember(ref: string, request: PendingRequest): void {
    if (this.#pending.size >= MAX_PENDING) {
      const [oldest] = this.#pending.keys();
      if (oldest !== undefined) this.#pending.delete(oldest);
    }
    this.#pending.set(ref, request);
  }

  #recordFlow(client: Session, gateway: Session, resource: string): string {
    const id = randomUuid(this.#random);
    this.#flows.add({
      id,
      clientId: client.id,
      gatewayId: gateway.id,
      resourceId: resource,
      actor: client.owner,
      tokenDigest: client.tokenDigest,
      expiresAt: client.expiresAt,
    });
    return id;
  }

  #connectionReady(session: Session, payload: unknown, ref: unknown): void {
    const key = stringField(payload, "ref") ?? "";
    const pending = this.#pending.get(key);
    if (pending === undefined || pending.gatewayId !== session.id) {
      this.#channels.refuse(session, "gateway", ref, "invalid_ref");
      return;
    }
    this.#pending.delete(key);
    this.#channels.reply(session, "gateway", ref, {});
    this.#channels.reply(pending.client, "client", pending.envelopeRef, {
      resource_id: pending.resourceId,
      persistent_keepalive: PERSISTENT_KEEPALIVE,
      gateway_public_key: session.publicKey,
      gateway_payload: field(payload, "gateway_payload"),
    });
  }

  /** Whether the sender is one who has candidates. Those who may not meet hear nothing of each other. */
  #forwardCandidates(sender: Session, event: string, payload: unknown, grants: Grants): boolean {
    if (sender.role === "relay") return false;
    const isClient = sender.role === "client";
    const ids = new Set(stringList(payload, isClient ? "gateway_ids" : "client_ids"));
    const candidates = stringList(payload, "candidates");
    for (const id of ids)
      for (const target of this.#channels.ofDevice(isClient ? "gateway" : "client", id)) {
        const [client, gateway] = isClient ? [sender, target] : [target, sender];
        if (!target.joined || !grants.mayMeet(client.owner, gateway.owner)) continue;
        this.#channels.push(target, event, { [isClient ? "client_id" : "gateway_id"]: sender.id, candidates });
      }
    return true;
  }
}
