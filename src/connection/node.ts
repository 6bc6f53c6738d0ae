// SKELETON: signatures first, being filled in.

import type { SocketAddress } from "../base/address.js";
import type { Crypto } from "../base/crypto.js";
import type { Random } from "../base/random.js";
import type { StateMachine, Transmit } from "../base/state-machine.js";
import type { Duration, Instant } from "../base/time.js";
import type { LocalIdentity } from "../wireguard/identity.js";
import type { Tai64nClock } from "../wireguard/tai64n.js";
import type { Activity } from "../wireguard/timers.js";
import type { NodeEvent, Relay } from "./events.js";

/** What a node is made of. */
export interface NodeOptions {
  /** The node's static key pair, the same for all connections. */
  readonly identity: LocalIdentity;
  readonly crypto: Crypto;
  /** Cryptographic in programs, seeded in tests. */
  readonly random: Random;
  /** Timestamps of handshakes. */
  readonly clock: Tai64nClock;
  /** Time without packets after which a connection is closed; absent: never (spec 02, section 14). */
  readonly idleTimeout?: Duration | undefined;
}

function missing(): never {
  throw new Error("skeleton");
}

/** What client and gateway nodes have in common. */
export abstract class ConnectionNode implements StateMachine<NodeEvent> {
  constructor(_options: NodeOptions) {}
  get publicKey(): Uint8Array {
    return missing();
  }
  /** Takes a candidate of the other side, as signalled; ignored for unknown connections and when it does not parse. */
  addRemoteCandidate(_id: string, _candidate: string, _now: Instant): void {}
  removeRemoteCandidate(_id: string, _candidate: string, _now: Instant): void {}
  /** @returns false when the address cannot be a candidate (spec 02, section 4.1). */
  addLocalHostCandidate(_address: SocketAddress, _now: Instant): boolean {
    return missing();
  }
  removeLocalHostCandidate(_address: SocketAddress, _now: Instant): void {}
  updateRelays(_removed: readonly string[], _added: readonly Relay[], _now: Instant): void {}
  /** Ends a connection without a failed or closed event. */
  removeConnection(_id: string, _now: Instant): void {}
  reset(_now: Instant): void {}
  /** STUN or WireGuard handshake datagram. */
  handleInput(_local: SocketAddress, _from: SocketAddress, _datagram: Uint8Array, _now: Instant): void {}
  /** An IP packet for which the datapath has no usable session or path. The node owns the bytes from now on. */
  handlePacket(_id: string, _packet: Uint8Array, _now: Instant): void {}
  handleActivity(_id: string, _activity: Activity, _now: Instant): void {}
  handleSessionConfirmed(_id: string, _localIndex: number, _now: Instant): void {}
  handleUnknownIndex(_localIndex: number, _now: Instant): void {}
  /** Id of a connection with this remote key that has a session. */
  connectionId(_publicKey: Uint8Array): string | undefined {
    return missing();
  }
  handleTimeout(_now: Instant): void {}
  pollTimeout(): Instant | undefined {
    return missing();
  }
  pollTransmit(): Transmit | undefined {
    return missing();
  }
  pollEvent(): NodeEvent | undefined {
    return missing();
  }
}
