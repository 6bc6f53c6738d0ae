// Which STUN messages an agent takes (RFC 8445, section 7.3; RFC 8489, section 9.1; spec 02, section 10.5): connectivity checks for it, from the other
// side, and answers to its own. Nothing is done for others: what is accepted is authentic.
//
//   request    USERNAME is ours and theirs, PRIORITY is there, the integrity by our password is right
//   response   to a check of ours that waits, XOR-MAPPED-ADDRESS is there, the integrity by their password is right

import type { Crypto } from "../base/crypto.js";
import { Priority, UseCandidate, XorMappedAddress } from "../stun/attributes.js";
import { Method } from "../stun/header.js";
import { verifyIntegrity } from "../stun/integrity.js";
import type { StunMessage } from "../stun/message.js";
import { usernamesOf } from "./check-messages.js";

/** A message whose integrity is right: from {@link acceptMessage}. */
export type AcceptedMessage = AcceptedRequest | { readonly type: "response"; readonly transaction: string };

/** A connectivity check of the other side. */
export interface AcceptedRequest {
  readonly type: "request";
  readonly transactionId: Uint8Array;
  /** User fragment of the sender. */
  readonly sender: string;
  readonly priority: number;
  readonly useCandidate: boolean;
}

/** What one side is recognised by. */
export interface Party {
  /** User fragment. */
  readonly username: string;
  /** From its password. */
  readonly key: Uint8Array;
}

/** By what messages are judged. */
export interface AcceptanceRules {
  readonly local: Party;
  /** `undefined`: whoever knows our password may be the other side. */
  readonly remote: Party | undefined;
  /** Whether a check of ours waits for this transaction's answer. */
  isAwaited(transaction: string): boolean;
}

/** Checks that a message is for an agent and from the other side; `undefined` when it is not. */
export function acceptMessage(
  message: StunMessage,
  { local, remote, isAwaited }: AcceptanceRules,
  crypto: Crypto,
): AcceptedMessage | undefined {
  switch (message.class) {
    case "request": {
      const usernames = usernamesOf(message);
      const priority = message.get(Priority);
      if (usernames === undefined || priority === undefined) return undefined;
      if (usernames.receiver !== local.username) return undefined;
      if (remote !== undefined && usernames.sender !== remote.username) return undefined;
      if (!verifyIntegrity(message, local.key, crypto)) return undefined;
      return {
        type: "request",
        transactionId: message.transactionId.slice(),
        sender: usernames.sender,
        priority,
        useCandidate: message.get(UseCandidate) === true,
      };
    }
    case "success": {
      const transaction = message.transactionKey;
      if (remote === undefined || message.method !== Method.Binding) return undefined;
      if (!isAwaited(transaction) || message.get(XorMappedAddress) === undefined) return undefined;
      if (!verifyIntegrity(message, remote.key, crypto)) return undefined;
      return { type: "response", transaction };
    }
    // Error responses mean nothing to us, and indications are not used.
    case "error":
    case "indication":
      return undefined;
  }
}
