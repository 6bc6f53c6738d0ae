// Exceptions on their way to the control plane: the writing end of the slot's ring. Layout: assembly/regions.ts.
//
// A record is begun, filled in, and ended; nobody sees it before. What anybody on the network can cause in any number gets only
// a share of the ring, so that it never keeps handshakes and connectivity checks out.

import { Drop, Exception } from "./abi";
import { drop } from "./region";
import {
  AUX_NAME,
  EXCEPTIONS_PUSHED,
  RECEIVE_FAMILY,
  RECEIVE_PORT,
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
  RING_SIZE,
  RING_SLACK,
  RING_TAIL,
} from "./regions";

/** Parts of the ring, in eighths, that an exception may find used. */
export const WHOLE_RING: u32 = 8;
export const HALF_RING: u32 = 4;
export const QUARTER_RING: u32 = 2;

/**
 * Begins a record without addresses and index; 0 (and counted) when there is no room. Its payload, at the returned address +
 * `RECORD_HEADER_SIZE`, may be overshot by 16 bytes.
 */
export function beginException(region: u32, reason: Exception, connection: u32, payloadLength: u32, share: u32): u32 {
  const size = load<u32>(region, RING_SIZE);
  const head = load<u32>(region, RING_HEAD);
  const used = head - atomic.load<u32>(region, RING_TAIL);
  const length = (<u32>RECORD_HEADER_SIZE + payloadLength + 7) & ~7;
  const offset = head & (size - 1);
  const toEnd = size - offset;
  const wraps = length > toEnd;
  const needed = length + (wraps ? toEnd : 0);
  if (used + needed + RING_SLACK > (size >> 3) * share) {
    drop(region, Drop.ExceptionRingFull, 1);
    return 0;
  }
  let record = region + RING + offset;
  if (wraps) {
    store<u32>(record, toEnd, RECORD_LENGTH);
    store<u32>(record, RECORD_SKIP, RECORD_REASON);
    record = region + RING;
  }
  v128.store(record, i64x2.splat(0));
  v128.store(record, i64x2.splat(0), 16);
  store<u32>(record, length, RECORD_LENGTH);
  store<u32>(record, <u32>reason, RECORD_REASON);
  store<u32>(record, connection, RECORD_CONNECTION);
  store<u32>(record, payloadLength, RECORD_PAYLOAD_LENGTH);
  return record;
}

/** Names the session concerned by its receiver index. */
export function setExceptionIndex(record: u32, localIndex: u32): void {
  store<u32>(record, localIndex, RECORD_INDEX);
  store<u32>(record, 1, RECORD_HAS_INDEX);
}

/** Copies the addresses of a received message. `local` points to the address it came to; 0 when it is unknown. */
export function setExceptionAddresses(region: u32, record: u32, aux: u32, local: u32): void {
  const name = aux + AUX_NAME;
  const family = load<u32>(region, RECEIVE_FAMILY);
  store<u32>(record, family, RECORD_FAMILY);
  store<u16>(record, <u16>load<u32>(region, RECEIVE_PORT), RECORD_LOCAL_PORT);
  store<u16>(record, bswap<u16>(load<u16>(name, 2)), RECORD_REMOTE_PORT);
  v128.store(record, i64x2.splat(0), RECORD_LOCAL);
  v128.store(record, i64x2.splat(0), RECORD_REMOTE);
  if (family == 4) {
    store<u32>(record, load<u32>(name, 4), RECORD_REMOTE);
    if (local != 0) store<u32>(record, load<u32>(local), RECORD_LOCAL);
  } else {
    v128.store(record, v128.load(name, 8), RECORD_REMOTE);
    if (local != 0) v128.store(record, v128.load(local), RECORD_LOCAL);
  }
}

/** Publishes a record. */
export function endException(region: u32, record: u32): void {
  const size = load<u32>(region, RING_SIZE);
  const head = load<u32>(region, RING_HEAD);
  const offset = head & (size - 1);
  const start = <u32>(record - region - RING);
  const skipped = start == offset ? 0 : size - offset;
  atomic.store<u32>(region, head + skipped + load<u32>(record, RECORD_LENGTH), RING_HEAD);
  store<u32>(region, 1, EXCEPTIONS_PUSHED);
}
