// What a TURN server is made of, what it asks of its owner, and what it reports.

import type { AddressFamily, IpAddress, SocketAddress } from "../../base/address.js";
import type { Crypto } from "../../base/crypto.js";
import type { Random } from "../../base/random.js";
import type { CredentialVerifier } from "../credentials.js";

/** The sockets of allocations. */
export interface AllocationPorts {
  /** Opens a port for these IP versions, ready to receive. @returns false when somebody else has it. */
  open(port: number, families: readonly AddressFamily[]): boolean;
  close(port: number): void;
}

/** What a server is made of. */
export interface TurnServerOptions {
  /** Where peers see allocations; one at least. */
  readonly ipv4?: IpAddress | undefined;
  readonly ipv6?: IpAddress | undefined;
  /** Ports of allocations, both inclusive. */
  readonly lowestPort: number;
  readonly highestPort: number;
  /** Who may have allocations: the first that knows a user name decides. All have the same realm. */
  readonly users: readonly CredentialVerifier[];
  readonly ports: AllocationPorts;
  readonly random: Random;
  readonly crypto: Crypto;
  /** SOFTWARE of all answers. */
  readonly software: string;
  readonly denyPrivatePeers: boolean;
  /** For tests on one host. */
  readonly allowLoopbackPeers?: boolean;
  readonly quotas?: Partial<TurnQuotas>;
}

/** Allocations at most. */
export interface TurnQuotas {
  readonly total: number;
  /** Of one user name that several clients may share. */
  readonly perUser: number;
  /** From one address. */
  readonly perSource: number;
}

/** A channel that forwards. */
export interface BoundChannel {
  readonly client: SocketAddress;
  /** The relay's address that the client writes to. */
  readonly local: SocketAddress;
  readonly channel: number;
  readonly peer: SocketAddress;
  readonly allocationPort: number;
}

/** What a server reports. */
export type TurnServerEvent =
  | {
      readonly type: "allocation-created";
      readonly client: SocketAddress;
      readonly port: number;
      readonly username: string;
    }
  | {
      readonly type: "allocation-deleted";
      readonly client: SocketAddress;
      readonly port: number;
      readonly reason: DeletionReason;
    }
  /** Forward on this channel from now on, or go on doing so. */
  | ({ readonly type: "channel-bound" } & BoundChannel)
  | ({ readonly type: "channel-unbound" } & BoundChannel)
  /** Send from an allocation's port. */
  | {
      readonly type: "send-to-peer";
      readonly allocationPort: number;
      readonly peer: SocketAddress;
      readonly data: Uint8Array;
    };

/** Why an allocation was deleted. */
export type DeletionReason =
  | "expired"
  /** By its client. */
  | "refreshed-to-zero"
  /** The same user has made another one, from another address. */
  | "replaced";

/** What was answered and dropped, since creation. */
export interface TurnServerCounters {
  /** Successes, by method. */
  readonly successes: Record<string, number>;
  /** Errors, by code. */
  readonly errors: Record<number, number>;
  /** Answers that were held back: their source has had enough. */
  limited: number;
  /** Datagrams that are neither STUN nor channel data, or cannot be answered. */
  malformed: number;
  /** Data to or from peers without channel or permission. */
  unrelayed: number;
}
