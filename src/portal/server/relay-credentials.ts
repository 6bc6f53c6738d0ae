// Time-limited TURN credentials (spec 01, sections 11.8 and 14.6): the relay recomputes the password from the user name and its secret.

import { createHash } from "node:crypto";

/** Length of a salt before it is encoded, bytes. */
const SALT_LENGTH = 16;

/** A user name and password for one relay. */
export interface RelayCredentials {
  readonly username: string;
  readonly password: string;
}

/**
 * Credentials until `expiresAt` (Unix seconds) for the relay with this stamp secret.
 *
 * @param publicKey of the device, in Base64: the salt is made from it, so that a device that comes back gets what it had, and keeps its
 *   allocations (spec 01, section 14.6).
 */
export function relayCredentials(stampSecret: string, expiresAt: number, publicKey: string): RelayCredentials {
  const digest = createHash("sha256").update(publicKey).digest();
  const salt = digest.subarray(0, SALT_LENGTH).toString("base64url");
  return { username: `${expiresAt}:${salt}`, password: relayPassword(stampSecret, expiresAt, salt) };
}

/** The password for a salt. */
export function relayPassword(stampSecret: string, expiresAt: number, salt: string): string {
  return createHash("sha256").update(`${expiresAt}:${stampSecret}:${salt}`).digest("base64").replace(/=+$/, "");
}
