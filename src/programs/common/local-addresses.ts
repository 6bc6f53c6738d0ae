// The addresses of this machine that a peer may reach it at: the bases of host candidates (spec 02, section 4.1).

import { networkInterfaces } from "node:os";
import { IpAddress } from "../../base/address.js";

/**
 * Addresses of all interfaces that are up, except the tunnel's own, loopback and link-local ones.
 *
 * @param tunnelInterface name of the interface whose addresses lead into the tunnel and must not be offered as a way to carry it.
 */
export function localAddresses(tunnelInterface: string): IpAddress[] {
  const addresses: IpAddress[] = [];
  for (const [name, entries = []] of Object.entries(networkInterfaces())) {
    if (name === tunnelInterface) continue;
    for (const entry of entries) {
      const address = IpAddress.parse(entry.address);
      if (address === undefined || entry.internal || address.isLoopback || address.isLinkLocal) continue;
      addresses.push(address);
    }
  }
  return addresses;
}
