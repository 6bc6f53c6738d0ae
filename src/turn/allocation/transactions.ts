// The requests of an allocation's client that wait for an answer, and the credentials that they carry: the long-term credential mechanism, from the
// client's side (RFC 8489, section 9.2.5; spec 03, sections 5.6 to 5.8, with the later behaviour).
//
//   sent at 0 ── 1 s ──► again at 1 ── 1.5 s ──► again at 2.5 ── 2.25 s ──► again at 4.75 ── 3.375 s ──► exhausted at 8.125 s
//
//   401 to a request without nonce, 438 ─► again with the nonce that came   401 in spite of a nonce ─► failed: authentication
//   400 to a request without nonce      ─► again without credentials        420, or nonces without end ─► failed: protocol
//
// Requests with credentials are made anew each time, with the newest nonce and an id of their own. The answer to any of them is
// the answer: a slow network must not look like a lost one.

import type { SocketAddress } from "../../base/address.js";
import { toHex } from "../../base/bytes.js";
import type { Crypto } from "../../base/crypto.js";
import type { Random } from "../../base/random.js";
import type { Transmit } from "../../base/state-machine.js";
import { type Duration, earliest, type Instant, SECOND } from "../../base/time.js";
import { ErrorCodeAttribute, MessageIntegrity, Nonce, Realm } from "../../stun/attributes.js";
import { TRANSACTION_ID_LENGTH } from "../../stun/header.js";
import { longTermKey, verifyIntegrity } from "../../stun/integrity.js";
import type { StunMessage } from "../../stun/message.js";
import type { AllocationFailure, LongTermCredentials } from "./events.js";
import { encodeRequest, methodOf, type TurnRequest } from "./requests.js";
import { RoundTripTime } from "./round-trip.js";

/** Requests that wait for an answer; beyond them no channel is bound. */
export const MAX_PENDING = 512;
/** Time to the first repetition of a request. */
const INITIAL_TIMEOUT: Duration = SECOND;
/** How much longer each further one takes. */
const TIMEOUT_FACTOR = 1.5;
/** Transmissions of a request: given up after 8.125 s. */
const MAX_TRANSMISSIONS = 4;
/** The same for a probe. */
const MAX_PROBE_TRANSMISSIONS = 1;
/** Nonces that a relay may ask for before a request is answered. */
const MAX_CHALLENGES = 5;

/** What a message of the relay is to our requests. */
export type Answer =
  /** The answer to nothing that waits. */
  | { readonly type: "unexpected" }
  /** Its integrity is wrong. */
  | { readonly type: "forged" }
  /** The request goes on: with another nonce, or since what is answered is outdated. */
  | { readonly type: "continued" }
  /** The relay has done what was asked for. */
  | { readonly type: "success"; readonly request: TurnRequest; readonly server: SocketAddress }
  /** It has not. */
  | { readonly type: "error"; readonly request: TurnRequest; readonly code: number | undefined }
  /** No request will ever be answered otherwise. */
  | { readonly type: "failed"; readonly failure: AllocationFailure };

/** What requests are made with, and where they go. */
export interface TransactionsContext {
  readonly credentials: LongTermCredentials;
  readonly random: Random;
  readonly crypto: Crypto;
  /** SOFTWARE of our requests. */
  readonly software: string;
  transmit(transmit: Transmit): void;
}

/** See the head of this file. */
export class Transactions {
  readonly #context: TransactionsContext;
  readonly #key: Uint8Array;
  readonly #pending = new Set<PendingRequest>();
  readonly #byId = new Map<string, PendingRequest>();
  readonly #roundTrip = new RoundTripTime();
  /** The newest; `undefined` before the first. */
  #nonce: string | undefined;

  constructor(context: TransactionsContext) {
    this.#context = context;
    const { username, realm, password } = context.credentials;
    this.#key = longTermKey(username, realm, password, context.crypto);
  }

  /** Smoothed over all answers; `undefined` before the first. */
  get roundTripTime(): Duration | undefined {
    return this.#roundTrip.value;
  }

