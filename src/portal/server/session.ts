// A program's sign-in as the portal knows it (spec 01, sections 11.2 and 11.4).

import { IpAddress, SocketAddress } from "../../base/address.js";
import type { UnixTime } from "../../base/time.js";
import type { Coordinates } from "./geography.js";
import type { TunnelAddresses } from "./identity.js";
import type { SessionRole } from "./tokens.js";
import type { Version } from "./versions.js";

/** Port of a relay that names none (spec 01, section 11.2). */
const DEFAULT_RELAY_PORT = 3478;

/** A socket that has signed in. */
export interface Session {
  readonly role: SessionRole;
  /** SHA-256 of the token that it signed in with. */
  readonly tokenDigest: Uint8Array;
  /** Actor of a client, site of a gateway. */
  readonly owner: string;
  /** Id of the device: stable over reconnects. */
  readonly id: string;
  /** Of clients and gateways. */
  readonly addresses: TunnelAddresses | undefined;
  /** Of relays: where clients reach it, IPv4 first. */
  readonly relayAddresses: readonly string[];
  /** Of clients and gateways, in Base64. */
  readonly publicKey: string;
  readonly remoteIp: string;
  readonly location: Coordinates | undefined;
  /** Absent: the program names a version that is none. */
  readonly version: Version | undefined;
  /** End of the token; absent: none. */
  readonly expiresAt: UnixTime | undefined;
  joined: boolean;
}

/** Parameters of a login. */
export interface Login {
  readonly token: string | undefined;
  readonly externalId?: string | undefined;
  readonly publicKey?: string | undefined;
  /** Of relays. */
  readonly ipv4?: string | undefined;
  readonly ipv6?: string | undefined;
  readonly port?: string | undefined;
  readonly remoteIp: string;
  readonly location?: Coordinates | undefined;
  /** Absent: the program runs in this process and has the portal's own version. */
  readonly userAgent?: string | undefined;
}

/** Result of a login: a session, or an HTTP status with text (spec 01, section 11.2). */
export type LoginResult =
  | { readonly type: "accepted"; readonly session: Session }
  | { readonly type: "refused"; readonly status: 401 | 422 | 503; readonly text: string };

/** A relay's addresses with its port; a text naming the parameter that is wrong. */
export function relayAddresses({ ipv4, ipv6, port }: Login): readonly string[] | string {
  const number = port === undefined ? DEFAULT_RELAY_PORT : /^\d{1,5}$/.test(port) ? Number(port) : 0;
  if (number < 1 || number > 65535) return "port: is invalid";
  const addresses: string[] = [];
  for (const [name, text, family] of [
    ["ipv4", ipv4, 4],
    ["ipv6", ipv6, 6],
  ] as const) {
    if (text === undefined) continue;
    const ip = IpAddress.parse(text);
    if (ip === undefined || ip.family !== family) return `${name}: is invalid`;
    addresses.push(new SocketAddress(ip, number).toString());
  }
  return addresses.length === 0 ? "ipv4: one of these fields must be present: ipv4, ipv6" : addresses;
}
