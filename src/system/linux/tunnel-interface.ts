// Addresses, routes and policy rules of the tunnel's interface (spec 05, sections 3.2 to 3.4; spec 04, section 8.4), for client and
// gateway. Everything is compared with what the kernel has, so each call may be repeated, and leftovers of a crash disappear.
//
//   packet of this host ── rule: mark is not TUNNEL_MARK ──► table TUNNEL_TABLE: the tunnel's routes ──► tunnel interface
//          │                                                        └─ no route there: next rule
//          └── marked: our own sockets towards the outside ──► other rules, table main
//
// Interface and addresses vanish with the device's file descriptors, routes with them; rules do not: see `remove`.

import type { AddressFamily, IpAddress, IpPrefix } from "../../base/address.js";
import { Errno, SystemCallError } from "./errno.js";
import {
  type AddressWithPrefix,
  addAddress,
  deleteAddress,
  type InterfaceAddress,
  listAddresses,
} from "./rtnetlink/addresses.js";
import { changeLink, findLink, getLink } from "./rtnetlink/links.js";
import type { Netlink } from "./rtnetlink/netlink.js";
import { addRoute, deleteRoute, listRoutes, RouteProtocol, type RouteSpecification } from "./rtnetlink/routes.js";
import { addRule, deleteRule, listRules, type Rule } from "./rtnetlink/rules.js";

/** The routing table that leads into the tunnel (spec 05, section 1.2). */
export const TUNNEL_TABLE = 0x2021fd00;
/** The mark of packets that must not enter the tunnel: `SO_MARK` of our own sockets (spec 05, section 1.2). */
export const TUNNEL_MARK = 0xfd002021;
/** Priority of the rule that sends packets to {@link TUNNEL_TABLE} (spec 05, section 3.4, the newer scheme). */
export const TUNNEL_RULE_PRIORITY = 100;
/** Packets that may wait for the tunnel. The kernel's 500 for TUN devices cost throughput (spec 05, section 3.1, "Later"). */
export const TRANSMIT_QUEUE_LENGTH = 10_000;

/** What was reached, and what was not although it is no reason to give up. */
export interface TunnelInterfaceResult {
  /** Families that work: their address is set and their rule is in place. */
  readonly families: readonly AddressFamily[];
  readonly warnings: readonly SystemCallError[];
}

const FAMILIES: readonly AddressFamily[] = [4, 6];

/** The tunnel's interface in the namespace of its netlink connection. */
export class TunnelInterface {
  readonly name: string;
  readonly #netlink: Netlink;
  #routes: readonly IpPrefix[] = [];
  #families: readonly AddressFamily[] = [];

  /** `name` of an interface that exists, as `TunDevice.name`. Nothing is changed yet. */
  constructor(netlink: Netlink, name: string) {
    this.#netlink = netlink;
    this.name = name;
  }

