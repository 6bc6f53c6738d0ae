// How one kind of attribute is written and read. What the kinds are is in attributes.ts; where they lie in a message is the
// business of message.ts and builder.ts.

import { viewOf } from "../base/bytes.js";

/** Why the value of an attribute cannot be decoded. The difference is 500 or 400 in a relay's answer (spec 03, section 1.8). */
export class AttributeError {
  /** `malformed`: the length does not fit the type. `invalid`: the content is none that the type has. */
  readonly kind: "malformed" | "invalid";

  private constructor(kind: "malformed" | "invalid") {
    this.kind = kind;
  }

  static readonly malformed = new AttributeError("malformed");
  static readonly invalid = new AttributeError("invalid");
}

/** A kind of attribute whose values are `T`s. */
export interface Attribute<T> {
  /** Attribute type, 16 bits. */
  readonly type: number;
  /** Name in the RFCs. */
  readonly name: string;
  /** Decodes a value, without padding. Values that are byte strings are views of `value`. */
  decode(value: Uint8Array, transactionId: Uint8Array): T | AttributeError;
  /** The value as bytes, without padding. A value that the type cannot hold is a caller's bug and throws. */
  encode(value: T, transactionId: Uint8Array): Uint8Array;
}

/** UTF-8 text of a limited length in bytes. */
export function textAttribute(type: number, name: string, maxLength: number): Attribute<string> {
  return {
    type,
    name,
    decode(value) {
      if (value.length > maxLength) return AttributeError.invalid;
      return decodeUtf8(value) ?? AttributeError.invalid;
    },
    encode(text) {
      const value = new TextEncoder().encode(text);
      if (value.length > maxLength) throw new RangeError(`${name} has ${maxLength} bytes at most`);
      return value;
    },
  };
}

/** A byte string of a fixed length. */
export function bytesAttribute(type: number, name: string, length: number): Attribute<Uint8Array> {
  return {
    type,
    name,
    decode: (value) => (value.length === length ? value : AttributeError.malformed),
    encode(value) {
      if (value.length !== length) throw new RangeError(`${name} has ${length} bytes`);
      return value;
    },
  };
}

/** No value: what counts is that it is there. */
export function flagAttribute(type: number, name: string): Attribute<true> {
  return {
    type,
    name,
    decode: (value) => (value.length === 0 ? true : AttributeError.malformed),
    encode: () => new Uint8Array(0),
  };
}

/** A 32-bit unsigned number. */
export function uint32Attribute(type: number, name: string): Attribute<number> {
  return {
    type,
    name,
    decode: (value) => (value.length === 4 ? viewOf(value).getUint32(0) : AttributeError.malformed),
    encode(number) {
      const value = new Uint8Array(4);
      viewOf(value).setUint32(0, number);
      return value;
    },
  };
}

/** A number of `width` bytes, 1 or 2, followed by reserved bytes up to 4: sent as zero, ignored when received. */
export function shortAttribute(
  type: number,
  name: string,
  width: 1 | 2,
  isValid: (value: number) => boolean,
): Attribute<number> {
  return {
    type,
    name,
    decode(value) {
      if (value.length !== 4) return AttributeError.malformed;
      const number = width === 1 ? viewOf(value).getUint8(0) : viewOf(value).getUint16(0);
      return isValid(number) ? number : AttributeError.invalid;
    },
    encode(number) {
      if (!isValid(number)) throw new RangeError(`${number} is no ${name}`);
      const value = new Uint8Array(4);
      if (width === 1) viewOf(value).setUint8(0, number);
      else viewOf(value).setUint16(0, number);
      return value;
    },
  };
}

// A byte order mark is content like any other: what was received must come out the same.
const utf8Decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** The text of UTF-8 bytes; `undefined` when they are none. */
export function decodeUtf8(bytes: Uint8Array): string | undefined {
  try {
    return utf8Decoder.decode(bytes);
  } catch (error) {
    // The one way in which a fatal decoder fails: not UTF-8.
    if (error instanceof TypeError) return undefined;
    throw error;
  }
}
