// Cryptokey routing of a device (whitepaper, section 2): which peer has which prefixes, as configured, and the datapath's routes that
// follow from that.

import type { IpPrefix } from "../base/address.js";
import type { EventQueue } from "../base/event-queue.js";
import { AllowedIps } from "./allowed-ips.js";
import type { ConfigurationError, PeerChange } from "./configuration.js";
import type { DeviceEvent } from "./device-events.js";
import type { PeerRecord } from "./device-peer.js";

/** See the head of this file. Changes of routes are reported as events. */
export class CryptokeyRouting {
  readonly #allowedIps = new AllowedIps<PeerRecord>();
  readonly #maxAllowedIps: number;
  readonly #events: EventQueue<DeviceEvent>;

  constructor(maxAllowedIps: number, events: EventQueue<DeviceEvent>) {
    this.#maxAllowedIps = maxAllowedIps;
    this.#events = events;
  }

  /** The prefixes of a peer, in the order they were given. */
  prefixesOf(record: PeerRecord): IpPrefix[] {
    return this.#allowedIps.of(record);
  }

  /** Changes a peer's prefixes. @returns why it stopped half-way. */
  configure(record: PeerRecord, change: PeerChange): ConfigurationError | undefined {
    if (change.replaceAllowedIps === true) {
      // Those that come again at once stay, so that no packet finds them missing.
      const kept = new Set(change.allowedIps.map(({ prefix }) => prefix.key));
      for (const prefix of this.prefixesOf(record)) if (!kept.has(prefix.key)) this.#remove(record, prefix);
    }
    for (const { prefix, remove } of change.allowedIps) {
      if (remove) {
        this.#remove(record, prefix);
        continue;
      }
      if (!this.#allowedIps.has(prefix) && this.#allowedIps.size >= this.#maxAllowedIps) return "too-many-allowed-ips";
      if (!this.#allowedIps.assign(prefix, record)) continue;
      this.#events.push({ type: "route-set", prefix, target: { type: "connection", connection: record.name } });
    }
    return undefined;
  }

  /** The peer goes: it has no prefixes any more. */
  removePeer(record: PeerRecord): void {
    for (const prefix of this.prefixesOf(record)) this.#remove(record, prefix);
  }

  #remove(record: PeerRecord, prefix: IpPrefix): void {
    if (this.#allowedIps.remove(prefix, record)) this.#events.push({ type: "route-removed", prefix });
  }
}
