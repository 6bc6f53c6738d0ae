// A family's transmit queue: datagrams back to back in one area, and the kernel's message headers over them, ready for
// sendmmsg(). Datagrams of one path follow each other in one message (UDP_SEGMENT) as long as they are equally long; a shorter
// one is the last of its message.
//
//    headers   | done | done | first waiting | … | last |
//    data      |  d d d d d  |  d d d d d d d | d d d d  |      a message: up to 64 datagrams, up to 65507 bytes
//
// Everything begins anew at the start of the area once all messages are sent.

import { Drop } from "./abi";
import { firstUnsealed, hasJobs } from "./jobs";
import { PATH_CONTROL, PATH_CONTROL_LENGTH, PATH_FAMILY, PATH_NAME_LENGTH, PATH_SERIAL } from "./records";
import { drop, pathName } from "./region";
import {
  AUX_CONTROL,
  AUX_IOV,
  AUX_NAME,
  AUX_SEGMENTS,
  AUX_STRIDE,
  HOST_BASE,
  IOV_BASE,
  IOV_LEN,
  MAX_MESSAGE_SIZE,
  MAX_SEGMENTS,
  MMSGHDR_SIZE,
  MSG_CONTROL,
  MSG_CONTROLLEN,
  MSG_FLAGS,
  MSG_IOV,
  MSG_IOVLEN,
  MSG_LEN,
  MSG_NAME,
  MSG_NAMELEN,
  QUEUE_4,
  QUEUE_6,
  QUEUE_DATA,
  QUEUE_FULL,
  QUEUE_HEAD,
  QUEUE_OPEN,
  QUEUE_SERIAL,
  QUEUE_SPLIT_HEAD,
  QUEUE_SPLIT_TAIL,
  QUEUE_TAIL,
  SEGMENTATION_OFFLOAD,
  SPLIT_AUX,
  SPLIT_HEADERS,
  TRANSMIT_4,
  TRANSMIT_6,
  TRANSMIT_AUX,
  TRANSMIT_AUX_SIZE,
  TRANSMIT_DATA,
  TRANSMIT_DATA_SIZE,
  TRANSMIT_HEADERS,
  TRANSMIT_MESSAGES,
  TRANSMIT_RESERVE_DATA,
  TRANSMIT_RESERVE_MESSAGES,
} from "./regions";
import { finishSealing, sealPending } from "./seal";

// The control message UDP_SEGMENT (udp(7)): u64 length 18, level SOL_UDP 17, type 103, u16 bytes of each datagram.
export const SEGMENT_CMSG_SIZE: u32 = 24;
const SEGMENT_CMSG_LEN: u64 = 18;
const SEGMENT_CMSG_KIND: u64 = 17 | (103 << 32);

/** Writes the control message that makes the kernel cut a message into datagrams of `stride` bytes. */
export function writeSegmentControl(control: u32, stride: u32): void {
  store<u64>(control, SEGMENT_CMSG_LEN);
  store<u64>(control, SEGMENT_CMSG_KIND, 8);
  store<u64>(control, stride, 16);
}

/** Headers of a family's queue. */
export function queueOf(region: u32, family: u32): u32 {
  return region + (family == 4 ? QUEUE_4 : QUEUE_6);
}

function areaOf(region: u32, family: u32): u32 {
  return region + (family == 4 ? TRANSMIT_4 : TRANSMIT_6);
}

/** Writes what never changes: which header points to which address, control message and vector. Empties the queue. */
export function initializeQueue(region: u32, family: u32): void {
  memory.fill(queueOf(region, family), 0, QUEUE_SPLIT_TAIL + 4);
  const area = areaOf(region, family);
  for (let i: u32 = 0; i < <u32>TRANSMIT_MESSAGES; i++) {
    const aux = area + TRANSMIT_AUX + i * TRANSMIT_AUX_SIZE;
    initializeHeader(region, area + TRANSMIT_HEADERS + i * MMSGHDR_SIZE, aux);
  }
  for (let i: u32 = 0; i < <u32>MAX_SEGMENTS; i++) {
    initializeHeader(region, area + SPLIT_HEADERS + i * MMSGHDR_SIZE, area + SPLIT_AUX + i * TRANSMIT_AUX_SIZE);
  }
}

