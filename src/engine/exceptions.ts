// The main thread's end of the exception rings: what the workers' tables did not answer.

import { Exception, NONE } from "../../assembly/abi.js";
import {
  RECORD_CONNECTION,
  RECORD_FAMILY,
  RECORD_HAS_INDEX,
  RECORD_HEADER_SIZE,
  RECORD_INDEX,
  RECORD_LENGTH,
  RECORD_LOCAL,
  RECORD_LOCAL_PORT,
  RECORD_PAYLOAD_LENGTH,
  RECORD_REASON,
  RECORD_REMOTE,
  RECORD_REMOTE_PORT,
  RECORD_SKIP,
  RING,
  RING_HEAD,
  RING_TAIL,
} from "../../assembly/regions.js";
import type { AddressFamily } from "../base/address.js";
import type { Layout } from "./layout.js";
import type { SharedMemory } from "./webassembly.js";

/**
 * One exception. The reader reuses the object and the memory behind the byte arrays: they are valid until its next call. They
 * are views of shared memory, so functions that want plain memory need a copy (`slice()`).
 */
export interface ExceptionRecord {
  /** `Exception` */
  readonly reason: Exception;
  /** Slot of the worker (or of the main thread's own engine) that reports it. */
  readonly slot: number;
  /** Connection slot; absent when none is known. */
  readonly connection: number | undefined;
  /** Our receiver index: of the session concerned, or the unknown one; absent otherwise. */
  readonly localIndex: number | undefined;
  /** Family of the addresses; absent when the exception has none (packets from the TUN device, most notices). */
  readonly family: AddressFamily | undefined;
  /** Address that the datagram came to, 4 or 16 bytes (all zeros when the kernel did not tell); empty without `family`. */
  readonly localAddress: Uint8Array;
  readonly localPort: number;
  /** Address that the datagram came from, 4 or 16 bytes; empty without `family`. */
  readonly remoteAddress: Uint8Array;
  readonly remotePort: number;
  /**
   * The datagram, or the IP packet with complete checksums (a large TCP frame comes as its segments, one exception each);
   * empty for notices. Of a transport message with an unknown index only the beginning, up to 64 bytes.
   */
  readonly payload: Uint8Array;
}

type MutableRecord = { -readonly [K in keyof ExceptionRecord]: ExceptionRecord[K] };

const EMPTY = new Uint8Array(0);

/** Drains the exception rings of all slots. One per process, in the main thread. */
export class ExceptionReader {
  readonly #layout: Layout;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #words: Uint32Array;
  /** Slot that is drained next: rings take turns. */
  #slot = 0;
  readonly #record: MutableRecord = {
    reason: Exception.Stun,
    slot: 0,
    connection: undefined,
    localIndex: undefined,
    family: undefined,
    localAddress: EMPTY,
    localPort: 0,
    remoteAddress: EMPTY,
    remotePort: 0,
    payload: EMPTY,
  };
  /** Where the record handed out last ends: freed by the next call. */
  #held: { readonly index: number; readonly tail: number } | undefined;

  constructor(options: { readonly memory: SharedMemory; readonly layout: Layout }) {
    this.#layout = options.layout;
    this.#bytes = new Uint8Array(options.memory.buffer);
    this.#view = new DataView(options.memory.buffer);
    this.#words = new Uint32Array(options.memory.buffer);
  }

  /** The next exception of any ring; `undefined` when all rings are empty. Frees the one that was returned before. */
  next(): ExceptionRecord | undefined {
    this.release();
    const { regions } = this.#layout;
    for (let i = 0; i < regions.length; i++) {
      const slot = (this.#slot + i) % regions.length;
      if (this.#read(slot)) {
        this.#slot = (slot + 1) % regions.length;
        return this.#record;
      }
    }
    return undefined;
  }

  /** Frees the record that `next` returned last, when there will be no further call soon. */
  release(): void {
    if (this.#held === undefined) return;
    Atomics.store(this.#words, this.#held.index, this.#held.tail);
    this.#held = undefined;
  }

  #read(slot: number): boolean {
    const region = this.#layout.regions[slot] ?? 0;
    const tailIndex = (region + RING_TAIL) / 4;
    const head = Atomics.load(this.#words, (region + RING_HEAD) / 4);
    let tail = Atomics.load(this.#words, tailIndex);
    while (tail !== head) {
      const at = region + RING + (tail & (this.#layout.config.ringBytes - 1));
      tail = (tail + this.#view.getUint32(at + RECORD_LENGTH, true)) >>> 0;
      if (this.#view.getUint32(at + RECORD_REASON, true) !== RECORD_SKIP) {
        this.#parse(at, slot);
        this.#held = { index: tailIndex, tail };
        return true;
      }
      Atomics.store(this.#words, tailIndex, tail);
    }
    return false;
  }

  #parse(at: number, slot: number): void {
    const view = this.#view;
    const record = this.#record;
    const connection = view.getUint32(at + RECORD_CONNECTION, true);
    const family = view.getUint32(at + RECORD_FAMILY, true);
    record.reason = view.getUint32(at + RECORD_REASON, true);
    record.slot = slot;
    record.connection = connection === NONE ? undefined : connection;
    record.localIndex =
      view.getUint32(at + RECORD_HAS_INDEX, true) === 0 ? undefined : view.getUint32(at + RECORD_INDEX, true);
    record.family = family === 4 || family === 6 ? family : undefined;
    const addressLength = family === 4 ? 4 : family === 6 ? 16 : 0;
    record.localAddress = this.#bytes.subarray(at + RECORD_LOCAL, at + RECORD_LOCAL + addressLength);
    record.remoteAddress = this.#bytes.subarray(at + RECORD_REMOTE, at + RECORD_REMOTE + addressLength);
    record.localPort = view.getUint16(at + RECORD_LOCAL_PORT, true);
    record.remotePort = view.getUint16(at + RECORD_REMOTE_PORT, true);
    const payload = at + RECORD_HEADER_SIZE;
    record.payload = this.#bytes.subarray(payload, payload + view.getUint32(at + RECORD_PAYLOAD_LENGTH, true));
  }
}
