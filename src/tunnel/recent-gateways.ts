// The gateways used lately: the portal prefers them, so that resources share connections (spec 04, section 4.2).

/** Gateways remembered. */
export const RECENT_GATEWAYS_CAPACITY = 100;

/** A bounded list of gateway ids, most recently used first. */
export class RecentGateways {
  #ids: string[] = [];

  /** Puts a gateway in front; the one unused for longest goes when there are too many. */
  touch(id: string): void {
    this.#ids = [id, ...this.#ids.filter((other) => other !== id)].slice(0, RECENT_GATEWAYS_CAPACITY);
  }

  clear(): void {
    this.#ids = [];
  }

  list(): readonly string[] {
    return this.#ids;
  }
}