/** Makes a message header point to the name, vector and control messages of an aux record. */
export function initializeHeader(region: u32, header: u32, aux: u32): void {
  const base = load<u64>(region, HOST_BASE);
  memory.fill(header, 0, MMSGHDR_SIZE);
  store<u64>(header, base + aux + AUX_NAME, MSG_NAME);
  store<u64>(header, base + aux + AUX_IOV, MSG_IOV);
  store<u64>(header, 1, MSG_IOVLEN);
  store<u64>(header, base + aux + AUX_CONTROL, MSG_CONTROL);
}

/** Whether `count` datagrams of at most `length` bytes fit into the queue. */
export function hasRoom(region: u32, family: u32, count: u32, length: u32): bool {
  const queue = queueOf(region, family);
  const messages = load<u32>(region, SEGMENTATION_OFFLOAD)
    ? count / min<u32>(MAX_SEGMENTS, MAX_MESSAGE_SIZE / length) + 2
    : count;
  return (
    load<u32>(queue, QUEUE_TAIL) + messages <= <u32>TRANSMIT_MESSAGES &&
    load<u32>(queue, QUEUE_DATA) + count * length <= <u32>TRANSMIT_DATA_SIZE
  );
}

/** Appends a datagram of `length` bytes on a path; returns the address of its bytes, still to be written. There must be room. */
export function appendDatagram(region: u32, path: u32, length: u32): u32 {
  const family = load<u32>(path, PATH_FAMILY);
  const queue = queueOf(region, family);
  const area = areaOf(region, family);
  const data = load<u32>(queue, QUEUE_DATA);
  const tail = load<u32>(queue, QUEUE_TAIL);
  const address = area + TRANSMIT_DATA + data;
  store<u32>(queue, data + length, QUEUE_DATA);

  if (load<u32>(queue, QUEUE_OPEN) && load<u32>(queue, QUEUE_SERIAL) == load<u32>(path, PATH_SERIAL)) {
    const aux = area + TRANSMIT_AUX + (tail - 1) * TRANSMIT_AUX_SIZE;
    const stride = load<u32>(aux, AUX_STRIDE);
    const bytes = load<u32>(aux, AUX_IOV + IOV_LEN) + length;
    const segments = load<u32>(aux, AUX_SEGMENTS) + 1;
    if (length <= stride && bytes <= <u32>MAX_MESSAGE_SIZE && segments <= <u32>MAX_SEGMENTS) {
      store<u64>(aux, bytes, AUX_IOV + IOV_LEN);
      store<u32>(aux, segments, AUX_SEGMENTS);
      if (segments == 2) addSegmentSize(area + TRANSMIT_HEADERS + (tail - 1) * MMSGHDR_SIZE, aux, path, stride);
      if (length < stride) store<u32>(queue, 0, QUEUE_OPEN);
      return address;
    }
  }

  const header = area + TRANSMIT_HEADERS + tail * MMSGHDR_SIZE;
  const aux = area + TRANSMIT_AUX + tail * TRANSMIT_AUX_SIZE;
  copyPath(header, aux, path);
  store<u64>(aux, load<u64>(region, HOST_BASE) + address, AUX_IOV + IOV_BASE);
  store<u64>(aux, length, AUX_IOV + IOV_LEN);
  store<u32>(aux, 1, AUX_SEGMENTS);
  store<u32>(aux, length, AUX_STRIDE);
  store<u32>(queue, tail + 1, QUEUE_TAIL);
  store<u32>(queue, load<u32>(path, PATH_SERIAL), QUEUE_SERIAL);
  store<u32>(queue, load<u32>(region, SEGMENTATION_OFFLOAD), QUEUE_OPEN);
  return address;
}

