// Which resources are asked for again at once when their connection ends against our will: those used lately. Who downloads sends nothing
// that would ask for them.

import { type Duration, type Instant, SECOND } from "../base/time.js";
import type { Gateway } from "./gateways.js";

/** How long after the last packet a resource counts as in use. ICE takes a third of it to see that a path is dead. */
const RECENT_USE: Duration = 30 * SECOND;
/** Resources that are asked for again at once, at most; the others wait for a packet. */
const MAX_RENEWALS = 16;

/** When resources were used last over connections that have ended. They are asked for again whatever becomes of the first attempt. */
export class Renewals {
  readonly #usedAt = new Map<string, Instant>();

  /** The connection to a gateway ends. @returns the resources to ask for again. */
  of(gateway: Gateway | undefined, now: Instant): string[] {
    return this.#note(gateway, now).slice(0, MAX_RENEWALS);
  }

  /** All connections end, and what was asked for is forgotten: also what had ended before and may not have come back. */
  ofAll(gateways: Iterable<Gateway>, now: Instant): string[] {
    const ids = new Set([...gateways].flatMap((gateway) => this.#note(gateway, now)));
    for (const [id, usedAt] of this.#usedAt) {
      if (now <= usedAt + RECENT_USE) ids.add(id);
      else this.#usedAt.delete(id);
    }
    return [...ids].slice(0, MAX_RENEWALS);
  }

  /** The resource is gone. */
  forget(resourceId: string): void {
    this.#usedAt.delete(resourceId);
  }

  #note(gateway: Gateway | undefined, now: Instant): string[] {
    if (gateway?.phase !== "established" || now > gateway.usedAt + RECENT_USE) return [];
    const ids = [...gateway.resources.keys()];
    for (const id of ids) this.#usedAt.set(id, gateway.usedAt);
    return ids;
  }
}