  /** Whether a request of one of these types has no answer yet. */
  isWaitingFor(...types: readonly TurnRequest["type"][]): boolean {
    return [...this.#pending].some(({ request }) => types.includes(request.type));
  }

  /** Sends a request, now and until it is answered. @returns false when it was not sent, since too many wait. */
  send(request: TurnRequest, server: SocketAddress, now: Instant): boolean {
    // There are but a few of the others, and each must be sent in its time.
    if (request.type === "channel-bind" && this.#pending.size >= MAX_PENDING) return false;
    const pending = new PendingRequest(request, server);
    this.#pending.add(pending);
    this.#transmit(pending, now);
    return true;
  }

  /** A message from one of the relay's addresses. */
  handleInput(message: StunMessage, now: Instant): Answer {
    const isAnswer = message.class === "success" || message.class === "error";
    const pending = isAnswer ? this.#byId.get(message.transactionKey) : undefined;
    const transmission = pending?.transmissions.find(({ id }) => id === message.transactionKey);
    if (pending === undefined || transmission === undefined || message.method !== methodOf(pending.request))
      return { type: "unexpected" };
    // Who can read our requests but not hold back the relay's answers must not get ahead of them. Relays of 2024 sign nothing.
    if (message.has(MessageIntegrity) && !verifyIntegrity(message, this.#key, this.#context.crypto))
      return { type: "forged" };
    this.#roundTrip.sample(now - transmission.sentAt);
    if (message.class === "error") return this.#handleError(pending, transmission, message, now);
    this.#forget(pending);
    return { type: "success", request: pending.request, server: pending.server };
  }

  /** Repeats what is due. @param giveUp takes each request that nothing answers; it may send others and forget all. */
  handleTimeout(now: Instant, giveUp: (request: TurnRequest, server: SocketAddress) => void): void {
    for (const pending of [...this.#pending]) {
      if (!this.#pending.has(pending) || now < pending.due) continue;
      if (pending.isExhausted) {
        this.#forget(pending);
        giveUp(pending.request, pending.server);
      } else {
        this.#transmit(pending, now);
      }
    }
  }

  /** When {@link handleTimeout} has something to do next. */
  pollTimeout(): Instant | undefined {
    let next: Instant | undefined;
    for (const { due } of this.#pending) next = earliest(next, due);
    return next;
  }

  /** Waits for no answers any more except those to bindings: they have to do with the way to the relay, not with the allocation. */
  forgetAllButBindings(): void {
    for (const pending of this.#pending) if (pending.request.type !== "binding") this.#forget(pending);
  }

  /** Waits for no answers any more, and forgets the nonce. */
  reset(): void {
    this.#pending.clear();
    this.#byId.clear();
    this.#nonce = undefined;
  }

  /** Wipes the key: nothing can be sent any more. */
  close(): void {
    this.reset();
    this.#key.fill(0);
  }

  // ---- Details, in order of use

  #transmit(pending: PendingRequest, now: Instant): void {
    const { request, server } = pending;
    const { credentials, random, crypto, software } = this.#context;
    const { username, realm } = credentials;
    const nonce = this.#nonce;
    const isPlain = request.type === "binding" || (nonce === undefined && pending.needsNonce);
    const authentication = isPlain ? undefined : { username, realm, nonce, key: this.#key };
    const transactionId = random.bytes(TRANSACTION_ID_LENGTH);
    const payload = encodeRequest(request, transactionId, software, authentication, crypto);
    this.#byId.set(pending.handleSent(transactionId, authentication && nonce, now), pending);
    // No source: whichever interface leads to the relay.
    this.#context.transmit({ destination: server, payload });
  }

  #handleError(pending: PendingRequest, { nonce }: Transmission, message: StunMessage, now: Instant): Answer {
    const code = message.get(ErrorCodeAttribute)?.code;
    const isChallenge = code === 438 || (code === 401 && nonce === undefined);
    // What is said about a nonce counts for a request that has gone out with no newer one; a repetition of it, or a late answer, does not.
    if ((isChallenge || code === 401) && pending.nonce !== nonce) return { type: "continued" };
    if (isChallenge) return this.#handleChallenge(pending, message, now);
    if (code === 400 && nonce === undefined && pending.request.type !== "binding" && !pending.needsNonce) {
      pending.needsNonce = true;
      return this.#restart(pending, now);
    }
    this.#forget(pending);
    if (code === 401) return { type: "failed", failure: "authentication" };
    if (code === 420) return { type: "failed", failure: "protocol" };
    return { type: "error", request: pending.request, code };
  }

  /** The relay wants a (newer) nonce. */
  #handleChallenge(pending: PendingRequest, message: StunMessage, now: Instant): Answer {
    const nonce = message.get(Nonce);
    const realm = message.get(Realm);
    const isOurs = realm === undefined || realm === this.#context.credentials.realm;
    if (nonce === undefined || !isOurs || ++pending.challenges > MAX_CHALLENGES) {
      this.#forget(pending);
      return { type: "failed", failure: "protocol" };
    }
    this.#nonce = nonce;
    return this.#restart(pending, now);
  }

  #restart(pending: PendingRequest, now: Instant): Answer {
    pending.restart();
    this.#transmit(pending, now);
    return { type: "continued" };
  }

  #forget(pending: PendingRequest): void {
    this.#pending.delete(pending);
    for (const { id } of pending.transmissions) this.#byId.delete(id);
  }
}

/** One transmission of a request. */
interface Transmission {
  readonly id: string;
  readonly sentAt: Instant;
  readonly nonce: string | undefined;
}

/** A request that waits for an answer. */
class PendingRequest {
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
