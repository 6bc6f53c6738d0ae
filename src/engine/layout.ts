// Where everything lies in the shared memory: offsets computed from capacities chosen at start. A layout is plain data; it
// travels to the workers next to the memory. The records themselves are in assembly/records.ts and assembly/regions.ts.

import {
  CONNECTION_SIZE,
  DOOR_SEED,
  DOOR_SIZE,
  ENTRY_SIZE,
  FILTER_SET_SIZE,
  INDEX_ENTRY_SIZE,
  PATH_SIZE,
  REPLAY_RING_BITS,
  RULES_UNIT,
  SESSION_SIZE,
  TABLE_ENTRIES,
  TABLE_MASK,
  TABLE_SIZE,
  TOUCHED_BITS,
} from "../../assembly/records.js";
import { RING, RING_SLACK } from "../../assembly/regions.js";
import { type SharedMemory, webAssembly } from "./webassembly.js";

/** Capacities. Everything is bounded; what does not fit is refused and counted. */
export interface EngineConfig {
  /** Worker threads, 1 to 8. */
  readonly workers: number;
  /** Connections that can exist at once. */
  readonly connections: number;
  /** WireGuard sessions: up to three per connection are usual, and removed ones linger for a moment. */
  readonly sessions: number;
  /** Paths: one per connection, and rewritten ones linger for a moment. */
  readonly paths: number;
  /** Routed prefixes. */
  readonly routes: number;
  /** Prefixes of filters, of all connections together. */
  readonly filters: number;
  /** Units of 64 bytes for rule lists; one holds 14 port ranges. */
  readonly rules: number;
  /** Bytes of each slot's exception ring, a power of two, at least 256 KiB. */
  readonly ringBytes: number;
}

/** The capacities of a program that does not choose its own. */
export const DEFAULT_ENGINE_CONFIG: EngineConfig = {
  workers: 1,
  connections: 1024,
  sessions: 4096,
  paths: 2048,
  routes: 65536,
  filters: 16384,
  rules: 16384,
  ringBytes: 1024 * 1024,
};

/** Addresses (byte offsets in the shared memory) of everything. Survives structured cloning. */
export interface Layout {
  readonly config: EngineConfig;
  /** Bytes of the memory, a multiple of the page size. */
  readonly memoryBytes: number;
  /** Int32 in a cache line of its own: changed and notified when exceptions wait for the main thread. */
  readonly exceptionSignal: number;
  readonly door: number;
  readonly routes: number;
  readonly routeEntries: number;
  readonly routeEntryCount: number;
  readonly sessionIndex: number;
  readonly sessionIndexEntries: number;
  readonly sessionIndexEntryCount: number;
  readonly sessions: number;
  readonly replayRings: number;
  readonly connections: number;
  readonly touched: number;
  readonly paths: number;
  readonly filters: number;
  readonly filterEntries: number;
  readonly filterEntryCount: number;
  readonly filterSets: number;
  readonly filterSetCount: number;
  readonly rules: number;
  /** Region of each slot: 0 is the main thread's, 1 to `config.workers` are the workers'. */
  readonly regions: readonly number[];
  /** Bytes of a region. */
  readonly regionBytes: number;
}

/** Bytes of a page of WebAssembly memory. */
const PAGE_SIZE = 65536;

/** Bytes of the largest memory WebAssembly can address, less a page. */
const MAX_MEMORY = 65535 * PAGE_SIZE;

/**
 * Computes the layout for these capacities; absent ones are the defaults.
 *
 * @throws RangeError when a capacity is no positive integer, the ring is no power of two, or all of it does not fit in 4 GiB.
 */
