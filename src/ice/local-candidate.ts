// Candidates of this side as they are signalled: with default priorities and the foundations of the original (spec 02, section 4.2).
//
//   foundation = byte-swapped priority, 8 hexadecimal digits | SipHash-1-3 of kind, family, base address and protocol
//
// The swapped priority makes strings sort by kind within one IP version.

import type { SocketAddress } from "../base/address.js";
import { concatBytes, toHex, viewOf } from "../base/bytes.js";
import { type Candidate, type CandidateKind, candidatePriority, defaultLocalPreference } from "./candidate.js";
import { SIPHASH_KEY_LENGTH, sipHash13 } from "./siphash.js";

/** Numbers of the kinds in the hash. */
const KIND_NUMBER: Readonly<Record<CandidateKind, number>> = { host: 0, prflx: 1, srflx: 2, relay: 3 };

const HASH_KEY = new Uint8Array(SIPHASH_KEY_LENGTH);

/** An address of this machine, with the port of our socket. */
export function hostCandidate(address: SocketAddress): Candidate {
  return localCandidate("host", address, address);
}

/** `address` is how a relay sees datagrams that leave from `base`. */
export function serverReflexiveCandidate(address: SocketAddress, base: SocketAddress): Candidate {
  return localCandidate("srflx", address, base);
}

/** An address that a relay lends us. */
export function relayCandidate(address: SocketAddress): Candidate {
  return localCandidate("relay", address, address);
}

function localCandidate(kind: CandidateKind, address: SocketAddress, base: SocketAddress): Candidate {
  const priority = candidatePriority(kind, defaultLocalPreference(address.family));
  return { kind, address, base, priority, foundation: foundation(kind, base, priority) };
}

function foundation(kind: CandidateKind, base: SocketAddress, priority: number): string {
  const swapped = new Uint8Array(4);
  viewOf(swapped).setUint32(0, priority, true);
  const { bytes } = base.ip;
  const hash = sipHash13(
    HASH_KEY,
    concatBytes(
      uint64(KIND_NUMBER[kind]),
      uint64(base.family === 4 ? 0 : 1),
      uint64(bytes.length),
      bytes,
      // The protocol: UDP.
      uint64(0),
    ),
  );
  return toHex(swapped) + hash.toString(16);
}

function uint64(value: number): Uint8Array {
  const bytes = new Uint8Array(8);
  viewOf(bytes).setUint32(0, value, true);
  return bytes;
}
