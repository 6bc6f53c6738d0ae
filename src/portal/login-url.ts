// The URL that a program signs in with (spec 01, section 2). It contains the token: never log it.

import type { IpAddress } from "../base/address.js";
import { encodeKey } from "./values.js";

/** Role of a program: path segment and channel topic. */
export type Role = "client" | "gateway" | "relay";

/** A configuration that cannot work. */
export class LoginUrlError extends Error {
  override readonly name = "LoginUrlError";
}

/** Who signs in. */
export interface ClientLogin {
  readonly role: "client" | "gateway";
  readonly token: string;
  /** 32 bytes. */
  readonly publicKey: Uint8Array;
  /** Lower-case hex of the SHA-256 of the device id. */
  readonly externalId: string;
  readonly name: string;
}

/** Builds the WebSocket URL. @throws LoginUrlError for a URL without host or with another scheme than http(s) or ws(s). */
export function loginUrl(apiUrl: string, login: ClientLogin): URL {
  const url = portalUrl(apiUrl, login.role);
  const query = new URLSearchParams();
  query.append("token", login.token);
  query.append("public_key", encodeKey(login.publicKey));
  query.append("external_id", login.externalId);
  query.append("name", login.name);
  url.search = query.toString();
  return url;
}

/** A relay that signs in (spec 03, section 4.5). */
export interface RelayLogin {
  readonly token: string;
  readonly name: string | undefined;
  /** Public addresses. */
  readonly ipv4: IpAddress | undefined;
  readonly ipv6: IpAddress | undefined;
  readonly port: number;
}

/** Builds the WebSocket URL of a relay. @throws LoginUrlError as {@link loginUrl} */
export function relayLoginUrl(apiUrl: string, { token, name, ipv4, ipv6, port }: RelayLogin): URL {
  const url = portalUrl(apiUrl, "relay");
  const query = new URLSearchParams({ token });
  if (name !== undefined) query.append("name", name);
  if (ipv4 !== undefined) query.append("ipv4", ipv4.toString());
  if (ipv6 !== undefined) query.append("ipv6", ipv6.toString());
  query.append("port", String(port));
  url.search = query.toString();
  return url;
}

const SCHEMES: Readonly<Record<string, string>> = { "http:": "ws:", "https:": "wss:", "ws:": "ws:", "wss:": "wss:" };

/** The endpoint of a role, without query. @throws LoginUrlError */
export function portalUrl(apiUrl: string, role: Role): URL {
  if (!URL.canParse(apiUrl)) throw new LoginUrlError(`"${apiUrl}" is not a URL`);
  const given = new URL(apiUrl);
  const scheme = SCHEMES[given.protocol];
  if (scheme === undefined) throw new LoginUrlError(`invalid scheme "${given.protocol}": use ws, wss, http or https`);
  if (given.host === "") throw new LoginUrlError("missing host");
  const base = given.pathname.replace(/\/$/, "");
  return new URL(`${scheme}//${given.host}${base}/${role}/websocket`);
}
