// Address ranges of the product (spec 04, section 1).

import { IpPrefix } from "../base/address.js";

function range(text: string): IpPrefix {
  const prefix = IpPrefix.parse(text);
  if (prefix === undefined) throw new Error(`${text} is not a prefix`);
  return prefix;
}

/** Tunnel addresses of clients and gateways. */
export const TUNNEL_RANGES = [range("100.64.0.0/11"), range("fd00:2021:1111::/107")] as const;

/** Addresses that clients give to names of DNS resources. */
export const PROXY_RANGES = [range("100.96.0.0/11"), range("fd00:2021:1111:8000::/107")] as const;

/** Everything, which is what an internet resource covers. */
export const DEFAULT_ROUTES = [range("0.0.0.0/0"), range("::/0")] as const;
