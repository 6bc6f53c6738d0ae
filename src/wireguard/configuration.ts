// What can be configured on a plain WireGuard device, and what it reports: the values behind wg(8). The text form on the wire is
// src/uapi; the meaning of each field is that of https://www.wireguard.com/xplatform/, "Configuration Protocol".

import type { IpPrefix, SocketAddress } from "../base/address.js";
import type { UnixTime } from "../base/time.js";

/** A change of a device. What is absent stays as it is. */
export interface DeviceChange {
  /** 32 bytes; all zeros: the device has no key any more, and answers nobody. */
  readonly privateKey?: Uint8Array;
  /** UDP port; 0: any. */
  readonly listenPort?: number;
  /** Mark of outgoing datagrams; 0: none. */
  readonly fwmark?: number;
  /** Whether all peers are removed before `peers` are added. */
  readonly replacePeers?: boolean;
  /** In this order. */
  readonly peers: readonly PeerChange[];
}

/** A change of one peer, or a new peer. What is absent stays as it is. */
export interface PeerChange {
  /** 32 bytes; which peer it is. */
  readonly publicKey: Uint8Array;
  /** Whether the peer is removed; the rest does not matter then. */
  readonly remove?: boolean;
  /** Whether a peer that does not exist is left alone instead of added. */
  readonly updateOnly?: boolean;
  /** 32 bytes; all zeros: none. */
  readonly presharedKey?: Uint8Array;
  readonly endpoint?: SocketAddress;
  /** Seconds, 0 to 65535; 0: off. */
  readonly persistentKeepaliveInterval?: number;
  /** Whether all allowed IPs are removed before `allowedIps` are added. */
  readonly replaceAllowedIps?: boolean;
  /** In this order. A prefix that another peer has moves to this one. */
  readonly allowedIps: readonly AllowedIpChange[];
}

/** A prefix that a peer gets, or loses. */
export interface AllowedIpChange {
  readonly prefix: IpPrefix;
  readonly remove: boolean;
}

/** What a device is configured to, and what has happened. */
export interface DeviceConfiguration {
  /** 32 bytes; absent: none. A secret. */
  readonly privateKey?: Uint8Array;
  /** The port that the sockets have; 0: none yet. */
  readonly listenPort: number;
  readonly fwmark: number;
  readonly peers: readonly PeerConfiguration[];
}

/** One peer of {@link DeviceConfiguration}. */
export interface PeerConfiguration {
  /** 32 bytes. */
  readonly publicKey: Uint8Array;
  /** 32 bytes; all zeros: none. A secret. */
  readonly presharedKey: Uint8Array;
  /** Configured, or learned from the last authenticated message. */
  readonly endpoint?: SocketAddress;
  /** Absent: never. */
  readonly lastHandshakeAt?: UnixTime;
  /** Bytes of WireGuard messages received and sent. */
  readonly rxBytes: number;
  readonly txBytes: number;
  /** Seconds; 0: off. */
  readonly persistentKeepaliveInterval: number;
  readonly allowedIps: readonly IpPrefix[];
}

/** Why a change was not carried out to its end: the device's tables are full. What came before is in force. */
export type ConfigurationError = "too-many-peers" | "too-many-allowed-ips";
