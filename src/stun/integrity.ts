// MESSAGE-INTEGRITY (RFC 8489, section 14.5; spec 03, section 1.5): HMAC-SHA1 over the message up to the attribute, with a length
// field that ends right after the attribute. With short-term credentials (ICE) the key is the password, with long-term ones (TURN)
// a hash of user name, realm and password (RFC 8489, sections 9.1 and 9.2).

import { constantTimeEqual, viewOf } from "../base/bytes.js";
import type { Crypto } from "../base/crypto.js";
import { INTEGRITY_LENGTH, MessageIntegrity } from "./attributes.js";
import { HEADER_LENGTH } from "./header.js";
import { ATTRIBUTE_HEADER_LENGTH, type StunMessage } from "./message.js";

/** Length of the whole attribute in bytes. */
const ATTRIBUTE_LENGTH = ATTRIBUTE_HEADER_LENGTH + INTEGRITY_LENGTH;

/** The key of short-term credentials. No SASLprep: passwords are letters and digits. */
export function shortTermKey(password: string): Uint8Array {
  return new TextEncoder().encode(password);
}

/** The key of long-term credentials: `MD5(username ":" realm ":" password)`, without SASLprep. */
export function longTermKey(username: string, realm: string, password: string, crypto: Crypto): Uint8Array {
  return crypto.md5(new TextEncoder().encode(`${username}:${realm}:${password}`));
}

/** Whether the message has a MESSAGE-INTEGRITY that was made with `key`. Padding bytes count as they were received. */
export function verifyIntegrity(message: StunMessage, key: Uint8Array, crypto: Crypto): boolean {
  const value = message.get(MessageIntegrity);
  const offset = message.offsetOf(MessageIntegrity);
  if (value === undefined || offset === undefined) return false;
  return constantTimeEqual(value, computeIntegrity(message.bytes.subarray(0, offset), key, crypto));
}

/**
 * The value of a MESSAGE-INTEGRITY attribute.
 *
 * @param preceding the message up to the attribute; the length field may hold anything.
 */
export function computeIntegrity(preceding: Uint8Array, key: Uint8Array, crypto: Crypto): Uint8Array {
  const covered = preceding.slice();
  viewOf(covered).setUint16(2, preceding.length - HEADER_LENGTH + ATTRIBUTE_LENGTH);
  return crypto.hmacSha1(key, covered);
}
