// Between the gateway's state and the portal's messages (spec 01, section 8; spec 05, section 9.4). No clock, no socket.

import type { Instant, UnixTime } from "../../base/time.js";
import { type GatewayMessage, type GatewayPush, gatewayPushSchema } from "../../portal/gateway-messages.js";
import type { PortalFilter, GatewayResource as PortalResource } from "../../portal/values.js";
import type { FilterRule, GatewayEvent } from "../../tunnel/events.js";
import type { GatewayState } from "../../tunnel/gateway-state.js";
import type { GatewayResource } from "../../tunnel/grants.js";
import type { TargetLog } from "../common/log.js";
import { firstIssue } from "../common/message-issue.js";
import { mergeRelays } from "../common/relays.js";

/** Events for the portal. */
export type SignallingEvent = Extract<GatewayEvent, { type: "added-ice-candidates" | "removed-ice-candidates" }>;

/** The interface that an `init` asks for. */
export type InterfaceAddresses = Extract<GatewayPush, { event: "init" }>["payload"]["interface"];

/** The part of the gateway's state that messages of the portal change. */
export type GatewayStateInputs = Pick<
  GatewayState,
  | "handleConnectionRequest"
  | "handleAccess"
  | "handleRejection"
  | "handleResourceUpdate"
  | "updateRelays"
  | "handleCandidates"
  | "handleInvalidatedCandidates"
>;

/** What the adapter works with. */
export interface GatewayAdapterOptions {
  readonly state: GatewayStateInputs;
  readonly send: (message: GatewayMessage) => void;
  /** Every `init`, also after a reconnect. */
  readonly onInterface: (addresses: InterfaceAddresses) => void;
  readonly log: TargetLog;
}

/** See the head of this file. */
export class GatewayAdapter {
  readonly #options: GatewayAdapterOptions;

  constructor(options: GatewayAdapterOptions) {
    this.#options = options;
  }

  /** Sends candidates to a client. */
  handleCandidates({ type, connection, candidates }: SignallingEvent): void {
    const event = type === "added-ice-candidates" ? "broadcast_ice_candidates" : "broadcast_invalidated_ice_candidates";
    this.#options.send({ event, payload: { client_ids: [connection], candidates } });
  }

  /** Takes a push of the portal. `unixNow`: grants have expiry dates. */
  handlePush(event: string, payload: unknown, now: Instant, unixNow: UnixTime): void {
    const parsed = gatewayPushSchema.safeParse({ event, payload });
    if (parsed.success) this.#apply(parsed.data, now, unixNow);
    else this.#options.log.warn("Ignored a message of the portal", { event, reason: firstIssue(parsed.error) });
  }

  #apply({ event, payload }: GatewayPush, now: Instant, unixNow: UnixTime): void {
    const { state, log, onInterface } = this.#options;
    switch (event) {
      case "init":
        state.updateRelays([], mergeRelays(payload.relays), now);
        onInterface(payload.interface);
        return;
      case "request_connection":
        this.#accept(payload, now, unixNow);
        return;
      case "allow_access": {
        const { clientId, ipv4, ipv6, expiresAt } = payload;
        log.info("Allowed access", { client_id: clientId, resource_id: payload.resource.id });
        state.handleAccess({ clientId, ipv4, ipv6, expiresAt, resource: toResource(payload.resource) }, now, unixNow);
        return;
      }
      case "reject_access":
        log.info("Withdrew access", { client_id: payload.clientId, resource_id: payload.resourceId });
        state.handleRejection(payload.clientId, payload.resourceId, now);
        return;
      case "resource_updated":
        state.handleResourceUpdate(toResource(payload));
        return;
      case "ice_candidates":
        state.handleCandidates(payload.client_id, payload.candidates, now);
        return;
      case "invalidate_ice_candidates":
        state.handleInvalidatedCandidates(payload.client_id, payload.candidates, now);
        return;
      case "relays_presence":
        state.updateRelays(payload.disconnectedIds, mergeRelays(payload.connected), now);
        return;
    }
  }

  #accept(
    request: Extract<GatewayPush, { event: "request_connection" }>["payload"],
    now: Instant,
    unixNow: UnixTime,
  ): void {
    const { state, log, send } = this.#options;
    const { ref, clientId, publicKey, presharedKey, credentials, ipv4, ipv6, expiresAt } = request;
    const resource = toResource(request.resource);
    const answer = state.handleConnectionRequest(
      { clientId, publicKey, offer: { sessionKey: presharedKey, credentials }, ipv4, ipv6, resource, expiresAt },
      now,
      unixNow,
    );
    presharedKey.fill(0);
    if (answer === undefined) {
      // No reply: the client's request times out (spec 05, section 9.4).
      log.debug("Refused a connection", { client_id: clientId, resource_id: resource.id });
      return;
    }
    log.info("Accepted connection", { client_id: clientId, resource_id: resource.id });
    const { username, password } = answer.credentials;
    const accepted = { ice_parameters: { username, password }, domain_response: null };
    send({ event: "connection_ready", payload: { ref, gateway_payload: { ConnectionAccepted: accepted } } });
  }
}

function toResource(resource: PortalResource): GatewayResource {
  switch (resource.type) {
    case "cidr":
      return { type: "cidr", id: resource.id, address: resource.address, filters: resource.filters.map(toRule) };
    case "dns":
      return { type: "dns", id: resource.id, address: resource.address, filters: resource.filters.map(toRule) };
    case "internet":
      return { type: "internet", id: resource.id };
  }
}

function toRule(filter: PortalFilter): FilterRule {
  if (filter.protocol === "icmp") return { protocol: "icmp" };
  return { protocol: filter.protocol, first: filter.port_range_start, last: filter.port_range_end };
}
