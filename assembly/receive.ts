// What recvmmsg() filled: message headers, trains of datagrams (UDP_GRO), control messages; and what kind of datagram each is.

import { Drop } from "./abi";
import { drop } from "./region";
import {
  AUX_CONTROL,
  AUX_IOV,
  AUX_LOCAL,
  HOST_BASE,
  IOV_BASE,
  IOV_LEN,
  MMSGHDR_SIZE,
  MSG_CONTROLLEN,
  MSG_FLAGS,
  MSG_LEN,
  MSG_NAMELEN,
  NAME_SIZE,
  RECEIVE_4,
  RECEIVE_6,
  RECEIVE_AUX,
  RECEIVE_AUX_SIZE,
  RECEIVE_BUFFER_SIZE,
  RECEIVE_BUFFERS,
  RECEIVE_CONTROL_SIZE,
  RECEIVE_HEADERS,
  RECEIVE_MESSAGES,
  RECEIVE_PLACE,
} from "./regions";
import { initializeHeader } from "./transmit";

// Control messages (cmsg(3)): u64 length, i32 level, i32 type, data; each padded to 8 bytes.
const CMSG_HEADER_SIZE: u32 = 16;
/** SOL_UDP, UDP_GRO: i32 bytes of each datagram but the last. */
const UDP_GRO: u64 = 17 | (104 << 32);
/** SOL_IP, IP_PKTINFO: interface, local address, destination address of the header. */
const IP_PKTINFO: u64 = 0 | (8 << 32);
/** SOL_IPV6, IPV6_PKTINFO: destination address, interface. */
const IPV6_PKTINFO: u64 = 41 | (50 << 32);

/** A family's receive area. */
export function receiveArea(region: u32, family: u32): u32 {
  return region + (family == 4 ? RECEIVE_4 : RECEIVE_6);
}

/** Writes what never changes: which header points to which address, control messages and buffer. */
export function initializeReceive(region: u32, family: u32): void {
  const area = receiveArea(region, family);
  const base = load<u64>(region, HOST_BASE);
  for (let i: u32 = 0; i < <u32>RECEIVE_MESSAGES; i++) {
    const aux = area + RECEIVE_AUX + i * RECEIVE_AUX_SIZE;
    initializeHeader(region, area + RECEIVE_HEADERS + i * MMSGHDR_SIZE, aux);
    store<u64>(aux, base + area + RECEIVE_BUFFERS + i * RECEIVE_PLACE, AUX_IOV + IOV_BASE);
    store<u64>(aux, RECEIVE_BUFFER_SIZE, AUX_IOV + IOV_LEN);
  }
  prepareReceive(region, family);
}

/** Resets what recvmmsg() overwrites. */
export function prepareReceive(region: u32, family: u32): void {
  prepareMessages(region, family, 0, RECEIVE_MESSAGES);
}

/** The same of `count` messages from `first` on. */
export function prepareMessages(region: u32, family: u32, first: u32, count: u32): void {
  const headers = receiveArea(region, family) + RECEIVE_HEADERS + first * MMSGHDR_SIZE;
  for (let i: u32 = 0; i < count; i++) {
    const header = headers + i * MMSGHDR_SIZE;
    store<u32>(header, NAME_SIZE, MSG_NAMELEN);
    store<u64>(header, RECEIVE_CONTROL_SIZE, MSG_CONTROLLEN);
    store<u32>(header, 0, MSG_FLAGS);
    store<u32>(header, 0, MSG_LEN);
  }
}

/**
 * Reads the control messages of a received message: notes in its aux record where the local address lies, and returns the
 * bytes of each of its datagrams but the last; 0 when it is a single one.
 */
function readControl(header: u32, aux: u32): u32 {
  let datagramSize: u32 = 0;
  store<u32>(aux, 0, AUX_LOCAL);
  let at = aux + AUX_CONTROL;
  const end = at + min<u32>(load<u32>(header, MSG_CONTROLLEN), RECEIVE_CONTROL_SIZE);
  while (at + CMSG_HEADER_SIZE <= end) {
    const length = load<u32>(at);
    if (length < CMSG_HEADER_SIZE || length > <u32>(end - at)) break;
    const kind = load<u64>(at, 8);
    const data = at + CMSG_HEADER_SIZE;
    if (kind == UDP_GRO && length >= CMSG_HEADER_SIZE + 4) datagramSize = load<u32>(data);
    else if (kind == IP_PKTINFO && length >= CMSG_HEADER_SIZE + 12) store<u32>(aux, <u32>data + 4, AUX_LOCAL);
    else if (kind == IPV6_PKTINFO && length >= CMSG_HEADER_SIZE + 20) store<u32>(aux, <u32>data, AUX_LOCAL);
    at += (length + 7) & ~7;
  }
  return datagramSize;
}

/** msg_flags: the buffer was too small. */
const MSG_TRUNC: u32 = 0x20;

/** Bytes of a received message: of a datagram, or of a train of them. */
export function messageLength(header: u32): u32 {
  return min<u32>(load<u32>(header, MSG_LEN), RECEIVE_BUFFER_SIZE);
}

/**
 * Reads the control messages of a received message (`readControl`); returns how far apart its datagrams begin, which is the length of all
 * but the last. 0, and counted: it did not fit its buffer, and there is no telling where its datagrams are.
 */
export function trainStep(region: u32, header: u32, aux: u32): u32 {
  const datagramSize = readControl(header, aux);
  if (load<u32>(header, MSG_FLAGS) & MSG_TRUNC) {
    drop(region, Drop.MalformedDatagram, 1);
    return 0;
  }
  return datagramSize == 0 ? RECEIVE_BUFFER_SIZE : datagramSize;
}

/** Datagrams of a message of this length; those beyond `most` are counted as dropped. An empty datagram is one, too. */
export function trainCount(region: u32, length: u32, step: u32, most: u32): u32 {
  if (length <= step) return 1;
  const count = (length + step - 1) / step;
  if (count <= most) return count;
  drop(region, Drop.MalformedDatagram, count - most);
  return most;
}

/** Kinds of datagrams. */
export const TRANSPORT: u32 = 0;
export const HANDSHAKE: u32 = 1;
export const STUN: u32 = 2;
export const RELAY: u32 = 3;
export const MALFORMED: u32 = 4;

/** STUN's magic cookie 0x2112a442 (RFC 8489, section 5) as it lies in memory. */
const MAGIC_COOKIE: u32 = 0x42a41221;
const STUN_HEADER_SIZE: u32 = 20;
/** Bytes of TURN's channel data header (RFC 8656, section 12.4). */
export const CHANNEL_HEADER_SIZE: u32 = 4;

/**
 * What a datagram is (spec 02, sections 7 and 11.2). WireGuard's messages are recognised by their type, three zero bytes and
 * their exact length, so that a STUN message is none even if its length field is zero.
 */
export function classify(datagram: u32, length: u32): u32 {
  if (length < CHANNEL_HEADER_SIZE) return MALFORMED;
  const type = load<u32>(datagram);
  if (type == 4 && length >= 32) return TRANSPORT;
  if ((type == 1 && length == 148) || (type == 2 && length == 92) || (type == 3 && length == 64)) return HANDSHAKE;
  const first = type & 0xff;
  if (first <= 3 && length >= STUN_HEADER_SIZE && load<u32>(datagram, 4) == MAGIC_COOKIE) return STUN;
  if (first >= 0x40 && first <= 0x4f) return RELAY;
  return MALFORMED;
}