export function createLayout(capacities: Partial<EngineConfig> = {}): Layout {
  const config = { ...DEFAULT_ENGINE_CONFIG, ...capacities };
  for (const [name, value] of Object.entries(config)) {
    if (!Number.isInteger(value) || value < 1 || value > 2 ** 24)
      throw new RangeError(`${name} is ${value}, not a sensible capacity`);
  }
  if (config.workers > 8) throw new RangeError(`at most 8 workers, not ${config.workers}`);
  if (config.ringBytes < 256 * 1024 || powerOfTwo(config.ringBytes) !== config.ringBytes)
    throw new RangeError(`an exception ring of ${config.ringBytes} bytes is no power of two of at least 256 KiB`);

  // The first page is left to the static data of the WebAssembly module.
  let end = PAGE_SIZE;
  const place = (bytes: number, alignment = 64): number => {
    const address = Math.ceil(end / alignment) * alignment;
    end = address + bytes;
    return address;
  };

  // Half full at most: probes of open addressing stay short.
  const routeEntryCount = powerOfTwo(2 * config.routes);
  const sessionIndexEntryCount = powerOfTwo(2 * config.sessions);
  const filterEntryCount = powerOfTwo(2 * config.filters);
  const filterSetCount = 2 * config.connections;

  const exceptionSignal = place(64);
  const door = place(DOOR_SIZE);
  const routes = place(TABLE_SIZE);
  const routeEntries = place(ENTRY_SIZE * routeEntryCount);
  const sessionIndex = place(TABLE_SIZE);
  const sessionIndexEntries = place(INDEX_ENTRY_SIZE * sessionIndexEntryCount);
  const sessions = place(SESSION_SIZE * config.sessions);
  const replayRings = place((REPLAY_RING_BITS / 8) * config.sessions);
  const connections = place(CONNECTION_SIZE * config.connections);
  const touched = place(4 * Math.ceil(config.connections / TOUCHED_BITS));
  const paths = place(PATH_SIZE * config.paths);
  const filters = place(TABLE_SIZE);
  const filterEntries = place(ENTRY_SIZE * filterEntryCount);
  const filterSets = place(FILTER_SET_SIZE * filterSetCount);
  const rules = place(RULES_UNIT * config.rules);

  const regionBytes = Math.ceil((RING + config.ringBytes + RING_SLACK) / PAGE_SIZE) * PAGE_SIZE;
  const regions = Array.from({ length: config.workers + 1 }, () => place(regionBytes, PAGE_SIZE));

  if (end > MAX_MEMORY) throw new RangeError(`these capacities take ${end} bytes, more than WebAssembly can address`);
  return {
    config,
    memoryBytes: Math.ceil(end / PAGE_SIZE) * PAGE_SIZE,
    exceptionSignal,
    door,
    routes,
    routeEntries,
    routeEntryCount,
    sessionIndex,
    sessionIndexEntries,
    sessionIndexEntryCount,
    sessions,
    replayRings,
    connections,
    touched,
    paths,
    filters,
    filterEntries,
    filterEntryCount,
    filterSets,
    filterSetCount,
    rules,
    regions,
    regionBytes,
  };
}

/** The shared memory for a layout, with empty tables, of fixed size. Created once, by the main thread. */
export function createMemory(layout: Layout): SharedMemory {
  const pages = layout.memoryBytes / PAGE_SIZE;
  const memory = new webAssembly.Memory({ initial: pages, maximum: pages, shared: true });
  const view = new DataView(memory.buffer);
  for (const [table, entries, count] of [
    [layout.routes, layout.routeEntries, layout.routeEntryCount],
    [layout.sessionIndex, layout.sessionIndexEntries, layout.sessionIndexEntryCount],
    [layout.filters, layout.filterEntries, layout.filterEntryCount],
  ] as const) {
    view.setUint32(table + TABLE_MASK, count - 1, true);
    view.setUint32(table + TABLE_ENTRIES, entries, true);
  }
  // Layouts are public; the seed is the process's own.
  const [seed = 0n] = crypto.getRandomValues(new BigUint64Array(1));
  view.setBigUint64(layout.door + DOOR_SEED, seed, true);
  return memory;
}

/** The smallest power of two that is at least `value`. */
function powerOfTwo(value: number): number {
  return 2 ** Math.ceil(Math.log2(value));
}
