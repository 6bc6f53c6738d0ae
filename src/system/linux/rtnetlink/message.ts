// The netlink message format (RFC 3549, section 2.3; netlink(7), rtnetlink(7)), without IO: what is sent is built here, what is
// received is taken apart here. Numbers are in the host's byte order; libc.ts admits little-endian hosts only.
//
//   message    length u32 | type u16 | flags u16 | sequence u32 | port u32 | payload, padded to a multiple of 4 bytes
//   payload    a fixed structure that depends on the type, padded, then attributes
//   attribute  length u16 (header included, padding not) | type u16, two flag bits on top | value, padded
//
// Attributes nest. Several messages may share one datagram. A decoder gets `undefined` for anything that does not fit together.

import { viewOf } from "../../../base/bytes.js";

/** Length of a message header in bytes. */
export const MESSAGE_HEADER_LENGTH = 16;
const ATTRIBUTE_HEADER_LENGTH = 4;
/** The two uppermost bits of an attribute's type say "nested" and "network byte order". */
const ATTRIBUTE_TYPE_MASK = 0x3fff;
const ATTRIBUTE_NESTED = 0x8000;

/** Flags of requests and replies (`NLM_F_…`). GET, NEW and DELETE requests and error replies share bits. */
export const MessageFlag = {
  REQUEST: 0x01,
  MULTI: 0x02,
  ACK: 0x04,
  /** Reply to a dump: what is listed changed meanwhile, the list may be wrong. */
  DUMP_INTERRUPTED: 0x10,
  /** GET: a list rather than one object. */
  DUMP: 0x300,
  /** NEW: replace an object that exists. */
  REPLACE: 0x100,
  /** NEW: fail with EEXIST if it exists. */
  EXCLUSIVE: 0x200,
  /** NEW: create it if it does not exist. */
  CREATE: 0x400,
  /** Error reply: the request is not quoted. */
  CAPPED: 0x100,
  /** Error reply: attributes with details follow. */
  DETAILS: 0x200,
} as const;

/** Message types that every netlink family has (`NLMSG_…`). */
export const ControlType = { NOOP: 1, ERROR: 2, DONE: 3, OVERRUN: 4 } as const;

/** A message under construction: first the fixed structure, then attributes. */
export class MessageBuilder {
  readonly #type: number;
  readonly #flags: number;
  #bytes = new Uint8Array(256);
  #view = viewOf(this.#bytes);
  #length = MESSAGE_HEADER_LENGTH;

  /** `type` as RTM_NEWLINK; `flags` from {@link MessageFlag}. */
  constructor(type: number, flags: number) {
    this.#type = type;
    this.#flags = flags;
  }

  /** Appends an octet. */
  uint8(value: number): this {
    this.#view.setUint8(this.#grow(1), value);
    return this;
  }

  /** Appends 16 bits. */
  uint16(value: number): this {
    this.#view.setUint16(this.#grow(2), value, true);
    return this;
  }

  /** Appends 32 bits; negative numbers in two's complement. */
  uint32(value: number): this {
    this.#view.setUint32(this.#grow(4), value, true);
    return this;
  }

  /** Appends an attribute with these bytes as its value. */
  attribute(type: number, value: Uint8Array): this {
    return this.#attribute(type, () => {
      const offset = this.#grow(value.length);
      this.#bytes.set(value, offset);
    });
  }

  /** Appends an attribute of one octet. */
  attributeUint8(type: number, value: number): this {
    return this.#attribute(type, () => this.uint8(value));
  }

  /** Appends an attribute of 32 bits. */
  attributeUint32(type: number, value: number): this {
    return this.#attribute(type, () => this.uint32(value));
  }

  /** Appends an attribute of text with a terminating zero. */
  attributeText(type: number, text: string): this {
    return this.attribute(type, new TextEncoder().encode(`${text}\0`));
  }

  /** Appends an attribute whose value is what `fill` appends: more attributes, perhaps after a fixed structure. */
  nested(type: number, fill: (message: this) => void): this {
    return this.#attribute(type | ATTRIBUTE_NESTED, () => fill(this));
  }

  /** The message with this sequence number, ready to be sent. The builder can be used again. */
  build(sequence: number): Uint8Array {
    this.#align();
    this.#view.setUint32(0, this.#length, true);
    this.#view.setUint16(4, this.#type, true);
    this.#view.setUint16(6, this.#flags, true);
    this.#view.setUint32(8, sequence, true);
    return this.#bytes.slice(0, this.#length);
  }

  #attribute(type: number, writeValue: () => void): this {
    this.#align();
    const start = this.#grow(ATTRIBUTE_HEADER_LENGTH);
    writeValue();
    const length = this.#length - start;
    if (length > 0xffff) throw new RangeError(`a netlink attribute of ${length} bytes is too long`);
    this.#view.setUint16(start, length, true);
    this.#view.setUint16(start + 2, type, true);
    this.#align();
    return this;
  }

  #align(): void {
    this.#grow(padding(this.#length));
  }

  /** Makes room for `count` zero bytes; returns where they are. */
  #grow(count: number): number {
    const offset = this.#length;
    this.#length += count;
    if (this.#length > this.#bytes.length) {
      const larger = new Uint8Array(2 * this.#length);
      larger.set(this.#bytes);
      this.#bytes = larger;
      this.#view = viewOf(larger);
    }
    return offset;
  }
}