  /**
   * Gives the interface exactly these addresses, as /32 and /128, and this MTU in bytes, brings it up and puts its rules in
   * place. Routes set before are kept. A family that the host does not have is a warning, as long as one works.
   *
   * @throws SystemCallError when the interface does not exist (ENODEV), cannot be brought up, or no address could be set.
   * @throws RangeError without any address.
   */
  setAddresses(ipv4: IpAddress | undefined, ipv6: IpAddress | undefined, mtu: number): TunnelInterfaceResult {
    const wanted = [ipv4, ipv6].filter((address) => address !== undefined).map(hostAddress);
    if (wanted.length === 0) throw new RangeError(`interface ${this.name} needs an address`);
    const link = getLink(this.#netlink, this.name).index;
    const warnings: SystemCallError[] = [];

    // Before the link comes up: the kernel would give it a link-local address, which cannot be deleted while it is tentative.
    attempt(warnings, withoutFamily, () => changeLink(this.#netlink, link, { addressGeneration: "none" }));
    changeLink(this.#netlink, link, { mtu, transmitQueueLength: TRANSMIT_QUEUE_LENGTH });

    // New before old: the kernel drops all IPv4 routes of a link that loses its last address.
    const failures: SystemCallError[] = [];
    const set = wanted.filter((address) =>
      attempt(failures, [Errno.EEXIST], () => addAddress(this.#netlink, link, address, { noDuplicateDetection: true })),
    );
    const [firstFailure] = failures;
    if (set.length === 0 && firstFailure !== undefined) throw firstFailure;
    warnings.push(...failures);
    for (const present of listAddresses(this.#netlink, { link })) {
      if (set.some((address) => sameAddress(address, present))) continue;
      attempt(warnings, [Errno.EADDRNOTAVAIL], () => deleteAddress(this.#netlink, link, present));
    }
    changeLink(this.#netlink, link, { up: true });

    this.#families = FAMILIES.filter((family) => {
      const works = set.some(({ address }) => address.family === family);
      if (works) return attempt(warnings, [], () => this.#setRule(family));
      attempt(warnings, withoutFamily, () => this.#removeRules(family));
      return false;
    });
    warnings.push(...this.#applyRoutes(link));
    return { families: this.#families, warnings };
  }

  /**
   * Lets exactly these prefixes lead into the tunnel: deletes what is there and not wanted, adds what is wanted and missing. Only
   * families that `setAddresses` found to work get routes; before its first call the routes are only remembered.
   *
   * @throws SystemCallError when the interface does not exist (ENODEV).
   */
  setRoutes(prefixes: Iterable<IpPrefix>): TunnelInterfaceResult {
    this.#routes = [...prefixes];
    if (this.#families.length === 0) return { families: [], warnings: [] };
    const warnings = this.#applyRoutes(getLink(this.#netlink, this.name).index);
    return { families: this.#families, warnings };
  }

  /**
   * Removes all rules that lead to the tunnel's table, and the routes of the interface in it. To be called before the device is
   * closed or after; may be repeated.
   */
  remove(): TunnelInterfaceResult {
    const warnings: SystemCallError[] = [];
    this.#families = [];
    this.#routes = [];
    for (const family of FAMILIES) attempt(warnings, withoutFamily, () => this.#removeRules(family));
    attempt(warnings, [], () => {
      const link = findLink(this.#netlink, this.name);
      if (link !== undefined) warnings.push(...this.#applyRoutes(link.index));
    });
    return { families: [], warnings };
  }

  #applyRoutes(link: number): SystemCallError[] {
    const warnings: SystemCallError[] = [];
    for (const family of FAMILIES) {
      const works = this.#families.includes(family);
      const missing = new Map<string, IpPrefix>();
      for (const prefix of works ? this.#routes : []) if (prefix.family === family) missing.set(prefix.key, prefix);

      attempt(warnings, withoutFamily, () => {
        for (const { destination } of listRoutes(this.#netlink, { family, table: TUNNEL_TABLE, link })) {
          if (missing.delete(destination.key)) continue;
          attempt(warnings, [Errno.ESRCH, Errno.ENOENT, ...withoutFamily], () =>
            deleteRoute(this.#netlink, { destination, table: TUNNEL_TABLE, link }),
          );
        }
      });
      for (const prefix of missing.values())
        attempt(warnings, [Errno.EEXIST, ...withoutFamily], () => addRoute(this.#netlink, tunnelRoute(prefix, link)));
    }
    return warnings;
  }

  #setRule(family: AddressFamily): void {
    const wanted = tunnelRule(family);
    for (const rule of listRules(this.#netlink, family))
      if (rule.table === TUNNEL_TABLE && !sameRule(rule, wanted)) deleteRule(this.#netlink, rule);
    addRule(this.#netlink, wanted);
  }

  #removeRules(family: AddressFamily): void {
    for (const rule of listRules(this.#netlink, family))
      if (rule.table === TUNNEL_TABLE) deleteRule(this.#netlink, rule);
  }
}

/** What the kernel answers to requests for a family that it does not have. */
const withoutFamily: readonly number[] = [Errno.EOPNOTSUPP, Errno.EAFNOSUPPORT];

/** Whether `action` succeeded or failed with a tolerated error number; any other failure is collected. */
function attempt(failures: SystemCallError[], tolerated: readonly number[], action: () => void): boolean {
  try {
    action();
    return true;
  } catch (error) {
    if (!(error instanceof SystemCallError)) throw error;
    if (tolerated.includes(error.errno)) return true;
    failures.push(error);
    return false;
  }
}

function hostAddress(address: IpAddress): AddressWithPrefix {
  return { address, prefixLength: address.bytes.length * 8 };
}

function sameAddress(wanted: AddressWithPrefix, present: InterfaceAddress): boolean {
  return wanted.prefixLength === present.prefixLength && wanted.address.equals(present.address);
}

function tunnelRoute(destination: IpPrefix, link: number): RouteSpecification {
  return { destination, link, table: TUNNEL_TABLE, protocol: RouteProtocol.static };
}

function tunnelRule(family: AddressFamily): Rule {
  return {
    family,
    priority: TUNNEL_RULE_PRIORITY,
    table: TUNNEL_TABLE,
    mark: TUNNEL_MARK,
    invert: true,
    protocol: RouteProtocol.kernel,
  };
}

function sameRule(a: Rule, b: Rule): boolean {
  return a.priority === b.priority && a.mark === b.mark && a.invert === b.invert && a.table === b.table;
}
