// What goes into a node from the signalling channel and what comes out of it (spec 02, sections 2.3, 2.4 and 3.1). Connections are
// named by the id that the portal gave the other side: a gateway's id on clients, a client's id on gateways.

import type { SocketAddress } from "../base/address.js";
import type { IceCredentials } from "../ice/credentials.js";
import type { AllocationFailure } from "../turn/allocation/allocation.js";
import type { EstablishedSession } from "../wireguard/peer-events.js";

/** What a client sends to a gateway, through the portal, to start a connection. */
export interface Offer {
  /** 32 random bytes: WireGuard's preshared key on both sides. Secret. */
  readonly sessionKey: Uint8Array;
  readonly credentials: IceCredentials;
}

/** What the gateway answers. */
export interface Answer {
  readonly credentials: IceCredentials;
}

/** A relay, as the portal describes it; entries with the same id are one relay (spec 03, section 2.6). One address at least. */
export interface Relay {
  readonly id: string;
  readonly ipv4?: SocketAddress | undefined;
  readonly ipv6?: SocketAddress | undefined;
  readonly username: string;
  readonly password: string;
  readonly realm: string;
}

/** Over which addresses a connection's datagrams go. */
export interface Path {
  /** The address to send from: one of this host, or one that a relay lends us. */
  readonly local: SocketAddress;
  /** The address that the other side is reached at. */
  readonly remote: SocketAddress;
  /** How the relay forwards to `remote` what is to leave from `local`; absent on direct paths. */
  readonly relay?: RelayedPath;
  /** `remote` is an address that a relay lends the other side. */
  readonly remoteIsRelay?: true;
}

/** The way to a peer over a relay. */
export interface RelayedPath {
  /** The relay's address: datagrams go there, from whichever address of ours. */
  readonly server: SocketAddress;
  /** The channel that leads to the peer. */
  readonly channel: number;
}

/** Why a connection could not be made, or died. */
export type FailureReason =
  /** No answer to the offer within 20 s. */
  | "no-answer"
  /** No candidate of the other side within 10 s after the signalling. */
  | "no-candidates"
  /** No path works, or works any more. */
  | "no-path"
  /** The other side does not answer WireGuard's handshakes, though the path works. */
  | "no-handshake"
  /** The other side answered a handshake with other keys than ours. */
  | "wrong-keys"
  /** The other side's ICE credentials or key cannot be used. */
  | "invalid-parameters";

/** Why a connection was ended on purpose. */
export type CloseReason =
  /** The network has changed: {@link ConnectionNode.reset}. */
  "reset";

/** For the signalling channel and the layer above. After `connection-failed` and `connection-closed` the node knows the connection no more. */
export type SignallingEvent =
  /** Tell the other side about this candidate. */
  | { readonly type: "new-ice-candidate"; readonly connection: string; readonly candidate: string }
  /** Tell the other side that this candidate is gone. */
  | { readonly type: "invalidate-ice-candidate"; readonly connection: string; readonly candidate: string }
  /** There is a usable session, and there was none before. May come more than once in the life of a connection. */
  | { readonly type: "connection-established"; readonly connection: string }
  | { readonly type: "connection-failed"; readonly connection: string; readonly reason: FailureReason }
  | { readonly type: "connection-closed"; readonly connection: string; readonly reason: CloseReason };

/** For whoever watches over the relays. */
export interface RelayFailed {
  readonly type: "relay-failed";
  /** Its id. */
  readonly relay: string;
  readonly reason: AllocationFailure;
}

/** For the datapath: what its tables should say, and what only it can send. */
export type DatapathEvent =
  /** A connection exists: it may be named in routes. From `newConnection` or `acceptConnection` on. */
  | { readonly type: "connection-added"; readonly connection: string }
  /** The connection is gone, with its sessions and its path. Comes before `connection-failed` and `connection-closed`. */
  | { readonly type: "connection-removed"; readonly connection: string }
  /** Install the session for receiving. Whoever takes the event wipes the keys once they are installed. */
  | { readonly type: "session-established"; readonly connection: string; readonly session: EstablishedSession }
  /** Send with this session from now on. Idempotent. */
  | { readonly type: "session-current"; readonly connection: string; readonly localIndex: number }
  | { readonly type: "session-removed"; readonly connection: string; readonly localIndex: number }
  /** Send over this path from now on. */
  | { readonly type: "path-selected"; readonly connection: string; readonly path: Path }
  /** No way works at the moment: hand packets to the control plane until a path is selected. */
  | { readonly type: "path-lost"; readonly connection: string }
  /** Call `handleEndpointMoved` again, once, when a message comes from elsewhere than the path leads to. After `path-selected` that goes without saying. */
  | { readonly type: "watch-source"; readonly connection: string }
  /** Send an empty transport message. */
  | { readonly type: "send-keepalive"; readonly connection: string }
  /** A packet from `handlePacket` can be sent now: the connection has a path and a session. */
  | { readonly type: "send-packet"; readonly connection: string; readonly packet: Uint8Array };

/** Everything that a node reports. */
export type NodeEvent = SignallingEvent | DatapathEvent | RelayFailed;
