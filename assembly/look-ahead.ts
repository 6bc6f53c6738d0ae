// Fetches records of the tables into the cache before they are needed, when packets are of many connections. One packet's way through the
// tables is a chain of cache misses. Walked packet by packet, every chain is waited for; walked step by step for all packets, the
// processor waits for many of them at once. A step first writes down the addresses of all packets' records and then loads from them in
// a loop of few instructions, because the processor looks only some hundred instructions ahead. WebAssembly has no instruction to
// prefetch: what is loaded is summed up, so that the compiler keeps the loads, and thrown away.
//
//    inbound     before splitting   session index of all ─► sessions of all
//                before opening     connections of all
//                after opening      routes of all the sources
//    outbound                       routes of all destinations ─► connections of all ─► sessions and paths of all

import { NONE, RouteTarget } from "./abi";
import { OPEN_DESCRIPTOR_SIZE, OPEN_DESTINATION, OPEN_LENGTH, OPEN_OK } from "./aead/abi";
import { destination, packetLength, source, version } from "./packet/ip";
import {
  CHECK_ENDPOINT,
  CONNECTION_CHECKS,
  CONNECTION_PATH,
  CONNECTION_SESSION,
  SESSION_CONNECTION,
  SESSION_REMOTE_INDEX,
} from "./records";
import { connectionAt, pathAt, sessionAt } from "./region";
import {
  FRAME_PLACE,
  HELD_TARGETS,
  LOOKED_AT,
  RECEIVE_BUFFERS,
  RECEIVE_PLACE,
  SESSION_INDEX,
  TO_FETCH,
  TUN_FRAME,
  VNET_HEADER_SIZE,
} from "./regions";
import { firstRoute, lookupRoute } from "./tables/routes";
import { firstSession, lookupSession } from "./tables/sessions";

/** With fewer messages there is nothing to overlap. */
const FEWEST: u32 = 4;

/** Fetches the sessions of the first datagrams of `messages` received messages, if they are of different ones. */
export function lookAtSessions(region: u32, area: u32, messages: u32): void {
  if (messages < FEWEST || !areMixed(area, messages)) return;
  const index = load<u32>(region, SESSION_INDEX);
  for (let i: u32 = 0; i < messages; i++) toFetch(region, i, firstSession(index, receiverIndex(area, i)));
  fetch(region, messages);
  for (let i: u32 = 0; i < messages; i++) {
    const slot = lookupSession(index, receiverIndex(area, i));
    toFetch(region, i, slot == NONE ? region : sessionAt(region, slot));
  }
  fetch(region, messages);
}

/** Fetches what receives of the connections of `count` sessions, whose addresses are at `sessions`. */
export function lookAtConnections(region: u32, sessions: u32, count: u32): void {
  for (let i: u32 = 0; i < count; i++) toFetch(region, i, connectionOf(region, sessions, i) + CONNECTION_CHECKS);
  fetch(region, count);
  // The connections of a program are all of one kind, so the first one tells.
  if (!(load<u32>(connectionOf(region, sessions, 0), CONNECTION_CHECKS) & CHECK_ENDPOINT)) return;
  for (let i: u32 = 0; i < count; i++) toFetch(region, i, connectionOf(region, sessions, i));
  fetch(region, count);
  for (let i: u32 = 0; i < count; i++) {
    const path = load<u32>(connectionOf(region, sessions, i), CONNECTION_PATH);
    toFetch(region, i, path == NONE ? region : pathAt(region, path));
  }
  fetch(region, count);
}

function connectionOf(region: u32, sessions: u32, i: u32): u32 {
  return connectionAt(region, load<u32>(load<u32>(sessions + 4 * i), SESSION_CONNECTION));
}

