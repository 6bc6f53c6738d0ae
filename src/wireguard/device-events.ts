// What a plain WireGuard device tells its owner. The table updates have the form that src/programs turns into table writes.

import type { IpPrefix, SocketAddress } from "../base/address.js";
import type { WireGuardError } from "./errors.js";
import type { EstablishedSession } from "./peer-events.js";
import type { SessionRole } from "./session.js";
import type { Activity } from "./timers.js";

/** A peer's name: its public key in 64 hexadecimal digits. */
export type PeerName = string;

/** What a device tells its owner: changes of the datapath's tables, things for it to send, and news for the log. */
export type DeviceEvent =
  /** The device has another static key, or none. */
  | { readonly type: "identity-changed"; readonly publicKey: Uint8Array | undefined }
  | { readonly type: "connection-added"; readonly connection: PeerName }
  | { readonly type: "connection-removed"; readonly connection: PeerName }
  | { readonly type: "session-established"; readonly connection: PeerName; readonly session: EstablishedSession }
  | { readonly type: "session-current"; readonly connection: PeerName; readonly localIndex: number }
  | { readonly type: "session-removed"; readonly connection: PeerName; readonly localIndex: number }
  /** `local` is unspecified when the kernel is to choose the source address. */
  | {
      readonly type: "path-selected";
      readonly connection: PeerName;
      readonly path: { readonly local: SocketAddress; readonly remote: SocketAddress };
    }
  | {
      readonly type: "route-set";
      readonly prefix: IpPrefix;
      readonly target: { readonly type: "connection"; readonly connection: PeerName };
    }
  | { readonly type: "route-removed"; readonly prefix: IpPrefix }
  | { readonly type: "send-keepalive"; readonly connection: PeerName }
  | { readonly type: "send-packet"; readonly connection: PeerName; readonly packet: Uint8Array }
  | { readonly type: "handshake-initiated"; readonly connection: PeerName; readonly attempt: number }
  | { readonly type: "handshake-complete"; readonly connection: PeerName; readonly role: SessionRole }
  | { readonly type: "handshake-refused"; readonly from: SocketAddress; readonly error: WireGuardError }
  | { readonly type: "endpoint-changed"; readonly connection: PeerName; readonly remote: SocketAddress }
  | { readonly type: "peer-expired"; readonly connection: PeerName; readonly reason: "no-answer" | "no-session" };

/** The datapath's stamps and byte counts of a connection. */
export interface ConnectionActivity extends Activity {
  /** Bytes of transport messages since the connection was added. */
  readonly txBytes: number;
  readonly rxBytes: number;
}
