// From the peers to the TUN device: split, classify, open, check, coalesce.
//
//    datagram ─► session? young? counter unseen? ─► batch ─► open in place ─► mark the counter ─► deliver
//    deliver:  cut to the inner length ─► no fragment ─► source routed to this connection ─► filters ─► frame for the TUN
//
// A packet is opened where it lies. What is delivered alone goes to the TUN device from there: its virtio_net_hdr takes the
// place of the end of WireGuard's header.

import { Drop, Exception, NONE } from "./abi";
import { accept } from "./accept";
import { OPEN_COUNTER, OPEN_DESCRIPTOR_SIZE, OPEN_DESTINATION, OPEN_LENGTH, OPEN_SOURCE } from "./aead/abi";
import { openMixed, openPackets } from "./aead/index";
import {
  beginException,
  endException,
  QUARTER_RING,
  setExceptionAddresses,
  setExceptionIndex,
  WHOLE_RING,
} from "./exceptions";
import { mayEnter } from "./handshake-door";
import {
  awaitOldest,
  finishJobs,
  hasJobs,
  hasRoomForJob,
  isShared,
  oldestDone,
  postOpening,
  releaseOldest,
} from "./jobs";
import { lookAtConnections, lookAtRoutes, lookAtSessions } from "./look-ahead";
import { TAG_SIZE, WIREGUARD_HEADER_SIZE } from "./outbound";
import { closeRuns } from "./packet/coalesce";
import {
  CHANNEL_HEADER_SIZE,
  classify,
  HANDSHAKE,
  MALFORMED,
  messageLength,
  RELAY,
  receiveArea,
  STUN,
  TRANSPORT,
  trainCount,
  trainStep,
} from "./receive";
import { SESSION_RECEIVE_KEY, SESSION_RECEIVES_UNTIL } from "./records";
import { drop, sessionAt } from "./region";
import {
  AUX_LOCAL,
  FRAME_COUNT,
  JOB_COUNT,
  JOB_DESCRIPTORS,
  JOB_MESSAGES,
  JOB_PACKETS,
  JOB_SESSION,
  MAX_OPEN,
  MERGED,
  MERGED_TAIL,
  MMSGHDR_SIZE,
  MSG_LEN,
  NOW,
  OPEN_COUNT,
  OPEN_DESCRIPTORS,
  OPEN_INDEX,
  OPEN_KEYS,
  OPEN_LIMIT,
  OPEN_MESSAGES,
  OPEN_SESSION,
  OPEN_SESSIONS,
  RECEIVE_AUX,
  RECEIVE_AUX_SIZE,
  RECEIVE_BUFFERS,
  RECEIVE_FAMILY,
  RECEIVE_HEADERS,
  RECEIVE_MESSAGES,
  RECEIVE_PLACE,
  RECEIVE_PORT,
  RECEIVE_SEGMENTS,
  RECORD_HEADER_SIZE,
  RUN_COUNT,
  SCRATCH,
  SESSION_INDEX,
} from "./regions";
import { REJECT_AFTER_MESSAGES } from "./seal";
import { mayAccept } from "./tables/replay";
import { lookupSession } from "./tables/sessions";

/** Received bytes that are worth sharing with other workers: as much as one full train of datagrams. */
const SHARED_BYTES: u32 = 49152;

/** Bytes of a transport message with an unknown index that the control plane gets. */
const UNKNOWN_PAYLOAD: u32 = 64;

/** Handles the first `messageCount` messages of a family. Returns the number of frames for the TUN device. */
export function inbound(region: u32, family: u32, messageCount: u32, localPort: u32, now: f64): u32 {
  store<u32>(region, 0, FRAME_COUNT);
  store<u32>(region, 0, OPEN_COUNT);
  store<u32>(region, 0, OPEN_SESSION);
  store<u32>(region, MERGED, MERGED_TAIL);
  store<u32>(region, 0, RUN_COUNT);
  store<u32>(region, family, RECEIVE_FAMILY);
  store<u32>(region, localPort, RECEIVE_PORT);
  store<f64>(region, now, NOW);
  // What has been sealed meanwhile is none of the jobs that follow.
  if (hasJobs(region)) finishJobs(region);

  const area = receiveArea(region, family);
  const messages = min<u32>(messageCount, RECEIVE_MESSAGES);
  store<u32>(region, isShared(region) && isMuch(area, messages) ? JOB_PACKETS : MAX_OPEN, OPEN_LIMIT);
  lookAtSessions(region, area, messages);
  for (let i: u32 = 0; i < messages; i++) {
    splitMessage(
      region,
      area + RECEIVE_HEADERS + i * MMSGHDR_SIZE,
      area + RECEIVE_AUX + i * RECEIVE_AUX_SIZE,
      area + RECEIVE_BUFFERS + i * RECEIVE_PLACE,
    );
  }
  openBatch(region);
  while (hasJobs(region)) acceptJob(region, awaitOldest(region));
  closeRuns(region);
  return load<u32>(region, FRAME_COUNT);
}

