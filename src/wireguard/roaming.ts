// Where a device's peers are (whitepaper, section 2.1): at the configured endpoint, then at the source of the last authenticated message.
// The local address that it came to is the source of what we send back, until that may be gone.

import type { SocketAddress } from "../base/address.js";
import type { EventQueue } from "../base/event-queue.js";
import type { DeviceEvent } from "./device-events.js";
import { type Endpoint, type PeerRecord, UNSPECIFIED } from "./device-peer.js";

/** See the head of this file. Changes of paths are reported as events. */
export class Roaming {
  readonly #events: EventQueue<DeviceEvent>;

  constructor(events: EventQueue<DeviceEvent>) {
    this.#events = events;
  }

  /** The peer's endpoint is configured. */
  configure(record: PeerRecord, remote: SocketAddress): void {
    this.move(record, { remote, local: UNSPECIFIED[remote.family] }, "rewrite-path");
  }

  /** The peer is at `endpoint`. `rewrite-path`: the datapath waits for a path before it reports the next move. */
  move(record: PeerRecord, endpoint: Endpoint, when: "if-changed" | "rewrite-path"): void {
    const old = record.endpoint;
    const sameRemote = old?.remote.equals(endpoint.remote) === true;
    if (when === "if-changed" && sameRemote && old?.local.equals(endpoint.local) === true) return;
    this.#set(record, endpoint);
    if (!sameRemote) this.#events.push({ type: "endpoint-changed", connection: record.name, remote: endpoint.remote });
  }

  /** From now on the kernel chooses the source address: the one that the peer talked to may be gone. */
  forgetLocalAddress(record: PeerRecord): void {
    if (record.endpoint === undefined || record.endpoint.local.ip.isUnspecified) return;
    const { remote } = record.endpoint;
    this.#set(record, { remote, local: UNSPECIFIED[remote.family] });
  }

  #set(record: PeerRecord, endpoint: Endpoint): void {
    record.endpoint = endpoint;
    if (record.peer !== undefined) record.peer.mayInitiate = true;
    this.#events.push({ type: "path-selected", connection: record.name, path: endpoint });
  }
}
