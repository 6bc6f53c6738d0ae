// What an allocation is made of, and what it reports.

import type { SocketAddress } from "../../base/address.js";
import type { Crypto } from "../../base/crypto.js";
import type { Random } from "../../base/random.js";
import type { LeaseEvent } from "./lease.js";

/** A relay's addresses; one at least. */
export interface RelayServer {
  readonly ipv4?: SocketAddress | undefined;
  readonly ipv6?: SocketAddress | undefined;
}

/** Long-term credentials (RFC 8489, section 9.2). */
export interface LongTermCredentials {
  readonly username: string;
  readonly password: string;
  readonly realm: string;
}

/** What an allocation is made of. */
export interface AllocationOptions {
  readonly server: RelayServer;
  readonly credentials: LongTermCredentials;
  readonly random: Random;
  readonly crypto: Crypto;
  /** SOFTWARE of our requests. Default: `wirelane`. */
  readonly software?: string;
}

/** How a relay sees datagrams that leave from `base`. */
export interface MappedAddress {
  readonly mapped: SocketAddress;
  readonly base: SocketAddress;
}

/** What an allocation reports. */
export type AllocationEvent =
  /** How the relay sees us over this IP version has become known, or has changed. It may be as we see ourselves. */
  | ({ readonly type: "mapped-address" } & MappedAddress)
  | ({ readonly type: "mapped-address-lost" } & MappedAddress)
  | LeaseEvent
  /** The channel to this peer is gone, or another one is on its way. */
  | { readonly type: "channel-changed"; readonly peer: SocketAddress };

/** Why an allocation is of no use (any more). */
export type AllocationFailure =
  /** The relay does not answer, over none of its addresses. */
  | "no-response"
  /** The relay does not accept our credentials, or has restarted. */
  | "authentication"
  /** The relay wants something that we cannot do. */
  | "protocol";
