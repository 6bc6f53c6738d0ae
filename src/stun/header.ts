// STUN's message header (RFC 8489, section 5; spec 03, section 1.2).
//
//    0                   1                   2                   3
//    0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//   +---+---------------------------+-------------------------------+
//   |0 0|  class and method         |  length (bytes after header)  |
//   +---+---------------------------+-------------------------------+
//   |                  magic cookie = 0x2112A442                    |
//   +---------------------------------------------------------------+
//   |                  transaction id (96 bits)                     |
//   +---------------------------------------------------------------+

import { viewOf } from "../base/bytes.js";

/** Length of the header in bytes. */
export const HEADER_LENGTH = 20;

/** Tells STUN from other protocols (RFC 8489, section 5). */
export const MAGIC_COOKIE = 0x2112a442;

/** Length of a transaction id in bytes. */
export const TRANSACTION_ID_LENGTH = 12;

/** Message class (RFC 8489, section 5). */
export type StunClass = "request" | "indication" | "success" | "error";

/** In the order of their codes, 0 to 3. */
const CLASSES: readonly StunClass[] = ["request", "indication", "success", "error"];

/** Methods (RFC 8489, section 18.2; RFC 8656, section 17). */
export const Method = {
  Binding: 0x001,
  Allocate: 0x003,
  Refresh: 0x004,
  Send: 0x006,
  Data: 0x007,
  CreatePermission: 0x008,
  ChannelBind: 0x009,
} as const;

/** What the header says. */
export interface StunHeader {
  readonly class: StunClass;
  /** One of {@link Method}, or an unknown method: 12 bits. */
  readonly method: number;
  /** 12 bytes: a view of the datagram. */
  readonly transactionId: Uint8Array;
  /** Bytes after the header. */
  readonly length: number;
}

/** Why a datagram is no STUN message. */
export type StunHeaderError =
  /** Shorter than a header. */
  | "too-short"
  /** The first two bits are not zero, or the cookie is missing: another protocol. */
  | "not-stun"
  /** The length field is no multiple of 4, or not what follows the header. */
  | "bad-length";

/** Reads the header of a datagram that must be exactly one STUN message. */
export function parseHeader(datagram: Uint8Array): StunHeader | StunHeaderError {
  if (datagram.length < HEADER_LENGTH) return "too-short";
  const view = viewOf(datagram);
  const type = view.getUint16(0);
  if (type > 0x3fff || view.getUint32(4) !== MAGIC_COOKIE) return "not-stun";
  const length = view.getUint16(2);
  if (length % 4 !== 0 || length !== datagram.length - HEADER_LENGTH) return "bad-length";
  const transactionId = datagram.subarray(HEADER_LENGTH - TRANSACTION_ID_LENGTH, HEADER_LENGTH);
  return { class: classOf(type), method: methodOf(type), transactionId, length };
}

/** Writes a header to the first 20 bytes of `bytes`. */
export function writeHeader(
  bytes: Uint8Array,
  stunClass: StunClass,
  method: number,
  transactionId: Uint8Array,
  length: number,
): void {
  const view = viewOf(bytes);
  view.setUint16(0, encodeType(stunClass, method));
  view.setUint16(2, length);
  view.setUint32(4, MAGIC_COOKIE);
  bytes.set(transactionId, HEADER_LENGTH - TRANSACTION_ID_LENGTH);
}

// The type field from high to low: M11 M10 M9 M8 M7 C1 M6 M5 M4 C0 M3 M2 M1 M0.

/** The 14-bit type field of a class and a method. */
export function encodeType(stunClass: StunClass, method: number): number {
  const code = CLASSES.indexOf(stunClass);
  return (method & 0x00f) | ((code & 1) << 4) | ((method & 0x070) << 1) | ((code & 2) << 7) | ((method & 0xf80) << 2);
}

function classOf(type: number): StunClass {
  return CLASSES[((type >> 4) & 1) | ((type >> 7) & 2)] as StunClass;
}

function methodOf(type: number): number {
  return (type & 0x00f) | ((type >> 1) & 0x070) | ((type >> 2) & 0xf80);
}
