// mac1, mac2 and cookies (whitepaper, section 5.3; spec 02, section 11.4): what a handshake message must carry before a node
// spends a Diffie-Hellman computation on it.
//
//   mac1: the sender knows our public key. Always required.
//   mac2: the sender receives what we send to its address: it holds the cookie that we made for that address. Required under load.
//
// A cookie is MAC(secret, address and port of the sender) under a secret that changes every two minutes. It is sent encrypted under our
// public key and bound to the mac1 of the message it answers, so that only the one who sent that message can use it.

import type { SocketAddress } from "../base/address.js";
import { concatBytes, constantTimeEqual } from "../base/bytes.js";
import type { Crypto } from "../base/crypto.js";
import type { Random } from "../base/random.js";
import type { Instant } from "../base/time.js";
import { COOKIE_EXPIRATION, KEY_LENGTH, MAC_LENGTH } from "./constants.js";
import type { WireGuardError } from "./errors.js";
import { COOKIE_NONCE_LENGTH, type CookieReply, encodeCookieReply, macFields } from "./messages.js";
import { hash, mac } from "./primitives.js";
import { xchacha20Poly1305Open, xchacha20Poly1305Seal } from "./xchacha.js";

const LABEL_MAC1 = Uint8Array.from("mac1----", (character) => character.charCodeAt(0));
const LABEL_COOKIE = Uint8Array.from("cookie--", (character) => character.charCodeAt(0));

/** The receiver's side: checks macs and makes cookie replies. One per node. */
export class CookieChecker {
  readonly #crypto: Crypto;
  readonly #random: Random;
  readonly #mac1Key: Uint8Array;
  readonly #cookieKey: Uint8Array;
  #secret: Uint8Array | undefined;
  /** The secret before: a cookie made just before the change is good for as long as its holder uses it. */
  #previousSecret: Uint8Array | undefined;
  #secretSince: Instant = 0;

  constructor(publicKey: Uint8Array, crypto: Crypto, random: Random) {
    this.#crypto = crypto;
    this.#random = random;
    this.#mac1Key = mac1KeyOf(publicKey);
    this.#cookieKey = cookieKeyOf(publicKey);
  }

