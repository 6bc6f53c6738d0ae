// From the TUN device to the peers: route, segment, seal, queue. What the tables do not answer goes to the control plane.
//
//    datagram   | channel data header (4, to relays) | type 4, receiver index, counter (16) | packet | tag (16) |

import { Drop, Exception, NONE, RouteTarget } from "./abi";
import { beginException, endException, HALF_RING, setExceptionIndex, WHOLE_RING } from "./exceptions";
import { heldFrame, lookAtDestinations } from "./look-ahead";
import { destination } from "./packet/ip";
import {
  isSegmented,
  PLAN_FAMILY,
  PLAN_SEGMENTS,
  PLAN_STRIDE,
  PLANNED,
  planFrame,
  segmentLength,
  writeSegment,
} from "./packet/segment";
import { CHANNEL_HEADER_SIZE } from "./receive";
import {
  ACTIVITY_SENT_AT,
  ACTIVITY_SENT_DATA_AT,
  ACTIVITY_TX_BYTES,
  ACTIVITY_TX_PACKETS,
  CONNECTION_ACTIVE,
  CONNECTION_PATH,
  CONNECTION_SESSION,
  PATH_CHANNEL,
  PATH_FAMILY,
  SESSION_LOCAL_INDEX,
  SESSION_REMOTE_INDEX,
  SESSION_SENDS_UNTIL,
} from "./records";
import { connectionAt, drop, pathAt, sessionAt, touch } from "./region";
import {
  FRAME_PLACE,
  HELD_COUNT,
  HELD_FRAMES,
  HELD_LENGTHS,
  HELD_TARGETS,
  MAX_MESSAGE_SIZE,
  PENDING_COUNT,
  QUEUE_HEAD,
  QUEUE_TAIL,
  RECORD_HEADER_SIZE,
  TUN_FRAME,
  VNET_HEADER_SIZE,
} from "./regions";
import {
  addPending,
  beginPending,
  NO_COUNTER,
  REKEY_AFTER_MESSAGES,
  SEAL_BATCH,
  sealPending,
  takeCounters,
} from "./seal";
import { lookupRoute } from "./tables/routes";
import { appendDatagram, hasRoom, lastMessage, queueOf, updateFull } from "./transmit";

/** Bytes of WireGuard's transport header (spec 02, section 11.2) and of the tag. */
export const WIREGUARD_HEADER_SIZE: u32 = 16;
export const TAG_SIZE: u32 = 16;
/** First four bytes of a transport message. */
export const TRANSPORT_MESSAGE: u32 = 4;

/**
 * Takes note of a frame of `length` bytes, which read() put at `heldFrame` of the frames held so far. Returns whether another one may be
 * read before `outboundHeld`: behind a large frame there is no place, and one that is to be cut may need much room in the queue.
 */
export function holdFrame(region: u32, length: u32): bool {
  const held = load<u32>(region, HELD_COUNT);
  store<u32>(region + HELD_LENGTHS + 4 * held, length);
  store<u32>(region, held + 1, HELD_COUNT);
  return held + 1 < <u32>HELD_FRAMES && length <= <u32>FRAME_PLACE && !isSegmented(heldFrame(region, held));
}

/** Handles the frames that are held, in the order in which they were read. `now` is in milliseconds. */
export function outboundHeld(region: u32, now: f64): void {
  const held = load<u32>(region, HELD_COUNT);
  store<u32>(region, 0, HELD_COUNT);
  const areLookedUp = lookAtDestinations(region, held);
  for (let i: u32 = 0; i < held; i++) handleFrame(region, i, areLookedUp, now);
}

