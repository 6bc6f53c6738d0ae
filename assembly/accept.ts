// What happens to opened packets: the counter is marked, the connection's activity recorded, the source and the filters checked, and
// what may pass becomes a frame for the TUN device. The second half of inbound.ts.

import { Drop, Exception, NONE } from "./abi";
import { OPEN_COUNTER, OPEN_DESCRIPTOR_SIZE, OPEN_DESTINATION, OPEN_LENGTH, OPEN_OK } from "./aead/abi";
import {
  beginException,
  endException,
  QUARTER_RING,
  setExceptionAddresses,
  setExceptionIndex,
  WHOLE_RING,
} from "./exceptions";
import { TAG_SIZE, WIREGUARD_HEADER_SIZE } from "./outbound";
import { deliverPacket } from "./packet/coalesce";
import { headerLength, isFragment, packetLength, protocolOf, source, version } from "./packet/ip";
import {
  ACTIVITY_RECEIVED_AT,
  ACTIVITY_RECEIVED_DATA_AT,
  ACTIVITY_RX_BYTES,
  ACTIVITY_RX_PACKETS,
  CHECK_ENDPOINT,
  CHECK_FILTERS,
  CONNECTION_CHECKS,
  CONNECTION_DENIED_AT,
  CONNECTION_MOVED,
  CONNECTION_PATH,
  PATH_FAMILY,
  SESSION_CONFIRMED,
  SESSION_CONNECTION,
  SESSION_LOCAL_INDEX,
  SESSION_STATE,
} from "./records";
import { connectionAt, drop, pathAt, pathName, touch } from "./region";
import { AUX_LOCAL, AUX_NAME, NOW, RECEIVE_FAMILY, RECORD_HEADER_SIZE } from "./regions";
import { isAllowed } from "./tables/filters";
import { lock, mark, unlock } from "./tables/replay";
import { lookupRoute } from "./tables/routes";

/** Milliseconds between two reports of packets that a connection's filters do not allow. */
const DENIED_INTERVAL: f64 = 20;

/** Marks the counters of `count` opened packets of a session and delivers what is authentic and new; `messages` are the auxiliary areas they came with. */
export function accept(region: u32, session: u32, descriptors: u32, messages: u32, count: u32): void {
  // The window moves only now: a forged counter must not move it.
  let accepted: u32 = 0;
  let bad: u32 = 0;
  let bytes: u64 = 0;
  lock(session);
  for (let i: u32 = 0, d = descriptors; i < count; i++, d += OPEN_DESCRIPTOR_SIZE) {
    if (!load<u32>(d, OPEN_OK)) {
      bad++;
    } else if (mark(session, load<u64>(d, OPEN_COUNTER))) {
      accepted++;
      bytes += load<u32>(d, OPEN_LENGTH);
    } else {
      store<u32>(d, 0, OPEN_OK);
    }
  }
  unlock(session);
  if (bad) drop(region, Drop.BadTag, bad);
  if (accepted + bad < count) drop(region, Drop.Replayed, count - accepted - bad);
  if (accepted == 0) return;

  const connectionSlot = load<u32>(session, SESSION_CONNECTION);
  const connection = connectionAt(region, connectionSlot);
  const now = <u64>load<f64>(region, NOW);
  atomic.store<u64>(connection, now, ACTIVITY_RECEIVED_AT);
  if (bytes != 0) atomic.store<u64>(connection, now, ACTIVITY_RECEIVED_DATA_AT);
  atomic.add<u64>(connection, bytes + <u64>accepted * <u64>(WIREGUARD_HEADER_SIZE + TAG_SIZE), ACTIVITY_RX_BYTES);
  atomic.add<u64>(connection, <u64>accepted, ACTIVITY_RX_PACKETS);
  touch(region, connectionSlot);
  if (!(atomic.load<u32>(session, SESSION_STATE) & SESSION_CONFIRMED)) confirm(region, session, connectionSlot);

  const checks = load<u32>(connection, CONNECTION_CHECKS);
  let checkedAux: u32 = 0;
  for (let i: u32 = 0, d = descriptors; i < count; i++, d += OPEN_DESCRIPTOR_SIZE) {
    if (!load<u32>(d, OPEN_OK)) continue;
    if (checks & CHECK_ENDPOINT) {
      const aux = load<u32>(messages + 4 * i);
      if (aux != checkedAux) checkEndpoint(region, connection, connectionSlot, session, aux);
      checkedAux = aux;
    }
    const length = load<u32>(d, OPEN_LENGTH);
    if (length != 0) deliver(region, connection, connectionSlot, checks, load<u32>(d, OPEN_DESTINATION), length);
  }
}

