// To whom a relay forwards (RFC 8656, section 21.1.4 and 21.1.5; field notes, section 4.3): not to itself, not to what is only reachable on
// its own host or link, and not to where clouds keep their secrets, in whatever clothes an IPv4 address comes.

import { IpAddress, IpPrefix, type SocketAddress } from "../../base/address.js";

/** What may differ between relays. */
export interface PeerPolicyOptions {
  /** The relay's own addresses. */
  readonly own: readonly IpAddress[];
  /** Ports of allocations, both inclusive: two clients of one relay meet there. */
  readonly lowestPort: number;
  readonly highestPort: number;
  /** Do not forward to private networks. Relays inside companies do. */
  readonly denyPrivate: boolean;
  /** Forward to this host: for tests. */
  readonly allowLoopback?: boolean;
}

/** Never: this network, shared and benchmark ranges are none of a relay's business, multicast, reserved (RFC 6890), metadata services. */
const FORBIDDEN = prefixes(
  "0.0.0.0/8",
  "169.254.0.0/16",
  "224.0.0.0/4",
  "240.0.0.0/4",
  "100.100.100.200/32",
  "192.0.0.192/32",
  "::/128",
  "fe80::/10",
  "ff00::/8",
  "fec0::/10",
  "100::/64",
  "fd00:ec2::254/128",
);
const LOOPBACK = prefixes("127.0.0.0/8", "::1/128");
/** RFC 1918, RFC 6598, RFC 4193. */
const PRIVATE = prefixes("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7");

/** Where IPv6 addresses have an IPv4 address in them: offset in bytes, and whether its bits are inverted. */
const EMBEDDED: readonly { readonly prefix: IpPrefix; readonly offset: number; readonly inverted?: boolean }[] = [
  { prefix: prefix("::/96"), offset: 12 },
  { prefix: prefix("::ffff:0:0/96"), offset: 12 },
  { prefix: prefix("::ffff:0:0:0/96"), offset: 12 },
  { prefix: prefix("64:ff9b::/96"), offset: 12 },
  { prefix: prefix("64:ff9b:1::/48"), offset: 12 },
  { prefix: prefix("2002::/16"), offset: 2 },
  // Teredo (RFC 4380): the client's address, hidden from NATs that know too much.
  { prefix: prefix("2001::/32"), offset: 12, inverted: true },
];

/** Whether a relay forwards to a peer. */
export class PeerPolicy {
  readonly #options: PeerPolicyOptions;

  constructor(options: PeerPolicyOptions) {
    this.#options = options;
  }

  /** Whether a peer's address and port are allowed. */
  allows({ ip, port }: SocketAddress): boolean {
    if (port === 0 || !this.allowsAddress(ip)) return false;
    const { own, lowestPort, highestPort } = this.#options;
    const isOwn = own.some((address) => address.equals(ip));
    return !isOwn || (port >= lowestPort && port <= highestPort);
  }

  /** Whether a peer's address is allowed, at one port at least. */
  allowsAddress(ip: IpAddress): boolean {
    const { denyPrivate, allowLoopback } = this.#options;
    const isIn = (list: readonly IpPrefix[]) => list.some((candidate) => candidate.contains(ip));
    if (isIn(LOOPBACK)) return allowLoopback === true;
    if (isIn(FORBIDDEN) || (denyPrivate && isIn(PRIVATE))) return false;
    if (ip.family === 4) return true;
    return EMBEDDED.filter((embedding) => embedding.prefix.contains(ip)).every((embedding) => {
      const { offset, inverted } = embedding;
      const bytes = ip.bytes.slice(offset, offset + 4);
      const inner = IpAddress.fromBytes(inverted === true ? bytes.map((byte) => byte ^ 0xff) : bytes);
      // An address of ours in other clothes is not for allocations to meet at.
      return this.allowsAddress(inner) && !this.#options.own.some((own) => own.equals(inner));
    });
  }
}

function prefix(text: string): IpPrefix {
  const parsed = IpPrefix.parse(text);
  if (parsed === undefined) throw new Error(`${text} is no prefix`);
  return parsed;
}

function prefixes(...texts: readonly string[]): readonly IpPrefix[] {
  return texts.map(prefix);
}
