// A program's sign-in as the portal knows it (spec 01, sections 11.2 and 11.4).

import { IpAddress, SocketAddress } from "../../base/address.js";
import type { UnixTime } from "../../base/time.js";
import { decodeKey } from "../values.js";
import type { Coordinates } from "./geography.js";
import type { TunnelAddresses } from "./identity.js";
import type { SessionRole } from "./tokens.js";
import { CURRENT_VERSION, parseVersion, userAgentVersion, type Version } from "./versions.js";

/** Port of a relay that names none (spec 01, section 11.2). */
const DEFAULT_RELAY_PORT = 3478;
/** Longest id of a device, characters. The programs send 64. */
const MAX_EXTERNAL_ID = 255;

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

/** A login's parameters after {@link checkParameters}. */
export type Parameters =
  | {
      readonly type: "valid";
      /** What tells a device from others of the same owner. */
      readonly key: string;
      readonly publicKey: string;
      readonly relayAddresses: readonly string[];
      readonly version: Version | undefined;
    }
  | { readonly type: "invalid"; readonly problems: readonly string[] };

/** Checks everything but the token (spec 01, section 11.2). */
export function checkParameters(role: SessionRole, login: Login): Parameters {
  const { userAgent, publicKey = "", externalId = "" } = login;
  const problems: string[] = [];
  const addresses = role === "relay" ? relayAddresses(login) : [];
  if (typeof addresses === "string") problems.push(addresses);
  if (role !== "relay" && (externalId === "" || externalId.length > MAX_EXTERNAL_ID))
    problems.push("external_id: is invalid");
  if (role !== "relay" && decodeKey(publicKey) === undefined) problems.push("public_key: is invalid");
  const versionText = userAgent === undefined ? undefined : userAgentVersion(userAgent);
  if (userAgent !== undefined && versionText === undefined) problems.push("user_agent: has no version");
  if (typeof addresses === "string" || problems.length > 0) return { type: "invalid", problems };
  return {
    type: "valid",
    key: addresses[0] ?? externalId,
    publicKey,
    relayAddresses: addresses,
    version: versionText === undefined ? CURRENT_VERSION : parseVersion(versionText),
  };
}

/** A relay's addresses with its port; a text naming the parameter that is wrong. */
function relayAddresses({ ipv4, ipv6, port }: Login): readonly string[] | string {
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