/** Reports, once, that the peer has the keys of a session. */
function confirm(region: u32, session: u32, connectionSlot: u32): void {
  if (atomic.or<u32>(session, SESSION_CONFIRMED, SESSION_STATE) & SESSION_CONFIRMED) return;
  const record = beginException(region, Exception.SessionConfirmed, connectionSlot, 0, WHOLE_RING);
  if (record == 0) {
    // Without the notice the session would never be used: the next message tries again.
    atomic.and<u32>(session, ~SESSION_CONFIRMED, SESSION_STATE);
    return;
  }
  setExceptionIndex(record, load<u32>(session, SESSION_LOCAL_INDEX));
  endException(region, record);
}

/** Reports, once per path, that an authenticated message came from another address than the path's. */
function checkEndpoint(region: u32, connection: u32, connectionSlot: u32, session: u32, aux: u32): void {
  const slot = atomic.load<u32>(connection, CONNECTION_PATH);
  if (slot != NONE && isRemoteOf(region, pathAt(region, slot), aux + AUX_NAME)) return;
  if (atomic.cmpxchg<u32>(connection, 0, 1, CONNECTION_MOVED) != 0) return;
  const record = beginException(region, Exception.EndpointMoved, connectionSlot, 0, WHOLE_RING);
  if (record == 0) {
    atomic.store<u32>(connection, 0, CONNECTION_MOVED);
    return;
  }
  setExceptionIndex(record, load<u32>(session, SESSION_LOCAL_INDEX));
  setExceptionAddresses(region, record, aux, load<u32>(aux, AUX_LOCAL));
  endException(region, record);
}

/** Whether a socket address of the receiving family is the remote address of a path: port and IP address, no more. */
function isRemoteOf(region: u32, path: u32, name: u32): bool {
  const family = load<u32>(region, RECEIVE_FAMILY);
  if (load<u32>(path, PATH_FAMILY) != family) return false;
  const remote = pathName(path, family);
  if (load<u16>(name, 2) != load<u16>(remote, 2)) return false;
  return family == 4
    ? load<u32>(name, 4) == load<u32>(remote, 4)
    : !v128.any_true(v128.xor(v128.load(name, 8), v128.load(remote, 8)));
}

/** Checks a decrypted packet and makes it a frame. */
function deliver(region: u32, connection: u32, connectionSlot: u32, checks: u32, packet: u32, available: u32): void {
  const length = packetLength(packet, available);
  if (length == 0) {
    drop(region, Drop.MalformedInner, 1);
    return;
  }
  const family = version(packet);
  if (isFragment(packet, family)) {
    drop(region, Drop.Fragment, 1);
    return;
  }
  if (lookupRoute(region, family, source(packet, family)) != connectionSlot) {
    if (isPeerMessage(packet, family)) pushPacket(region, Exception.PeerMessage, connectionSlot, packet, length);
    else drop(region, Drop.SourceNotAllowed, 1);
    return;
  }
  const protocol = protocolOf(packet, family);
  if (
    checks & CHECK_FILTERS &&
    !isAllowed(region, connection, packet, length, family, protocol, headerLength(packet, family))
  ) {
    reportDenied(region, connection, connectionSlot, packet, length);
    return;
  }
  deliverPacket(region, packet, length, family, protocol);
}

/** A packet that the filters do not allow: reported now and then, because the grant may be on its way; dropped otherwise. */
function reportDenied(region: u32, connection: u32, connectionSlot: u32, packet: u32, length: u32): void {
  const now = load<f64>(region, NOW);
  if (now - load<f64>(connection, CONNECTION_DENIED_AT) < DENIED_INTERVAL) {
    drop(region, Drop.DestinationNotAllowed, 1);
    return;
  }
  store<f64>(connection, now, CONNECTION_DENIED_AT);
  pushPacket(region, Exception.DestinationNotAllowed, connectionSlot, packet, length);
}

/** IPv6 from `::` to `::` of protocol 255, which is reserved. */
function isPeerMessage(packet: u32, family: u32): bool {
  if (family != 6 || protocolOf(packet, family) != 255) return false;
  return !v128.any_true(v128.or(v128.load(packet, 8), v128.load(packet, 24)));
}

function pushPacket(region: u32, reason: Exception, connectionSlot: u32, packet: u32, length: u32): void {
  const record = beginException(region, reason, connectionSlot, length, QUARTER_RING);
  if (record == 0) return;
  memory.copy(record + RECORD_HEADER_SIZE, packet, length);
  endException(region, record);
}
