// Credentials of relays' users (spec 03, sections 2.1 to 2.4): nothing is stored for a user; the password follows from the user name and
// a secret, and the user name says until when it holds.
//
//   portal        "<expiry>:<salt>"       Base64 without padding of SHA-256("<expiry>:<relay's secret>:<salt>")
//   shared secret "<expiry>[:<name>]"     Base64 of HMAC-SHA1(secret, user name), as other relays have it ("REST API" scheme)
//   fixed         any name                a password that somebody has written down

import { toHex } from "../base/bytes.js";
import type { Crypto } from "../base/crypto.js";
import type { Random } from "../base/random.js";
import { SECOND, type UnixTime } from "../base/time.js";
import { longTermKey } from "../stun/integrity.js";

/** Realm of the portal's relays. */
export const PORTAL_REALM = "firezone";
/** Bytes of a relay's secret before they are written as hex. */
const SECRET_LENGTH = 32;

/** What is wrong with a user name. */
export type CredentialError = "invalid" | "expired";

/** Tells a user's key. */
export interface CredentialVerifier {
  readonly realm: string;
  /** Whether a user name stands for one client, which then has one allocation (spec 03, section 6.1). */
  readonly isPerClient: boolean;
  /** The key for MESSAGE-INTEGRITY, 16 bytes, of whoever has this user name. */
  key(username: string, now: UnixTime): Uint8Array | CredentialError;
}

/** A relay's secret: 64 characters, new with every start. */
export function generateRelaySecret(random: Random): string {
  return toHex(random.bytes(SECRET_LENGTH));
}

/** The password for a salt. */
export function relayPassword(secret: string, expiry: number, salt: string, crypto: Crypto): string {
  return toBase64(crypto.sha256(encode(`${expiry}:${secret}:${salt}`))).replace(/=+$/, "");
}

/** Users that the portal sends. */
export function portalUsers(secret: string, crypto: Crypto): CredentialVerifier {
  return {
    realm: PORTAL_REALM,
    isPerClient: true,
    key(username, now) {
      const parts = username.split(":");
      const [expiryText = "", salt] = parts;
      const expiry = parseExpiry(expiryText);
      if (parts.length !== 2 || salt === undefined || expiry === undefined) return "invalid";
      if (expiry * SECOND < now) return "expired";
      // The number as it was understood: a name with leading zeros is another name.
      const password = relayPassword(secret, expiry, salt, crypto);
      return longTermKey(`${expiry}:${salt}`, PORTAL_REALM, password, crypto);
    },
  };
}

/** Users of a shared secret. */
export function sharedSecretUsers(secret: string, realm: string, crypto: Crypto): CredentialVerifier {
  return {
    realm,
    isPerClient: false,
    key(username, now) {
      const expiry = parseExpiry(username.split(":")[0] ?? "");
      if (expiry === undefined) return "invalid";
      if (expiry * SECOND < now) return "expired";
      const password = toBase64(crypto.hmacSha1(encode(secret), encode(username)));
      return longTermKey(username, realm, password, crypto);
    },
  };
}

/** Users with passwords. */
export function fixedUsers(
  users: readonly { readonly name: string; readonly password: string }[],
  realm: string,
  crypto: Crypto,
): CredentialVerifier {
  const keys = new Map(users.map(({ name, password }) => [name, longTermKey(name, realm, password, crypto)]));
  return { realm, isPerClient: false, key: (username) => keys.get(username) ?? "invalid" };
}

/** Seconds since 1970; `undefined` for what is no sane time: the reference ends by an overflow there. */
function parseExpiry(text: string): number | undefined {
  const expiry = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
  return Number.isSafeInteger(expiry * SECOND) ? expiry : undefined;
}

function encode(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

function toBase64(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes));
}
