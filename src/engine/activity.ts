// What connections carry, as the workers count and stamp it in the connections' records (assembly/records.ts, "Connections"). Workers set a
// connection's bit among the touched ones; who reads looks at the bits first, so that ten thousand idle connections cost nothing.

import {
  ACTIVITY_RECEIVED_AT,
  ACTIVITY_RECEIVED_DATA_AT,
  ACTIVITY_RX_BYTES,
  ACTIVITY_RX_PACKETS,
  ACTIVITY_SENT_AT,
  ACTIVITY_SENT_DATA_AT,
  ACTIVITY_TX_BYTES,
  ACTIVITY_TX_PACKETS,
  CONNECTION_SIZE,
  TOUCHED_BITS,
} from "../../assembly/records.js";
import type { Instant } from "../base/time.js";
import type { Layout } from "./layout.js";
import type { SharedMemory } from "./webassembly.js";

/** What a connection has sent and received. Times are milliseconds, rounded down; 0 for never. */
export interface Activity {
  /** Any transport message sent; any authenticated one received. */
  readonly sentAt: Instant;
  readonly receivedAt: Instant;
  /** Those that carried a packet, that is, were no keepalives. */
  readonly sentDataAt: Instant;
  readonly receivedDataAt: Instant;
  /** Bytes of transport messages, with WireGuard's header and tag: what `wg show` counts. */
  readonly txBytes: number;
  readonly rxBytes: number;
  /** Transport messages. */
  readonly txPackets: number;
  readonly rxPackets: number;
}

/** The reader of all connections' activity. */
export class ActivityReader {
  readonly #layout: Layout;
  readonly #words: Uint32Array;
  readonly #longs: BigUint64Array;

  constructor(memory: SharedMemory, layout: Layout) {
    this.#layout = layout;
    this.#words = new Uint32Array(memory.buffer);
    this.#longs = new BigUint64Array(memory.buffer);
  }

  /** What the connection has sent and received since it was allocated. */
  of(slot: number): Activity {
    const address = this.#layout.connections + CONNECTION_SIZE * slot;
    const read = (field: number) => Number(Atomics.load(this.#longs, (address + field) / 8));
    return {
      sentAt: read(ACTIVITY_SENT_AT),
      receivedAt: read(ACTIVITY_RECEIVED_AT),
      sentDataAt: read(ACTIVITY_SENT_DATA_AT),
      receivedDataAt: read(ACTIVITY_RECEIVED_DATA_AT),
      txBytes: read(ACTIVITY_TX_BYTES),
      rxBytes: read(ACTIVITY_RX_BYTES),
      txPackets: read(ACTIVITY_TX_PACKETS),
      rxPackets: read(ACTIVITY_RX_PACKETS),
    };
  }

  /** Calls `visit` for each slot, allocated or not, whose activity has changed since the last call. */
  takeTouched(visit: (slot: number) => void): void {
    const first = this.#layout.touched / 4;
    const words = Math.ceil(this.#layout.config.connections / TOUCHED_BITS);
    for (let i = 0; i < words; i++) {
      if (Atomics.load(this.#words, first + i) === 0) continue;
      // Cleared before the activity is read: what changes from here on sets it again.
      let bits = Atomics.exchange(this.#words, first + i, 0);
      while (bits !== 0) {
        const bit = 31 - Math.clz32(bits);
        bits = (bits ^ (1 << bit)) >>> 0;
        visit(TOUCHED_BITS * i + bit);
      }
    }
  }
}
