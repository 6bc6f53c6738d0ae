// The string form of candidates in signalling messages (RFC 8839, section 5.1; spec 02, section 4.2):
//
//   candidate:<foundation> <component> <protocol> <priority> <ip> <port> typ <kind>[ raddr <ip> rport <port>][ ufrag <ufrag>]...

import { IpAddress, SocketAddress } from "../base/address.js";
import { type Candidate, type CandidateKind, isCandidateAddress } from "./candidate.js";

/** Longest string looked at. Real ones have about 100 characters. */
const MAX_LENGTH = 512;

const MAX_PRIORITY = 2 ** 32 - 1;

/** The mandatory fields, separated by exactly one space each. */
const FIELDS = /^candidate:(\S+) (\d{1,3}) (\S+) (\d{1,10}) (\S+) (\d{1,5}) typ (host|srflx|prflx|relay)(?= |$)/;

/** Extensions that may follow, in this order; what follows them is ignored. */
const EXTENSIONS =
  /^(?: tcptype \S+)?(?: raddr (\S+) rport (\d{1,5}))?(?: generation \S+)?(?: network-id \S+)?(?: ufrag (\S+))?/;

/** Why a candidate string cannot be used. */
export type CandidateError =
  /** It does not have the form. */
  | "syntax"
  /** Not component 1. */
  | "component"
  /** Not UDP. */
  | "protocol"
  /** An address that nobody can be reached at. */
  | "address";

/** A candidate as the other side signalled it. */
export interface ParsedCandidate {
  readonly candidate: Candidate;
  /** User fragment of the side that it belongs to, if stated. */
  readonly username?: string | undefined;
}

/** Parses a candidate string of the other side. Its base is unknown and taken to be its address. */
export function parseCandidate(text: string): ParsedCandidate | CandidateError {
  if (text.length > MAX_LENGTH) return "syntax";
  const fields = FIELDS.exec(text);
  if (fields === null) return "syntax";
  const [whole, foundation = "", component, protocol = "", priorityText, ip = "", port = "", kind] = fields;
  const priority = Number(priorityText);
  const address = socketAddress(ip, port);
  const extensions = EXTENSIONS.exec(text.slice(whole.length)) ?? [];
  const [, relatedIp, relatedPort, username] = extensions;
  const related = relatedIp === undefined ? undefined : socketAddress(relatedIp, relatedPort ?? "");
  if (address === undefined || priority > MAX_PRIORITY) return "syntax";
  if (relatedIp !== undefined && related === undefined) return "syntax";
  if (component !== "1") return "component";
  if (protocol.toLowerCase() !== "udp") return "protocol";
  if (!isCandidateAddress(address)) return "address";
  return {
    candidate: { kind: kind as CandidateKind, address, base: address, priority, foundation, related },
    username,
  };
}

/** The string form of a candidate; without related address and user fragment, as the original prints it. */
export function formatCandidate(candidate: Candidate): string {
  const { foundation, priority, address, kind } = candidate;
  return `candidate:${foundation} 1 udp ${priority} ${address.ip} ${address.port} typ ${kind}`;
}

function socketAddress(ip: string, port: string): SocketAddress | undefined {
  const parsed = IpAddress.parse(ip);
  const number = Number(port);
  return parsed === undefined || number > 65535 ? undefined : new SocketAddress(parsed, number);
}
