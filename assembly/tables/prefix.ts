// Longest-prefix lookup in constant time: a hash table with linear probing, probed once per prefix length in use. Readers are
// lock-free; the main thread is the only writer. Layout and protocol: assembly/records.ts, "Prefix tables".

import { NONE } from "../abi";
import {
  ENTRY_HIGH,
  ENTRY_LOW,
  ENTRY_SCOPE,
  ENTRY_SIZE,
  ENTRY_TAG,
  ENTRY_USED,
  ENTRY_VALUE,
  LENGTHS_V4,
  LENGTHS_V6,
  TABLE_ENTRIES,
  TABLE_MASK,
  TABLE_VERSION,
} from "../records";

/**
 * The value of the longest prefix in `scope` that contains an address, or `NONE`. `lengths` is the scope's lengths block. The
 * address is given as two numbers, as in entries.
 */
export function lookupPrefix(table: u32, lengths: u32, scope: u32, family: u32, high: u64, low: u64): u32 {
  while (true) {
    const version = atomic.load<u32>(table, TABLE_VERSION);
    if (version & 1) continue;
    const entry = family == 4 ? longest4(table, lengths, scope, high) : longest6(table, lengths, scope, high, low);
    const value = entry == 0 ? NONE : atomic.load<u32>(entry, ENTRY_VALUE);
    if (atomic.load<u32>(table, TABLE_VERSION) == version) return value;
  }
}

/** Address of the first entry that `lookupPrefix` will look at, or of `table` when it will look at none. */
export function firstEntry(table: u32, lengths: u32, scope: u32, family: u32, high: u64, low: u64): u32 {
  let group: i32 = family == 4 ? -1 : 2;
  while (group > 0 && load<u64>(lengths + 8 * group, LENGTHS_V6) == 0) group--;
  const present = family == 4 ? load<u64>(lengths, LENGTHS_V4) : load<u64>(lengths + 8 * group, LENGTHS_V6);
  if (present == 0) return table;
  const length = 64 * max(group, 0) + 63 - <u32>clz(present);
  const i = hash(
    key(scope, family, length),
    high & mask(min<u32>(length, 64)),
    length > 64 ? low & mask(length - 64) : 0,
  );
  return load<u32>(table, TABLE_ENTRIES) + (i & load<u32>(table, TABLE_MASK)) * ENTRY_SIZE;
}

function longest4(table: u32, lengths: u32, scope: u32, high: u64): u32 {
  for (let present = atomic.load<u64>(lengths, LENGTHS_V4); present != 0; ) {
    const length = 63 - <u32>clz(present);
    present ^= (<u64>1) << length;
    const entry = find(table, key(scope, 4, length), high & mask(length), 0);
    if (entry != 0) return entry;
  }
  return 0;
}

function longest6(table: u32, lengths: u32, scope: u32, high: u64, low: u64): u32 {
  for (let group: i32 = 2; group >= 0; group--) {
    for (let present = atomic.load<u64>(lengths + 8 * group, LENGTHS_V6); present != 0; ) {
      const bit = 63 - <u32>clz(present);
      present ^= (<u64>1) << bit;
      const length = 64 * group + bit;
      const entry =
        length <= 64
          ? find(table, key(scope, 6, length), high & mask(length), 0)
          : find(table, key(scope, 6, length), high, low & mask(length - 64));
      if (entry != 0) return entry;
    }
  }
  return 0;
}

/** The `length` upper bits, 0 to 64. */
function mask(length: u32): u64 {
  return length == 0 ? 0 : ~(<u64>0) << (64 - length);
}

/** Scope and tag of an entry in use, as they lie in memory. */
function key(scope: u32, family: u32, length: u32): u64 {
  return <u64>scope | ((<u64>(ENTRY_USED | (family << 8) | length)) << 32);
}

function hash(key: u64, high: u64, low: u64): u32 {
  let h = (high ^ rotl<u64>(low, 23) ^ rotl<u64>(key, 41)) * 0x9e3779b97f4a7c15;
  h = (h ^ (h >> 32) ^ key) * 0xd6e8feb86659fd93;
  return <u32>(h >> 32);
}

