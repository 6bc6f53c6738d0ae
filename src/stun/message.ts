// A received STUN message (RFC 8489, sections 5 and 14; spec 03, sections 1.2, 1.3 and 1.8). Parsing is one pass over the attribute
// headers; a value is decoded when somebody asks for it.
//
//   header 20 | type 2, length 2, value, padding to a multiple of 4 | ... | MESSAGE-INTEGRITY | FINGERPRINT
//
// What follows MESSAGE-INTEGRITY is not protected by it and does not exist for us, except FINGERPRINT; nothing follows FINGERPRINT
// (RFC 8489, section 14.5). Of several attributes of one type the first counts.

import { toHex, viewOf } from "../base/bytes.js";
import { type Attribute, AttributeError } from "./attribute.js";
import { Fingerprint, MessageIntegrity } from "./attributes.js";
import { HEADER_LENGTH, parseHeader, type StunClass, type StunHeader, type StunHeaderError } from "./header.js";

/** Length of an attribute's type and length fields in bytes. */
export const ATTRIBUTE_HEADER_LENGTH = 4;

/** Attributes that a message may have. Our protocols use ten at most. */
export const MAX_ATTRIBUTES = 64;

/** Why a datagram is no STUN message, or none that can be used. */
export type StunParseError =
  | StunHeaderError
  /** An attribute reaches beyond the end of the message. */
  | "truncated-attribute"
  | "too-many-attributes";

interface AttributePosition {
  readonly type: number;
  /** Offset of the value in the datagram. */
  readonly offset: number;
  /** Length of the value without padding. */
  readonly length: number;
}

/** Parses a datagram that must be exactly one STUN message. The result refers to the datagram's bytes. Never throws. */
export function parseStunMessage(datagram: Uint8Array): StunMessage | StunParseError {
  const header = parseHeader(datagram);
  if (typeof header === "string") return header;
  const view = viewOf(datagram);
  const attributes: AttributePosition[] = [];
  let integrityAt: number | undefined;
  for (let at = HEADER_LENGTH; at < datagram.length; ) {
    // The message's length is a multiple of 4, and so is every step: there is always a whole attribute header.
    const type = view.getUint16(at);
    const length = view.getUint16(at + 2);
    const offset = at + ATTRIBUTE_HEADER_LENGTH;
    const next = offset + length + padding(length);
    if (next > datagram.length) return "truncated-attribute";
    if (attributes.length === MAX_ATTRIBUTES) return "too-many-attributes";
    if (integrityAt === undefined || type === Fingerprint.type) attributes.push({ type, offset, length });
    if (type === MessageIntegrity.type) integrityAt ??= at;
    if (type === Fingerprint.type) break;
    at = next;
  }
  return new StunMessage(datagram, header, attributes);
}

/** Zero bytes after a value of this length. */
export function padding(length: number): number {
  return -length & 3;
}

/** A STUN message whose structure is sound. Its values may still be wrong, and nothing about it is authentic yet. */
export class StunMessage {
  /** The whole datagram. */
  readonly bytes: Uint8Array;
  readonly class: StunClass;
  readonly method: number;
  /** 12 bytes, a view of the datagram. */
  readonly transactionId: Uint8Array;

  readonly #attributes: readonly AttributePosition[];

  /** Use {@link parseStunMessage}. */
  constructor(bytes: Uint8Array, header: StunHeader, attributes: readonly AttributePosition[]) {
    this.bytes = bytes;
    this.class = header.class;
    this.method = header.method;
    this.transactionId = header.transactionId;
    this.#attributes = attributes;
  }

  /** The transaction id as a key for maps. */
  get transactionKey(): string {
    return toHex(this.transactionId);
  }

  /** Whether an attribute of this type is there, whatever its value. */
  has(attribute: Attribute<unknown>): boolean {
    return this.#find(attribute.type) !== undefined;
  }

  /** The value of an attribute; `undefined` when it is absent or its value is wrong. */
  get<T>(attribute: Attribute<T>): T | undefined {
    const value = this.decode(attribute);
    return value instanceof AttributeError ? undefined : value;
  }

  /** The value of an attribute, what is wrong with it, or `undefined` when it is absent. */
  decode<T>(attribute: Attribute<T>): T | AttributeError | undefined {
    const position = this.#find(attribute.type);
    return position === undefined ? undefined : attribute.decode(this.#value(position), this.transactionId);
  }

  /** All right values of an attribute that may occur more than once, in order. */
  getAll<T>(attribute: Attribute<T>): T[] {
    const values: T[] = [];
    for (const position of this.#attributes) {
      if (position.type !== attribute.type) continue;
      const value = attribute.decode(this.#value(position), this.transactionId);
      if (!(value instanceof AttributeError)) values.push(value);
    }
    return values;
  }

  /** Offset in the datagram at which an attribute begins, with its header; `undefined` when it is absent. */
  offsetOf(attribute: Attribute<unknown>): number | undefined {
    const position = this.#find(attribute.type);
    return position === undefined ? undefined : position.offset - ATTRIBUTE_HEADER_LENGTH;
  }

  /** Types of the attributes, in order. */
  get attributeTypes(): number[] {
    return this.#attributes.map((position) => position.type);
  }

  #find(type: number): AttributePosition | undefined {
    return this.#attributes.find((position) => position.type === type);
  }

  #value(position: AttributePosition): Uint8Array {
    return this.bytes.subarray(position.offset, position.offset + position.length);
  }
}
