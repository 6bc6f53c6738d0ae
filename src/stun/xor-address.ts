// Attributes that are XOR addresses (RFC 8489, section 14.2; spec 03, section 1.4): port and address are combined with the magic
// cookie and the transaction id, so that a NAT that rewrites addresses in payloads does not recognise them.
//
//   | 0x00 | family (1: IPv4, 2: IPv6) | port XOR 0x2112 (16 bits) | address XOR key (32 or 128 bits) |
//
// The key is the magic cookie, for IPv6 followed by the transaction id.

import { IpAddress, SocketAddress } from "../base/address.js";
import { viewOf } from "../base/bytes.js";
import { type Attribute, AttributeError } from "./attribute.js";
import { MAGIC_COOKIE, TRANSACTION_ID_LENGTH } from "./header.js";

/** Address family numbers of STUN attributes. */
export const FAMILY_IPV4 = 1;
/** See {@link FAMILY_IPV4}. */
export const FAMILY_IPV6 = 2;

/** Bytes before the address: zero, family, port. */
const PREFIX_LENGTH = 4;

/** A kind of attribute that holds an XOR address. */
export function xorAddressAttribute(type: number, name: string): Attribute<SocketAddress> {
  return {
    type,
    name,
    decode(value, transactionId) {
      if (value.length < PREFIX_LENGTH) return AttributeError.malformed;
      const length = addressLength(value[1]);
      if (length === undefined) return AttributeError.invalid;
      if (value.length !== PREFIX_LENGTH + length) return AttributeError.malformed;
      const port = viewOf(value).getUint16(2) ^ (MAGIC_COOKIE >>> 16);
      const ip = value.slice(PREFIX_LENGTH);
      applyKey(ip, transactionId);
      return new SocketAddress(IpAddress.fromBytes(ip), port);
    },
    encode(address, transactionId) {
      const value = new Uint8Array(PREFIX_LENGTH + address.ip.bytes.length);
      value[1] = address.family === 4 ? FAMILY_IPV4 : FAMILY_IPV6;
      viewOf(value).setUint16(2, address.port ^ (MAGIC_COOKIE >>> 16));
      value.set(address.ip.bytes, PREFIX_LENGTH);
      applyKey(value.subarray(PREFIX_LENGTH), transactionId);
      return value;
    },
  };
}

function addressLength(family: number | undefined): number | undefined {
  if (family === FAMILY_IPV4) return 4;
  return family === FAMILY_IPV6 ? 16 : undefined;
}

/** Combines an address of 4 or 16 bytes with the key, in place; doing it twice undoes it. */
function applyKey(ip: Uint8Array, transactionId: Uint8Array): void {
  const view = viewOf(ip);
  view.setUint32(0, view.getUint32(0) ^ MAGIC_COOKIE);
  if (ip.length === 4) return;
  for (let i = 0; i < TRANSACTION_ID_LENGTH; i++) ip[4 + i] = (ip[4 + i] ?? 0) ^ (transactionId[i] ?? 0);
}
