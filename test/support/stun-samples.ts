// STUN messages that several tests use, and a way to look at everything in a message.

import { SocketAddress } from "../../src/base/address.js";
import type { Attribute } from "../../src/stun/attribute.js";
import * as Attributes from "../../src/stun/attributes.js";
import { StunBuilder } from "../../src/stun/builder.js";
import { verifyFingerprint } from "../../src/stun/fingerprint.js";
import { Method } from "../../src/stun/header.js";
import { shortTermKey, verifyIntegrity } from "../../src/stun/integrity.js";
import type { StunMessage } from "../../src/stun/message.js";
import { nodeCrypto } from "../../src/system/crypto.js";
import { hex } from "./hex.js";

/** Every kind of attribute there is. */
export const ALL_ATTRIBUTES: readonly Attribute<unknown>[] = Object.values(Attributes).flatMap((value) =>
  typeof value === "object" ? [value] : [],
);

/** Parses an address that a test wrote down. */
export function address(text: string): SocketAddress {
  const parsed = SocketAddress.parse(text);
  if (parsed === undefined) throw new Error(`not a socket address: ${text}`);
  return parsed;
}

/** Decodes and verifies everything in a message: for tests that nothing throws. */
export function inspect(message: StunMessage): void {
  for (const attribute of ALL_ATTRIBUTES) {
    message.has(attribute);
    message.decode(attribute);
    message.getAll(attribute);
  }
  verifyIntegrity(message, shortTermKey("clientPassVord12345678"), nodeCrypto);
  verifyFingerprint(message);
}

/** A message with every attribute. */
export function messageWithEverything(): Uint8Array {
  return new StunBuilder("request", Method.Allocate, hex("0102030405060708090a0b0c"))
    .add(Attributes.Username, "gx2B:cl1A")
    .add(Attributes.ErrorCodeAttribute, { code: 438, reason: "Stale Nonce" })
    .add(Attributes.ChannelNumber, 0x4001)
    .add(Attributes.Lifetime, 600)
    .add(Attributes.XorPeerAddress, address("192.0.2.33:52625"))
    .add(Attributes.Realm, "firezone")
    .add(Attributes.Nonce, "f81d4fae-7dec-11d0-a765-00a0c91e6bf6")
    .add(Attributes.XorRelayedAddress, address("198.51.100.1:49152"))
    .add(Attributes.XorRelayedAddress, address("[2001:db8:1::1]:49152"))
    .add(Attributes.RequestedAddressFamily, 2)
    .add(Attributes.RequestedTransport, Attributes.TRANSPORT_UDP)
    .add(Attributes.XorMappedAddress, address("[2001:db8::7]:51820"))
    .add(Attributes.Priority, 1862270719)
    .add(Attributes.UseCandidate, true)
    .add(Attributes.AdditionalAddressFamily, 2)
    .add(Attributes.Software, "wirelane")
    .add(Attributes.IceControlled, hex("0102030405060708"))
    .add(Attributes.IceControlling, hex("0807060504030201"))
    .addIntegrity(shortTermKey("clientPassVord12345678"), nodeCrypto)
    .addFingerprint()
    .finish();
}
