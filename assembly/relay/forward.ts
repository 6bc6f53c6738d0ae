// A relay's data (RFC 8656, sections 11.5, 11.6 and 12; spec 03, sections 3.3 and 3.9): channel data of clients to peers, data of peers
// to clients as channel data, and answers to binding requests. Nothing is copied: what leaves is described by vectors over the receive
// buffers, and is sent before anything else is received.
//
//    client's datagram   | number, length | data | padding |          ─► data                      from the allocation's socket
//    peer's datagram                      | data |                    ─► | number, length | data | from the socket of the clients
//    train of datagrams (UDP_GRO)         ─► one message with UDP_SEGMENT, as long as all go the same way and are equally long
//
// What the tables do not explain goes to the main thread: TURN's requests and indications, data on permissions.

import { Drop, Exception } from "../abi";
import { beginException, endException, QUARTER_RING, setExceptionAddresses, WHOLE_RING } from "../exceptions";
import { budgetOfSource, spend } from "../handshake-door";
import { CHANNEL_HEADER_SIZE, readControl, receiveArea } from "../receive";
import { drop } from "../region";
import {
  AUX_CONTROL,
  AUX_LOCAL,
  AUX_NAME,
  FRAMES,
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
  NOW,
  RECEIVE_AUX,
  RECEIVE_AUX_SIZE,
  RECEIVE_BUFFER_SIZE,
  RECEIVE_BUFFERS,
  RECEIVE_FAMILY,
  RECEIVE_HEADERS,
  RECEIVE_PORT,
  RECORD_HEADER_SIZE,
  SEGMENTATION_OFFLOAD,
  SPLIT_HEADERS,
  TRANSMIT_4,
  TRANSMIT_AUX,
  TRANSMIT_AUX_SIZE,
  TRANSMIT_DATA,
  TRANSMIT_HEADERS,
} from "../regions";
import { SEGMENT_CMSG_SIZE, writeSegmentControl } from "../transmit";
import {
  CHANNEL_CLIENT_NAME,
  CHANNEL_CLIENT_NAME_LENGTH,
  CHANNEL_CLIENT_SOCKET,
  CHANNEL_NUMBER,
  CHANNEL_PEER_NAME,
  CHANNEL_PEER_NAME_LENGTH,
  CHANNEL_PEER_SOCKET,
  OTHER_BUDGET,
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
  RELAY_SOCKETS,
  RELAYED_BYTES,
  RUN_COUNT,
  RUN_FD,
  RUN_FIRST,
  SOCKET_FAMILY,
  SOCKET_FD,
  SOCKET_IS_ALLOCATION,
  SOCKET_PORT,
  SOCKET_SIZE,
} from "./records";
import { channelOfClient, channelOfPeer } from "./table";

/** First bytes of channel data: numbers up to 0x7fff, as older clients choose them (RFC 5766, section 11; RFC 8656 stops at 0x4fff). */
const FIRST_CHANNEL: u32 = 0x40;
const LAST_CHANNEL: u32 = 0x7f;

/** msg_flags: the buffer was too small. */
const MSG_TRUNC: u32 = 0x20;
const VECTOR_SIZE: u32 = 16;
/** Vectors of a datagram at most: its header and its data. */
const VECTORS: u32 = TRANSMIT_4 + TRANSMIT_DATA;
/** Headers of channel data, one per datagram. */
const CHANNEL_HEADERS: u32 = VECTORS + VECTOR_SIZE * 2 * RELAY_MESSAGES * RELAY_SEGMENTS;

/** Datagrams per second, and at once, that the main thread is given besides STUN: data on permissions, and of channels that do not fit the tables. */
const OTHER_RATE: f64 = 20_000;
const OTHER_BURST: f64 = 2_000;
/** Answers to binding requests, per second and at once, for one source: as the TURN server's limit (src/turn/server/source-limit.ts). */
const BINDING_RATE: f64 = 50;
const BINDING_BURST: f64 = 200;

// STUN (RFC 8489, sections 5 and 14.2).
const STUN_HEADER_SIZE: u32 = 20;
const STUN_MAGIC_COOKIE: u32 = 0x42a41221;
/** Binding request and success response, and XOR-MAPPED-ADDRESS, as they lie in memory. */
const BINDING_REQUEST: u32 = 0x0100;
const BINDING_SUCCESS: u32 = 0x0101;
const XOR_MAPPED_ADDRESS: u32 = 0x2000;
/** Attributes from this type on need not be understood. */
const COMPREHENSION_OPTIONAL: u32 = 0x8000;