/** Fetches the routes to the sources of `count` packets that were opened. */
export function lookAtRoutes(region: u32, descriptors: u32, count: u32): void {
  for (let i: u32 = 0, d = descriptors; i < count; i++, d += OPEN_DESCRIPTOR_SIZE) {
    const packet = load<u32>(d, OPEN_DESTINATION);
    const isPacket = load<u32>(d, OPEN_OK) != 0 && packetLength(packet, load<u32>(d, OPEN_LENGTH)) != 0;
    const family = version(packet);
    toFetch(region, i, isPacket ? firstRoute(region, family, source(packet, family)) : region);
  }
  fetch(region, count);
}

/** Where a frame of those that are held begins. */
export function heldFrame(region: u32, i: u32): u32 {
  return region + TUN_FRAME + i * FRAME_PLACE;
}

/**
 * If the first `count` frames that are held go to different destinations, fetches their routes, connections, sessions and paths. Returns
 * whether it did; then HELD_TARGETS has what the routes lead to.
 */
export function lookAtDestinations(region: u32, count: u32): bool {
  if (count < FEWEST || !goApart(region, count)) return false;
  for (let i: u32 = 0; i < count; i++) {
    const packet = heldFrame(region, i) + VNET_HEADER_SIZE;
    const family = version(packet);
    toFetch(region, i, firstRoute(region, family, destination(packet, family)));
  }
  fetch(region, count);
  for (let i: u32 = 0; i < count; i++) {
    const packet = heldFrame(region, i) + VNET_HEADER_SIZE;
    const family = version(packet);
    const target = lookupRoute(region, family, destination(packet, family));
    store<u32>(region + HELD_TARGETS + 4 * i, target);
    toFetch(region, i, target >= <u32>RouteTarget.FirstSpecial ? region : connectionAt(region, target));
  }
  fetch(region, count);
  // In place of each connection's address come those of its session and its path. Of a path of IPv6 only the first line is fetched.
  for (let i = count; i-- != 0; ) {
    const connection = load<u32>(region + TO_FETCH + 4 * i);
    const session = connection == region ? NONE : load<u32>(connection, CONNECTION_SESSION);
    const path = connection == region ? NONE : load<u32>(connection, CONNECTION_PATH);
    toFetch(region, 2 * i, session == NONE ? region : sessionAt(region, session) + SESSION_REMOTE_INDEX);
    toFetch(region, 2 * i + 1, path == NONE ? region : pathAt(region, path));
  }
  fetch(region, 2 * count);
  return true;
}

/** Writes down, as the `i`-th, an address to fetch. */
function toFetch(region: u32, i: u32, address: u32): void {
  store<u32>(region + TO_FETCH + 4 * i, address);
}

/** Loads from the first `count` addresses that were written down. */
function fetch(region: u32, count: u32): void {
  let seen: u64 = 0;
  const end = region + TO_FETCH + 4 * count;
  for (let at = region + TO_FETCH; at != end; at += 4) seen += load<u64>(load<u32>(at));
  store<u64>(region, seen, LOOKED_AT);
}

/** Whether hardly any two neighbours of the held frames go to one address; of an IPv6 address the last four bytes must do. */
function goApart(region: u32, count: u32): bool {
  let changes: u32 = 0;
  for (let i: u32 = 1; i < count; i++) if (lastOfDestination(region, i) != lastOfDestination(region, i - 1)) changes++;
  return changes * 2 > count;
}

function lastOfDestination(region: u32, i: u32): u32 {
  const packet = heldFrame(region, i) + VNET_HEADER_SIZE;
  return load<u32>(packet + (version(packet) == 4 ? 16 : 36));
}

/** Whether hardly any two neighbours are of one session: else their records are in the cache anyway. */
function areMixed(area: u32, messages: u32): bool {
  let changes: u32 = 0;
  for (let i: u32 = 1; i < messages; i++) if (receiverIndex(area, i) != receiverIndex(area, i - 1)) changes++;
  return changes * 2 > messages;
}

/** Receiver index of a message's first datagram, if it is a transport message; nothing depends on what it is else. */
function receiverIndex(area: u32, message: u32): u32 {
  return load<u32>(area + RECEIVE_BUFFERS + message * RECEIVE_PLACE, 4);
}
