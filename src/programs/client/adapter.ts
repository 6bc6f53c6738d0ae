// Between the client's state and the portal's messages (spec 04, sections 2.3 and 4.3): events become requests, replies find the request
// that they answer. No clock, no socket: what is sent goes out through a function.

import type { Instant } from "../../base/time.js";
import {
  type ClientMessage,
  type ClientPush,
  clientPushSchema,
  clientReplySchema,
  requestConnection,
} from "../../portal/client-messages.js";
import type { ClientResource } from "../../portal/values.js";
import type { ClientState } from "../../tunnel/client-state.js";
import type { ClientEvent } from "../../tunnel/events.js";
import type { Resource } from "../../tunnel/resources.js";
import type { TargetLog } from "../common/log.js";
import { firstIssue } from "../common/message-issue.js";
import { mergeRelays } from "../common/relays.js";

/** Requests without a reply that are remembered; the oldest is forgotten, its reply will be ignored. */
export const MAX_REQUESTS = 1000;

const SIGNALLING_REQUESTS = [
  "connection-intent",
  "request-connection",
  "request-access",
  "added-ice-candidates",
  "removed-ice-candidates",
] as const;

/** Events for the portal. */
export type SignallingRequest = Extract<ClientEvent, { readonly type: (typeof SIGNALLING_REQUESTS)[number] }>;

/** Whether an event is for the portal: {@link ClientAdapter.handleRequest}. */
export function isSignallingRequest(event: ClientEvent): event is SignallingRequest {
  return SIGNALLING_REQUESTS.some((type) => type === event.type);
}

/** What a request was about, for its reply. */
type Request =
  | { readonly type: "intent"; readonly resourceId: string }
  | { readonly type: "connection"; readonly gatewayId: string }
  | { readonly type: "access"; readonly gatewayId: string; readonly resourceId: string };

/** The part of the client's state that messages of the portal change. */
export type ClientStateInputs = Pick<
  ClientState,
  | "setInterface"
  | "setResources"
  | "addResource"
  | "removeResource"
  | "updateRelays"
  | "handleRoutingDetails"
  | "handleAnswer"
  | "handleOffline"
  | "handleConnectionRefused"
  | "handleAccessRefused"
  | "handleCandidates"
  | "handleInvalidatedCandidates"
>;

/** See the head of this file. */
export class ClientAdapter {
  readonly #state: ClientStateInputs;
  readonly #send: (message: ClientMessage) => number;
  readonly #log: TargetLog;
  readonly #requests = new Map<number, Request>();

  /** `send` returns the ref that the reply will carry. */
  constructor(state: ClientStateInputs, send: (message: ClientMessage) => number, log: TargetLog) {
    this.#state = state;
    this.#send = send;
    this.#log = log;
  }

  /** Sends what the state wants to be said. */
  handleRequest(request: SignallingRequest): void {
    switch (request.type) {
      case "connection-intent": {
        const { resourceId, connectedGatewayIds } = request;
        this.#log.info("Sent connection intent", { resource_id: resourceId });
        const payload = { resource_id: resourceId, connected_gateway_ids: connectedGatewayIds };
        this.#remember(this.#send({ event: "prepare_connection", payload }), { type: "intent", resourceId });
        return;
      }
      case "request-connection": {
        const { gatewayId, resourceId, presharedKey, credentials } = request;
        const ref = this.#send(requestConnection(gatewayId, resourceId, presharedKey, credentials));
        presharedKey.fill(0);
        this.#remember(ref, { type: "connection", gatewayId });
        return;
      }
      case "request-access": {
        const { gatewayId, resourceId } = request;
        const payload = { resource_id: resourceId, gateway_id: gatewayId, payload: null };
        this.#remember(this.#send({ event: "reuse_connection", payload }), { type: "access", gatewayId, resourceId });
        return;
      }
      case "added-ice-candidates":
      case "removed-ice-candidates": {
        const event =
          request.type === "added-ice-candidates" ? "broadcast_ice_candidates" : "broadcast_invalidated_ice_candidates";
        this.#send({ event, payload: { gateway_ids: [request.connection], candidates: request.candidates } });
        return;
      }
    }
  }

  /** Takes a push of the portal. */
  handlePush(event: string, payload: unknown, now: Instant): void {
    const parsed = clientPushSchema.safeParse({ event, payload });
    if (parsed.success) this.#apply(parsed.data, now);
    else this.#log.warn("Ignored a message of the portal", { event, reason: firstIssue(parsed.error) });
  }

