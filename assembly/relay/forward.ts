// A relay's data (RFC 8656, sections 11.5, 11.6 and 12; spec 03, sections 3.3 and 3.9): channel data of clients to peers, data of peers
// to clients as channel data, and answers to binding requests. What leaves is described in output.ts.
//
//    client's datagram   | number, length | data | padding |          ─► data                      from the allocation's socket
//    peer's datagram                      | data |                    ─► | number, length | data | from the socket of the clients
//    client to client    | number, length | data | padding |          ─► | number, length | data | from the socket of the clients
//
// The last is data to a peer that is an allocation of this relay itself: two clients who both can be reached through a relay only, and have
// the same one. If the other allocation has a channel to the first, the datagram leaves to its client at once, as it would after a way
// through the kernel to its socket and back.
//
// What the tables do not explain goes to the main thread: TURN's requests and indications, data on permissions.

import { Drop, Exception } from "../abi";
import { repay, spend } from "../budget";
import { beginException, endException, QUARTER_RING, setExceptionAddresses, WHOLE_RING } from "../exceptions";
import { budgetOfSource } from "../handshake-door";
import { CHANNEL_HEADER_SIZE, messageLength, receiveArea, trainCount, trainStep } from "../receive";
import { drop } from "../region";
import {
  AUX_CONTROL,
  AUX_LOCAL,
  AUX_NAME,
  MAX_MESSAGE_SIZE,
  MMSGHDR_SIZE,
  MSG_NAMELEN,
  NOW,
  RECEIVE_AUX,
  RECEIVE_AUX_SIZE,
  RECEIVE_BUFFERS,
  RECEIVE_FAMILY,
  RECEIVE_HEADERS,
  RECEIVE_PLACE,
  RECEIVE_PORT,
  RECORD_HEADER_SIZE,
  TRANSMIT_4,
  TRANSMIT_AUX,
  TRANSMIT_AUX_SIZE,
} from "../regions";
import { addVector, append, beginMessage, countRelayed } from "./output";
import {
  CHANNEL_CLIENT_NAME,
  CHANNEL_CLIENT_NAME_LENGTH,
  CHANNEL_CLIENT_SOCKET,
  CHANNEL_MEETING_KEY,
  CHANNEL_MEETS,
  CHANNEL_PEER_NAME,
  CHANNEL_PEER_NAME_LENGTH,
  CHANNEL_PEER_SOCKET,
  CLIENT_REQUESTS,
  CLIENTS_BUDGET,
  IN_MESSAGES,
  OTHER_BUDGET,
  OUT_MESSAGES,
  OUT_OPEN,
  RELAY_ADMITTED,
  RELAY_SEGMENTS,
  RELAY_SOCKETS,
  SOCKET_FAMILY,
  SOCKET_FD,
  SOCKET_IS_ALLOCATION,
  SOCKET_PORT,
  SOCKET_SIZE,
  STRANGERS_BUDGET,
  STRANGERS_REPAID,
} from "./records";
import { channelOfClient, channelOfPeer, channelThatMeets, recordOfClient } from "./table";

/** First bytes of channel data: numbers up to 0x7fff, as older clients choose them (RFC 5766, section 11; RFC 8656 stops at 0x4fff). */
const FIRST_CHANNEL: u32 = 0x40;
const LAST_CHANNEL: u32 = 0x7f;

/** Datagrams per second, and at once, that the main thread is given besides requests: data on permissions, and of channels that do not fit the tables. */
const OTHER_RATE: f64 = 20_000;
const OTHER_BURST: f64 = 2_000;
/**
 * Requests per second, and at once, that the main thread is given of clients that have an allocation, and of each: it renews
 * allocation, permissions and channels every few minutes. Who has none yet cannot keep them from it, nor can one of them the others.
 */
const CLIENTS_RATE: f64 = 4_000;
const CLIENTS_BURST: f64 = 8_000;
const CLIENT_RATE: f64 = 100;
const CLIENT_BURST: f64 = 400;
/**
 * The same of strangers. At once: what some thousand clients send who come all together. Per second: what the main thread handles in a twentieth
 * of a processor, because nobody pays for them, and who is relayed wants the rest. Who is given an allocation was worth its two requests
 * (RFC 8656, section 3.2): they are paid back, so that the limit is one for requests in vain.
 */