/** Remote address, and the control message that selects the local one. */
function copyPath(header: u32, aux: u32, path: u32): void {
  const family = load<u32>(path, PATH_FAMILY);
  const name = pathName(path, family);
  const controlLength = load<u16>(path, PATH_CONTROL_LENGTH);
  store<u32>(header, load<u16>(path, PATH_NAME_LENGTH), MSG_NAMELEN);
  store<u64>(header, controlLength, MSG_CONTROLLEN);
  v128.store(aux, v128.load(name), AUX_NAME);
  if (family == 6) v128.store(aux, v128.load(name, 16), AUX_NAME + 16);
  if (controlLength) {
    v128.store(aux, v128.load(path, PATH_CONTROL), AUX_CONTROL);
    v128.store(aux, v128.load(path, PATH_CONTROL + 16), AUX_CONTROL + 16);
    store<u64>(aux, load<u64>(path, PATH_CONTROL + 32), AUX_CONTROL + 32);
  }
}

/** Adds the control message UDP_SEGMENT behind the one of the path. */
function addSegmentSize(header: u32, aux: u32, path: u32, stride: u32): void {
  const before: u32 = load<u16>(path, PATH_CONTROL_LENGTH);
  const control = aux + AUX_CONTROL + before;
  writeSegmentControl(control, stride);
  store<u64>(header, before + SEGMENT_CMSG_SIZE, MSG_CONTROLLEN);
}

/** Brings `QUEUE_FULL` up to date. */
export function updateFull(queue: u32): void {
  const full =
    load<u32>(queue, QUEUE_TAIL) > <u32>(TRANSMIT_MESSAGES - TRANSMIT_RESERVE_MESSAGES) ||
    load<u32>(queue, QUEUE_DATA) > <u32>(TRANSMIT_DATA_SIZE - TRANSMIT_RESERVE_DATA);
  store<u32>(queue, full ? 1 : 0, QUEUE_FULL);
}

/** The last message of a family's queue. */
export function lastMessage(region: u32, family: u32): u32 {
  return load<u32>(queueOf(region, family), QUEUE_TAIL) - 1;
}

/**
 * Waiting messages that can be sent now. While one is being split, only its datagrams. Seals what is not sealed yet; messages that other
 * workers are still sealing, and those behind them, are not counted, unless the queue is full.
 */
export function transmitReady(region: u32, family: u32): u32 {
  const queue = queueOf(region, family);
  if (load<u32>(queue, QUEUE_FULL)) finishSealing(region);
  else sealPending(region);
  const split = load<u32>(queue, QUEUE_SPLIT_TAIL) - load<u32>(queue, QUEUE_SPLIT_HEAD);
  if (split != 0) return split;
  const tail = load<u32>(queue, QUEUE_TAIL);
  const end = hasJobs(region) ? firstUnsealed(region, family, tail) : tail;
  return end - load<u32>(queue, QUEUE_HEAD);
}

/** Address of the first of them. */
export function transmitMessages(region: u32, family: u32): u32 {
  const queue = queueOf(region, family);
  const area = areaOf(region, family);
  const splitHead = load<u32>(queue, QUEUE_SPLIT_HEAD);
  return splitHead != load<u32>(queue, QUEUE_SPLIT_TAIL)
    ? area + SPLIT_HEADERS + splitHead * MMSGHDR_SIZE
    : area + TRANSMIT_HEADERS + load<u32>(queue, QUEUE_HEAD) * MMSGHDR_SIZE;
}

/** Removes the first `sent` of them. */
export function transmitDone(region: u32, family: u32, sent: u32): void {
  const queue = queueOf(region, family);
  const splitHead = load<u32>(queue, QUEUE_SPLIT_HEAD);
  const splitTail = load<u32>(queue, QUEUE_SPLIT_TAIL);
  if (splitHead != splitTail) {
    store<u32>(queue, min(splitHead + sent, splitTail), QUEUE_SPLIT_HEAD);
  } else {
    const head = load<u32>(queue, QUEUE_HEAD);
    store<u32>(queue, head + min(sent, load<u32>(queue, QUEUE_TAIL) - head), QUEUE_HEAD);
  }
  restartWhenEmpty(region, queue);
}