/** Handles the first `count` messages that came to a socket. Returns the number of runs of messages to send, one after the other. */
export function relayDatagrams(region: u32, relay: u32, socket: u32, count: u32, now: f64): u32 {
  const record = load<u32>(relay, RELAY_SOCKETS) + socket * SOCKET_SIZE;
  const family = load<u32>(record, SOCKET_FAMILY);
  store<u32>(region, 0, OUT_MESSAGES);
  store<u32>(region, 0, OUT_VECTORS);
  store<u32>(region, 0, OUT_RUNS);
  store<u32>(region, 0, OUT_OPEN);
  store<u32>(region, family, RECEIVE_FAMILY);
  store<u32>(region, load<u32>(record, SOCKET_PORT), RECEIVE_PORT);
  store<f64>(region, now, NOW);
  const area = receiveArea(region, family);
  const messages = min<u32>(count, RELAY_MESSAGES);
  for (let i: u32 = 0; i < messages; i++) {
    splitTrain(
      region,
      relay,
      socket,
      record,
      area + RECEIVE_HEADERS + i * MMSGHDR_SIZE,
      area + RECEIVE_AUX + i * RECEIVE_AUX_SIZE,
      area + RECEIVE_BUFFERS + i * RECEIVE_BUFFER_SIZE,
    );
  }
  return load<u32>(region, OUT_RUNS);
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

// ---- Details

function splitTrain(region: u32, relay: u32, socket: u32, record: u32, header: u32, aux: u32, buffer: u32): void {
  const length = min<u32>(load<u32>(header, MSG_LEN), RECEIVE_BUFFER_SIZE);
  const size = readControl(header, aux);
  if (load<u32>(header, MSG_FLAGS) & MSG_TRUNC) {
    drop(region, Drop.MalformedDatagram, 1);
    return;
  }
  const step = size == 0 ? length : size;
  const count: u32 = step == 0 ? 1 : (length + step - 1) / step;
  const handled = min<u32>(count, RELAY_SEGMENTS);
  for (let i: u32 = 0; i < handled; i++) {
    const offset = i * step;
    const datagram = buffer + offset;
    const bytes = min(step, length - offset);
    if (load<u32>(record, SOCKET_IS_ALLOCATION)) fromPeer(region, relay, socket, record, aux, datagram, bytes);
    else fromClient(region, relay, socket, record, header, aux, datagram, bytes);
  }
  if (handled < count) drop(region, Drop.MalformedDatagram, count - handled);
}

function fromClient(
  region: u32,
  relay: u32,
  socket: u32,
  record: u32,
  header: u32,
  aux: u32,
  datagram: u32,
  length: u32,
): void {
  const first: u32 = length == 0 ? 0xff : load<u8>(datagram);
  if (first <= 3) {
    fromClientStun(region, socket, record, header, aux, datagram, length);
    return;
  }
  if (first < FIRST_CHANNEL || first > LAST_CHANNEL || length < CHANNEL_HEADER_SIZE) {
    drop(region, Drop.MalformedDatagram, 1);
    return;
  }
  const announced: u32 = bswap<u16>(load<u16>(datagram, 2));
  if (announced > length - CHANNEL_HEADER_SIZE) {
    drop(region, Drop.MalformedDatagram, 1);
    return;
  }
  const number: u32 = bswap<u16>(load<u16>(datagram));
  const channel = channelOfClient(relay, aux + AUX_NAME, load<u32>(region, RECEIVE_FAMILY), number);
  if (channel == 0) {
    pushOther(region, socket, aux, datagram, length);
    return;
  }
  const from = load<u32>(relay, RELAY_SOCKETS) + load<u32>(channel, CHANNEL_PEER_SOCKET) * SOCKET_SIZE;
  const name = channel + CHANNEL_PEER_NAME;
  append(
    region,
    from,
    name,
    load<u32>(channel, CHANNEL_PEER_NAME_LENGTH),
    0,
    datagram + CHANNEL_HEADER_SIZE,
    announced,
  );
}

function fromPeer(region: u32, relay: u32, socket: u32, record: u32, aux: u32, datagram: u32, length: u32): void {
  const port = load<u32>(record, SOCKET_PORT);
  const channel = channelOfPeer(relay, aux + AUX_NAME, load<u32>(region, RECEIVE_FAMILY), port);
  if (channel == 0) {
    pushOther(region, socket, aux, datagram, length);
    return;
  }
  if (length > <u32>MAX_MESSAGE_SIZE - CHANNEL_HEADER_SIZE) {
    drop(region, Drop.TooLarge, 1);
    return;
  }
  const from = load<u32>(relay, RELAY_SOCKETS) + load<u32>(channel, CHANNEL_CLIENT_SOCKET) * SOCKET_SIZE;
  const name = channel + CHANNEL_CLIENT_NAME;
  append(region, from, name, load<u32>(channel, CHANNEL_CLIENT_NAME_LENGTH), channel, datagram, length);
}

function fromClientStun(
  region: u32,
  socket: u32,
  record: u32,
  header: u32,
  aux: u32,
  datagram: u32,
  length: u32,
): void {
  if (!isPlainBinding(datagram, length)) {
    push(region, Exception.Stun, socket, aux, datagram, length, WHOLE_RING);
    return;
  }
  // Nobody can be answered at port 0.
  if (
    load<u16>(aux + AUX_NAME, 2) == 0 ||
    !spend(budgetOfSource(region, aux), BINDING_RATE, BINDING_BURST, load<f64>(region, NOW))
  ) {
    drop(region, Drop.HandshakeFlood, 1);
    return;
  }
  const message = beginMessage(region, load<i32>(record, SOCKET_FD), aux + AUX_NAME, load<u32>(header, MSG_NAMELEN));
  const family = load<u32>(region, RECEIVE_FAMILY);
  // The answer takes the place of the control messages, which it does not need.
  const answer =
    region + TRANSMIT_4 + TRANSMIT_AUX + (load<u32>(region, OUT_MESSAGES) - 1) * TRANSMIT_AUX_SIZE + AUX_CONTROL;
  const addressLength: u32 = family == 4 ? 4 : 16;
  store<u16>(answer, <u16>BINDING_SUCCESS);
  store<u16>(answer, bswap<u16>(<u16>(8 + addressLength)), 2);
  memory.copy(answer + 4, datagram + 4, 16);
  store<u16>(answer, <u16>XOR_MAPPED_ADDRESS, 20);
  store<u16>(answer, bswap<u16>(<u16>(4 + addressLength)), 22);
  store<u16>(answer, family == 4 ? 0x0100 : 0x0200, 24);
  // The first half of cookie and transaction masks port and address.
  store<u16>(answer, load<u16>(aux + AUX_NAME, 2) ^ load<u16>(datagram, 4), 26);
  if (family == 4) store<u32>(answer, load<u32>(aux + AUX_NAME, 4) ^ load<u32>(datagram, 4), 28);
  else v128.store(answer, v128.xor(v128.load(aux + AUX_NAME, 8), v128.load(datagram, 4)), 28);
  addVector(region, message, answer, 28 + addressLength);
  store<u32>(region, 0, OUT_OPEN);
}

/** Whether a message is a binding request all of whose attributes may be ignored. The others need the main thread. */
function isPlainBinding(datagram: u32, length: u32): bool {
  if (
    length < STUN_HEADER_SIZE ||
    load<u16>(datagram) != BINDING_REQUEST ||
    load<u32>(datagram, 4) != STUN_MAGIC_COOKIE
  )
    return false;
  const announced: u32 = bswap<u16>(load<u16>(datagram, 2));
  if (announced != length - STUN_HEADER_SIZE || announced & 3) return false;
  let at: u32 = STUN_HEADER_SIZE;
  while (at < length) {
    const type: u32 = bswap<u16>(load<u16>(datagram + at));
    const size: u32 = bswap<u16>(load<u16>(datagram + at, 2));
    if (type < COMPREHENSION_OPTIONAL) return false;
    at += 4 + ((size + 3) & ~3);
  }
  return at == length;
}

/** Adds a datagram to what is sent: to the last message, if it can be a segment of it. `channel`: whose header goes in front; 0: none. */
function append(region: u32, socket: u32, name: u32, nameLength: u32, channel: u32, data: u32, length: u32): void {
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
  atomic.store<u64>(region, load<u64>(region, RELAYED_BYTES) + <u64>length, RELAYED_BYTES);
}

/** Begins a message without vectors; begins a run, or continues the last. */
function beginMessage(region: u32, fd: i32, name: u32, nameLength: u32): u32 {
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

function addVector(region: u32, message: u32, address: u32, length: u32): void {
  const i = load<u32>(region, OUT_VECTORS);
  const vector = region + VECTORS + i * VECTOR_SIZE;
  store<u64>(vector, load<u64>(region, HOST_BASE) + address, IOV_BASE);
  store<u64>(vector, length, IOV_LEN);
  store<u32>(region, i + 1, OUT_VECTORS);
  store<u64>(message, load<u64>(message, MSG_IOVLEN) + 1, MSG_IOVLEN);
}

/** Gives the main thread what is neither STUN nor in the tables, as much of it as it can bear. */
function pushOther(region: u32, socket: u32, aux: u32, datagram: u32, length: u32): void {
  if (spend(region + OTHER_BUDGET, OTHER_RATE, OTHER_BURST, load<f64>(region, NOW)))
    push(region, Exception.Relay, socket, aux, datagram, length, QUARTER_RING);
  else drop(region, Drop.UnknownChannel, 1);
}

function push(region: u32, reason: Exception, socket: u32, aux: u32, datagram: u32, length: u32, share: u32): void {
  const record = beginException(region, reason, socket, length, share);
  if (record == 0) return;
  memory.copy(record + RECORD_HEADER_SIZE, datagram, length);
  setExceptionAddresses(region, record, aux, load<u32>(aux, AUX_LOCAL));
  endException(region, record);
}
