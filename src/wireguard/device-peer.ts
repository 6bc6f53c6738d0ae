// A configured peer of a plain WireGuard device: what the device remembers of it beside its state machine.

import { IpAddress, type IpPrefix, SocketAddress } from "../base/address.js";
import type { Transmit } from "../base/state-machine.js";
import { type Duration, SECOND, type UnixTime } from "../base/time.js";
import type { PeerConfiguration } from "./configuration.js";
import type { ConnectionActivity, PeerName } from "./device-events.js";
import { NO_PRESHARED_KEY } from "./noise.js";
import type { Peer } from "./peer.js";

/** Where a peer is, and the local address that it last talked to; unspecified: the kernel chooses. */
export interface Endpoint {
  readonly remote: SocketAddress;
  readonly local: SocketAddress;
}

/** A configured peer. */
export interface PeerRecord {
  readonly name: PeerName;
  /** 32 bytes. */
  readonly publicKey: Uint8Array;
  /** 32 bytes; all zeros: none. */
  presharedKey: Uint8Array;
  /** Seconds; 0: off. */
  persistentKeepaliveInterval: number;
  endpoint: Endpoint | undefined;
  /** Absent while the device has no private key. */
  peer: Peer | undefined;
  lastHandshakeAt: UnixTime | undefined;
  activity: ConnectionActivity | undefined;
  /** Bytes of handshake messages; the datapath counts the others. */
  handshakeTxBytes: number;
  handshakeRxBytes: number;
}

/** No local address: the kernel chooses the source of what is sent. */
export const UNSPECIFIED = {
  4: new SocketAddress(IpAddress.fromBytes(new Uint8Array(4)), 0),
  6: new SocketAddress(IpAddress.fromBytes(new Uint8Array(16)), 0),
} as const;

/** A peer of which nothing is known but its public key. */
export function newPeerRecord(name: PeerName, publicKey: Uint8Array): PeerRecord {
  return {
    name,
    publicKey: publicKey.slice(),
    presharedKey: NO_PRESHARED_KEY.slice(),
    persistentKeepaliveInterval: 0,
    endpoint: undefined,
    peer: undefined,
    lastHandshakeAt: undefined,
    activity: undefined,
    handshakeTxBytes: 0,
    handshakeRxBytes: 0,
  };
}

/** What wg(8) is told of a peer. */
export function peerConfiguration(record: PeerRecord, allowedIps: readonly IpPrefix[]): PeerConfiguration {
  return {
    publicKey: record.publicKey,
    presharedKey: record.presharedKey,
    ...(record.endpoint && { endpoint: record.endpoint.remote }),
    ...(record.lastHandshakeAt !== undefined && { lastHandshakeAt: record.lastHandshakeAt }),
    rxBytes: (record.activity?.rxBytes ?? 0) + record.handshakeRxBytes,
    txBytes: (record.activity?.txBytes ?? 0) + record.handshakeTxBytes,
    persistentKeepaliveInterval: record.persistentKeepaliveInterval,
    allowedIps,
  };
}

/** The interval of persistent keepalives; `undefined`: off. */
export function intervalOf(record: PeerRecord): Duration | undefined {
  const { persistentKeepaliveInterval: seconds } = record;
  return seconds === 0 ? undefined : seconds * SECOND;
}

/** A datagram to an endpoint. */
export function transmit(endpoint: Endpoint, payload: Uint8Array): Transmit {
  const { local, remote } = endpoint;
  return { ...(!local.ip.isUnspecified && { source: local }), destination: remote, payload };
}
