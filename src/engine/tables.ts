// The main thread's hand on the tables: the only writer. What the tables are is in ARCHITECTURE.md; where they are, in
// assembly/records.ts. Nothing throws because a table is full: that is a return value.
//
// Publication: content first, then one atomic store that makes it visible. Removal: hide, wait until every worker has passed a
// quiescent point (`reclaim`), then wipe and reuse.

import { Drop, NONE, RouteTarget } from "../../assembly/abi.js";
import {
  CHECK_ENDPOINT,
  CHECK_FILTERS,
  CONNECTION_ACTIVE,
  CONNECTION_CHECKS,
  CONNECTION_FILTERS,
  CONNECTION_MOVED,
  CONNECTION_PATH,
  CONNECTION_SESSION,
  CONNECTION_SIZE,
  PATH_SIZE,
  TABLE_LENGTHS,
} from "../../assembly/records.js";
import { COUNTERS, SCRATCH } from "../../assembly/regions.js";
import type { IpPrefix } from "../base/address.js";
import { type Activity, ActivityReader } from "./activity.js";
import { type FilterSet, FilterSets } from "./filter-sets.js";
import type { Layout } from "./layout.js";
import { type EngineExports, instantiate } from "./module.js";
import { type Path, writePath } from "./path.js";
import { PrefixTable } from "./prefix-table.js";
import { type CompiledFilter, compileFilters, type Filter } from "./rules.js";
import { type SessionKeys, wipeSession, writeSession } from "./session.js";
import { Reclaimer, SlotPool } from "./slots.js";
import type { SharedMemory } from "./webassembly.js";

/** How a connection treats what it receives. */
export interface ConnectionOptions {
  /** Whether destinations of received packets must pass filters; without filters nothing passes. */
  readonly filtered: boolean;
  /** Whether to report (`Exception.EndpointMoved`) when the peer's address changes: WireGuard's roaming. */
  readonly learnEndpoint: boolean;
}

interface Session {
  readonly slot: number;
  readonly connection: number;
}

interface Connection {
  readonly routes: Set<string>;
  readonly sessions: Set<number>;
  path: number | undefined;
  filters: FilterSet | undefined;
}

/** Bytes of BLAKE2s's first block, which holds the key and zeros. */
const MAC1_KEY_BLOCK = 64;

/** Scope of routes in their prefix table, which holds nothing else. */
const ROUTE_SCOPE = 0;

/** The tables' writer. One per process, in the main thread. */
export class Tables {
  readonly #layout: Layout;
  readonly #exports: EngineExports;
  readonly #view: DataView;
  readonly #bytes: Uint8Array;
  readonly #words: Uint32Array;
  readonly #longs: BigUint64Array;
  readonly #reclaimer: Reclaimer;
  /** Where an address or a key lies while the engine is called: the main thread's own scratch. */
  readonly #argument: number;
  readonly #activity: ActivityReader;
  readonly #routeTable: PrefixTable;
  readonly #filterSets: FilterSets;

  readonly #connectionSlots: SlotPool;
  readonly #sessionSlots: SlotPool;
  readonly #pathSlots: SlotPool;

  readonly #connections = new Map<number, Connection>();
  readonly #sessions = new Map<number, Session>();
  readonly #routes = new Map<string, { readonly prefix: IpPrefix; target: number }>();
  /** Routes per prefix length: IPv4 from 0, IPv6 from 64. */
  readonly #routeLengths = new Uint32Array(64 + 129);
  #pathSerial = 0;