/** Whether what was received is worth sharing with other workers. */
function isMuch(area: u32, messages: u32): bool {
  let bytes: u32 = 0;
  for (let i: u32 = 0; i < messages; i++) bytes += load<u32>(area + RECEIVE_HEADERS + i * MMSGHDR_SIZE, MSG_LEN);
  return bytes >= SHARED_BYTES;
}

/** Handles the datagrams of one message. */
function splitMessage(region: u32, header: u32, aux: u32, buffer: u32): void {
  const length = messageLength(header);
  const step = trainStep(region, header, aux);
  if (step == 0) return;
  // Not left to the loop: as its only place of call the compiler would merge handleDatagram with all of this, which is slower.
  if (step >= length) {
    handleDatagram(region, aux, buffer, length);
    return;
  }
  const count = trainCount(region, length, step, RECEIVE_SEGMENTS);
  for (let i: u32 = 0; i < count; i++) {
    const offset = i * step;
    handleDatagram(region, aux, buffer + offset, min(step, length - offset));
  }
}

function handleDatagram(region: u32, aux: u32, datagram: u32, length: u32): void {
  const kind = classify(datagram, length);
  if (kind == TRANSPORT) handleTransport(region, aux, datagram, length);
  else if (kind == HANDSHAKE) handleHandshake(region, aux, datagram, length);
  else if (kind == STUN) pushDatagram(region, Exception.Stun, aux, datagram, length);
  else if (kind == RELAY) handleRelayed(region, aux, datagram, length);
  else drop(region, Drop.MalformedDatagram, 1);
}

/**
 * Unwraps channel data (RFC 8656, section 12.4) of a transport message, which proves by its tag where it belongs, whatever channel it came
 * through; the control plane has the others. Bytes after the announced length are cut off.
 */
function handleRelayed(region: u32, aux: u32, datagram: u32, length: u32): void {
  const message = datagram + CHANNEL_HEADER_SIZE;
  const announced: u32 = bswap<u16>(load<u16>(datagram, 2));
  const complete = announced <= length - CHANNEL_HEADER_SIZE;
  const kind = complete && announced >= CHANNEL_HEADER_SIZE ? classify(message, announced) : MALFORMED;
  if (kind == TRANSPORT) handleTransport(region, aux, message, announced);
  else if (kind != HANDSHAKE || mayEnter(region, aux, message))
    pushDatagram(region, Exception.Relay, aux, datagram, length);
}

function handleHandshake(region: u32, aux: u32, datagram: u32, length: u32): void {
  if (mayEnter(region, aux, datagram)) pushDatagram(region, Exception.WireGuardHandshake, aux, datagram, length);
}

function pushDatagram(region: u32, reason: Exception, aux: u32, datagram: u32, length: u32): void {
  const record = beginException(region, reason, NONE, length, WHOLE_RING);
  if (record == 0) return;
  memory.copy(record + RECORD_HEADER_SIZE, datagram, length);
  setExceptionAddresses(region, record, aux, load<u32>(aux, AUX_LOCAL));
  endException(region, record);
}

