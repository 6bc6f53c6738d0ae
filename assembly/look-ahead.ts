// Fetches records of the tables into the cache before they are needed, when packets are of many connections. One packet's way through the
// tables is a chain of cache misses. Walked packet by packet, every chain is waited for; walked step by step for all packets, the
// processor waits for many of them at once. WebAssembly has no instruction to prefetch: what is loaded here is summed up, so that
// the compiler keeps the loads, and thrown away.
//
//    inbound     before splitting   session index of all ─► sessions of all
//                before opening     connections of all
//                after opening      routes of all the sources
//    outbound                       routes of all destinations ─► connections of all ─► sessions and paths of all

import { NONE, RouteTarget } from "./abi";
import { OPEN_DESCRIPTOR_SIZE, OPEN_DESTINATION, OPEN_LENGTH, OPEN_OK } from "./aead/abi";
import { destination, packetLength, source, version } from "./packet/ip";
import { CACHE_LINE, CONNECTION_PATH, CONNECTION_SESSION, SESSION_CONNECTION, SESSION_SEND_COUNTER } from "./records";
import { connectionAt, pathAt, sessionAt } from "./region";
import {
  FRAME_PLACE,
  LOOKED_AT,
  RECEIVE_BUFFER_SIZE,
  RECEIVE_BUFFERS,
  SESSION_INDEX,
  TUN_FRAME,
  VNET_HEADER_SIZE,
} from "./regions";
import { lookupRoute, touchRoute } from "./tables/routes";
import { lookupSession, touchSession } from "./tables/sessions";

/** With fewer messages there is nothing to overlap. */
const FEWEST: u32 = 4;

/** Fetches the sessions of the first datagrams of `messages` received messages, if they are of different ones. */
export function lookAtSessions(region: u32, area: u32, messages: u32): void {
  if (messages < FEWEST || !areMixed(area, messages)) return;
  const index = load<u32>(region, SESSION_INDEX);
  let seen: u64 = 0;
  for (let i: u32 = 0; i < messages; i++) seen += touchSession(index, receiverIndex(area, i));
  for (let i: u32 = 0; i < messages; i++) {
    const slot = lookupSession(index, receiverIndex(area, i));
    if (slot != NONE) seen += load<u64>(sessionAt(region, slot));
  }
  store<u64>(region, seen, LOOKED_AT);
}

/** Fetches the connections of `count` sessions, whose addresses are at `sessions`. */
export function lookAtConnections(region: u32, sessions: u32, count: u32): void {
  let seen: u64 = 0;
  for (let i: u32 = 0; i < count; i++) {
    const connection = connectionAt(region, load<u32>(load<u32>(sessions + 4 * i), SESSION_CONNECTION));
    seen += load<u64>(connection) + load<u64>(connection + CACHE_LINE);
  }
  store<u64>(region, seen, LOOKED_AT);
}

/** Fetches the routes to the sources of `count` packets that were opened. */
export function lookAtRoutes(region: u32, descriptors: u32, count: u32): void {
  let seen: u64 = 0;
  for (let i: u32 = 0, d = descriptors; i < count; i++, d += OPEN_DESCRIPTOR_SIZE) {
    const packet = load<u32>(d, OPEN_DESTINATION);
    if (load<u32>(d, OPEN_OK) == 0 || packetLength(packet, load<u32>(d, OPEN_LENGTH)) == 0) continue;
    const family = version(packet);
    seen += touchRoute(region, family, source(packet, family));
  }
  store<u64>(region, seen, LOOKED_AT);
}

/** Where a frame of those that are held begins. */
export function heldFrame(region: u32, i: u32): u32 {
  return region + TUN_FRAME + i * FRAME_PLACE;
}

/** Fetches routes, connections, sessions and paths for the first `count` frames that are held, if they go to different destinations. */
export function lookAtDestinations(region: u32, count: u32): void {
  if (count < FEWEST || !goApart(region, count)) return;
  let seen: u64 = 0;
  for (let i: u32 = 0; i < count; i++) {
    const packet = heldFrame(region, i) + VNET_HEADER_SIZE;
    const family = version(packet);
    seen += touchRoute(region, family, destination(packet, family));
  }
  for (let i: u32 = 0; i < count; i++) {
    const connection = connectionOf(region, i);
    if (connection != 0) seen += load<u64>(connection) + load<u64>(connection + CACHE_LINE);
  }
  for (let i: u32 = 0; i < count; i++) {
    const connection = connectionOf(region, i);
    if (connection == 0) continue;
    const session = load<u32>(connection, CONNECTION_SESSION);
    const path = load<u32>(connection, CONNECTION_PATH);
    if (session != NONE) seen += load<u64>(sessionAt(region, session), SESSION_SEND_COUNTER);
    if (path != NONE) seen += load<u64>(pathAt(region, path)) + load<u64>(pathAt(region, path) + CACHE_LINE);
  }
  store<u64>(region, seen, LOOKED_AT);
}

/** The connection that a held frame goes to, 0 for none. */
function connectionOf(region: u32, i: u32): u32 {
  const packet = heldFrame(region, i) + VNET_HEADER_SIZE;
  const family = version(packet);
  const target = lookupRoute(region, family, destination(packet, family));
  return target >= <u32>RouteTarget.FirstSpecial ? 0 : connectionAt(region, target);
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
  return load<u32>(area + RECEIVE_BUFFERS + message * RECEIVE_BUFFER_SIZE, 4);
}
