// The attributes that wirelane's protocols use (spec 03, section 1.3; for ICE spec 02, section 10.2). Others are ignored on
// receipt, also those that RFC 8489 calls comprehension-required (spec 03, section 1.8).

import { viewOf } from "../base/bytes.js";
import {
  type Attribute,
  AttributeError,
  bytesAttribute,
  flagAttribute,
  shortAttribute,
  textAttribute,
  uint32Attribute,
} from "./attribute.js";
import { CHANNEL_MIN, OLD_CHANNEL_MAX } from "./channel-data.js";
import { FAMILY_IPV4, FAMILY_IPV6, xorAddressAttribute } from "./xor-address.js";

export { ErrorCodeAttribute } from "./error-code.js";

/** Length of the value of MESSAGE-INTEGRITY in bytes: an HMAC-SHA1. */
export const INTEGRITY_LENGTH = 20;

/** REQUESTED-TRANSPORT of UDP: its protocol number. */
export const TRANSPORT_UDP = 17;

const isFamily = (family: number): boolean => family === FAMILY_IPV4 || family === FAMILY_IPV6;

/** USERNAME: at most 512 bytes. */
export const Username = textAttribute(0x0006, "USERNAME", 512);
/** MESSAGE-INTEGRITY; see integrity.ts. */
export const MessageIntegrity = bytesAttribute(0x0008, "MESSAGE-INTEGRITY", INTEGRITY_LENGTH);
/** CHANNEL-NUMBER: 0x4000 to 0x4FFF, of old clients to 0x7FFF. */
export const ChannelNumber = shortAttribute(
  0x000c,
  "CHANNEL-NUMBER",
  2,
  (number) => number >= CHANNEL_MIN && number <= OLD_CHANNEL_MAX,
);
/** LIFETIME in seconds. */
export const Lifetime = uint32Attribute(0x000d, "LIFETIME");
/** UNKNOWN-ATTRIBUTES: types, with an error 420. */
export const UnknownAttributes: Attribute<readonly number[]> = {
  type: 0x000a,
  name: "UNKNOWN-ATTRIBUTES",
  decode(value) {
    if (value.length % 2 !== 0) return AttributeError.malformed;
    const view = viewOf(value);
    return Array.from({ length: value.length / 2 }, (_, i) => view.getUint16(2 * i));
  },
  encode(types) {
    const value = new Uint8Array(2 * types.length);
    const view = viewOf(value);
    for (const [i, type] of types.entries()) view.setUint16(2 * i, type);
    return value;
  },
};
/** DATA: the payload of Send and Data indications. */
export const Data: Attribute<Uint8Array> = {
  type: 0x0013,
  name: "DATA",
  decode: (value) => value,
  encode: (data) => data,
};
/** EVEN-PORT: first bit set: the next port too. */
export const EvenPort: Attribute<number> = {
  type: 0x0018,
  name: "EVEN-PORT",
  decode: (value) => value[0] ?? AttributeError.malformed,
  encode: (flags) => Uint8Array.of(flags),
};
/** DONT-FRAGMENT. */
export const DontFragment = flagAttribute(0x001a, "DONT-FRAGMENT");
/** RESERVATION-TOKEN. */
export const ReservationToken = bytesAttribute(0x0022, "RESERVATION-TOKEN", 8);
/** XOR-PEER-ADDRESS. */
export const XorPeerAddress = xorAddressAttribute(0x0012, "XOR-PEER-ADDRESS");
/** REALM: fewer than 128 characters, hence at most 763 bytes (RFC 8489, section 14.9). */
export const Realm = textAttribute(0x0014, "REALM", 763);
/** NONCE: fewer than 128 characters. */
export const Nonce = textAttribute(0x0015, "NONCE", 763);
/** XOR-RELAYED-ADDRESS; the only one here that may occur twice, once for each family. */
export const XorRelayedAddress = xorAddressAttribute(0x0016, "XOR-RELAYED-ADDRESS");
/** REQUESTED-ADDRESS-FAMILY: 1 for IPv4, 2 for IPv6. */
export const RequestedAddressFamily = shortAttribute(0x0017, "REQUESTED-ADDRESS-FAMILY", 1, isFamily);
/** REQUESTED-TRANSPORT: an IP protocol number. */
export const RequestedTransport = shortAttribute(0x0019, "REQUESTED-TRANSPORT", 1, (number) => number <= 255);
/** XOR-MAPPED-ADDRESS. */
export const XorMappedAddress = xorAddressAttribute(0x0020, "XOR-MAPPED-ADDRESS");
/** PRIORITY of an ICE candidate. */
export const Priority = uint32Attribute(0x0024, "PRIORITY");
/** USE-CANDIDATE: the controlling side nominates this pair. */
export const UseCandidate = flagAttribute(0x0025, "USE-CANDIDATE");
/** ADDITIONAL-ADDRESS-FAMILY: 2 for IPv6. */
export const AdditionalAddressFamily = shortAttribute(0x8000, "ADDITIONAL-ADDRESS-FAMILY", 1, isFamily);
/** SOFTWARE: fewer than 128 characters. */
export const Software = textAttribute(0x8022, "SOFTWARE", 763);
/** FINGERPRINT; see fingerprint.ts. */
export const Fingerprint = uint32Attribute(0x8028, "FINGERPRINT");
/** ICE-CONTROLLED: the tie-breaker, 8 bytes. */
export const IceControlled = bytesAttribute(0x8029, "ICE-CONTROLLED", 8);
/** ICE-CONTROLLING: the tie-breaker, 8 bytes. */
export const IceControlling = bytesAttribute(0x802a, "ICE-CONTROLLING", 8);
