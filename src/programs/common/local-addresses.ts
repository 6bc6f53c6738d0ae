// The addresses of this machine that a peer may reach it at: the bases of host candidates (spec 02, section 4.1).
//
// The order matters: checks go out in it. Behind a NAT, what leaves from an address of another interface (a bridge of containers, the network
// behind a gateway) but with the same port is another flow to the same peer. The first of them gets the port that relays have seen and that the
// peer was told; had it been the wrong one, no check of the peer would ever get in.

import { networkInterfaces } from "node:os";
import { IpAddress } from "../../base/address.js";
import { internetSource } from "../../system/linux/source-address.js";

/**
 * Addresses of all interfaces that are up, except the tunnel's own, loopback and link-local ones. Those from which datagrams to the internet leave
 * come first.
 *
 * @param tunnelInterface name of the interface whose addresses lead into the tunnel and must not be offered as a way to carry it.
 * @param mark of the sockets that carry the tunnel.
 */
export function localAddresses(tunnelInterface: string, mark: number): IpAddress[] {
  const sources = [internetSource(4, mark), internetSource(6, mark)].filter((source) => source !== undefined);
  const first: IpAddress[] = [];
  const others: IpAddress[] = [];
  for (const [name, entries = []] of Object.entries(networkInterfaces())) {
    if (name === tunnelInterface) continue;
    for (const entry of entries) {
      const address = IpAddress.parse(entry.address);
      if (address === undefined || entry.internal || address.isLoopback || address.isLinkLocal) continue;
      (sources.some((source) => source.equals(address)) ? first : others).push(address);
    }
  }
  return [...first, ...others];
}
