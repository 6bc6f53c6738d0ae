// Which client a tunnel address leads to. An address has one holder, but while the portal takes it from one client and gives it to another there
// may be two for a moment: the one that came last has it, and if that goes, the other one has it again.

import type { IpAddress } from "../base/address.js";

/** A tunnel address, and whose it is. */
export interface HeldAddress {
  readonly address: IpAddress;
  /** `undefined`: nobody's. */
  readonly holder: string | undefined;
}

/** The connected clients' tunnel addresses. What one client changes costs the same however many there are. */
export class AddressHolders {
  /** By client. */
  readonly #addresses = new Map<string, readonly IpAddress[]>();
  /** By address: its clients, in the order in which they came. */
  readonly #holders = new Map<string, Set<string>>();

  /** The client has these addresses from now on; none: it is not connected. Returns whose they, and those it had, are now. */
  set(client: string, addresses: readonly IpAddress[]): HeldAddress[] {
    const old = this.#addresses.get(client) ?? [];
    const given = old.filter((address) => !addresses.some((other) => other.equals(address)));
    for (const { key } of given) {
      const holders = this.#holders.get(key);
      holders?.delete(client);
      if (holders?.size === 0) this.#holders.delete(key);
    }
    for (const { key } of addresses) {
      const holders = this.#holders.get(key);
      if (holders === undefined) this.#holders.set(key, new Set([client]));
      else holders.add(client);
    }
    if (addresses.length === 0) this.#addresses.delete(client);
    else this.#addresses.set(client, addresses);
    return [...given, ...addresses].map((address) => ({
      address,
      holder: [...(this.#holders.get(address.key) ?? [])].at(-1),
    }));
  }
}
