// Filter sets in the shared memory: for each filtered connection the prefixes that its peer may reach, each with a rule list
// (assembly/records.ts, "Filters"). A set is written anew for every change, before a connection refers to it, and freed when no worker
// can be using it any more. Which rules a prefix has is decided in rules.ts.
//
//   connection ──► set: lengths of its prefixes
//                  prefix table, scope: the set's number + 1 ──► rule list, or ALLOW_ALL

import { ALLOW_ALL, FILTER_SET_SIZE, RULES_UNIT } from "../../assembly/records.js";
import type { IpPrefix } from "../base/address.js";
import type { Layout } from "./layout.js";
import type { PrefixTable } from "./prefix-table.js";
import { type CompiledFilter, ruleListUnits, UnitPool, writeRuleList } from "./rules.js";
import { SlotPool } from "./slots.js";
import type { SharedMemory } from "./webassembly.js";

/** A set in the tables. */
export interface FilterSet {
  /** Its number, which a connection's record names. */
  readonly slot: number;
  readonly filters: readonly { readonly prefix: IpPrefix; readonly start: number; readonly units: number }[];
}

/** The writer of filter sets. */
export class FilterSets {
  readonly #layout: Layout;
  readonly #table: PrefixTable;
  readonly #view: DataView;
  readonly #bytes: Uint8Array;
  readonly #slots: SlotPool;
  readonly #rules: UnitPool;
  /** Prefixes of all sets. */
  #entries = 0;

  constructor(memory: SharedMemory, layout: Layout, table: PrefixTable) {
    this.#layout = layout;
    this.#table = table;
    this.#view = new DataView(memory.buffer);
    this.#bytes = new Uint8Array(memory.buffer);
    this.#slots = new SlotPool(layout.filterSetCount);
    this.#rules = new UnitPool(layout.config.rules);
  }

  /** Writes a new set; `undefined` when a table is full: nothing has changed then. */
  write(compiled: readonly CompiledFilter[]): FilterSet | undefined {
    if (this.#entries + compiled.length > this.#layout.config.filters) return undefined;
    const slot = this.#slots.take();
    if (slot === undefined) return undefined;
    const lengths = this.#layout.filterSets + FILTER_SET_SIZE * slot;
    this.#bytes.fill(0, lengths, lengths + FILTER_SET_SIZE);
    const written: { prefix: IpPrefix; start: number; units: number }[] = [];
    const set: FilterSet = { slot, filters: written };
    for (const { prefix, rules } of compiled) {
      let value = ALLOW_ALL;
      let start = 0;
      let units = 0;
      if (rules !== "allow-all") {
        units = ruleListUnits(rules);
        const taken = this.#rules.take(units);
        if (taken === undefined) {
          this.free(set);
          return undefined;
        }
        start = taken;
        value = this.#layout.rules + RULES_UNIT * start;
        writeRuleList(this.#view, value, rules);
      }
      this.#table.insert(scopeOf(set), prefix, value);
      this.#table.setLength(lengths, prefix, true);
      this.#entries++;
      written.push({ prefix, start, units });
    }
    return set;
  }

  /** Takes a set out of the tables that no worker uses. */
  free(set: FilterSet): void {
    for (const { prefix, start, units } of set.filters) {
      this.#table.remove(scopeOf(set), prefix);
      this.#entries--;
      if (units > 0) this.#rules.give(start, units);
    }
    this.#slots.give(set.slot);
  }
}

/** Scope 0 is that of the routes. */
function scopeOf({ slot }: FilterSet): number {
  return slot + 1;
}
