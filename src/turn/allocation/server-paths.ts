// The ways to a relay, one for each of its addresses: which of them is used, how the relay sees us over each, and when to ask again (spec 03, sections 5.5
// and 6.4). What is asked is a binding: it has no side effect, and keeps NATs on the way open.
//
//   asked ──answered──► asked again after 25 s; the first that answers is the active one, by which everything else goes
//     └── unanswered, while another is active ──► asked again after 50 s, 100 s ... 300 s

import type { SocketAddress } from "../../base/address.js";
import { type Duration, earliest, type Instant, SECOND } from "../../base/time.js";
import type { MappedAddress, RelayServer } from "./events.js";

/** Time between bindings when nothing else goes to the relay: NATs forget after 30 s (spec 03, section 6.4). */
export const KEEP_ALIVE_INTERVAL: Duration = 25 * SECOND;
/** Longest time between bindings to an address that does not answer, while another one does. */
const MAX_PROBE_INTERVAL: Duration = 300 * SECOND;

interface Path {
  readonly server: SocketAddress;
  /** `undefined`: while it is being asked. */
  nextProbe: Instant | undefined;
  interval: Duration;
  mapped: MappedAddress | undefined;
}

/** See the head of this file. */
export class ServerPaths {
  /** IPv4 first. */
  readonly #paths: readonly Path[];
  #active: SocketAddress | undefined;
  /** Last datagram of the datapath to the relay. */
  #usedAt: Instant = Number.NEGATIVE_INFINITY;

  constructor(server: RelayServer) {
    const servers = [server.ipv4, server.ipv6].filter((address) => address !== undefined);
    this.#paths = servers.map((address) => ({
      server: address,
      nextProbe: undefined,
      interval: KEEP_ALIVE_INTERVAL,
      mapped: undefined,
    }));
  }

  /** The relay's address in use; `undefined` while none has answered. */
  get active(): SocketAddress | undefined {
    return this.#active;
  }

  /** How the relay sees us, IPv4 first. */
  get mapped(): readonly MappedAddress[] {
    return this.#paths.map(({ mapped }) => mapped).filter((mapped) => mapped !== undefined);
  }

  /** Whether this is an address of the relay, in use or not. */
  has(address: SocketAddress): boolean {
    return this.#find(address) !== undefined;
  }

  /** Whether this is the address in use. */
  isActive(address: SocketAddress): boolean {
    return this.#active?.equals(address) === true;
  }

  /** Begins (anew). @returns the addresses to ask: all. A single one is active at once: there is no need to wait for anything. */
  begin(): readonly SocketAddress[] {
    for (const path of this.#paths) path.nextProbe = undefined;
    this.#active = this.#paths.length === 1 ? this.#paths[0]?.server : undefined;
    return this.#paths.map(({ server }) => server);
  }

  /** An address has answered; it is active now if no other is. @returns how the relay sees us over it, if that is news. */
  handleAnswer(
    server: SocketAddress,
    mapped: SocketAddress | undefined,
    base: SocketAddress,
    now: Instant,
  ): MappedAddress | undefined {
    const path = this.#find(server);
    if (path === undefined) return undefined;
    this.#active ??= server;
    path.interval = KEEP_ALIVE_INTERVAL;
    path.nextProbe = now + KEEP_ALIVE_INTERVAL;
    const known = path.mapped;
    const isNew = mapped !== undefined && !(known?.mapped.equals(mapped) === true && known.base.equals(base));
    if (!isNew || mapped.family !== server.family) return undefined;
    path.mapped = { mapped, base };
    return path.mapped;
  }

  /** An address does not answer. If it is not the active one, it is asked more and more seldom. */
  handleSilence(server: SocketAddress, now: Instant): void {
    const path = this.#find(server);
    if (path === undefined || this.isActive(server)) return;
    path.interval = Math.min(2 * path.interval, MAX_PROBE_INTERVAL);
    path.nextProbe = now + path.interval;
  }

  /** The datapath has sent something to the relay at `at`. */
  handleActivity(at: Instant): void {
    this.#usedAt = Math.max(this.#usedAt, at);
  }

  /** The active address is of no use; another one may still answer. */
  abandonActive(): void {
    this.#active = undefined;
  }

  /** Forgets how the relay sees us. @returns what is forgotten. */
  forgetMapped(): readonly MappedAddress[] {
    const lost = this.mapped;
    for (const path of this.#paths) path.mapped = undefined;
    return lost;
  }

  /** The addresses to ask now. */
  takeDue(now: Instant): readonly SocketAddress[] {
    const due: SocketAddress[] = [];
    for (const path of this.#paths) {
      if (path.nextProbe === undefined || now < path.nextProbe) continue;
      // What the datapath sends keeps the way open too, and among much of it a binding may get lost.
      const isUsed = this.isActive(path.server) && now < this.#usedAt + KEEP_ALIVE_INTERVAL;
      path.nextProbe = isUsed ? this.#usedAt + KEEP_ALIVE_INTERVAL : undefined;
      if (!isUsed) due.push(path.server);
    }
    return due;
  }

  /** When {@link takeDue} has something to say next. */
  nextDue(): Instant | undefined {
    let next: Instant | undefined;
    for (const { nextProbe } of this.#paths) next = earliest(next, nextProbe);
    return next;
  }

  /** Nothing is asked any more, until it begins anew. */
  stop(): void {
    for (const path of this.#paths) path.nextProbe = undefined;
  }

  #find(server: SocketAddress): Path | undefined {
    return this.#paths.find((path) => path.server.equals(server));
  }
}
