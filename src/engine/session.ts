// A WireGuard session's record in the shared memory (assembly/records.ts, "Sessions"), as the main thread writes and wipes it.

import {
  REJECT_AFTER_TIME,
  REPLAY_RING_BITS,
  SESSION_CONFIRMED,
  SESSION_CONNECTION,
  SESSION_LOCAL_INDEX,
  SESSION_RECEIVE_KEY,
  SESSION_RECEIVES_UNTIL,
  SESSION_REMOTE_INDEX,
  SESSION_RING,
  SESSION_SEND_KEY,
  SESSION_SENDS_UNTIL,
  SESSION_SIZE,
  SESSION_STATE,
} from "../../assembly/records.js";
import type { Instant } from "../base/time.js";
import type { Layout } from "./layout.js";

/** The keys and indices of a WireGuard session, after a handshake. */
export interface SessionKeys {
  /** Slot of the connection. */
  readonly connection: number;
  /** Receiver index in messages to us; unique among installed sessions. */
  readonly localIndex: number;
  /** Receiver index in messages to the peer. */
  readonly remoteIndex: number;
  /** 32 bytes each; copied. */
  readonly sendKey: Uint8Array;
  readonly receiveKey: Uint8Array;
  /** Whether the peer is known to have the keys: the initiator's view. Otherwise its first message is reported. */
  readonly confirmed: boolean;
  /** In the clock of the `now` that the engines are given. The session is unusable 180 s later. */
  readonly createdAt: Instant;
}

/** Writes the record of a slot that no worker can be using. Its replay window is new; the ring behind it needs no clearing. */
export function writeSession(view: DataView, layout: Layout, slot: number, keys: SessionKeys): void {
  wipeSession(view, layout, slot);
  const record = recordOf(layout, slot);
  const until = keys.createdAt + REJECT_AFTER_TIME;
  view.setUint32(record + SESSION_LOCAL_INDEX, keys.localIndex, true);
  view.setUint32(record + SESSION_REMOTE_INDEX, keys.remoteIndex, true);
  view.setUint32(record + SESSION_CONNECTION, keys.connection, true);
  view.setUint32(record + SESSION_STATE, keys.confirmed ? SESSION_CONFIRMED : 0, true);
  view.setFloat64(record + SESSION_RECEIVES_UNTIL, until, true);
  view.setFloat64(record + SESSION_SENDS_UNTIL, until, true);
  view.setUint32(record + SESSION_RING, layout.replayRings + (REPLAY_RING_BITS / 8) * slot, true);
  const bytes = new Uint8Array(view.buffer);
  bytes.set(keys.sendKey, record + SESSION_SEND_KEY);
  bytes.set(keys.receiveKey, record + SESSION_RECEIVE_KEY);
}

/** Wipes the record of a slot, keys included. */
export function wipeSession(view: DataView, layout: Layout, slot: number): void {
  new Uint8Array(view.buffer, recordOf(layout, slot), SESSION_SIZE).fill(0);
}

function recordOf(layout: Layout, slot: number): number {
  return layout.sessions + SESSION_SIZE * slot;
}
