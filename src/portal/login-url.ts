// The URL that a program signs in with (spec 01, section 2). It contains the token: never log it.

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
