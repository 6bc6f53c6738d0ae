// The routes that the datapath has been told, so that only differences are reported.

import type { IpPrefix } from "../base/address.js";
import type { RouteDestination, RouteEvent } from "./events.js";

/** A route of the datapath. */
export interface Route {
  readonly prefix: IpPrefix;
  readonly target: RouteDestination;
}

/** What the datapath's routing table says. */
export class RouteTable {
  /** By prefix. */
  readonly #routes = new Map<string, Route>();
  /** Prefixes that lead to a connection. */
  readonly #byConnection = new Map<string, Set<string>>();

  /** Replaces the table; returns what has changed. */
  replace(wanted: Iterable<Route>): RouteEvent[] {
    const next = new Map<string, Route>();
    for (const route of wanted) next.set(route.prefix.key, route);
    const events: RouteEvent[] = [];
    for (const [key, { prefix }] of this.#routes) if (!next.has(key)) events.push(...this.set(prefix, undefined));
    for (const { prefix, target } of next.values()) events.push(...this.set(prefix, target));
    return events;
  }

  /** Where a prefix leads from now on; `undefined`: nowhere. Returns what has changed: one event at most. */
  set(prefix: IpPrefix, target: RouteDestination | undefined): RouteEvent[] {
    const old = this.#routes.get(prefix.key);
    if (isSameTarget(old?.target, target)) return [];
    this.#forget(prefix.key, old?.target);
    if (target === undefined) return [{ type: "route-removed", prefix }];
    this.#routes.set(prefix.key, { prefix, target });
    if (target.type === "connection") {
      const known = this.#byConnection.get(target.connection);
      if (known === undefined) this.#byConnection.set(target.connection, new Set([prefix.key]));
      else known.add(prefix.key);
    }
    return [{ type: "route-set", prefix, target }];
  }

  /**
   * Forgets where a connection's routes led: the connection is gone, and the datapath has dropped them with it. They are set again when
   * they are still wanted.
   */
  connectionRemoved(connection: string): void {
    for (const key of this.#byConnection.get(connection) ?? []) this.#routes.delete(key);
    this.#byConnection.delete(connection);
  }

  #forget(key: string, target: RouteDestination | undefined): void {
    this.#routes.delete(key);
    if (target?.type !== "connection") return;
    const known = this.#byConnection.get(target.connection);
    known?.delete(key);
    if (known?.size === 0) this.#byConnection.delete(target.connection);
  }
}

function isSameTarget(a: RouteDestination | undefined, b: RouteDestination | undefined): boolean {
  if (a?.type !== "connection" || b?.type !== "connection") return a?.type === b?.type;
  return a.connection === b.connection;
}
