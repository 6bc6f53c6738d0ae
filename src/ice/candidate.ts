// Candidates: addresses at which one side may be reached, their kinds and priorities (RFC 8445, sections 5.1.1 and 5.1.2; spec 02,
// sections 4.1, 4.2 and 10.3). Component is always 1 and the protocol always UDP, so neither is stored.

import type { AddressFamily, IpAddress, SocketAddress } from "../base/address.js";

/** How a candidate was found. */
export type CandidateKind =
  /** An address of this machine. */
  | "host"
  /** An address seen by a relay: server-reflexive. */
  | "srflx"
  /** An address seen by the other side: peer-reflexive. Never signalled. */
  | "prflx"
  /** An address that a relay lends. */
  | "relay";

/** A candidate. Immutable. */
export interface Candidate {
  readonly kind: CandidateKind;
  /** Where the other side sends to. */
  readonly address: SocketAddress;
  /** Where this side really sends from. Of a candidate of the other side it is not known: then the same as `address`. */
  readonly base: SocketAddress;
  /** 32 bits unsigned; the higher the better. */
  readonly priority: number;
  /** Opaque; only for the string form. */
  readonly foundation: string;
  /** The related address, where one was signalled. */
  readonly related?: SocketAddress | undefined;
}

/** Type preferences (RFC 8445, section 5.1.2.2; relay is 2 instead of 0, as the original has it). */
const TYPE_PREFERENCE: Readonly<Record<CandidateKind, number>> = { host: 126, prflx: 110, srflx: 100, relay: 2 };

/** The component part of a priority: 256 minus the component id 1. */
const COMPONENT_PART = 255;

/** Local preference in signalled priorities (spec 02, section 4.2): IPv6 goes first. */
export function defaultLocalPreference(family: AddressFamily): number {
  return family === 6 ? 65535 : 65534;
}

/** `typePreference * 2^24 + localPreference * 2^8 + (256 - component)`. */
export function candidatePriority(kind: CandidateKind, localPreference: number): number {
  return TYPE_PREFERENCE[kind] * 2 ** 24 + localPreference * 2 ** 8 + COMPONENT_PART;
}

/** The local preference that a priority was made of. */
export function localPreferenceOf(priority: number): number {
  return (priority >>> 8) & 0xffff;
}

/**
 * Whether an address may be one of a candidate (spec 02, section 4.1). Nobody can be reached at the others, and they must not make us
 * send to whole networks.
 */
export function isCandidateAddress(address: SocketAddress): boolean {
  return address.port !== 0 && isCandidateIp(address.ip);
}

function isCandidateIp(ip: IpAddress): boolean {
  if (ip.isUnspecified || ip.isMulticast || ip.isBroadcast) return false;
  return ip.family === 6 || !ip.isLinkLocal;
}

/** Whether both are the same thing found twice, whatever their priorities and foundations (spec 02, section 4.4). */
export function isSameCandidate(a: Candidate, b: Candidate): boolean {
  return (
    a.kind === b.kind &&
    a.address.equals(b.address) &&
    a.base.equals(b.base) &&
    (a.related === undefined ? b.related === undefined : b.related !== undefined && a.related.equals(b.related))
  );
}
