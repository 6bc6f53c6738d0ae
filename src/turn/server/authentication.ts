// Whose request it is: the long-term credential mechanism, from the server's side (RFC 8489, section 9.2; spec 03, sections 2.5 and 3.4).
//
//   no integrity, user name or nonce, or a nonce of nobody ─► 401   nonce of another client, or too old ─► 438   wrong key, or no such user ─► 401
//
// Nothing is stored for whoever has not proved who it is: keys follow from user names, nonces say for themselves that they are ours.

import type { SocketAddress } from "../../base/address.js";
import type { Crypto } from "../../base/crypto.js";
import type { Random } from "../../base/random.js";
import type { Instant, UnixTime } from "../../base/time.js";
import { MessageIntegrity, Nonce, Realm, Username } from "../../stun/attributes.js";
import type { StunBuilder } from "../../stun/builder.js";
import { ErrorCode, type StunErrorCode } from "../../stun/error-code.js";
import { verifyIntegrity } from "../../stun/integrity.js";
import type { StunMessage } from "../../stun/message.js";
import type { CredentialVerifier } from "../credentials.js";
import { Nonces } from "./nonces.js";

/** Whoever has proved to know a user's password. */
export interface User {
  readonly username: string;
  /** Signs requests and answers, 16 bytes. */
  readonly key: Uint8Array;
  /** See {@link CredentialVerifier.isPerClient}. */
  readonly isPerClient: boolean;
}

/** What a request has proved. */
export type Authentication =
  | { readonly type: "accepted"; readonly user: User }
  /** Nothing: ask for credentials, or for newer ones. `claimed` is whom it may be from: see {@link Authenticator.challenge}. */
  | { readonly type: "challenged"; readonly error: StunErrorCode; readonly claimed: User | undefined };

/** What an answer needs so that the client can prove who it is. */
export interface Challenge {
  /** What the answer is signed with; `undefined`: not at all. */
  readonly key: Uint8Array | undefined;
  /** Adds realm and nonce to the answer. */
  readonly explain: (answer: StunBuilder) => void;
}

/** See the head of this file. */
export class Authenticator {
  readonly #users: readonly CredentialVerifier[];
  readonly #nonces: Nonces;
  readonly #crypto: Crypto;

  /** @param users the first that knows a user name decides. All have the same realm. */
  constructor(users: readonly CredentialVerifier[], random: Random, crypto: Crypto) {
    this.#users = users;
    this.#nonces = new Nonces(random, crypto);
    this.#crypto = crypto;
  }

  /** Whose request it is, if it is anybody's. */
  authenticate(message: StunMessage, client: SocketAddress, now: Instant, unixNow: UnixTime): Authentication {
    const username = message.get(Username);
    const claimed = username === undefined ? undefined : this.#find(username, unixNow);
    const nonce = message.get(Nonce);
    if (!message.has(MessageIntegrity) || username === undefined || nonce === undefined)
      return { type: "challenged", error: ErrorCode.Unauthorized, claimed };
    const state = this.#nonces.check(nonce, client, now);
    if (state === "malformed") return { type: "challenged", error: ErrorCode.Unauthorized, claimed };
    if (state === "stale") return { type: "challenged", error: ErrorCode.StaleNonce, claimed };
    if (claimed === undefined || !verifyIntegrity(message, claimed.key, this.#crypto))
      return { type: "challenged", error: ErrorCode.Unauthorized, claimed: undefined };
    return { type: "accepted", user: claimed };
  }

  /** What to ask the sender of a request for that is `claimed` to be from a user. */
  challenge(message: StunMessage, claimed: User | undefined, client: SocketAddress, now: Instant): Challenge {
    // Whoever has another key than ours would take an answer signed with ours for a forgery, and never learn that its key is wrong.
    const hasOtherKey =
      claimed !== undefined && message.has(MessageIntegrity) && !verifyIntegrity(message, claimed.key, this.#crypto);
    return {
      key: hasOtherKey ? undefined : claimed?.key,
      explain: (answer) => {
        const [verifier] = this.#users;
        if (verifier !== undefined) answer.add(Realm, verifier.realm);
        answer.add(Nonce, this.#nonces.create(client, now));
      },
    };
  }

  #find(username: string, unixNow: UnixTime): User | undefined {
    for (const verifier of this.#users) {
      const key = verifier.key(username, unixNow);
      if (typeof key !== "string") return { username, key, isPerClient: verifier.isPerClient };
    }
    return undefined;
  }
}
