// Who a token belongs to (spec 01, section 11.2). Tokens are kept and compared as SHA-256 digests, and always against all of them: how
// long it takes tells nothing about how much of a token was right, nor whose it is.

import { createHash, timingSafeEqual } from "node:crypto";
import type { UnixTime } from "../../base/time.js";
import type { Configuration } from "./configuration.js";

/** Role of a program that signs in. */
export type SessionRole = "client" | "gateway" | "relay";

/** A token's owner. */
export interface TokenOwner {
  /** Actor of a client, site of a gateway; `relays` for all relays. */
  readonly name: string;
  /** End of the token; absent: none. */
  readonly expiresAt: UnixTime | undefined;
}

interface Entry extends TokenOwner {
  readonly role: SessionRole;
  readonly digest: Uint8Array;
}

/** The digest by which a token is known, 32 bytes. */
export function tokenDigest(token: string): Uint8Array {
  return createHash("sha256").update(token).digest();
}

/** The tokens of a configuration. */
export class TokenTable {
  readonly #entries: readonly Entry[];

  constructor({ actors, sites, relays }: Configuration) {
    this.#entries = [
      ...actors.flatMap(({ name, tokens }) =>
        tokens.map(({ token, expiresAt }) => entry("client", token, name, expiresAt)),
      ),
      ...sites.flatMap(({ name, tokens }) => tokens.map((token) => entry("gateway", token, name, undefined))),
      ...relays.tokens.map((token) => entry("relay", token, "relays", undefined)),
    ];
  }

  /** The owner of a token of this role that has not expired. */
  find(role: SessionRole, digest: Uint8Array, now: UnixTime): TokenOwner | undefined {
    let found: Entry | undefined;
    for (const candidate of this.#entries) if (timingSafeEqual(candidate.digest, digest)) found = candidate;
    if (found === undefined || found.role !== role) return undefined;
    if (found.expiresAt !== undefined && found.expiresAt <= now) return undefined;
    return { name: found.name, expiresAt: found.expiresAt };
  }
}

function entry(role: SessionRole, token: string, name: string, expiresAt: UnixTime | undefined): Entry {
  return { role, name, expiresAt, digest: tokenDigest(token) };
}
