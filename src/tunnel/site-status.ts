// What is known about sites, and from that about resources (spec 04, section 3.6).

import { type Duration, earliest, type Instant, MINUTE } from "../base/time.js";
import type { Resource, ResourceStatus } from "./resources.js";

/** How long a site counts as offline after the portal said so. */
export const OFFLINE_TIME: Duration = 5 * MINUTE;

/** Which sites are online, offline, or neither as far as one knows. */
export class SiteStatus {
  readonly #online = new Set<string>();
  /** Site → when it stops counting as offline. */
  readonly #offline = new Map<string, Instant>();

  /** A gateway of the site is connected. */
  handleConnected(siteId: string): void {
    this.#online.add(siteId);
    this.#offline.delete(siteId);
  }

  /** The last connected gateway of the site is gone. */
  handleDisconnected(siteId: string): void {
    this.#online.delete(siteId);
  }

  /** The portal knows no gateway of the site. */
  handleOffline(siteId: string, now: Instant): void {
    this.#offline.set(siteId, now + OFFLINE_TIME);
  }

  /** Lets time pass. @returns whether a site has ceased to count as offline. */
  handleTimeout(now: Instant): boolean {
    let changed = false;
    for (const [site, until] of this.#offline) if (until <= now) changed = this.#offline.delete(site);
    return changed;
  }

  /** When {@link handleTimeout} is wanted next. */
  pollTimeout(): Instant | undefined {
    let deadline: Instant | undefined;
    for (const until of this.#offline.values()) deadline = earliest(deadline, until);
    return deadline;
  }

  /** Online if any of its sites is; offline if it has some and all are. */
  of({ sites }: Resource): ResourceStatus {
    if (sites.some(({ id }) => this.#online.has(id))) return "Online";
    return sites.length > 0 && sites.every(({ id }) => this.#offline.has(id)) ? "Offline" : "Unknown";
  }
}