  /** Whether the initiation or response `datagram` carries a valid mac1 for our public key. */
  checkMac1(datagram: Uint8Array): boolean {
    const { coveredByMac1, mac1 } = macFields(datagram);
    return constantTimeEqual(mac(this.#mac1Key, coveredByMac1), mac1);
  }

  /** Whether `datagram` carries a valid mac2 under a cookie that we made for `source`. */
  checkMac2(datagram: Uint8Array, source: SocketAddress, now: Instant): boolean {
    const { coveredByMac2, mac2 } = macFields(datagram);
    // The common case, no cookie held, must not cost a hash.
    if (mac2.every((byte) => byte === 0)) return false;
    this.#rotateSecret(now);
    for (const secret of [this.#secret, this.#previousSecret]) {
      if (secret !== undefined && constantTimeEqual(mac(cookieFor(secret, source), coveredByMac2), mac2)) return true;
    }
    return false;
  }

  /** The cookie reply to the handshake message `datagram` of `source`, whose sender index is `senderIndex`. */
  createReply(datagram: Uint8Array, senderIndex: number, source: SocketAddress, now: Instant): Uint8Array {
    const cookie = cookieFor(this.#rotateSecret(now), source);
    return sealCookieReply(this.#crypto, {
      cookieKey: this.#cookieKey,
      receiverIndex: senderIndex,
      nonce: this.#random.bytes(COOKIE_NONCE_LENGTH),
      cookie,
      mac1: macFields(datagram).mac1,
    });
  }

  #rotateSecret(now: Instant): Uint8Array {
    const periods = Math.floor((now - this.#secretSince) / COOKIE_EXPIRATION);
    if (this.#secret !== undefined && periods < 1) return this.#secret;
    // Secrets change on a grid of two minutes, although only a message makes us look: none outlives its time for want of messages.
    this.#previousSecret = periods === 1 ? this.#secret : undefined;
    this.#secretSince = this.#secret === undefined ? now : this.#secretSince + periods * COOKIE_EXPIRATION;
    this.#secret = this.#random.bytes(KEY_LENGTH);
    return this.#secret;
  }
}

/** What {@link sealCookieReply} takes. */
export interface CookieReplyInput {
  /** HASH(`cookie--` ‖ public key of the sender of the reply), 32 bytes. */
  readonly cookieKey: Uint8Array;
  readonly receiverIndex: number;
  /** 24 bytes, never used before with this key. */
  readonly nonce: Uint8Array;
  /** 16 bytes. */
  readonly cookie: Uint8Array;
  /** mac1 of the message that the reply answers, 16 bytes. */
  readonly mac1: Uint8Array;
}

/** A cookie reply as bytes. */
export function sealCookieReply(crypto: Crypto, input: CookieReplyInput): Uint8Array {
  const { cookieKey, receiverIndex, nonce, cookie, mac1 } = input;
  const encryptedCookie = xchacha20Poly1305Seal(crypto, cookieKey, nonce, cookie, mac1);
  return encodeCookieReply({ receiverIndex, nonce, encryptedCookie });
}

/** The key of mac1 in messages to a node with this public key. */
export function mac1KeyOf(publicKey: Uint8Array): Uint8Array {
  return hash(LABEL_MAC1, publicKey);
}

/** The key that a node with this public key encrypts its cookies under. */
export function cookieKeyOf(publicKey: Uint8Array): Uint8Array {
  return hash(LABEL_COOKIE, publicKey);
}

/** The cookie of a socket address: bound to the port too, so that two users behind one address cannot speak for each other. */
function cookieFor(secret: Uint8Array, source: SocketAddress): Uint8Array {
  return mac(secret, concatBytes(source.ip.bytes, Uint8Array.of(source.port >> 8, source.port & 0xff)));
}

/** The sender's side: puts macs on what we send to one peer and keeps the cookie that it gave us. */
export class CookieGenerator {
  readonly #crypto: Crypto;
  readonly #mac1Key: Uint8Array;
  readonly #cookieKey: Uint8Array;
  #cookie: Uint8Array | undefined;
  #cookieSince: Instant = 0;
  /** The last handshake message sent, until a cookie reply to it was taken. */
  #last: { readonly senderIndex: number; readonly mac1: Uint8Array } | undefined;

  constructor(remotePublicKey: Uint8Array, crypto: Crypto) {
    this.#crypto = crypto;
    this.#mac1Key = mac1KeyOf(remotePublicKey);
    this.#cookieKey = cookieKeyOf(remotePublicKey);
  }

  /** Fills in mac1, and mac2 while there is a fresh cookie, of an initiation or response that will be sent now. */
  addMacs(message: Uint8Array, senderIndex: number, now: Instant): void {
    const { coveredByMac1, mac1, coveredByMac2, mac2 } = macFields(message);
    mac1.set(mac(this.#mac1Key, coveredByMac1));
    this.#last = { senderIndex, mac1: mac1.slice() };
    if (this.#cookie !== undefined && now - this.#cookieSince >= COOKIE_EXPIRATION) this.#cookie = undefined;
    if (this.#cookie !== undefined) mac2.set(mac(this.#cookie, coveredByMac2));
  }

  /** Takes the cookie out of a reply; the next handshake message carries it. Nothing is sent at once, or replies would echo. */
  consumeReply(reply: CookieReply, now: Instant): WireGuardError | undefined {
    if (this.#last === undefined) return "UnexpectedPacket";
    if (this.#last.senderIndex !== reply.receiverIndex) return "WrongIndex";
    const { nonce, encryptedCookie } = reply;
    const cookie = xchacha20Poly1305Open(this.#crypto, this.#cookieKey, nonce, encryptedCookie, this.#last.mac1);
    if (cookie === undefined || cookie.length !== MAC_LENGTH) return "InvalidAeadTag";
    this.#cookie = cookie;
    this.#cookieSince = now;
    this.#last = undefined;
    return undefined;
  }
}
