// The STUN messages of connectivity checks (RFC 8445, section 7; spec 02, section 10.2), attributes in the original's order.
//
//   request    USERNAME "receiver:sender" | ICE-CONTROLLED or -CONTROLLING | PRIORITY | [USE-CANDIDATE] | integrity | fingerprint
//   response   XOR-MAPPED-ADDRESS | integrity | fingerprint
//
// Both are protected with the password of whoever receives the request.

import type { SocketAddress } from "../base/address.js";
import type { Crypto } from "../base/crypto.js";
import {
  IceControlled,
  IceControlling,
  Priority,
  UseCandidate,
  Username,
  XorMappedAddress,
} from "../stun/attributes.js";
import { StunBuilder } from "../stun/builder.js";
import { Method } from "../stun/header.js";
import { shortTermKey } from "../stun/integrity.js";
import type { StunMessage } from "../stun/message.js";
import type { IceCredentials } from "./credentials.js";
import type { IceRole } from "./pair.js";

/** What a connectivity check says. */
export interface CheckRequest {
  readonly transactionId: Uint8Array;
  readonly local: IceCredentials;
  readonly remote: IceCredentials;
  readonly role: IceRole;
  /** 8 bytes; for resolving role conflicts, which cannot occur here: roles are fixed. */
  readonly tieBreaker: Uint8Array;
  /** Priority that the local candidate would have as a peer-reflexive one. */
  readonly priority: number;
  readonly useCandidate: boolean;
}

/** A connectivity check as a datagram. */
export function buildRequest(check: CheckRequest, crypto: Crypto): Uint8Array {
  const builder = new StunBuilder("request", Method.Binding, check.transactionId)
    .add(Username, `${check.remote.username}:${check.local.username}`)
    .add(check.role === "controlling" ? IceControlling : IceControlled, check.tieBreaker)
    .add(Priority, check.priority);
  if (check.useCandidate) builder.add(UseCandidate, true);
  return builder.addIntegrity(shortTermKey(check.remote.password), crypto).addFingerprint().finish();
}

/** The answer to a connectivity check that came from `mapped`. */
export function buildResponse(
  transactionId: Uint8Array,
  mapped: SocketAddress,
  local: IceCredentials,
  crypto: Crypto,
): Uint8Array {
  return new StunBuilder("success", Method.Binding, transactionId)
    .add(XorMappedAddress, mapped)
    .addIntegrity(shortTermKey(local.password), crypto)
    .addFingerprint()
    .finish();
}

/** The user fragments of a connectivity check. */
export interface CheckUsernames {
  /** Of the agent that the check is for. */
  readonly receiver: string;
  readonly sender: string;
}

/** Longest USERNAME of a connectivity check in bytes (spec 02, section 10.2). */
const MAX_USERNAME_LENGTH = 128;

/** Whom a binding request is for and from; `undefined` when it is no connectivity check. Nothing about it is authentic yet. */
export function usernamesOf(message: StunMessage): CheckUsernames | undefined {
  if (message.class !== "request" || message.method !== Method.Binding) return undefined;
  const username = message.get(Username);
  if (username === undefined || username.length > MAX_USERNAME_LENGTH) return undefined;
  const colon = username.indexOf(":");
  if (colon === -1 || colon === username.length - 1) return undefined;
  return { receiver: username.slice(0, colon), sender: username.slice(colon + 1) };
}
