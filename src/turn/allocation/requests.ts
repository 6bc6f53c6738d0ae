// The requests of an allocation's client, and those of them that wait for an answer (spec 03, sections 5.4 and 5.6).
//
//   sent at 0 ── 1 s ──► again at 1 ── 1.5 s ──► again at 2.5 ── 2.25 s ──► again at 4.75 ── 3.375 s ──► exhausted at 8.125 s
//
// Requests with credentials are made anew each time, with the newest nonce and an id of their own. The answer to any of them is
// the answer: a slow network must not look like a lost one.

import type { SocketAddress } from "../../base/address.js";
import { toHex } from "../../base/bytes.js";
import type { Crypto } from "../../base/crypto.js";
import { type Duration, type Instant, SECOND } from "../../base/time.js";
import {
  AdditionalAddressFamily,
  ChannelNumber,
  Lifetime,
  Nonce,
  Realm,
  RequestedTransport,
  Software,
  TRANSPORT_UDP,
  Username,
  XorPeerAddress,
} from "../../stun/attributes.js";
import { StunBuilder } from "../../stun/builder.js";
import { Method } from "../../stun/header.js";
import { FAMILY_IPV6 } from "../../stun/xor-address.js";
import type { Channel } from "./channels.js";

/** Time to the first repetition of a request. */
export const INITIAL_TIMEOUT: Duration = SECOND;
/** How much longer each further one takes. */
const TIMEOUT_FACTOR = 1.5;
/** Transmissions of a request: given up after 8.125 s. */
export const MAX_TRANSMISSIONS = 4;
/** The same for a probe. */
const MAX_PROBE_TRANSMISSIONS = 1;

/** What is asked for. */
export type TurnRequest =
  | { readonly type: "binding" }
  | { readonly type: "allocate" }
  /** `isProbe`: sent once, to learn whether the allocation lives. */
  | { readonly type: "refresh"; readonly isProbe: boolean }
  /** A refresh with lifetime 0. */
  | { readonly type: "delete" }
  | { readonly type: "channel-bind"; readonly channel: Channel };

/** What a request is authenticated with. */
export interface Authentication {
  readonly username: string;
  readonly realm: string;
  readonly nonce: string | undefined;
  /** From {@link longTermKey}. */
  readonly key: Uint8Array;
}

/** The method of a request. */
export function methodOf({ type }: TurnRequest): number {
  switch (type) {
    case "binding":
      return Method.Binding;
    case "allocate":
      return Method.Allocate;
    case "refresh":
    case "delete":
      return Method.Refresh;
    case "channel-bind":
      return Method.ChannelBind;
  }
}

/** A request as bytes; without `authentication` it has no credentials. */
export function encodeRequest(
  request: TurnRequest,
  transactionId: Uint8Array,
  software: string,
  authentication: Authentication | undefined,
  crypto: Crypto,
): Uint8Array {
  const message = new StunBuilder("request", methodOf(request), transactionId);
  switch (request.type) {
    case "binding":
      break;
    case "allocate":
    case "refresh":
    case "delete":
      message.add(RequestedTransport, TRANSPORT_UDP).add(AdditionalAddressFamily, FAMILY_IPV6);
      break;
    case "channel-bind":
      message.add(XorPeerAddress, request.channel.peer).add(ChannelNumber, request.channel.number);
      break;
  }
  message.add(Software, software);
  if (request.type === "delete") message.add(Lifetime, 0);
  if (authentication === undefined) return message.finish();
  const { username, realm, nonce, key } = authentication;
  message.add(Username, username).add(Realm, realm);
  if (nonce !== undefined) message.add(Nonce, nonce);
  return message.addIntegrity(key, crypto).finish();
}

/** One transmission of a request. */
export interface Transmission {
  readonly id: string;
  readonly sentAt: Instant;
  readonly nonce: string | undefined;
}

/** A request that waits for an answer. */
export class PendingRequest {
  readonly request: TurnRequest;
  readonly server: SocketAddress;
  /** Answers that asked for another nonce. */
  challenges = 0;
  /** The relay refuses what is signed before it has given a nonce (RFC 8489, section 9.2.4; coturn does): then not until it has. */
  needsNonce = false;
  /** All transmissions: the answer to any is the answer. */
  readonly transmissions: Transmission[] = [];
  #sent = 0;
  #timeout = INITIAL_TIMEOUT;
  #due: Instant = 0;

  constructor(request: TurnRequest, server: SocketAddress) {
    this.request = request;
    this.server = server;
  }

  /** What the last transmission carried. */
  get nonce(): string | undefined {
    return this.transmissions.at(-1)?.nonce;
  }

  /** When to transmit again, or to give up. */
  get due(): Instant {
    return this.#due;
  }

  /** Whether it is time to give up rather than to transmit again. */
  get isExhausted(): boolean {
    const isProbe = this.request.type === "refresh" && this.request.isProbe;
    return this.#sent >= (isProbe ? MAX_PROBE_TRANSMISSIONS : MAX_TRANSMISSIONS);
  }

  /** It was transmitted. Returns its key. */
  handleSent(transactionId: Uint8Array, nonce: string | undefined, now: Instant): string {
    const id = toHex(transactionId);
    this.transmissions.push({ id, sentAt: now, nonce });
    this.#sent++;
    this.#due = now + this.#timeout;
    this.#timeout *= TIMEOUT_FACTOR;
    return id;
  }

  /** It begins again: the relay wants another nonce. Earlier transmissions stay answerable. */
  restart(): void {
    this.#sent = 0;
    this.#timeout = INITIAL_TIMEOUT;
  }
}
