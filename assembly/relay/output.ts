// What a relay sends: messages whose vectors lie over the receive buffers, so nothing is copied, in runs for one socket each. A batch of
// received messages, of several sockets, is handled and sent before anything else is received.
//
//    begin ─► per socket: room? recvmmsg, relayDatagrams (forward.ts) ─► per run: sendmmsg ─► begin
//    train of datagrams (UDP_GRO) ─► one message with UDP_SEGMENT, as long as all go the same way and are equally long

import { Drop } from "../abi";
import { CHANNEL_HEADER_SIZE, prepareMessages } from "../receive";
import { drop } from "../region";
import {
  AUX_CONTROL,
  FRAMES,
  HOST_BASE,
  IOV_BASE,
  IOV_LEN,
  MAX_MESSAGE_SIZE,
  MAX_SEGMENTS,
  MMSGHDR_SIZE,
  MSG_CONTROL,
  MSG_CONTROLLEN,
  MSG_IOV,
  MSG_IOVLEN,
  MSG_LEN,
  MSG_NAME,
  MSG_NAMELEN,
  SEGMENTATION_OFFLOAD,
  SPLIT_HEADERS,
  TRANSMIT_4,
  TRANSMIT_AUX,
  TRANSMIT_AUX_SIZE,
  TRANSMIT_DATA,
  TRANSMIT_HEADERS,
  TRANSMIT_MESSAGES,
} from "../regions";
import { SEGMENT_CMSG_SIZE, writeSegmentControl } from "../transmit";
import {
  CHANNEL_NUMBER,
  IN_MESSAGES,
  OUT_BYTES,
  OUT_MESSAGES,
  OUT_NAME,
  OUT_OPEN,
  OUT_RUN_SIZE,
  OUT_RUNS,
  OUT_SEGMENTS,
  OUT_STRIDE,
  OUT_VECTORS,
  RELAY_MESSAGES,
  RELAY_SEGMENTS,
  RELAYED_BYTES,
  RUN_COUNT,
  RUN_FD,
  RUN_FIRST,
  SOCKET_FD,
} from "./records";

const VECTOR_SIZE: u32 = 16;
/** Vectors of a datagram at most: its header and its data. */
const VECTORS: u32 = TRANSMIT_4 + TRANSMIT_DATA;
/** Headers of channel data, one per datagram. */
const CHANNEL_HEADERS: u32 = VECTORS + VECTOR_SIZE * 2 * RELAY_MESSAGES * RELAY_SEGMENTS;

/** Begins a batch: nothing received, nothing to send. */
export function beginRelayBatch(region: u32): void {
  store<u32>(region, 0, IN_MESSAGES);
  store<u32>(region, 0, OUT_MESSAGES);
  store<u32>(region, 0, OUT_VECTORS);
  store<u32>(region, 0, OUT_RUNS);
  store<u32>(region, 0, OUT_OPEN);
}

/**
 * Makes the headers that the batch has not used yet ready to receive into. Returns how many they are: no more than there is certainly room
 * for what they bring. 0: send first.
 */
export function prepareRelayReceive(region: u32, family: u32): u32 {
  const used = load<u32>(region, IN_MESSAGES);
  const outputs = (<u32>TRANSMIT_MESSAGES - load<u32>(region, OUT_MESSAGES)) / RELAY_SEGMENTS;
  const room = min<u32>(RELAY_MESSAGES - used, outputs);
  prepareMessages(region, family, used, room);
  return room;
}

/** Address of a run. */
export function relayRun(region: u32, i: u32): u32 {
  return region + FRAMES + i * OUT_RUN_SIZE;
}

/** Address of a message to send. */
export function relayMessage(region: u32, i: u32): u32 {
  return region + TRANSMIT_4 + TRANSMIT_HEADERS + i * MMSGHDR_SIZE;
}

/** Makes a message that the kernel does not segment as many messages as it has datagrams, at SPLIT_HEADERS. Returns their number. */
export function splitRelayed(region: u32, i: u32): u32 {
  const header = relayMessage(region, i);
  const vectors = load<u64>(header, MSG_IOV);
  const count = load<u32>(header, MSG_IOVLEN);
  const segments = load<u32>(header, MSG_LEN);
  if (segments == 0) return 0;
  const perSegment = count / segments;
  for (let k: u32 = 0; k < segments; k++) {
    const single = region + TRANSMIT_4 + SPLIT_HEADERS + k * MMSGHDR_SIZE;
    memory.copy(single, header, MMSGHDR_SIZE);
    store<u64>(single, vectors + <u64>(k * perSegment * VECTOR_SIZE), MSG_IOV);
    store<u64>(single, perSegment, MSG_IOVLEN);
    store<u64>(single, 0, MSG_CONTROL);
    store<u64>(single, 0, MSG_CONTROLLEN);
  }
  return segments;
}

// ---- For forward.ts