/** A received message. */
export interface NetlinkMessage {
  /** {@link ControlType} or a type of the family, as RTM_NEWLINK. */
  readonly type: number;
  /** Of {@link MessageFlag}. */
  readonly flags: number;
  /** That of the request; 0 in notifications. */
  readonly sequence: number;
  /** Fixed structure and attributes. A view into what was received. */
  readonly payload: Uint8Array;
}

/** Takes a received datagram apart; `undefined` when lengths do not fit. */
export function decodeMessages(datagram: Uint8Array): readonly NetlinkMessage[] | undefined {
  const view = viewOf(datagram);
  const messages: NetlinkMessage[] = [];
  for (let offset = 0; offset < datagram.length; ) {
    if (datagram.length - offset < MESSAGE_HEADER_LENGTH) return undefined;
    const length = view.getUint32(offset, true);
    if (length < MESSAGE_HEADER_LENGTH || length > datagram.length - offset) return undefined;
    messages.push({
      type: view.getUint16(offset + 4, true),
      flags: view.getUint16(offset + 6, true),
      sequence: view.getUint32(offset + 8, true),
      payload: datagram.subarray(offset + MESSAGE_HEADER_LENGTH, offset + length),
    });
    offset += length + padding(length);
  }
  return messages;
}

/** Attributes by type; of several with the same type, the last. */
export class Attributes {
  readonly #values: ReadonlyMap<number, Uint8Array>;

  private constructor(values: ReadonlyMap<number, Uint8Array>) {
    this.#values = values;
  }

  /** The attributes that `payload` holds from `offset` on; `undefined` when lengths do not fit. */
  static decode(payload: Uint8Array, offset = 0): Attributes | undefined {
    const view = viewOf(payload);
    const values = new Map<number, Uint8Array>();
    while (offset < payload.length) {
      if (payload.length - offset < ATTRIBUTE_HEADER_LENGTH) return undefined;
      const length = view.getUint16(offset, true);
      if (length < ATTRIBUTE_HEADER_LENGTH || length > payload.length - offset) return undefined;
      const type = view.getUint16(offset + 2, true) & ATTRIBUTE_TYPE_MASK;
      values.set(type, payload.subarray(offset + ATTRIBUTE_HEADER_LENGTH, offset + length));
      offset += length + padding(length);
    }
    return new Attributes(values);
  }

  /** The value of the attribute; `undefined` without it. */
  bytes(type: number): Uint8Array | undefined {
    return this.#values.get(type);
  }

  /** The value as one octet; `undefined` without it or when it has another length. */
  uint8(type: number): number | undefined {
    const value = this.#values.get(type);
    return value?.length === 1 ? value[0] : undefined;
  }

  /** The value as a 32-bit number; `undefined` without it or when it has another length. */
  uint32(type: number): number | undefined {
    const value = this.#values.get(type);
    return value?.length === 4 ? viewOf(value).getUint32(0, true) : undefined;
  }

  /** The value as text up to its terminating zero; `undefined` without it. */
  text(type: number): string | undefined {
    const value = this.#values.get(type);
    if (value === undefined) return undefined;
    const end = value.indexOf(0);
    return new TextDecoder().decode(end === -1 ? value : value.subarray(0, end));
  }

  /** The attributes inside; `undefined` without it or when they do not fit. */
  nested(type: number): Attributes | undefined {
    const value = this.#values.get(type);
    return value === undefined ? undefined : Attributes.decode(value);
  }
}

/** How a request ended. */
export interface Outcome {
  /** 0: success; otherwise an error number, positive. */
  readonly errno: number;
  /** The kernel's own words about what is wrong, or about a success with reservations. */
  readonly text?: string;
}

const NLMSGERR_ATTR_MSG = 1;

/** The outcome that an ERROR or DONE message reports; `undefined` for any other message or a malformed one. */
export function decodeOutcome(message: NetlinkMessage): Outcome | undefined {
  const { payload } = message;
  let detailsOffset: number;
  switch (message.type) {
    case ControlType.DONE:
      if (payload.length < 4) return undefined;
      detailsOffset = 4;
      break;
    case ControlType.ERROR: {
      // error i32 | header of the request | unless capped: the rest of the request
      if (payload.length < 4 + MESSAGE_HEADER_LENGTH) return undefined;
      const quoted =
        (message.flags & MessageFlag.CAPPED) !== 0 ? MESSAGE_HEADER_LENGTH : viewOf(payload).getUint32(4, true);
      detailsOffset = 4 + quoted + padding(quoted);
      break;
    }
    default:
      return undefined;
  }
  const errno = -viewOf(payload).getInt32(0, true) || 0;
  if (errno < 0) return undefined;
  if ((message.flags & MessageFlag.DETAILS) === 0) return { errno };
  const text = Attributes.decode(payload, detailsOffset)?.text(NLMSGERR_ATTR_MSG);
  return text === undefined ? { errno } : { errno, text };
}

/** Bytes from `length` to the next multiple of 4. */
function padding(length: number): number {
  return -length & 3;
}
