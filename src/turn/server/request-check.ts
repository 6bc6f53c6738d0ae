// What is wrong with a request, whoever sent it: values that cannot be decoded (spec 03, section 1.8), attributes that it must have (section 3.3), attributes
// that must be understood and are not (RFC 8489, section 14).

import { type Attribute, AttributeError } from "../../stun/attribute.js";
import {
  AdditionalAddressFamily,
  ChannelNumber,
  Data,
  EvenPort,
  Fingerprint,
  Lifetime,
  MessageIntegrity,
  Nonce,
  Realm,
  RequestedAddressFamily,
  RequestedTransport,
  ReservationToken,
  Software,
  Username,
  XorMappedAddress,
  XorPeerAddress,
  XorRelayedAddress,
} from "../../stun/attributes.js";
import { ErrorCode, type StunErrorCode } from "../../stun/error-code.js";
import { Method } from "../../stun/header.js";
import type { StunMessage } from "../../stun/message.js";

/** Attributes that must be understood (RFC 8489, section 14): types below this. */
const COMPREHENSION_OPTIONAL = 0x8000;

/** Those that the server understands. DONT-FRAGMENT is not among them: it must be said so (RFC 8656, section 7.2). */
const KNOWN: readonly Attribute<unknown>[] = [
  AdditionalAddressFamily,
  ChannelNumber,
  Data,
  EvenPort,
  Lifetime,
  MessageIntegrity,
  Nonce,
  Realm,
  RequestedAddressFamily,
  RequestedTransport,
  ReservationToken,
  Software,
  Username,
  XorMappedAddress,
  XorPeerAddress,
  XorRelayedAddress,
];

/** FINGERPRINT may be there, and is not looked at (spec 03, section 1.6). */
const KNOWN_TYPES: ReadonlySet<number> = new Set([Fingerprint.type, ...KNOWN.map(({ type }) => type)]);

/** Why a request is refused before anybody asks whose it is; `undefined`: it is not. */
export function faultOf(message: StunMessage): StunErrorCode | undefined {
  for (const attribute of KNOWN) {
    const value = message.decode(attribute);
    if (value instanceof AttributeError)
      return value.kind === "malformed" ? ErrorCode.ServerError : ErrorCode.BadRequest;
  }
  return hasMandatory(message) ? undefined : ErrorCode.BadRequest;
}

/** Types of attributes that must be understood, and are not. */
export function unknownAttributes(message: StunMessage): number[] {
  return message.attributeTypes.filter((type) => type < COMPREHENSION_OPTIONAL && !KNOWN_TYPES.has(type));
}

function hasMandatory(message: StunMessage): boolean {
  const has = (...attributes: readonly Attribute<unknown>[]) => attributes.every((attribute) => message.has(attribute));
  switch (message.method) {
    case Method.Allocate:
      return has(RequestedTransport);
    case Method.ChannelBind:
      return has(ChannelNumber, XorPeerAddress);
    default:
      return true;
  }
}