/** Handles one of them. Where its route leads to may have been looked up. */
function handleFrame(region: u32, i: u32, isLookedUp: bool, now: f64): void {
  const frame = heldFrame(region, i);
  const problem = planFrame(region, frame, load<u32>(region + HELD_LENGTHS + 4 * i));
  if (problem != PLANNED) {
    drop(region, <Drop>problem, 1);
    return;
  }
  const family = load<u32>(region, PLAN_FAMILY);
  const target = isLookedUp
    ? load<u32>(region + HELD_TARGETS + 4 * i)
    : lookupRoute(region, family, destination(frame + VNET_HEADER_SIZE, family));
  if (target == RouteTarget.Exception) {
    pushPackets(region, Exception.RouteException, NONE);
    return;
  }
  if (target >= <u32>RouteTarget.FirstSpecial) {
    drop(region, Drop.NoRoute, load<u32>(region, PLAN_SEGMENTS));
    return;
  }
  sendPackets(region, target, now);
}

/** Sends the planned packets on a connection. */
function sendPackets(region: u32, connectionSlot: u32, now: f64): void {
  const connection = connectionAt(region, connectionSlot);
  const segments = load<u32>(region, PLAN_SEGMENTS);
  if (!atomic.load<u32>(connection, CONNECTION_ACTIVE)) {
    drop(region, Drop.NoRoute, segments);
    return;
  }
  const session = usableSession(region, connection, now);
  const path = usablePath(region, connection);
  if (session == 0 || path == 0) {
    pushPackets(region, Exception.NoSession, connectionSlot);
    return;
  }
  const overhead = overheadOf(path);
  const stride = overhead + load<u32>(region, PLAN_STRIDE);
  if (stride > <u32>MAX_MESSAGE_SIZE) {
    drop(region, Drop.TooLarge, segments);
    return;
  }
  if (!hasRoom(region, load<u32>(path, PATH_FAMILY), segments, stride)) {
    dropForRoom(region, path, segments);
    return;
  }
  const first = takeCounters(session, segments);
  if (first == NO_COUNTER) {
    pushPackets(region, Exception.NoSession, connectionSlot);
    return;
  }

  const family = load<u32>(path, PATH_FAMILY);
  beginPending(region, session, first, family);
  let bytes: u64 = 0;
  for (let i: u32 = 0; i < segments; i++) {
    const length = segmentLength(region, i);
    const text = beginMessage(region, path, session, first + i, length);
    writeSegment(region, i, text);
    addPending(region, text, length, lastMessage(region, family));
    bytes += length;
  }
  if (load<u32>(region, PENDING_COUNT) >= SEAL_BATCH) sealPending(region);
  atomic.store<u64>(connection, <u64>now, ACTIVITY_SENT_DATA_AT);
  finish(region, connection, connectionSlot, session, path, first, segments, bytes, now);
}

/**
 * Sends the packet of `length` bytes in the TUN buffer on a connection, whatever the routes say: a message for the peer itself, or an empty
 * one to keep the connection alive. Returns whether it had a usable session and path.
 */
export function sealForPeer(region: u32, connectionSlot: u32, length: u32, now: f64): bool {
  const connection = connectionAt(region, connectionSlot);
  const session = usableSession(region, connection, now);
  const path = usablePath(region, connection);
  if (!atomic.load<u32>(connection, CONNECTION_ACTIVE) || session == 0 || path == 0) {
    drop(region, Drop.NoPath, 1);
    return false;
  }
  if (!hasRoom(region, load<u32>(path, PATH_FAMILY), 1, overheadOf(path) + length)) {
    dropForRoom(region, path, 1);
    return false;
  }
  const first = takeCounters(session, 1);
  if (first == NO_COUNTER) {
    drop(region, Drop.NoPath, 1);
    return false;
  }
  const family = load<u32>(path, PATH_FAMILY);
  beginPending(region, session, first, family);
  const text = beginMessage(region, path, session, first, length);
  memory.copy(text, region + TUN_FRAME + VNET_HEADER_SIZE, length);
  addPending(region, text, length, lastMessage(region, family));
  finish(region, connection, connectionSlot, session, path, first, 1, length, now);
  return true;
}