const STRANGERS_RATE: f64 = 1_000;
const STRANGERS_BURST: f64 = 12_000;
const ADMISSION_REQUESTS: u32 = 2;
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
/** The bits of a message's class, of an indication, and the Send indication (RFC 8656, section 11.1), likewise. */
const CLASS_BITS: u32 = 0x1001;
const INDICATION_CLASS: u32 = 0x1000;
const SEND_INDICATION: u32 = 0x1600;
/** Attributes from this type on need not be understood. */
const COMPREHENSION_OPTIONAL: u32 = 0x8000;

/** Handles the next `count` messages of the batch, which came to a socket. */
export function relayDatagrams(region: u32, relay: u32, socket: u32, count: u32, now: f64): void {
  const record = load<u32>(relay, RELAY_SOCKETS) + socket * SOCKET_SIZE;
  const family = load<u32>(record, SOCKET_FAMILY);
  store<u32>(region, family, RECEIVE_FAMILY);
  store<u32>(region, load<u32>(record, SOCKET_PORT), RECEIVE_PORT);
  store<f64>(region, now, NOW);
  const area = receiveArea(region, family);
  const first = load<u32>(region, IN_MESSAGES);
  const end = first + count;
  for (let i = first; i < end; i++) {
    splitTrain(
      region,
      relay,
      socket,
      record,
      area + RECEIVE_HEADERS + i * MMSGHDR_SIZE,
      area + RECEIVE_AUX + i * RECEIVE_AUX_SIZE,
      area + RECEIVE_BUFFERS + i * RECEIVE_PLACE,
    );
  }
  store<u32>(region, end, IN_MESSAGES);
}

// ---- Details

function splitTrain(region: u32, relay: u32, socket: u32, record: u32, header: u32, aux: u32, buffer: u32): void {
  const length = messageLength(header);
  const step = trainStep(region, header, aux);
  if (step == 0) return;
  const count = trainCount(region, length, step, RELAY_SEGMENTS);
  for (let i: u32 = 0; i < count; i++) {
    const offset = i * step;
    const datagram = buffer + offset;
    const bytes = min(step, length - offset);
    if (load<u32>(record, SOCKET_IS_ALLOCATION)) fromPeer(region, relay, socket, record, aux, datagram, bytes);
    else fromClient(region, relay, socket, record, header, aux, datagram, bytes);
  }
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
    fromClientStun(region, relay, socket, record, header, aux, datagram, length);
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
  const data = datagram + CHANNEL_HEADER_SIZE;
  const meeting = load<u32>(channel, CHANNEL_MEETS) ? channelThatMeets(relay, channel + CHANNEL_MEETING_KEY) : 0;
  if (meeting != 0) {
    // Both allocations relay it.
    countRelayed(region, announced);
    toClient(region, relay, meeting, data, announced);
    return;
  }
  const from = load<u32>(relay, RELAY_SOCKETS) + load<u32>(channel, CHANNEL_PEER_SOCKET) * SOCKET_SIZE;
  const name = channel + CHANNEL_PEER_NAME;
  append(region, from, name, load<u32>(channel, CHANNEL_PEER_NAME_LENGTH), 0, data, announced);
}

function fromPeer(region: u32, relay: u32, socket: u32, record: u32, aux: u32, datagram: u32, length: u32): void {
  const port = load<u32>(record, SOCKET_PORT);
  const channel = channelOfPeer(relay, aux + AUX_NAME, load<u32>(region, RECEIVE_FAMILY), port);
  if (channel == 0) {
    pushOther(region, socket, aux, datagram, length);
    return;
  }
  toClient(region, relay, channel, datagram, length);
}

/** Data that has come to an allocation, on a channel to its client. */
function toClient(region: u32, relay: u32, channel: u32, data: u32, length: u32): void {
  if (length > <u32>MAX_MESSAGE_SIZE - CHANNEL_HEADER_SIZE) {
    drop(region, Drop.TooLarge, 1);
    return;
  }
  const from = load<u32>(relay, RELAY_SOCKETS) + load<u32>(channel, CHANNEL_CLIENT_SOCKET) * SOCKET_SIZE;
  const name = channel + CHANNEL_CLIENT_NAME;
  append(region, from, name, load<u32>(channel, CHANNEL_CLIENT_NAME_LENGTH), channel, data, length);
}