/** Drops the first of them and counts its datagrams. */
export function transmitDropFirst(region: u32, family: u32): void {
  if (transmitReady(region, family) == 0) return;
  const queue = queueOf(region, family);
  const isSplit = load<u32>(queue, QUEUE_SPLIT_HEAD) != load<u32>(queue, QUEUE_SPLIT_TAIL);
  const aux = areaOf(region, family) + TRANSMIT_AUX + load<u32>(queue, QUEUE_HEAD) * TRANSMIT_AUX_SIZE;
  drop(region, Drop.UdpSendFailed, isSplit ? 1 : load<u32>(aux, AUX_SEGMENTS));
  transmitDone(region, family, 1);
}

/** Makes the first message as many messages as it has datagrams. Does nothing when it has only one. */
export function transmitSplitFirst(region: u32, family: u32): void {
  if (transmitReady(region, family) == 0) return;
  const queue = queueOf(region, family);
  if (load<u32>(queue, QUEUE_SPLIT_HEAD) != load<u32>(queue, QUEUE_SPLIT_TAIL)) return;
  const area = areaOf(region, family);
  const head = load<u32>(queue, QUEUE_HEAD);
  const aux = area + TRANSMIT_AUX + head * TRANSMIT_AUX_SIZE;
  const segments = load<u32>(aux, AUX_SEGMENTS);
  if (segments == 1) return;

  const header = area + TRANSMIT_HEADERS + head * MMSGHDR_SIZE;
  const stride = load<u32>(aux, AUX_STRIDE);
  let base = load<u64>(aux, AUX_IOV + IOV_BASE);
  let rest = load<u32>(aux, AUX_IOV + IOV_LEN);
  for (let i: u32 = 0; i < segments; i++) {
    const splitHeader = area + SPLIT_HEADERS + i * MMSGHDR_SIZE;
    const splitAux = area + SPLIT_AUX + i * TRANSMIT_AUX_SIZE;
    const length = min(stride, rest);
    // Name and control messages stay where they are; the latter end before UDP_SEGMENT.
    store<u64>(splitHeader, load<u64>(header, MSG_NAME), MSG_NAME);
    store<u64>(splitHeader, load<u64>(header, MSG_CONTROL), MSG_CONTROL);
    store<u32>(splitHeader, load<u32>(header, MSG_NAMELEN), MSG_NAMELEN);
    store<u64>(splitHeader, load<u64>(header, MSG_CONTROLLEN) - SEGMENT_CMSG_SIZE, MSG_CONTROLLEN);
    store<u32>(splitHeader, 0, MSG_FLAGS);
    store<u32>(splitHeader, 0, MSG_LEN);
    store<u64>(splitAux, base, AUX_IOV + IOV_BASE);
    store<u64>(splitAux, length, AUX_IOV + IOV_LEN);
    base += length;
    rest -= length;
  }
  store<u32>(queue, 0, QUEUE_SPLIT_HEAD);
  store<u32>(queue, segments, QUEUE_SPLIT_TAIL);
  store<u32>(queue, head + 1, QUEUE_HEAD);
  if (head + 1 == load<u32>(queue, QUEUE_TAIL)) store<u32>(queue, 0, QUEUE_OPEN);
}

/** Once nothing waits, the area is used from its start again. */
function restartWhenEmpty(region: u32, queue: u32): void {
  if (
    load<u32>(queue, QUEUE_HEAD) == load<u32>(queue, QUEUE_TAIL) &&
    load<u32>(queue, QUEUE_SPLIT_HEAD) == load<u32>(queue, QUEUE_SPLIT_TAIL)
  ) {
    // Nothing may be sealed into the area later.
    sealPending(region);
    memory.fill(queue, 0, QUEUE_SPLIT_TAIL + 4);
  }
  updateFull(queue);
}
