// The door for handshake messages, of a plain device and of a node with connections: who may cause work, which initiations are opened at once and
// which in batches elsewhere (receiver.ts, initiation-queue.ts). What has come in goes to the owner, who knows the peers.
//
//   closed ──open(identity)──► open: datagrams ──► admitted? ──► initiations, responses, cookie replies for peers
//     ▲                          │                    └──► refused, or a cookie reply in answer
//     └──────────close───────────┘

import type { SocketAddress } from "../base/address.js";
import type { Crypto } from "../base/crypto.js";
import type { Random } from "../base/random.js";
import type { Instant } from "../base/time.js";
import type { WireGuardError } from "./errors.js";
import type { LocalIdentity } from "./identity.js";
import type { BatchResult } from "./initiation-block.js";
import { type InitiationBatch, InitiationQueue, type WaitingInitiation } from "./initiation-queue.js";
import type { CookieReply, HandshakeResponse } from "./messages.js";
import type { ReceivedInitiation } from "./noise.js";
import { HandshakeReceiver, type HandshakeSources } from "./receiver.js";

/** Where a message came from. */
export interface MessageOrigin {
  /** Our address. */
  readonly local: SocketAddress;
  readonly from: SocketAddress;
  /** Bytes of the datagram. */
  readonly length: number;
}

/** What the owner does with what has come in. */
export interface HandshakeDoorContext {
  readonly crypto: Crypto;
  readonly random: Random;
  readonly sources: HandshakeSources;
  /** Whether the owner lets batches be computed; otherwise all is opened at once. */
  readonly batches: boolean;
  /** The bytes of `opened` are wiped afterwards. */
  handleInitiation(opened: ReceivedInitiation, origin: MessageOrigin, now: Instant): void;
  handleResponse(message: HandshakeResponse, origin: MessageOrigin, now: Instant): void;
  handleCookieReply(message: CookieReply, origin: MessageOrigin, now: Instant): void;
  /** There is too much to do: `reply` goes to where the message came from. */
  sendCookieReply(reply: Uint8Array, origin: MessageOrigin, now: Instant): void;
  refuse(from: SocketAddress, error: WireGuardError): void;
}

/** See the head of this file. */
export class HandshakeDoor {
  readonly #context: HandshakeDoorContext;
  readonly #initiations = new InitiationQueue();
  #open: { readonly identity: LocalIdentity; readonly receiver: HandshakeReceiver } | undefined;

  constructor(context: HandshakeDoorContext) {
    this.#context = context;
  }

  /** How initiations fared that were not opened at once. */
  get batchCounters(): Readonly<InitiationQueue["counters"]> {
    return this.#initiations.counters;
  }

  /** Messages for this identity are let in from now on. */
  open(identity: LocalIdentity): void {
    const { crypto, random, sources } = this.#context;
    this.#open = { identity, receiver: new HandshakeReceiver({ identity, crypto, random, sources }) };
  }

  /** Nothing is let in any more; what has waited is dropped. */
  close(): void {
    this.#open = undefined;
    this.#initiations.drop();
  }

  /** Local addresses may have gone: `unspecified` takes the place of those that messages in the queue came to. */
  forgetLocalAddresses(unspecified: Readonly<Record<4 | 6, SocketAddress>>): void {
    this.#initiations.forgetLocalAddresses(unspecified);
  }

  /** A datagram that came to `local` from `from`. */
  handleDatagram(local: SocketAddress, from: SocketAddress, datagram: Uint8Array, now: Instant): void {
    // Without a key there is nobody to talk to.
    if (this.#open === undefined) return;
    const origin: MessageOrigin = { local, from, length: datagram.length };
    const admission = this.#open.receiver.admit(datagram, from, now);
    switch (admission.type) {
      case "sealed-initiation":
        this.#handleSealed(this.#open.receiver, { message: admission.message, ...origin }, now);
        return;
      case "response":
        this.#context.handleResponse(admission.message, origin, now);
        return;
      case "cookie-reply":
        this.#context.handleCookieReply(admission.message, origin, now);
        return;
      case "send-cookie-reply":
        this.#context.sendCookieReply(admission.reply, origin, now);
        return;
      case "rejected":
        this.#context.refuse(from, admission.error);
        return;
    }
  }

  /** The next initiations to be opened by the owner, who hands the outcome to {@link handleBatch}. To be polled until there is none. */
  pollBatch(): InitiationBatch | undefined {
    return this.#open === undefined ? undefined : this.#initiations.poll(this.#open.identity);
  }

  /** What came of a batch; `undefined` instead of `results`: nothing. It is not needed any more when the door was closed since. */
  handleBatch(id: number, results: readonly BatchResult[] | undefined, now: Instant): void {
    for (const [i, waiting] of this.#initiations.complete(id).entries()) {
      const opened = results?.[i];
      if (opened === undefined) this.#initiations.counters.failed++;
      else if (typeof opened === "string")
        this.#context.refuse(waiting.from, this.#open?.receiver.reject(opened).error ?? opened);
      else this.#context.handleInitiation({ ...opened, message: waiting.message }, waiting, now);
    }
    for (const opened of results ?? []) if (typeof opened === "object") opened.symmetric.wipe();
  }

  #handleSealed(receiver: HandshakeReceiver, initiation: WaitingInitiation, now: Instant): void {
    const { from, message } = initiation;
    if (this.#context.batches && !this.#initiations.mayOpenAtOnce(now)) {
      if (!this.#initiations.push(initiation)) this.#context.refuse(from, receiver.reject("UnderLoad").error);
      return;
    }
    const opened = receiver.open(message);
    if (typeof opened === "string") {
      this.#context.refuse(from, opened);
      return;
    }
    this.#context.handleInitiation(opened, initiation, now);
    opened.symmetric.wipe();
  }
}
