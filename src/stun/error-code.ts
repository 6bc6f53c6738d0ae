// ERROR-CODE (RFC 8489, section 14.8): | 0x0000 | class: code / 100 | number: code % 100 | reason phrase (UTF-8) |

import { concatBytes } from "../base/bytes.js";
import { type Attribute, AttributeError, decodeUtf8 } from "./attribute.js";

/** Longest reason phrase in bytes (RFC 8489, section 14.8). */
const MAX_REASON_LENGTH = 763;

/** Bytes before the reason phrase. */
const PREFIX_LENGTH = 4;

/** Why a request was refused. */
export interface StunErrorCode {
  /** 300 to 699. */
  readonly code: number;
  /** For people; may be empty. */
  readonly reason: string;
}

/** Error codes of STUN, TURN and ICE (RFC 8489, section 14.8; RFC 8656, section 19; RFC 8445, section 7.3.1.1) with their phrases. */
export const ErrorCode = {
  BadRequest: { code: 400, reason: "Bad Request" },
  Unauthorized: { code: 401, reason: "Unauthorized" },
  Forbidden: { code: 403, reason: "Forbidden" },
  UnknownAttribute: { code: 420, reason: "Unknown Attribute" },
  AllocationMismatch: { code: 437, reason: "Allocation Mismatch" },
  StaleNonce: { code: 438, reason: "Stale Nonce" },
  AddressFamilyNotSupported: { code: 440, reason: "Address Family not Supported" },
  WrongCredentials: { code: 441, reason: "Wrong Credentials" },
  PeerAddressFamilyMismatch: { code: 443, reason: "Peer Address Family Mismatch" },
  AllocationQuotaReached: { code: 486, reason: "Allocation Quota Reached" },
  RoleConflict: { code: 487, reason: "Role Conflict" },
  ServerError: { code: 500, reason: "Server Error" },
  InsufficientCapacity: { code: 508, reason: "Insufficient Capacity" },
} as const satisfies Record<string, StunErrorCode>;

/** ERROR-CODE. */
export const ErrorCodeAttribute: Attribute<StunErrorCode> = {
  type: 0x0009,
  name: "ERROR-CODE",
  decode(value) {
    if (value.length < PREFIX_LENGTH) return AttributeError.malformed;
    // The five bits above the class are reserved.
    const hundreds = (value[2] ?? 0) & 0x07;
    const rest = value[3] ?? 0;
    const reason = value.subarray(PREFIX_LENGTH);
    if (hundreds < 3 || hundreds > 6 || rest > 99 || reason.length > MAX_REASON_LENGTH) return AttributeError.invalid;
    const text = decodeUtf8(reason);
    return text === undefined ? AttributeError.invalid : { code: hundreds * 100 + rest, reason: text };
  },
  encode({ code, reason }) {
    const text = new TextEncoder().encode(reason);
    if (!Number.isInteger(code) || code < 300 || code > 699) throw new RangeError(`${code} is no error code`);
    if (text.length > MAX_REASON_LENGTH) throw new RangeError("the reason phrase is too long");
    return concatBytes(Uint8Array.of(0, 0, Math.floor(code / 100), code % 100), text);
  },
};
