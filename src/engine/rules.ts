// Filters of a connection: what a peer may reach (spec 04, section 6.6). Grants overlap; the engine wants one rule list per
// prefix, with which the longest prefix of a destination decides alone. So each prefix carries the union of the rules of every
// grant whose prefix contains it.

import {
  RULES_ICMP,
  RULES_RANGE_SIZE,
  RULES_RANGES,
  RULES_TCP,
  RULES_UDP,
  RULES_UNIT,
} from "../../assembly/records.js";
import { IpPrefix } from "../base/address.js";

/** One rule: destination ports of TCP or UDP, both bounds inclusive, or all of ICMP and ICMPv6. */
export type FilterRule =
  | { readonly protocol: "tcp" | "udp"; readonly first: number; readonly last: number }
  | { readonly protocol: "icmp" };

/** What a grant allows within a prefix. An empty list allows everything, like `"allow-all"` (spec 04, section 6.6). */
export interface Filter {
  readonly prefix: IpPrefix;
  readonly rules: "allow-all" | readonly FilterRule[];
}

/** A range of ports, both bounds inclusive. */
type PortRange = readonly [first: number, last: number];

/** The rules of one prefix: disjoint ascending ranges. */
export interface RuleList {
  readonly tcp: readonly PortRange[];
  readonly udp: readonly PortRange[];
  readonly icmp: boolean;
}

/** A prefix and what decides about destinations whose longest prefix it is. */
export interface CompiledFilter {
  readonly prefix: IpPrefix;
  readonly rules: "allow-all" | RuleList;
}

/** The rules as the engine wants them: every prefix once, with the union of what contains it. */
export function compileFilters(filters: readonly Filter[]): CompiledFilter[] {
  const grants = new Map<string, { readonly prefix: IpPrefix; readonly filters: Filter[] }>();
  const lengths = { 4: new Set<number>(), 6: new Set<number>() };
  for (const filter of filters) {
    const { prefix } = filter;
    lengths[prefix.family].add(prefix.length);
    const known = grants.get(prefix.key);
    if (known === undefined) grants.set(prefix.key, { prefix, filters: [filter] });
    else known.filters.push(filter);
  }
  return Array.from(grants.values(), ({ prefix }) => {
    // Whatever contains a prefix is a shorter part of its address, of a length that occurs.
    const shorter = Array.from(lengths[prefix.family]).filter((length) => length <= prefix.length);
    const keys = shorter.map((length) => IpPrefix.of(prefix.address, length).key);
    return { prefix, rules: union(keys.flatMap((key) => grants.get(key)?.filters ?? [])) };
  });
}

function union(grants: readonly Filter[]): "allow-all" | RuleList {
  const tcp: PortRange[] = [];
  const udp: PortRange[] = [];
  let icmp = false;
  for (const { rules } of grants) {
    if (rules === "allow-all" || rules.length === 0) return "allow-all";
    for (const rule of rules) {
      switch (rule.protocol) {
        case "tcp":
          tcp.push([rule.first, rule.last]);
          break;
        case "udp":
          udp.push([rule.first, rule.last]);
          break;
        case "icmp":
          icmp = true;
          break;
      }
    }
  }
  return { tcp: normalise(tcp), udp: normalise(udp), icmp };
}

/** Ascending ranges without overlap or contact. Ranges that contain no port vanish. */
function normalise(ranges: readonly PortRange[]): PortRange[] {
  const result: [number, number][] = [];
  const sorted = ranges
    .map(([first, last]) => [Math.max(0, first), Math.min(65535, last)] as const)
    .filter(([first, last]) => first <= last)
    .sort(([a], [b]) => a - b);
  for (const [first, last] of sorted) {
    const previous = result.at(-1);
    if (previous !== undefined && first <= previous[1] + 1) previous[1] = Math.max(previous[1], last);
    else result.push([first, last]);
  }
  return result;
}

/** Units of the rules pool that a rule list takes. */
export function ruleListUnits(rules: RuleList): number {
  return Math.ceil((RULES_RANGES + RULES_RANGE_SIZE * (rules.tcp.length + rules.udp.length)) / RULES_UNIT);
}

/** Writes a rule list at `address` (assembly/records.ts, "Filters"). */
export function writeRuleList(view: DataView, address: number, rules: RuleList): void {
  view.setUint16(address + RULES_TCP, rules.tcp.length, true);
  view.setUint16(address + RULES_UDP, rules.udp.length, true);
  view.setUint32(address + RULES_ICMP, rules.icmp ? 1 : 0, true);
  for (const [i, [first, last]] of [...rules.tcp, ...rules.udp].entries()) {
    view.setUint16(address + RULES_RANGES + RULES_RANGE_SIZE * i, first, true);
    view.setUint16(address + RULES_RANGES + RULES_RANGE_SIZE * i + 2, last, true);
  }
}

/**
 * Gives out stretches of a pool of equal units: a buddy allocator. A stretch of 2^k units starts at a multiple of 2^k; a freed
 * one merges with its neighbour (buddy) where that is free too.
 */
export class UnitPool {
  /** Starts of free stretches of 2^k units, by k. */
  readonly #free: Set<number>[];

  constructor(units: number) {
    this.#free = Array.from({ length: 1 + Math.ceil(Math.log2(units)) }, () => new Set<number>());
    let start = 0;
    for (let k = this.#free.length - 1; k >= 0; k--) {
      if (start + 2 ** k > units) continue;
      this.#free[k]?.add(start);
      start += 2 ** k;
    }
  }

  /** Takes `units` adjacent units; the first one's number, or `undefined` when there is no such stretch. */
  take(units: number): number | undefined {
    const wanted = orderOf(units);
    for (let k = wanted; k < this.#free.length; k++) {
      const [start] = this.#free[k] ?? [];
      if (start === undefined) continue;
      this.#free[k]?.delete(start);
      for (let half = k - 1; half >= wanted; half--) this.#free[half]?.add(start + 2 ** half);
      return start;
    }
    return undefined;
  }

  /** Gives back what `take(units)` returned. */
  give(start: number, units: number): void {
    let k = orderOf(units);
    let merged = start;
    for (; k < this.#free.length - 1; k++) {
      const size = 2 ** k;
      const buddy = merged % (2 * size) === 0 ? merged + size : merged - size;
      if (this.#free[k]?.delete(buddy) !== true) break;
      merged = Math.min(merged, buddy);
    }
    this.#free[k]?.add(merged);
  }
}

/** The smallest k with 2^k at least `units`. */
function orderOf(units: number): number {
  return Math.ceil(Math.log2(units));
}
