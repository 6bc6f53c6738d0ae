// Makes STUN messages (RFC 8489, section 5), attribute by attribute in the order of the calls.

import { viewOf } from "../base/bytes.js";
import type { Crypto } from "../base/crypto.js";
import type { Attribute } from "./attribute.js";
import { Fingerprint, MessageIntegrity } from "./attributes.js";
import { computeFingerprint } from "./fingerprint.js";
import { HEADER_LENGTH, type StunClass, TRANSACTION_ID_LENGTH, writeHeader } from "./header.js";
import { computeIntegrity } from "./integrity.js";
import { ATTRIBUTE_HEADER_LENGTH, padding } from "./message.js";

/** Enough for ICE's messages; larger ones grow. */
const INITIAL_CAPACITY = 128;

/** Largest value of the length field: a multiple of 4 in 16 bits. */
const MAX_LENGTH = 0xfffc;

/** A message under construction. */
export class StunBuilder {
  #bytes = new Uint8Array(INITIAL_CAPACITY);
  #length = HEADER_LENGTH;
  readonly #transactionId: Uint8Array;

  /** @param transactionId 12 bytes. */
  constructor(stunClass: StunClass, method: number, transactionId: Uint8Array) {
    if (transactionId.length !== TRANSACTION_ID_LENGTH) throw new RangeError("a transaction id has 12 bytes");
    this.#transactionId = transactionId.slice();
    writeHeader(this.#bytes, stunClass, method, transactionId, 0);
  }

  /** Appends an attribute. */
  add<T>(attribute: Attribute<T>, value: T): this {
    const encoded = attribute.encode(value, this.#transactionId);
    const at = this.#length;
    const offset = at + ATTRIBUTE_HEADER_LENGTH;
    const end = offset + encoded.length + padding(encoded.length);
    if (end - HEADER_LENGTH > MAX_LENGTH) throw new RangeError("the message is too long");
    this.#reserve(end);
    const view = viewOf(this.#bytes);
    view.setUint16(at, attribute.type);
    view.setUint16(at + 2, encoded.length);
    this.#bytes.set(encoded, offset);
    view.setUint16(2, end - HEADER_LENGTH);
    this.#length = end;
    return this;
  }

  /** Appends MESSAGE-INTEGRITY over what is there so far; only FINGERPRINT may follow. */
  addIntegrity(key: Uint8Array, crypto: Crypto): this {
    return this.add(MessageIntegrity, computeIntegrity(this.#written(), key, crypto));
  }

  /** Appends FINGERPRINT; nothing may follow. */
  addFingerprint(): this {
    return this.add(Fingerprint, computeFingerprint(this.#written()));
  }

  /** The message. */
  finish(): Uint8Array {
    return this.#written().slice();
  }

  #written(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }

  #reserve(length: number): void {
    if (length <= this.#bytes.length) return;
    const grown = new Uint8Array(Math.max(length, 2 * this.#bytes.length));
    grown.set(this.#written());
    this.#bytes = grown;
  }
}