/** The connection's current session, or 0 when there is none or it is too old. */
function usableSession(region: u32, connection: u32, now: f64): u32 {
  const slot = atomic.load<u32>(connection, CONNECTION_SESSION);
  if (slot == NONE) return 0;
  const session = sessionAt(region, slot);
  return now > load<f64>(session, SESSION_SENDS_UNTIL) ? 0 : session;
}

/** The connection's path, or 0. */
function usablePath(region: u32, connection: u32): u32 {
  const slot = atomic.load<u32>(connection, CONNECTION_PATH);
  return slot == NONE ? 0 : pathAt(region, slot);
}

/** Bytes of a datagram besides the packet. */
function overheadOf(path: u32): u32 {
  return WIREGUARD_HEADER_SIZE + TAG_SIZE + (load<u32>(path, PATH_CHANNEL) ? CHANNEL_HEADER_SIZE : 0);
}

/** Appends a datagram with its headers written; returns where the packet of `length` bytes goes. */
function beginMessage(region: u32, path: u32, session: u32, counter: u64, length: u32): u32 {
  const channel = load<u32>(path, PATH_CHANNEL);
  let message = appendDatagram(region, path, overheadOf(path) + length);
  if (channel) {
    store<u16>(message, bswap<u16>(<u16>channel));
    store<u16>(message, bswap<u16>(<u16>(WIREGUARD_HEADER_SIZE + length + TAG_SIZE)), 2);
    message += CHANNEL_HEADER_SIZE;
  }
  store<u32>(message, TRANSPORT_MESSAGE);
  store<u32>(message, load<u32>(session, SESSION_REMOTE_INDEX), 4);
  store<u64>(message, counter, 8);
  return message + WIREGUARD_HEADER_SIZE;
}

/** What follows after messages were queued: stamps, counts, the notice that new keys are wanted, whether the queue is full. */
function finish(
  region: u32,
  connection: u32,
  connectionSlot: u32,
  session: u32,
  path: u32,
  first: u64,
  count: u32,
  bytes: u64,
  now: f64,
): void {
  atomic.store<u64>(connection, <u64>now, ACTIVITY_SENT_AT);
  atomic.add<u64>(connection, bytes + <u64>count * <u64>(WIREGUARD_HEADER_SIZE + TAG_SIZE), ACTIVITY_TX_BYTES);
  atomic.add<u64>(connection, <u64>count, ACTIVITY_TX_PACKETS);
  touch(region, connectionSlot);
  if (first < REKEY_AFTER_MESSAGES && first + <u64>count >= REKEY_AFTER_MESSAGES) {
    const record = beginException(region, Exception.RekeyNeeded, connectionSlot, 0, WHOLE_RING);
    if (record != 0) {
      setExceptionIndex(record, load<u32>(session, SESSION_LOCAL_INDEX));
      endException(region, record);
    }
  }
  updateFull(queueOf(region, load<u32>(path, PATH_FAMILY)));
}

/** Counts packets that do not fit in the queue: never, when nothing else is in it. */
function dropForRoom(region: u32, path: u32, segments: u32): void {
  const queue = queueOf(region, load<u32>(path, PATH_FAMILY));
  const isEmpty = load<u32>(queue, QUEUE_HEAD) == load<u32>(queue, QUEUE_TAIL);
  drop(region, isEmpty ? Drop.TooLarge : Drop.UdpSendFailed, segments);
}

/** Hands the planned packets to the control plane, one by one. */
function pushPackets(region: u32, reason: Exception, connectionSlot: u32): void {
  const segments = load<u32>(region, PLAN_SEGMENTS);
  for (let i: u32 = 0; i < segments; i++) {
    const record = beginException(region, reason, connectionSlot, segmentLength(region, i), HALF_RING);
    if (record == 0) continue;
    writeSegment(region, i, record + RECORD_HEADER_SIZE);
    endException(region, record);
  }
}
