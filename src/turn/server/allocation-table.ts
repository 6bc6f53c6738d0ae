// The allocations of a relay: by everything that they are looked up by (spec 03, section 3.2), how many there may be of whom, and which port each of
// them gets (RFC 8656, section 7.2; spec 03, section 3.6).

import type { AddressFamily, IpAddress, SocketAddress } from "../../base/address.js";
import { Deadlines } from "../../base/deadlines.js";
import { type Random, randomBelow } from "../../base/random.js";
import type { Instant } from "../../base/time.js";
import { ServerAllocation, type ServerAllocationFields } from "./allocation.js";
import type { AllocationPorts, TurnQuotas } from "./events.js";

/** Ports that are tried for an allocation before the relay says that it has none. */
const MAX_PORT_ATTEMPTS = 64;

const DEFAULT_QUOTAS: TurnQuotas = { total: 65_536, perUser: 16_384, perSource: 16_384 };

/** What the table is made of. */
export interface AllocationTableOptions {
  /** Ports of allocations, both inclusive. */
  readonly lowestPort: number;
  readonly highestPort: number;
  readonly ports: AllocationPorts;
  readonly random: Random;
  readonly quotas?: Partial<TurnQuotas> | undefined;
}

/** Why there is no allocation: its user or its source has enough of them, or the relay has no more to give. */
export type AllocationRefusal = "quota-reached" | "no-capacity";

/** See the head of this file. */
export class AllocationTable {
  readonly #options: AllocationTableOptions;
  readonly #quotas: TurnQuotas;
  readonly #byClient = new Map<string, ServerAllocation>();
  readonly #byPort = new Map<number, ServerAllocation>();
  readonly #byUser = new Map<string, Set<ServerAllocation>>();
  /** How many a source address has. */
  readonly #bySource = new Map<string, number>();
  readonly #deadlines = new Deadlines<ServerAllocation>();

  constructor(options: AllocationTableOptions) {
    this.#options = options;
    this.#quotas = { ...DEFAULT_QUOTAS, ...options.quotas };
  }

  /** Allocations that exist. */
  get size(): number {
    return this.#byClient.size;
  }

  /** The allocation of a client; it has one at most. */
  ofClient(client: SocketAddress): ServerAllocation | undefined {
    return this.#byClient.get(client.key);
  }

  /** The allocation that has this port. */
  atPort(port: number): ServerAllocation | undefined {
    return this.#byPort.get(port);
  }

  /** The allocations under a user name. */
  ofUser(username: string): readonly ServerAllocation[] {
    return [...(this.#byUser.get(username) ?? [])];
  }

  /** Makes an allocation for a client that has none, with an open port. */
  create(
    fields: Omit<ServerAllocationFields, "port">,
    { mustBeEven }: { readonly mustBeEven: boolean },
  ): ServerAllocation | AllocationRefusal {
    const { client, username, families } = fields;
    const { total, perUser, perSource } = this.#quotas;
    const ofUser = this.#byUser.get(username) ?? new Set();
    const ofSource = this.#countFrom(client.ip);
    if (ofUser.size >= perUser || ofSource >= perSource) return "quota-reached";
    const port = this.size < total ? this.#openPort(families, mustBeEven) : undefined;
    if (port === undefined) return "no-capacity";
    const allocation = new ServerAllocation({ ...fields, port });
    this.#byClient.set(client.key, allocation);
    this.#byPort.set(port, allocation);
    this.#byUser.set(username, ofUser.add(allocation));
    this.#bySource.set(client.ip.key, ofSource + 1);
    this.reschedule(allocation);
    return allocation;
  }

  /** Removes an allocation, and closes its port. */
  remove(allocation: ServerAllocation): void {
    const { client, port, username } = allocation;
    this.#byClient.delete(client.key);
    this.#byPort.delete(port);
    const ofUser = this.#byUser.get(username);
    ofUser?.delete(allocation);
    if (ofUser?.size === 0) this.#byUser.delete(username);
    const ofSource = this.#countFrom(client.ip) - 1;
    if (ofSource <= 0) this.#bySource.delete(client.ip.key);
    else this.#bySource.set(client.ip.key, ofSource);
    this.#deadlines.set(allocation, undefined);
    this.#options.ports.close(port);
  }

  /** The deadline of an allocation may have changed. */
  reschedule(allocation: ServerAllocation): void {
    this.#deadlines.set(allocation, allocation.deadline);
  }

  /** Allocations whose deadline is over. Each is to be removed or rescheduled. */
  takeDue(now: Instant): readonly ServerAllocation[] {
    return this.#deadlines.takeDue(now);
  }

  /** When {@link takeDue} has something next. */
  nextDeadline(): Instant | undefined {
    return this.#deadlines.next();
  }

  #countFrom(source: IpAddress): number {
    return this.#bySource.get(source.key) ?? 0;
  }

  /** Opens a port that was drawn by lot: whoever guesses ports learns nothing from those that it knows. */
  #openPort(families: readonly AddressFamily[], mustBeEven: boolean): number | undefined {
    const { lowestPort, highestPort, random, ports } = this.#options;
    const count = highestPort - lowestPort + 1;
    if (this.#byPort.size >= count) return undefined;
    const first = randomBelow(random, count);
    for (let i = 0, attempts = 0; i < count && attempts < MAX_PORT_ATTEMPTS; i++) {
      const port = lowestPort + ((first + i) % count);
      if (this.#byPort.has(port) || (mustBeEven && port % 2 !== 0)) continue;
      attempts++;
      if (ports.open(port, families)) return port;
    }
    return undefined;
  }
}
