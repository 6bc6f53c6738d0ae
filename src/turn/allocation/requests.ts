// The requests of an allocation's client (spec 03, section 5.4), attributes in the original's order.
//
//   binding        SOFTWARE
//   allocate       REQUESTED-TRANSPORT | ADDITIONAL-ADDRESS-FAMILY | SOFTWARE | credentials
//   refresh        the same; to delete the allocation also LIFETIME 0, before the credentials
//   channel-bind   XOR-PEER-ADDRESS | CHANNEL-NUMBER | SOFTWARE | credentials
//   credentials    USERNAME | REALM | NONCE, if one is known | MESSAGE-INTEGRITY

import type { Crypto } from "../../base/crypto.js";
import {
  AdditionalAddressFamily,
  ChannelNumber,
  Lifetime,
  Nonce,
  Realm,
  RequestedTransport,
  Software,
  TRANSPORT_UDP,
  Username,
  XorPeerAddress,
} from "../../stun/attributes.js";
import { StunBuilder } from "../../stun/builder.js";
import { Method } from "../../stun/header.js";
import { FAMILY_IPV6 } from "../../stun/xor-address.js";
import type { Channel } from "./channels.js";

/** What is asked for. */
export type TurnRequest =
  | { readonly type: "binding" }
  | { readonly type: "allocate" }
  /** `isProbe`: sent once, to learn whether the allocation lives. */
  | { readonly type: "refresh"; readonly isProbe: boolean }
  /** A refresh with lifetime 0. */
  | { readonly type: "delete" }
  | { readonly type: "channel-bind"; readonly channel: Channel };

/** What a request is authenticated with. */
export interface Authentication {
  readonly username: string;
  readonly realm: string;
  readonly nonce: string | undefined;
  /** From {@link longTermKey}. */
  readonly key: Uint8Array;
}

/** The method of a request. */
export function methodOf({ type }: TurnRequest): number {
  switch (type) {
    case "binding":
      return Method.Binding;
    case "allocate":
      return Method.Allocate;
    case "refresh":
    case "delete":
      return Method.Refresh;
    case "channel-bind":
      return Method.ChannelBind;
  }
}

/** A request as bytes; without `authentication` it has no credentials. */
export function encodeRequest(
  request: TurnRequest,
  transactionId: Uint8Array,
  software: string,
  authentication: Authentication | undefined,
  crypto: Crypto,
): Uint8Array {
  const message = new StunBuilder("request", methodOf(request), transactionId);
  switch (request.type) {
    case "binding":
      break;
    case "allocate":
    case "refresh":
    case "delete":
      message.add(RequestedTransport, TRANSPORT_UDP).add(AdditionalAddressFamily, FAMILY_IPV6);
      break;
    case "channel-bind":
      message.add(XorPeerAddress, request.channel.peer).add(ChannelNumber, request.channel.number);
      break;
  }
  message.add(Software, software);
  if (request.type === "delete") message.add(Lifetime, 0);
  if (authentication === undefined) return message.finish();
  const { username, realm, nonce, key } = authentication;
  message.add(Username, username).add(Realm, realm);
  if (nonce !== undefined) message.add(Nonce, nonce);
  return message.addIntegrity(key, crypto).finish();
}
