// Time-limited TURN credentials (spec 01, section 11.8): the relay recomputes the password from the user name and its secret.

import { createHash } from "node:crypto";
import type { Random } from "../../base/random.js";

/** A user name and password for one relay. */
export interface RelayCredentials {
  readonly username: string;
  readonly password: string;
}

/** Credentials until `expiresAt` (Unix seconds) for the relay with this stamp secret. */
export function relayCredentials(stampSecret: string, expiresAt: number, random: Random): RelayCredentials {
  const salt = Buffer.from(random.bytes(16)).toString("base64url");
  return { username: `${expiresAt}:${salt}`, password: relayPassword(stampSecret, expiresAt, salt) };
}

/** The password for a salt. */
export function relayPassword(stampSecret: string, expiresAt: number, salt: string): string {
  return createHash("sha256").update(`${expiresAt}:${stampSecret}:${salt}`).digest("base64").replace(/=+$/, "");
}
