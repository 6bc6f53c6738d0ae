// The door of a node for handshake messages: everything that can be said about a datagram before it is known which peer's it is.
// In this order: shape, mac1, rate limit or cookie, and for an initiation the static key in it (spec 02, sections 11.3 and 11.4).
// That last step (`open`) costs more than all the others (`admit`), so that it may be done later, and elsewhere.
// The owner (handshake-door.ts) then finds the peer, by static key for an initiation, by receiver index for an answer, and hands the message on.

import type { SocketAddress } from "../base/address.js";
import type { Crypto } from "../base/crypto.js";
import type { Random } from "../base/random.js";
import type { Instant } from "../base/time.js";
import { CookieChecker } from "./cookie.js";
import type { WireGuardError } from "./errors.js";
import type { LocalIdentity } from "./identity.js";
import { type CookieReply, type HandshakeInitiation, type HandshakeResponse, parseMessage } from "./messages.js";
import { type ReceivedInitiation, receiveInitiation } from "./noise.js";
import { HandshakeRateLimiter } from "./rate-limit.js";

/** What to do with a handshake datagram. */
export type HandshakeAdmission =
  /** It may be opened: {@link HandshakeReceiver.open} tells whose it is. */
  | { readonly type: "sealed-initiation"; readonly message: HandshakeInitiation }
  /** For the peer with this local index: `Peer.handleResponse`. */
  | { readonly type: "response"; readonly receiverIndex: number; readonly message: HandshakeResponse }
  /** For the peer with this local index: `Peer.handleCookieReply`. It must not move the peer's endpoint. */
  | { readonly type: "cookie-reply"; readonly receiverIndex: number; readonly message: CookieReply }
  /** The node is under load: send `reply` to where the datagram came from; nothing else happens. */
  | { readonly type: "send-cookie-reply"; readonly reply: Uint8Array }
  /** Drop it. */
  | { readonly type: "rejected"; readonly error: WireGuardError };

/** Where handshakes come from: from anybody, or only from addresses and ports that an authenticated connectivity check has come from. */
export type HandshakeSources = "anybody" | "checked";

/** Receives the handshake messages of a node, that is, of one static key. */
export class HandshakeReceiver {
  /** Datagrams refused here, by reason, and cookie replies made; since creation. */
  readonly counters: { readonly rejected: Partial<Record<WireGuardError, number>>; cookieReplies: number } = {
    rejected: {},
    cookieReplies: 0,
  };

  readonly #identity: LocalIdentity;
  readonly #crypto: Crypto;
  readonly #cookies: CookieChecker;
  readonly #limiter = new HandshakeRateLimiter();
  readonly #sources: HandshakeSources;

  constructor(options: {
    readonly identity: LocalIdentity;
    readonly crypto: Crypto;
    readonly random: Random;
    /** Default: from anybody. */
    readonly sources?: HandshakeSources;
  }) {
    this.#sources = options.sources ?? "anybody";
    this.#identity = options.identity;
    this.#crypto = options.crypto;
    this.#cookies = new CookieChecker(options.identity.publicKey, options.crypto, options.random);
  }

  /** Judges `datagram`, which came from `source`, as far as that costs no public-key operation. The result refers to the datagram's bytes. */
  admit(datagram: Uint8Array, source: SocketAddress, now: Instant): HandshakeAdmission {
    const message = parseMessage(datagram);
    switch (message?.type) {
      case "initiation":
      case "response":
        return this.#admitLimited(datagram, message, source, now);
      case "cookie-reply":
        return { type: "cookie-reply", receiverIndex: message.receiverIndex, message };
      case "transport":
      case undefined:
        return this.reject("InvalidPacket");
    }
  }

  /** Whose initiation it is: one Diffie-Hellman computation. Why it failed has been counted. */
  open(message: HandshakeInitiation): ReceivedInitiation | WireGuardError {
    const initiation = receiveInitiation(this.#crypto, this.#identity, message);
    if (typeof initiation === "string") this.reject(initiation);
    return initiation;
  }

  /** Counts a refusal; also those of initiations that were opened elsewhere. */
  reject(error: WireGuardError): { readonly type: "rejected"; readonly error: WireGuardError } {
    this.counters.rejected[error] = (this.counters.rejected[error] ?? 0) + 1;
    return { type: "rejected", error };
  }

  #admitLimited(
    datagram: Uint8Array,
    message: HandshakeInitiation | HandshakeResponse,
    source: SocketAddress,
    now: Instant,
  ): HandshakeAdmission {
    if (!this.#cookies.checkMac1(datagram)) return this.reject("InvalidMac");
    if (this.#cookies.checkMac2(datagram, source, now)) {
      if (!this.#limiter.admitProven(source.ip, now)) return this.reject("UnderLoad");
    } else if (!this.#admitWithoutCookie(source, now)) {
      this.counters.cookieReplies++;
      return {
        type: "send-cookie-reply",
        reply: this.#cookies.createReply(datagram, message.senderIndex, source, now),
      };
    }
    if (message.type === "response") return { type: "response", receiverIndex: message.receiverIndex, message };
    return { type: "sealed-initiation", message };
  }

  #admitWithoutCookie(source: SocketAddress, now: Instant): boolean {
    switch (this.#sources) {
      case "anybody":
        return this.#limiter.admit(source.ip, now);
      case "checked":
        return this.#limiter.admitChecked(source, now);
    }
  }
}