/** Adds a datagram to what is sent: to the last message, if it can be a segment of it. `channel`: whose header goes in front; 0: none. */
export function append(
  region: u32,
  socket: u32,
  name: u32,
  nameLength: u32,
  channel: u32,
  data: u32,
  length: u32,
): void {
  const fd = atomic.load<i32>(socket, SOCKET_FD);
  if (fd < 0) {
    drop(region, Drop.UdpSendFailed, 1);
    return;
  }
  const bytes = channel == 0 ? length : length + CHANNEL_HEADER_SIZE;
  const segments = load<u32>(region, OUT_SEGMENTS);
  const stride = load<u32>(region, OUT_STRIDE);
  const isSegment =
    load<u32>(region, OUT_OPEN) != 0 &&
    load<u32>(region, OUT_NAME) == name &&
    bytes != 0 &&
    bytes <= stride &&
    segments < <u32>MAX_SEGMENTS &&
    load<u32>(region, OUT_BYTES) + bytes <= <u32>MAX_MESSAGE_SIZE;
  let message: u32;
  if (isSegment) {
    message = relayMessage(region, load<u32>(region, OUT_MESSAGES) - 1);
    if (segments == 1) {
      const aux = region + TRANSMIT_4 + TRANSMIT_AUX + (load<u32>(region, OUT_MESSAGES) - 1) * TRANSMIT_AUX_SIZE;
      writeSegmentControl(aux + AUX_CONTROL, stride);
      store<u64>(message, load<u64>(region, HOST_BASE) + aux + AUX_CONTROL, MSG_CONTROL);
      store<u64>(message, SEGMENT_CMSG_SIZE, MSG_CONTROLLEN);
    }
  } else {
    message = beginMessage(region, fd, name, nameLength);
    store<u32>(region, name, OUT_NAME);
    store<u32>(region, bytes, OUT_STRIDE);
    store<u32>(region, 0, OUT_SEGMENTS);
    store<u32>(region, 0, OUT_BYTES);
  }
  if (channel != 0) {
    const header = region + CHANNEL_HEADERS + (load<u32>(region, OUT_VECTORS) >> 1) * CHANNEL_HEADER_SIZE;
    store<u16>(header, load<u16>(channel, CHANNEL_NUMBER));
    store<u16>(header, bswap<u16>(<u16>length), 2);
    addVector(region, message, header, CHANNEL_HEADER_SIZE);
  }
  addVector(region, message, data, length);
  const newSegments = load<u32>(region, OUT_SEGMENTS) + 1;
  store<u32>(region, newSegments, OUT_SEGMENTS);
  store<u32>(message, newSegments, MSG_LEN);
  store<u32>(region, load<u32>(region, OUT_BYTES) + bytes, OUT_BYTES);
  const takesMore =
    load<u32>(region, SEGMENTATION_OFFLOAD) != 0 && bytes != 0 && bytes == load<u32>(region, OUT_STRIDE);
  store<u32>(region, takesMore ? 1 : 0, OUT_OPEN);
  countRelayed(region, length);
}

/** Counts payload that an allocation has passed on. */
export function countRelayed(region: u32, bytes: u32): void {
  atomic.store<u64>(region, load<u64>(region, RELAYED_BYTES) + <u64>bytes, RELAYED_BYTES);
}

/** Begins a message without vectors; begins a run, or continues the last. */
export function beginMessage(region: u32, fd: i32, name: u32, nameLength: u32): u32 {
  const base = load<u64>(region, HOST_BASE);
  const i = load<u32>(region, OUT_MESSAGES);
  const message = relayMessage(region, i);
  memory.fill(message, 0, MMSGHDR_SIZE);
  store<u64>(message, base + name, MSG_NAME);
  store<u32>(message, nameLength, MSG_NAMELEN);
  store<u64>(message, base + region + VECTORS + load<u32>(region, OUT_VECTORS) * VECTOR_SIZE, MSG_IOV);
  store<u32>(region, i + 1, OUT_MESSAGES);
  const runs = load<u32>(region, OUT_RUNS);
  const last = relayRun(region, runs - 1);
  if (runs != 0 && load<i32>(last, RUN_FD) == fd) {
    store<u32>(last, load<u32>(last, RUN_COUNT) + 1, RUN_COUNT);
    return message;
  }
  const run = relayRun(region, runs);
  store<i32>(run, fd, RUN_FD);
  store<u32>(run, i, RUN_FIRST);
  store<u32>(run, 1, RUN_COUNT);
  store<u32>(region, runs + 1, OUT_RUNS);
  return message;
}

/** Adds a piece to the message that was begun last. */
export function addVector(region: u32, message: u32, address: u32, length: u32): void {
  const i = load<u32>(region, OUT_VECTORS);
  const vector = region + VECTORS + i * VECTOR_SIZE;
  store<u64>(vector, load<u64>(region, HOST_BASE) + address, IOV_BASE);
  store<u64>(vector, length, IOV_LEN);
  store<u32>(region, i + 1, OUT_VECTORS);
  store<u64>(message, load<u64>(message, MSG_IOVLEN) + 1, MSG_IOVLEN);
}
