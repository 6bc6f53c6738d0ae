// From receiver index to session slot: a hash table with linear probing whose entries are single words of u64, so that an entry
// is always seen whole. Readers are lock-free; the main thread is the only writer. Layout: assembly/records.ts, "Session index".

import { NONE } from "../abi";
import { INDEX_ENTRY_SIZE, TABLE_ENTRIES, TABLE_MASK, TABLE_VERSION } from "../records";
import { beginWrite, endWrite } from "./prefix";

/** The slot of the session that receives messages with this receiver index, or `NONE`. */
export function lookupSession(table: u32, localIndex: u32): u32 {
  while (true) {
    const version = atomic.load<u32>(table, TABLE_VERSION);
    const entry = find(table, localIndex);
    if (entry != 0) {
      const word = atomic.load<u64>(entry);
      if (<u32>word == localIndex && word >> 32 != 0) return <u32>(word >> 32) - 1;
    }
    // Only an entry that is not found may be one that was just moving.
    else if (!(version & 1) && atomic.load<u32>(table, TABLE_VERSION) == version) return NONE;
  }
}

/** Address of the entry that `lookupSession` of the same index will read first. */
export function firstSession(table: u32, localIndex: u32): u32 {
  return load<u32>(table, TABLE_ENTRIES) + (hash(localIndex) & load<u32>(table, TABLE_MASK)) * INDEX_ENTRY_SIZE;
}

/** Inserts a session. The index must not be there yet, and an entry must be empty: the caller counts. */
export function insertSession(table: u32, localIndex: u32, slot: u32): void {
  const mask = load<u32>(table, TABLE_MASK);
  const entries = load<u32>(table, TABLE_ENTRIES);
  let i = hash(localIndex) & mask;
  while (load<u64>(entries + i * INDEX_ENTRY_SIZE) != 0) i = (i + 1) & mask;
  beginWrite(table);
  atomic.store<u64>(entries + i * INDEX_ENTRY_SIZE, <u64>localIndex | ((<u64>(slot + 1)) << 32));
  endWrite(table);
}

/** Removes a session; does nothing when it is not there. */
export function removeSession(table: u32, localIndex: u32): void {
  let hole = find(table, localIndex);
  if (hole == 0) return;
  const mask = load<u32>(table, TABLE_MASK);
  const entries = load<u32>(table, TABLE_ENTRIES);
  beginWrite(table);
  // Entries behind the hole move into it if they would otherwise not be found any more.
  let holeIndex = <u32>((hole - entries) / INDEX_ENTRY_SIZE);
  for (let i = (holeIndex + 1) & mask; ; i = (i + 1) & mask) {
    const entry = entries + i * INDEX_ENTRY_SIZE;
    const word = load<u64>(entry);
    if (word == 0) break;
    if (((i - hash(<u32>word)) & mask) < ((i - holeIndex) & mask)) continue;
    atomic.store<u64>(hole, word);
    hole = entry;
    holeIndex = i;
  }
  atomic.store<u64>(hole, 0);
  endWrite(table);
}

/** The entry of an index, or 0. */
function find(table: u32, localIndex: u32): u32 {
  const mask = load<u32>(table, TABLE_MASK);
  const entries = load<u32>(table, TABLE_ENTRIES);
  let i = hash(localIndex) & mask;
  // The bound matters only to a reader that sees the table change under it.
  for (let probes: u32 = 0; probes <= mask; probes++) {
    const entry = entries + i * INDEX_ENTRY_SIZE;
    const word = atomic.load<u64>(entry);
    if (word == 0) return 0;
    if (<u32>word == localIndex) return entry;
    i = (i + 1) & mask;
  }
  return 0;
}

function hash(localIndex: u32): u32 {
  const h = localIndex * 0x9e3779b1;
  return h ^ (h >> 15);
}