function fromClientStun(
  region: u32,
  relay: u32,
  socket: u32,
  record: u32,
  header: u32,
  aux: u32,
  datagram: u32,
  length: u32,
): void {
  // Nobody can be answered at port 0.
  if (load<u16>(aux + AUX_NAME, 2) == 0 || !isStun(datagram, length)) {
    drop(region, Drop.MalformedDatagram, 1);
    return;
  }
  if (isIndication(datagram)) {
    fromClientIndication(region, relay, socket, aux, datagram, length);
    return;
  }
  const isBinding = isPlainBinding(datagram, length);
  const may = isBinding
    ? spend(budgetOfSource(region, aux), BINDING_RATE, BINDING_BURST, load<f64>(region, NOW))
    : mayRequest(region, relay, aux);
  if (!may) {
    drop(region, Drop.HandshakeFlood, 1);
    return;
  }
  if (!isBinding) {
    push(region, Exception.Stun, socket, aux, datagram, length, WHOLE_RING);
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

/** Data for a peer whom a client has permitted; from others than clients there is none. Whatever else is indicated wants nothing done. */
function fromClientIndication(region: u32, relay: u32, socket: u32, aux: u32, datagram: u32, length: u32): void {
  const client = recordOfClient(relay, aux + AUX_NAME, load<u32>(region, RECEIVE_FAMILY));
  if (client != 0 && load<u16>(datagram) == SEND_INDICATION) pushOther(region, socket, aux, datagram, length);
  else drop(region, Drop.UnknownChannel, 1);
}

/** Whether the main thread can bear another request of this client. */
function mayRequest(region: u32, relay: u32, aux: u32): bool {
  const now = load<f64>(region, NOW);
  const client = recordOfClient(relay, aux + AUX_NAME, load<u32>(region, RECEIVE_FAMILY));
  if (client == 0) {
    const budget = region + STRANGERS_BUDGET;
    const admitted = atomic.load<u32>(relay, RELAY_ADMITTED);
    repay(budget, (admitted - load<u32>(region, STRANGERS_REPAID)) * ADMISSION_REQUESTS);
    store<u32>(region, admitted, STRANGERS_REPAID);
    return spend(budget, STRANGERS_RATE, STRANGERS_BURST, now);
  }
  // What one client is refused must not use up what all have together.
  return (
    spend(client + CLIENT_REQUESTS, CLIENT_RATE, CLIENT_BURST, now) &&
    spend(region + CLIENTS_BUDGET, CLIENTS_RATE, CLIENTS_BURST, now)
  );
}

/** Whether a datagram that begins with two zero bits has the header of a STUN message of its length. */
function isStun(datagram: u32, length: u32): bool {
  if (length < STUN_HEADER_SIZE || load<u32>(datagram, 4) != STUN_MAGIC_COOKIE) return false;
  const announced: u32 = bswap<u16>(load<u16>(datagram, 2));
  return announced == length - STUN_HEADER_SIZE && (announced & 3) == 0;
}

/** Whether a STUN message is an indication: of the two bits of its class, the lower one is set. */
function isIndication(datagram: u32): bool {
  return (load<u16>(datagram) & CLASS_BITS) == INDICATION_CLASS;
}

/** Whether a STUN message is a binding request all of whose attributes may be ignored. The others need the main thread. */
function isPlainBinding(datagram: u32, length: u32): bool {
  if (load<u16>(datagram) != BINDING_REQUEST) return false;
  let at: u32 = STUN_HEADER_SIZE;
  while (at < length) {
    const type: u32 = bswap<u16>(load<u16>(datagram + at));
    const size: u32 = bswap<u16>(load<u16>(datagram + at, 2));
    if (type < COMPREHENSION_OPTIONAL) return false;
    at += 4 + ((size + 3) & ~3);
  }
  return at == length;
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
