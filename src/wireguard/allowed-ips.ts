// Whose a prefix is: cryptokey routing (whitepaper, section 2) as the configuration sees it. A prefix belongs to one peer at a
// time; giving it to another takes it away from the first. Looking up addresses, by longest prefix, is the routing table of the
// datapath.

import type { IpPrefix } from "../base/address.js";

/** Which owner has which prefixes. */
export class AllowedIps<Owner> {
  readonly #owners = new Map<IpPrefix["key"], Owner>();
  readonly #prefixes = new Map<Owner, Map<IpPrefix["key"], IpPrefix>>();

  /** Number of prefixes of all owners. */
  get size(): number {
    return this.#owners.size;
  }

  /** Whether anybody has exactly this prefix. */
  has(prefix: IpPrefix): boolean {
    return this.#owners.has(prefix.key);
  }

  /** Gives `prefix` to `owner`. Returns whether that changed anything. */
  assign(prefix: IpPrefix, owner: Owner): boolean {
    const old = this.#owners.get(prefix.key);
    if (old === owner) return false;
    if (old !== undefined) this.remove(prefix, old);
    this.#owners.set(prefix.key, owner);
    const prefixes = this.#prefixes.get(owner) ?? new Map<IpPrefix["key"], IpPrefix>();
    this.#prefixes.set(owner, prefixes.set(prefix.key, prefix));
    return true;
  }

  /** Takes `prefix` from `owner`. Returns whether it was theirs. */
  remove(prefix: IpPrefix, owner: Owner): boolean {
    if (this.#owners.get(prefix.key) !== owner) return false;
    this.#owners.delete(prefix.key);
    const prefixes = this.#prefixes.get(owner);
    prefixes?.delete(prefix.key);
    if (prefixes?.size === 0) this.#prefixes.delete(owner);
    return true;
  }

  /** The prefixes of `owner`, in the order they were given. */
  of(owner: Owner): IpPrefix[] {
    return [...(this.#prefixes.get(owner)?.values() ?? [])];
  }
}