/** The entry with exactly this key and address, or 0. */
function find(table: u32, key: u64, high: u64, low: u64): u32 {
  const tableMask = load<u32>(table, TABLE_MASK);
  const entries = load<u32>(table, TABLE_ENTRIES);
  let i = hash(key, high, low) & tableMask;
  // The bound matters only to a reader that sees the table change under it.
  for (let probes: u32 = 0; probes <= tableMask; probes++) {
    const entry = entries + i * ENTRY_SIZE;
    const found = atomic.load<u64>(entry, ENTRY_SCOPE);
    if (found == key && atomic.load<u64>(entry, ENTRY_HIGH) == high && atomic.load<u64>(entry, ENTRY_LOW) == low)
      return entry;
    if (<u32>(found >> 32) == 0) return 0;
    i = (i + 1) & tableMask;
  }
  return 0;
}

// ---- Writing. `address` points to the 4 or 16 bytes of the prefix's address, all host bits zero.

/** Inserts a prefix or changes its value. The table must have an empty entry left: the caller counts. */
export function insertPrefix(table: u32, scope: u32, family: u32, length: u32, address: u32, value: u32): void {
  const k = key(scope, family, length);
  const high = addressHigh(family, address);
  const low = addressLow(family, address);
  let entry = find(table, k, high, low);
  beginWrite(table);
  if (entry == 0) {
    entry = firstEmpty(table, hash(k, high, low));
    atomic.store<u64>(entry, high, ENTRY_HIGH);
    atomic.store<u64>(entry, low, ENTRY_LOW);
    atomic.store<u64>(entry, k, ENTRY_SCOPE);
  }
  atomic.store<u32>(entry, value, ENTRY_VALUE);
  endWrite(table);
}

/** Removes a prefix; does nothing when it is not there. */
export function removePrefix(table: u32, scope: u32, family: u32, length: u32, address: u32): void {
  let hole = find(table, key(scope, family, length), addressHigh(family, address), addressLow(family, address));
  if (hole == 0) return;
  const tableMask = load<u32>(table, TABLE_MASK);
  const entries = load<u32>(table, TABLE_ENTRIES);
  beginWrite(table);
  // Entries behind the hole move into it if they would otherwise not be found any more.
  let holeIndex = <u32>((hole - entries) / ENTRY_SIZE);
  for (let i = (holeIndex + 1) & tableMask; ; i = (i + 1) & tableMask) {
    const entry = entries + i * ENTRY_SIZE;
    if (load<u32>(entry, ENTRY_TAG) == 0) break;
    const home = hash(load<u64>(entry, ENTRY_SCOPE), load<u64>(entry, ENTRY_HIGH), load<u64>(entry, ENTRY_LOW));
    if (((i - home) & tableMask) < ((i - holeIndex) & tableMask)) continue;
    for (let field: u32 = 0; field < <u32>ENTRY_SIZE; field += 8) {
      atomic.store<u64>(hole + field, load<u64>(entry + field));
    }
    hole = entry;
    holeIndex = i;
  }
  atomic.store<u64>(hole, 0, ENTRY_SCOPE);
  endWrite(table);
}

/** Notes in a lengths block whether the scope has prefixes of this length: after the first is inserted, or the last removed. */
export function setPrefixLength(table: u32, lengths: u32, family: u32, length: u32, present: bool): void {
  const word = family == 4 ? lengths + LENGTHS_V4 : lengths + LENGTHS_V6 + 8 * (length >> 6);
  const bit = (<u64>1) << (length & 63);
  beginWrite(table);
  atomic.store<u64>(word, present ? load<u64>(word) | bit : load<u64>(word) & ~bit);
  endWrite(table);
}

/** The first eight bytes of an address in a packet as a number; an IPv4 address in the upper half. */
export function addressHigh(family: u32, address: u32): u64 {
  return family == 4 ? (<u64>bswap<u32>(load<u32>(address))) << 32 : bswap<u64>(load<u64>(address));
}

/** The last eight bytes of an IPv6 address as a number; 0 for IPv4. */
export function addressLow(family: u32, address: u32): u64 {
  return family == 4 ? 0 : bswap<u64>(load<u64>(address, 8));
}

function firstEmpty(table: u32, start: u32): u32 {
  const tableMask = load<u32>(table, TABLE_MASK);
  const entries = load<u32>(table, TABLE_ENTRIES);
  let i = start & tableMask;
  while (load<u32>(entries + i * ENTRY_SIZE, ENTRY_TAG) != 0) i = (i + 1) & tableMask;
  return entries + i * ENTRY_SIZE;
}

/** Makes the version odd. */
export function beginWrite(table: u32): void {
  atomic.store<u32>(table, load<u32>(table, TABLE_VERSION) + 1, TABLE_VERSION);
}

/** Makes the version even, and another one than before. */
export function endWrite(table: u32): void {
  atomic.store<u32>(table, load<u32>(table, TABLE_VERSION) + 1, TABLE_VERSION);
}
