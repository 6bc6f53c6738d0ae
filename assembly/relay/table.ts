// The relay's hash tables: linear probing over entries that are single words, so that an entry is always seen whole; the keys are in
// the channels' records. Readers are lock-free; the main thread is the only writer. Layout: assembly/relay/records.ts.

import { TABLE_ENTRIES, TABLE_MASK, TABLE_VERSION } from "../records";
import { beginWrite, endWrite } from "../tables/prefix";
import {
  CHANNEL_CLIENT_KEY,
  CHANNEL_ENTRY_SIZE,
  CHANNEL_PEER_KEY,
  CHANNEL_SIZE,
  RELAY_CHANNELS,
  RELAY_CLIENTS,
  RELAY_PEERS,
  RELAY_SEED,
} from "./records";

/** The channel whose client has this socket address (struct sockaddr) and which has this number; 0 when there is none. */
export function channelOfClient(relay: u32, name: u32, family: u32, number: u32): u32 {
  return lookup(relay, RELAY_CLIENTS, CHANNEL_CLIENT_KEY, name, family, number);
}

/** The record of a client with this socket address that has an allocation; 0 when there is none. */
export function recordOfClient(relay: u32, name: u32, family: u32): u32 {
  return channelOfClient(relay, name, family, 0);
}

/** The channel of the allocation with this port to the peer with this socket address; 0 when there is none. */
export function channelOfPeer(relay: u32, name: u32, family: u32, port: u32): u32 {
  return lookup(relay, RELAY_PEERS, CHANNEL_PEER_KEY, name, family, port);
}

/** The channel with the peer key at this address; 0 when there is none. */
export function channelThatMeets(relay: u32, key: u32): u32 {
  return find(relay, RELAY_PEERS, CHANNEL_PEER_KEY, load<u64>(key), load<u64>(key, 8), load<u64>(key, 16));
}

/** Makes the channel in a slot visible. Its keys must not be there yet, and entries must be empty: the caller counts. */
export function insertChannel(relay: u32, slot: u32): void {
  insert(relay, RELAY_CLIENTS, CHANNEL_CLIENT_KEY, slot);
  insert(relay, RELAY_PEERS, CHANNEL_PEER_KEY, slot);
}

/** Makes the client in a slot visible. It must not be there yet. */
export function insertClient(relay: u32, slot: u32): void {
  insert(relay, RELAY_CLIENTS, CHANNEL_CLIENT_KEY, slot);
}

/** Hides the client in a slot. */
export function removeClient(relay: u32, slot: u32): void {
  remove(relay, RELAY_CLIENTS, CHANNEL_CLIENT_KEY, slot);
}

/** Hides the channel in a slot. */
export function removeChannel(relay: u32, slot: u32): void {
  remove(relay, RELAY_CLIENTS, CHANNEL_CLIENT_KEY, slot);
  remove(relay, RELAY_PEERS, CHANNEL_PEER_KEY, slot);
}

// ---- Details

function lookup(relay: u32, tableOffset: u32, keyOffset: u32, name: u32, family: u32, number: u32): u32 {
  const first = <u64>load<u16>(name, 2) | ((<u64>number) << 16) | ((<u64>family) << 32);
  const second = family == 4 ? <u64>load<u32>(name, 4) : load<u64>(name, 8);
  const third = family == 4 ? <u64>0 : load<u64>(name, 16);
  return find(relay, tableOffset, keyOffset, first, second, third);
}

function find(relay: u32, tableOffset: u32, keyOffset: u32, first: u64, second: u64, third: u64): u32 {
  const table = relay + tableOffset;
  const start = hash(load<u64>(relay, RELAY_SEED), first, second, third);
  const records = load<u32>(relay, RELAY_CHANNELS);
  const mask = load<u32>(table, TABLE_MASK);
  const entries = load<u32>(table, TABLE_ENTRIES);
  while (true) {
    const version = atomic.load<u32>(table, TABLE_VERSION);
    let i = start & mask;
    // The bound matters only while the table changes under the reader.
    for (let probes: u32 = 0; probes <= mask; probes++) {
      const entry = atomic.load<u32>(entries + i * CHANNEL_ENTRY_SIZE);
      if (entry == 0) break;
      const record = records + (entry - 1) * CHANNEL_SIZE;
      const key = record + keyOffset;
      if (load<u64>(key) == first && load<u64>(key, 8) == second && load<u64>(key, 16) == third) return record;
      i = (i + 1) & mask;
    }
    // Only an entry that is not found may be one that was just moving.
    if (!(version & 1) && atomic.load<u32>(table, TABLE_VERSION) == version) return 0;
  }
}

function insert(relay: u32, tableOffset: u32, keyOffset: u32, slot: u32): void {
  const table = relay + tableOffset;
  const mask = load<u32>(table, TABLE_MASK);
  const entries = load<u32>(table, TABLE_ENTRIES);
  let i = home(relay, keyOffset, slot) & mask;
  while (load<u32>(entries + i * CHANNEL_ENTRY_SIZE) != 0) i = (i + 1) & mask;
  beginWrite(table);
  atomic.store<u32>(entries + i * CHANNEL_ENTRY_SIZE, slot + 1);
  endWrite(table);
}

function remove(relay: u32, tableOffset: u32, keyOffset: u32, slot: u32): void {
  const table = relay + tableOffset;
  const mask = load<u32>(table, TABLE_MASK);
  const entries = load<u32>(table, TABLE_ENTRIES);
  let hole = home(relay, keyOffset, slot) & mask;
  while (true) {
    const entry = load<u32>(entries + hole * CHANNEL_ENTRY_SIZE);
    if (entry == 0) return;
    if (entry == slot + 1) break;
    hole = (hole + 1) & mask;
  }
  beginWrite(table);
  // Entries behind the hole move into it if they would otherwise not be found any more.
  for (let i = (hole + 1) & mask; ; i = (i + 1) & mask) {
    const entry = load<u32>(entries + i * CHANNEL_ENTRY_SIZE);
    if (entry == 0) break;
    if (((i - home(relay, keyOffset, entry - 1)) & mask) < ((i - hole) & mask)) continue;
    atomic.store<u32>(entries + hole * CHANNEL_ENTRY_SIZE, entry);
    hole = i;
  }
  atomic.store<u32>(entries + hole * CHANNEL_ENTRY_SIZE, 0);
  endWrite(table);
}

/** Where a channel's entry would be in an empty table, before the mask. */
function home(relay: u32, keyOffset: u32, slot: u32): u32 {
  const key = load<u32>(relay, RELAY_CHANNELS) + slot * CHANNEL_SIZE + keyOffset;
  return hash(load<u64>(relay, RELAY_SEED), load<u64>(key), load<u64>(key, 8), load<u64>(key, 16));
}

/** Keyed, so that nobody can choose addresses that collide. */
function hash(seed: u64, first: u64, second: u64, third: u64): u32 {
  let h = (first ^ seed) * 0x9e3779b97f4a7c15;
  h = (h ^ (h >> 32) ^ second) * 0xd6e8feb86659fd93;
  h = (h ^ (h >> 32) ^ third) * 0x9e3779b97f4a7c15;
  h ^= h >> 32;
  h *= 0xd6e8feb86659fd93;
  return <u32>(h >> 32);
}
