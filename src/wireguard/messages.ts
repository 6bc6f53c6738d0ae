// Codec of WireGuard's four messages (whitepaper, section 5.4; spec 02, section 11.2). Integers are little-endian, lengths are
// exact, the three bytes after the type are zero.
//
//   initiation      type 1, 148 bytes:   sender 4 | ephemeral 32 | static 32+16 | timestamp 12+16 | mac1 16 | mac2 16
//   response        type 2,  92 bytes:   sender 4 | receiver 4 | ephemeral 32 | nothing 0+16 | mac1 16 | mac2 16
//   cookie reply    type 3,  64 bytes:   receiver 4 | nonce 24 | cookie 16+16
//   transport data  type 4, >= 32 bytes: receiver 4 | counter 8 | packet n+16

import { viewOf } from "../base/bytes.js";
import { KEY_LENGTH, MAC_LENGTH, TAG_LENGTH } from "./constants.js";
import { TAI64N_LENGTH } from "./tai64n.js";

/** Length of a handshake initiation in bytes. */
export const INITIATION_LENGTH = 148;
/** Length of a handshake response in bytes. */
export const RESPONSE_LENGTH = 92;
/** Length of a cookie reply in bytes. */
export const COOKIE_REPLY_LENGTH = 64;
/** Length in bytes of a transport data message without its packet: header and tag. */
export const TRANSPORT_OVERHEAD = 32;
/** Length of the nonce of a cookie reply in bytes. */
export const COOKIE_NONCE_LENGTH = 24;

/** The first byte of each message. */
const TYPE = { initiation: 1, response: 2, cookieReply: 3, transport: 4 } as const;

/** Length in bytes of the header of a transport data message. */
const TRANSPORT_HEADER_LENGTH = 16;

/** Length in bytes of mac1 and mac2, which end initiations and responses. */
const MACS_LENGTH = 2 * MAC_LENGTH;

/** Handshake initiation. The byte strings are views of the datagram it was parsed from. */
export interface HandshakeInitiation {
  readonly type: "initiation";
  /** Index under which the initiator wants to be answered. */
  readonly senderIndex: number;
  /** The initiator's ephemeral public key, 32 bytes. */
  readonly ephemeral: Uint8Array;
  /** The initiator's static public key, encrypted: 48 bytes. */
  readonly encryptedStatic: Uint8Array;
  /** TAI64N timestamp, encrypted: 28 bytes. */
  readonly encryptedTimestamp: Uint8Array;
}

/** Handshake response. The byte strings are views of the datagram it was parsed from. */
export interface HandshakeResponse {
  readonly type: "response";
  readonly senderIndex: number;
  /** The sender index of the initiation that this answers. */
  readonly receiverIndex: number;
  /** The responder's ephemeral public key, 32 bytes. */
  readonly ephemeral: Uint8Array;
  /** Tag of the encrypted empty string, 16 bytes. */
  readonly encryptedNothing: Uint8Array;
}

/** Cookie reply. The byte strings are views of the datagram it was parsed from. */
export interface CookieReply {
  readonly type: "cookie-reply";
  /** The sender index of the handshake message that was not processed. */
  readonly receiverIndex: number;
  /** 24 bytes. */
  readonly nonce: Uint8Array;
  /** The cookie, encrypted: 32 bytes. */
  readonly encryptedCookie: Uint8Array;
}

/** Transport data message. The byte string is a view of the datagram it was parsed from. */
export interface TransportData {
  readonly type: "transport";
  readonly receiverIndex: number;
  /** Nonce counter, 64 bits. */
  readonly counter: bigint;
  /** The packet, encrypted, and the tag. */
  readonly encryptedPacket: Uint8Array;
}

/** Any WireGuard message. */
export type Message = HandshakeInitiation | HandshakeResponse | CookieReply | TransportData;

/** Parses a datagram; `undefined` when it is no WireGuard message (`InvalidPacket`). */
export function parseMessage(datagram: Uint8Array): Message | undefined {
  const { length } = datagram;
  if (length < 4) return undefined;
  const view = viewOf(datagram);
  // The type and its reserved bytes read as one little-endian number.
  switch (view.getUint32(0, true)) {
    case TYPE.initiation:
      return length === INITIATION_LENGTH ? parseInitiation(datagram, view) : undefined;
    case TYPE.response:
      return length === RESPONSE_LENGTH ? parseResponse(datagram, view) : undefined;
    case TYPE.cookieReply:
      return length === COOKIE_REPLY_LENGTH ? parseCookieReply(datagram, view) : undefined;
    case TYPE.transport:
      return length >= TRANSPORT_OVERHEAD ? parseTransport(datagram, view) : undefined;
    default:
      return undefined;
  }
}

