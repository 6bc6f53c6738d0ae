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
  #routes = new Map<string, Route>();

  /** Replaces the table; returns what has changed. */
  replace(wanted: Iterable<Route>): RouteEvent[] {
    const next = new Map<string, Route>();
    for (const route of wanted) next.set(route.prefix.key, route);
    const events: RouteEvent[] = [];
    for (const [key, { prefix }] of this.#routes) if (!next.has(key)) events.push({ type: "route-removed", prefix });
    for (const [key, route] of next) {
      const old = this.#routes.get(key);
      if (old === undefined || !isSameTarget(old.target, route.target)) events.push({ type: "route-set", ...route });
    }
    this.#routes = next;
    return events;
  }

  /**
   * Forgets where a connection's routes led: the connection is gone, and the datapath has dropped them with it. The next
   * `replace` sets them again if they are still wanted.
   */
  connectionRemoved(connection: string): void {
    for (const [key, { target }] of this.#routes)
      if (target.type === "connection" && target.connection === connection) this.#routes.delete(key);
  }
}

function isSameTarget(a: RouteDestination, b: RouteDestination): boolean {
  if (a.type === "exception" || b.type === "exception") return a.type === b.type;
  return a.connection === b.connection;
}