  /** Takes the reply to a request. */
  handleReply(ref: number, response: unknown, now: Instant): void {
    const request = this.#take(ref);
    const parsed = clientReplySchema.safeParse(response);
    if (!parsed.success) {
      // Requests that only inform are answered with nothing in particular.
      if (request !== undefined) this.#log.warn("Ignored a reply of the portal", { reason: firstIssue(parsed.error) });
      return;
    }
    const reply = parsed.data;
    switch (reply.type) {
      case "connection-details": {
        const { resourceId, gatewayId, siteId } = reply;
        if (request?.type !== "intent" || request.resourceId !== resourceId || this.#isStale(resourceId, ref)) {
          this.#log.debug("Ignored stale routing details", { resource_id: resourceId });
          return;
        }
        this.#forgetIntents(resourceId);
        this.#log.info("Received routing details", { resource_id: resourceId, gateway_id: gatewayId });
        this.#state.handleRoutingDetails(resourceId, gatewayId, siteId, now);
        return;
      }
      case "connect":
        if (reply.answer.type !== "connection-accepted" || request?.type !== "connection") return;
        this.#state.handleAnswer(
          request.gatewayId,
          reply.gatewayPublicKey,
          { credentials: reply.answer.credentials },
          now,
        );
        return;
    }
  }

  /** Takes the refusal of a request. */
  handleErrorReply(ref: number, reason: string, now: Instant): void {
    const request = this.#take(ref);
    this.#log.warn("The portal refused a request", { reason, request: request?.type ?? "unknown" });
    switch (request?.type) {
      case "intent":
        if (reason === "offline") this.#state.handleOffline(request.resourceId, now);
        return;
      case "connection":
        this.#state.handleConnectionRefused(request.gatewayId, now);
        return;
      case "access":
        this.#state.handleAccessRefused(request.resourceId, request.gatewayId, now);
        return;
      case undefined:
        return;
    }
  }

  #apply({ event, payload }: ClientPush, now: Instant): void {
    switch (event) {
      case "init":
        this.#state.setInterface(payload.interface);
        this.#state.setResources(payload.resources.map(toResource), now);
        this.#state.updateRelays([], mergeRelays(payload.relays), now);
        return;
      case "config_changed":
        this.#state.setInterface(payload.interface);
        return;
      case "resource_created_or_updated":
        this.#state.addResource(toResource(payload), now);
        return;
      case "resource_deleted":
        this.#state.removeResource(payload, now);
        return;
      case "ice_candidates":
        this.#state.handleCandidates(payload.gateway_id, payload.candidates, now);
        return;
      case "invalidate_ice_candidates":
        this.#state.handleInvalidatedCandidates(payload.gateway_id, payload.candidates, now);
        return;
      case "relays_presence":
        this.#state.updateRelays(payload.disconnectedIds, mergeRelays(payload.connected), now);
        return;
    }
  }

  #remember(ref: number, request: Request): void {
    this.#requests.set(ref, request);
    if (this.#requests.size <= MAX_REQUESTS) return;
    const [oldest] = this.#requests.keys();
    if (oldest !== undefined) this.#requests.delete(oldest);
  }

  #take(ref: number): Request | undefined {
    const request = this.#requests.get(ref);
    this.#requests.delete(ref);
    return request;
  }

  /** Whether a newer intent for the resource is under way. */
  #isStale(resourceId: string, ref: number): boolean {
    for (const [other, request] of this.#requests)
      if (request.type === "intent" && request.resourceId === resourceId && other > ref) return true;
    return false;
  }

  #forgetIntents(resourceId: string): void {
    for (const [ref, request] of this.#requests)
      if (request.type === "intent" && request.resourceId === resourceId) this.#requests.delete(ref);
  }
}

function toResource(resource: ClientResource): Resource {
  const { id, name, gateway_groups: sites } = resource;
  switch (resource.type) {
    case "cidr":
    case "dns":
      return { ...pickAddress(resource), id, name, sites, addressDescription: resource.address_description };
    case "internet":
      return { type: "internet", id, name, sites, canBeDisabled: resource.can_be_disabled };
  }
}

function pickAddress(resource: Exclude<ClientResource, { type: "internet" }>) {
  return resource.type === "cidr"
    ? ({ type: "cidr", address: resource.address } as const)
    : ({ type: "dns", address: resource.address } as const);
}