function parseInitiation(datagram: Uint8Array, view: DataView): HandshakeInitiation {
  const staticAt = 8 + KEY_LENGTH;
  const timestampAt = staticAt + KEY_LENGTH + TAG_LENGTH;
  return {
    type: "initiation",
    senderIndex: view.getUint32(4, true),
    ephemeral: datagram.subarray(8, staticAt),
    encryptedStatic: datagram.subarray(staticAt, timestampAt),
    encryptedTimestamp: datagram.subarray(timestampAt, timestampAt + TAI64N_LENGTH + TAG_LENGTH),
  };
}

function parseResponse(datagram: Uint8Array, view: DataView): HandshakeResponse {
  const nothingAt = 12 + KEY_LENGTH;
  return {
    type: "response",
    senderIndex: view.getUint32(4, true),
    receiverIndex: view.getUint32(8, true),
    ephemeral: datagram.subarray(12, nothingAt),
    encryptedNothing: datagram.subarray(nothingAt, nothingAt + TAG_LENGTH),
  };
}

function parseCookieReply(datagram: Uint8Array, view: DataView): CookieReply {
  const cookieAt = 8 + COOKIE_NONCE_LENGTH;
  return {
    type: "cookie-reply",
    receiverIndex: view.getUint32(4, true),
    nonce: datagram.subarray(8, cookieAt),
    encryptedCookie: datagram.subarray(cookieAt),
  };
}

function parseTransport(datagram: Uint8Array, view: DataView): TransportData {
  return {
    type: "transport",
    receiverIndex: view.getUint32(4, true),
    counter: view.getBigUint64(8, true),
    encryptedPacket: datagram.subarray(TRANSPORT_HEADER_LENGTH),
  };
}

/** An initiation as bytes; mac1 and mac2 are zero (src/wireguard/cookie.ts fills them in). */
export function encodeInitiation(message: Omit<HandshakeInitiation, "type">): Uint8Array {
  const bytes = start(TYPE.initiation, INITIATION_LENGTH);
  viewOf(bytes).setUint32(4, message.senderIndex, true);
  append(bytes, 8, message.ephemeral, message.encryptedStatic, message.encryptedTimestamp);
  return bytes;
}

/** A response as bytes; mac1 and mac2 are zero. */
export function encodeResponse(message: Omit<HandshakeResponse, "type">): Uint8Array {
  const bytes = start(TYPE.response, RESPONSE_LENGTH);
  viewOf(bytes).setUint32(4, message.senderIndex, true);
  viewOf(bytes).setUint32(8, message.receiverIndex, true);
  append(bytes, 12, message.ephemeral, message.encryptedNothing);
  return bytes;
}

/** A cookie reply as bytes. */
export function encodeCookieReply(message: Omit<CookieReply, "type">): Uint8Array {
  const bytes = start(TYPE.cookieReply, COOKIE_REPLY_LENGTH);
  viewOf(bytes).setUint32(4, message.receiverIndex, true);
  append(bytes, 8, message.nonce, message.encryptedCookie);
  return bytes;
}

/** A transport data message as bytes. The datapath has its own encoder; this one serves tests. */
export function encodeTransport(message: Omit<TransportData, "type">): Uint8Array {
  const bytes = start(TYPE.transport, TRANSPORT_HEADER_LENGTH + message.encryptedPacket.length);
  viewOf(bytes).setUint32(4, message.receiverIndex, true);
  viewOf(bytes).setBigUint64(8, message.counter, true);
  append(bytes, TRANSPORT_HEADER_LENGTH, message.encryptedPacket);
  return bytes;
}

function start(type: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  bytes[0] = type;
  return bytes;
}

function append(bytes: Uint8Array, offset: number, ...parts: readonly Uint8Array[]): void {
  let at = offset;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
}

/** The parts of an initiation or response that mac1 and mac2 cover, and the macs: views of `message`. */
export function macFields(message: Uint8Array): {
  readonly coveredByMac1: Uint8Array;
  readonly mac1: Uint8Array;
  readonly coveredByMac2: Uint8Array;
  readonly mac2: Uint8Array;
} {
  const mac1At = message.length - MACS_LENGTH;
  const mac2At = message.length - MAC_LENGTH;
  return {
    coveredByMac1: message.subarray(0, mac1At),
    mac1: message.subarray(mac1At, mac2At),
    coveredByMac2: message.subarray(0, mac2At),
    mac2: message.subarray(mac2At),
  };
}