  private constructor(memory: SharedMemory, layout: Layout, exports: EngineExports) {
    this.#layout = layout;
    this.#exports = exports;
    this.#view = new DataView(memory.buffer);
    this.#bytes = new Uint8Array(memory.buffer);
    this.#words = new Uint32Array(memory.buffer);
    this.#longs = new BigUint64Array(memory.buffer);
    this.#reclaimer = new Reclaimer(memory, layout);
    this.#argument = (layout.regions[0] ?? 0) + SCRATCH;
    const argument = { bytes: this.#bytes, address: this.#argument };
    this.#activity = new ActivityReader(memory, layout);
    this.#routeTable = new PrefixTable(exports, layout.routes, argument);
    this.#filterSets = new FilterSets(memory, layout, new PrefixTable(exports, layout.filters, argument));
    this.#connectionSlots = new SlotPool(layout.config.connections);
    this.#sessionSlots = new SlotPool(layout.config.sessions);
    this.#pathSlots = new SlotPool(layout.config.paths);
  }

  /** The writer for a fresh memory (`createMemory`). */
  static async create(options: { readonly memory: SharedMemory; readonly layout: Layout }): Promise<Tables> {
    return new Tables(options.memory, options.layout, await instantiate(options.memory));
  }

  // ---- Connections

  /** Takes a slot for a connection, without session, path or filters. `undefined`: the table is full. */
  allocateConnection(options: ConnectionOptions): number | undefined {
    const slot = this.#take(this.#connectionSlots);
    if (slot === undefined) return undefined;
    const address = this.#connectionAddress(slot);
    this.#bytes.fill(0, address, address + CONNECTION_SIZE);
    this.#store(address + CONNECTION_SESSION, NONE);
    this.#store(address + CONNECTION_PATH, NONE);
    this.#store(address + CONNECTION_FILTERS, NONE);
    const checks = (options.filtered ? CHECK_FILTERS : 0) | (options.learnEndpoint ? CHECK_ENDPOINT : 0);
    this.#store(address + CONNECTION_CHECKS, checks);
    this.#store(address + CONNECTION_ACTIVE, 1);
    this.#connections.set(slot, { routes: new Set(), sessions: new Set(), path: undefined, filters: undefined });
    return slot;
  }

  /** Ends a connection: its routes, sessions, path and filters go with it. Its slot must not be used any more. */
  releaseConnection(slot: number): void {
    const connection = this.#connection(slot);
    for (const key of connection.routes) {
      const route = this.#routes.get(key);
      if (route !== undefined) this.removeRoute(route.prefix);
    }
    for (const localIndex of connection.sessions) this.removeSession(localIndex);
    this.setPath(slot, undefined);
    this.#replaceFilters(slot, connection, undefined);
    this.#store(this.#connectionAddress(slot) + CONNECTION_ACTIVE, 0);
    this.#connections.delete(slot);
    this.#reclaimer.retire(() => this.#connectionSlots.give(slot));
  }

  /**
   * Lets only handshake messages through whose mac1 was made with this key (32 bytes: HASH(`mac1----` ‖ our public key)); `undefined`: all.
   * The others are dropped and counted as `Drop.HandshakeMac`.
   */
  setMac1Key(key: Uint8Array | undefined): void {
    const block = this.#argument;
    this.#bytes.fill(0, block, block + MAC1_KEY_BLOCK);
    if (key !== undefined) this.#bytes.set(key, block);
    this.#exports.setMac1Key(this.#layout.door, key === undefined ? 0 : block);
  }

  /**
   * Says where the connection's messages go; `undefined`: nowhere. Packets for it are then reported (`Exception.NoSession`).
   * Allows the next `Exception.EndpointMoved`.
   *
   * @returns false when the table is full; the path is then what it was.
   */
  setPath(slot: number, path: Path | undefined): boolean {
    const connection = this.#connection(slot);
    const old = connection.path;
    let pathSlot: number | undefined;
    if (path !== undefined) {
      pathSlot = this.#take(this.#pathSlots);
      if (pathSlot === undefined) return false;
      this.#pathSerial = (this.#pathSerial + 1) >>> 0;
      const address = this.#layout.paths + PATH_SIZE * pathSlot;
      this.#bytes.fill(0, address, address + PATH_SIZE);
      writePath(this.#view, this.#bytes, address, path, this.#pathSerial);
    }
    const address = this.#connectionAddress(slot);
    this.#store(address + CONNECTION_PATH, pathSlot ?? NONE);
    this.#store(address + CONNECTION_MOVED, 0);
    connection.path = pathSlot;
    if (old !== undefined) this.#reclaimer.retire(() => this.#pathSlots.give(old));
    return true;
  }

  /** Allows the next `Exception.EndpointMoved` while the path stays. */
  watchSource(slot: number): void {
    this.#connection(slot);
    this.#store(this.#connectionAddress(slot) + CONNECTION_MOVED, 0);
  }

  /** What the connection has sent and received since it was allocated. */
  activity(slot: number): Activity {
    return this.#activity.of(slot);
  }

  /**
   * Calls `visit` for each connection whose activity has changed since the last call. Looks at a bit for each that there may be, so that idle
   * connections cost nothing.
   */
  forEachTouched(visit: (slot: number) => void): void {
    this.#activity.takeTouched((slot) => {
      if (this.#connections.has(slot)) visit(slot);
    });
  }

  // ---- Sessions

  /**
   * Makes a session receive. It sends once it is the connection's current one. A session with the same local index is removed.
   *
   * @returns false when the table is full.
   */
  installSession(keys: SessionKeys): boolean {
    const connection = this.#connection(keys.connection);
    if (keys.sendKey.length !== 32 || keys.receiveKey.length !== 32) throw new RangeError("a key has 32 bytes");
    this.removeSession(keys.localIndex);
    const slot = this.#take(this.#sessionSlots);
    if (slot === undefined) return false;
    writeSession(this.#view, this.#layout, slot, keys);
    this.#exports.insertSession(this.#layout.sessionIndex, keys.localIndex, slot);
    this.#sessions.set(keys.localIndex, { slot, connection: keys.connection });
    connection.sessions.add(keys.localIndex);
    return true;
  }

  /**
   * Makes an installed session the one that the connection sends with; `undefined`: none.
   *
   * @returns false when the connection has no such session; nothing changes then.
   */
  setCurrentSession(connection: number, localIndex: number | undefined): boolean {
    this.#connection(connection);
    const session = localIndex === undefined ? undefined : this.#sessions.get(localIndex);
    if (localIndex !== undefined && session?.connection !== connection) return false;
    this.#store(this.#connectionAddress(connection) + CONNECTION_SESSION, session?.slot ?? NONE);
    return true;
  }

  /** Makes a session neither send nor receive any more, and wipes its keys as soon as no worker can be using them. */
  removeSession(localIndex: number): void {
    const session = this.#sessions.get(localIndex);
    if (session === undefined) return;
    const { slot, connection } = session;
    this.#sessions.delete(localIndex);
    this.#connections.get(connection)?.sessions.delete(localIndex);
    this.#exports.removeSession(this.#layout.sessionIndex, localIndex);
    const current = (this.#connectionAddress(connection) + CONNECTION_SESSION) / 4;
    Atomics.compareExchange(this.#words, current, slot, NONE);
    this.#reclaimer.retire(() => {
      wipeSession(this.#view, this.#layout, slot);
      this.#sessionSlots.give(slot);
    });
  }

  // ---- Routes

  /**
   * Routes a prefix to a connection slot or a `RouteTarget`, in place of what it led to before. The longest prefix wins.
   * Packets from a connection are accepted only when their source is routed to it.
   *
   * @returns false when the table is full.
   */
  setRoute(prefix: IpPrefix, target: number): boolean {
    if (target < RouteTarget.FirstSpecial) this.#connection(target);
    const known = this.#routes.get(prefix.key);
    if (known === undefined) {
      if (this.#routes.size >= this.#layout.config.routes) return false;
      this.#routes.set(prefix.key, { prefix, target });
    } else {
      this.#connections.get(known.target)?.routes.delete(prefix.key);
      known.target = target;
    }
    this.#connections.get(target)?.routes.add(prefix.key);
    this.#routeTable.insert(ROUTE_SCOPE, prefix, target);
    if (known === undefined) this.#countRouteLength(prefix, 1);
    return true;
  }

  /** Removes the route of exactly this prefix; nothing happens when there is none. */
  removeRoute(prefix: IpPrefix): void {
    const route = this.#routes.get(prefix.key);
    if (route === undefined) return;
    this.#routes.delete(prefix.key);
    this.#connections.get(route.target)?.routes.delete(prefix.key);
    this.#routeTable.remove(ROUTE_SCOPE, prefix);
    this.#countRouteLength(prefix, -1);
  }

  /** Keeps the table's set of prefix lengths what it must be: a lookup tries no others. */
  #countRouteLength(prefix: IpPrefix, change: 1 | -1): void {
    const index = (prefix.family === 4 ? 0 : 64) + prefix.length;
    const count = (this.#routeLengths[index] ?? 0) + change;
    this.#routeLengths[index] = count;
    if (count <= 1) this.#routeTable.setLength(this.#layout.routes + TABLE_LENGTHS, prefix, count === 1);
  }

  // ---- Filters

  /**
   * Replaces the filters of a connection: what its peer may reach (spec 04, section 6.6). Grants may overlap; their rules add
   * up. A grant with an empty rule list allows everything in its prefix; destinations in no prefix are refused.
   *
   * @returns false when a table is full; nothing at all is allowed then.
   */
  setFilters(slot: number, filters: readonly Filter[]): boolean {
    const connection = this.#connection(slot);
    const compiled = compileFilters(filters);
    const set = this.#filterSets.write(compiled) ?? this.#retryFilters(compiled);
    this.#replaceFilters(slot, connection, set);
    return set !== undefined;
  }

  #retryFilters(compiled: readonly CompiledFilter[]): FilterSet | undefined {
    this.reclaim();
    return this.#filterSets.write(compiled);
  }

  #replaceFilters(slot: number, connection: Connection, set: FilterSet | undefined): void {
    this.#store(this.#connectionAddress(slot) + CONNECTION_FILTERS, set?.slot ?? NONE);
    const old = connection.filters;
    connection.filters = set;
    if (old !== undefined) this.#reclaimer.retire(() => this.#filterSets.free(old));
  }

  // ---- Housekeeping

  /** Frees removed slots that no worker can be using any more. To be called regularly; it never waits. */
  reclaim(): void {
    this.#reclaimer.reclaim();
  }

  /** Packets dropped since the start, by reason (`Drop`), of all slots together. */
  counters(): number[] {
    return Array.from({ length: Drop.Count }, (_, reason) =>
      this.#layout.regions.reduce(
        (sum, region) => sum + Number(Atomics.load(this.#longs, (region + COUNTERS) / 8 + reason)),
        0,
      ),
    );
  }

  // ---- Details

  /** A free slot, if need be one that became free just now. */
  #take(pool: SlotPool): number | undefined {
    if (pool.available === 0) this.reclaim();
    return pool.take();
  }

  /** @throws Error for a slot that is not allocated: the caller's bug. */
  #connection(slot: number): Connection {
    const connection = this.#connections.get(slot);
    if (connection === undefined) throw new Error(`connection slot ${slot} is not allocated`);
    return connection;
  }

  #connectionAddress(slot: number): number {
    return this.#layout.connections + CONNECTION_SIZE * slot;
  }

  #store(address: number, value: number): void {
    Atomics.store(this.#words, address / 4, value);
  }
}
