// FINGERPRINT (RFC 8489, section 14.7; spec 03, section 1.6): a CRC-32 of the message up to the attribute, with a length field that
// ends right after the attribute. It tells STUN from other protocols on a port; it proves nothing.

import { viewOf } from "../base/bytes.js";
import { Fingerprint } from "./attributes.js";
import { HEADER_LENGTH } from "./header.js";
import { ATTRIBUTE_HEADER_LENGTH, type StunMessage } from "./message.js";

/** Combined with the CRC, so that the result differs from that of protocols which use a plain one. */
const FINGERPRINT_XOR = 0x5354554e;

/** Length of the whole attribute in bytes. */
const ATTRIBUTE_LENGTH = ATTRIBUTE_HEADER_LENGTH + 4;

/** CRC-32/ISO-HDLC in reflected form: remainders of all bytes. */
const CRC_TABLE: Uint32Array = Uint32Array.from({ length: 256 }, (_, byte) => {
  let remainder = byte;
  for (let bit = 0; bit < 8; bit++) remainder = (remainder >>> 1) ^ (remainder & 1 ? 0xedb88320 : 0);
  return remainder;
});

/** Whether the message's FINGERPRINT is right; `undefined` when it has none. */
export function verifyFingerprint(message: StunMessage): boolean | undefined {
  const offset = message.offsetOf(Fingerprint);
  if (offset === undefined) return undefined;
  return message.get(Fingerprint) === computeFingerprint(message.bytes.subarray(0, offset));
}

/**
 * The value of a FINGERPRINT attribute.
 *
 * @param preceding the message up to the attribute; the length field may hold anything.
 */
export function computeFingerprint(preceding: Uint8Array): number {
  const covered = preceding.slice();
  viewOf(covered).setUint16(2, preceding.length - HEADER_LENGTH + ATTRIBUTE_LENGTH);
  return (crc32(covered) ^ FINGERPRINT_XOR) >>> 0;
}

/** CRC-32/ISO-HDLC, as in Ethernet and zip. */
export function crc32(bytes: Uint8Array): number {
  let remainder = 0xffffffff;
  for (const byte of bytes) remainder = (remainder >>> 8) ^ (CRC_TABLE[(remainder ^ byte) & 0xff] ?? 0);
  return ~remainder >>> 0;
}