/** Puts a transport message into the batch, if it may be opened at all. */
function handleTransport(region: u32, aux: u32, datagram: u32, length: u32): void {
  const index = load<u32>(datagram, 4);
  const counter = load<u64>(datagram, 8);
  let session = load<u32>(region, OPEN_SESSION);
  if (session == 0 || index != load<u32>(region, OPEN_INDEX)) {
    const slot = lookupSession(load<u32>(region, SESSION_INDEX), index);
    if (slot == NONE) {
      pushUnknown(region, aux, datagram, length, index);
      return;
    }
    // Jobs are of one session.
    if (load<u32>(region, OPEN_LIMIT) == JOB_PACKETS) openBatch(region);
    session = sessionAt(region, slot);
    store<u32>(region, <u32>session, OPEN_SESSION);
    store<u32>(region, index, OPEN_INDEX);
  }
  if (counter >= REJECT_AFTER_MESSAGES || load<f64>(region, NOW) > load<f64>(session, SESSION_RECEIVES_UNTIL)) {
    drop(region, Drop.SessionExpired, 1);
    return;
  }
  if (!mayAccept(session, counter)) {
    drop(region, Drop.Replayed, 1);
    return;
  }
  if (load<u32>(region, OPEN_COUNT) == load<u32>(region, OPEN_LIMIT)) openBatch(region);
  const count = load<u32>(region, OPEN_COUNT);
  const descriptor = region + OPEN_DESCRIPTORS + count * OPEN_DESCRIPTOR_SIZE;
  const text = <u32>(datagram + WIREGUARD_HEADER_SIZE);
  store<u32>(descriptor, text, OPEN_SOURCE);
  store<u32>(descriptor, text, OPEN_DESTINATION);
  store<u32>(descriptor, length - WIREGUARD_HEADER_SIZE - TAG_SIZE, OPEN_LENGTH);
  store<u64>(descriptor, counter, OPEN_COUNTER);
  store<u32>(region + OPEN_MESSAGES + 4 * count, <u32>aux);
  store<u32>(region + OPEN_SESSIONS + 4 * count, <u32>session);
  store<u32>(region, count + 1, OPEN_COUNT);
}

function pushUnknown(region: u32, aux: u32, datagram: u32, length: u32, index: u32): void {
  const payload = min(length, UNKNOWN_PAYLOAD);
  const record = beginException(region, Exception.UnknownIndex, NONE, payload, QUARTER_RING);
  if (record == 0) return;
  memory.copy(record + RECORD_HEADER_SIZE, datagram, payload);
  setExceptionIndex(record, index);
  setExceptionAddresses(region, record, aux, load<u32>(aux, AUX_LOCAL));
  endException(region, record);
}

/** Opens the batch, or has others open it, and delivers what is authentic and new. */
function openBatch(region: u32): void {
  const count = load<u32>(region, OPEN_COUNT);
  if (count == 0) return;
  store<u32>(region, 0, OPEN_COUNT);
  const session = load<u32>(region + OPEN_SESSIONS);
  const descriptors = region + OPEN_DESCRIPTORS;
  if (load<u32>(region, OPEN_LIMIT) == JOB_PACKETS) {
    while (hasJobs(region) && oldestDone(region) != 0) acceptJob(region, oldestDone(region));
    if (!hasRoomForJob(region)) acceptJob(region, awaitOldest(region));
    postOpening(region, session, descriptors, region + OPEN_MESSAGES, count);
    return;
  }
  const first = sameSession(region, 0, count);
  if (first == count) openPackets(count, session + SESSION_RECEIVE_KEY, descriptors, region + SCRATCH);
  else openSeveral(region, count);
  // In the order in which they came.
  for (let from: u32 = 0; from < count; ) {
    const end = from == 0 ? first : sameSession(region, from, count);
    const messages = region + OPEN_MESSAGES + 4 * from;
    accept(region, sessionOf(region, from), descriptors + from * OPEN_DESCRIPTOR_SIZE, messages, end - from);
    from = end;
  }
}

/** Opens packets of several sessions. */
function openSeveral(region: u32, count: u32): void {
  lookAtConnections(region, region + OPEN_SESSIONS, count);
  const keys = region + OPEN_KEYS;
  for (let i: u32 = 0; i < count; i++) store<u32>(keys + 4 * i, sessionOf(region, i) + SESSION_RECEIVE_KEY);
  openMixed(count, keys, region + OPEN_DESCRIPTORS, region + SCRATCH);
  lookAtRoutes(region, region + OPEN_DESCRIPTORS, count);
}

/** The session of a packet of the batch. */
function sessionOf(region: u32, i: u32): u32 {
  return load<u32>(region + OPEN_SESSIONS + 4 * i);
}

/** The end of the packets from `from` on that are of one session. */
function sameSession(region: u32, from: u32, count: u32): u32 {
  const session = sessionOf(region, from);
  let end = from + 1;
  while (end < count && sessionOf(region, end) == session) end++;
  return end;
}

/** Accepts what a job, the oldest, has opened. */
function acceptJob(region: u32, job: u32): void {
  accept(region, load<u32>(job, JOB_SESSION), job + JOB_DESCRIPTORS, job + JOB_MESSAGES, load<u32>(job, JOB_COUNT));
  releaseOldest(region);
}
