// The gateways that serve a client's resources: the routing table proper (spec 04, sections 3.1 and 4.1). A resource has one gateway at
// most, a gateway has one resource at least.
//
//   a gateway:  offered ──answer──► connecting ──session──► established

import type { Instant } from "../base/time.js";
import { earliest } from "../base/time.js";
import type { Access } from "./access.js";
import type { RouteDestination } from "./events.js";

/** A gateway that a connection was offered to. */
export interface Gateway {
  readonly siteId: string;
  phase: "offered" | "connecting" | "established";
  /** By resource id. */
  readonly resources: Map<string, Access>;
  /** Last packet that the datapath has carried, in either direction. */
  usedAt: Instant;
}

/** Who serves a resource, and how far that is. */
export interface Service {
  readonly gatewayId: string;
  readonly gateway: Gateway;
  readonly access: Access;
}

/** All gateways, by id. */
export class Gateways {
  readonly #gateways = new Map<string, Gateway>();
  /** Resource → gateway. */
  readonly #serving = new Map<string, string>();

  /** The gateway with this id. */
  get(gatewayId: string): Gateway | undefined {
    return this.#gateways.get(gatewayId);
  }

  /** All of them. */
  all(): Iterable<Gateway> {
    return this.#gateways.values();
  }

  /** All of them with their ids. */
  entries(): Iterable<readonly [string, Gateway]> {
    return this.#gateways.entries();
  }

  /** Who serves the resource. */
  serviceOf(resourceId: string): Service | undefined {
    const gatewayId = this.#serving.get(resourceId);
    const gateway = gatewayId === undefined ? undefined : this.#gateways.get(gatewayId);
    const access = gateway?.resources.get(resourceId);
    if (gatewayId === undefined || gateway === undefined || access === undefined) return undefined;
    return { gatewayId, gateway, access };
  }

  /** Where the datapath's route for the resource leads: to the connection once that carries its packets. */
  destinationOf(resourceId: string): RouteDestination {
    const service = this.serviceOf(resourceId);
    return service?.gateway.phase === "established" && service.access.isGranted
      ? { type: "connection", connection: service.gatewayId }
      : { type: "exception" };
  }

  /** Lets a gateway serve a resource that has none; a gateway not known is one of this site, to which a connection was offered. */
  attach(gatewayId: string, siteId: string, resourceId: string, access: Access): void {
    const gateway = this.#gateways.get(gatewayId) ?? {
      siteId,
      phase: "offered",
      resources: new Map(),
      usedAt: Number.NEGATIVE_INFINITY,
    };
    this.#gateways.set(gatewayId, gateway);
    gateway.resources.set(resourceId, access);
    this.#serving.set(resourceId, gatewayId);
  }

  /** Takes a resource away from its gateway; that one stays, even without resources. @returns who served it. */
  detach(resourceId: string): Service | undefined {
    const service = this.serviceOf(resourceId);
    this.#serving.delete(resourceId);
    service?.gateway.resources.delete(resourceId);
    return service;
  }

  /** Forgets a gateway; its resources have none. */
  remove(gatewayId: string): Gateway | undefined {
    const gateway = this.#gateways.get(gatewayId);
    if (gateway === undefined) return undefined;
    this.#gateways.delete(gatewayId);
    for (const resourceId of gateway.resources.keys()) this.#serving.delete(resourceId);
    return gateway;
  }

  /** Whether a gateway of the site is connected. */
  isSiteConnected(siteId: string): boolean {
    return [...this.#gateways.values()].some((gateway) => gateway.siteId === siteId && gateway.phase === "established");
  }

  /** When {@link settle} is wanted. */
  settledAt(): Instant | undefined {
    let next: Instant | undefined;
    for (const { phase, resources } of this.#gateways.values())
      if (phase === "established") for (const { settledAt } of resources.values()) next = earliest(next, settledAt);
    return next;
  }

  /** Lets time pass. @returns the accesses over established connections whose packets can be released. */
  settle(now: Instant): { readonly gatewayId: string; readonly access: Access }[] {
    const released: { readonly gatewayId: string; readonly access: Access }[] = [];
    for (const [gatewayId, { phase, resources }] of this.#gateways) {
      if (phase !== "established") continue;
      for (const access of resources.values()) if (access.settle(now)) released.push({ gatewayId, access });
    }
    return released;
  }
}
