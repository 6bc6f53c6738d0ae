// What the packet engine and the TypeScript around it agree on: reason codes and the fields of the tables in shared memory.
// Compiled twice: by AssemblyScript into the engine and by TypeScript into src/engine. So: plain numeric enums and constants
// only, no imports. The meaning of the tables is in ARCHITECTURE.md, "The packet engine".

/** Why the engine dropped a packet or datagram: index of a u64 counter in every worker's counter block. */
export enum Drop {
  /** TUN frame that is not IPv4 or IPv6, is shorter than its headers, or contradicts its virtio header. */
  MalformedPacket,
  /** No route for the destination. */
  NoRoute,
  /** IP fragment (spec 04, section 7.2: dropped on both sides). */
  Fragment,
  /** The source of a decrypted packet is not routed to the connection it came from. */
  SourceNotAllowed,
  /** The destination of a decrypted packet is not covered by the connection's filters. */
  DestinationNotAllowed,
  /** Datagram too short, or of no known kind. */
  MalformedDatagram,
  /** Transport message whose tag does not verify. */
  BadTag,
  /** Transport message with a counter seen before, or behind the replay window. */
  Replayed,
  /** Transport message of a session older than REJECT_AFTER_TIME, or past REJECT_AFTER_MESSAGES. */
  SessionExpired,
  /** Decrypted bytes that are no IP packet, or whose inner length lies. */
  MalformedInner,
  /** Relayed datagram on a channel that is not in the table. */
  UnknownChannel,
  /** The exception ring was full. */
  ExceptionRingFull,
  /** The device's queue was full (ENOBUFS, EAGAIN) when a frame was written. */
  TunWriteFailed,
  /** The socket's queue was full, or the kernel refused the datagram. */
  UdpSendFailed,
  /** The connection has no path, or its session is unusable, and the packet could not be handed to the control plane. */
  NoPath,
  /** Packet larger than the tunnel can carry. */
  TooLarge,
  /** Handshake message whose mac1 is not for our public key. */
  HandshakeMac,
  /** Handshake message beyond what the control plane is given in a second. */
  HandshakeFlood,
  /** Number of reasons. */
  Count,
}

/** Why a packet, datagram or notice goes to the control plane (design, section 1). */
export enum Exception {
  /** STUN or TURN message (first byte 0 to 3, magic cookie at offset 4). */
  Stun = 1,
  /** WireGuard handshake initiation, response or cookie reply. */
  WireGuardHandshake = 2,
  /** Transport message for a receiver index that is in no table. */
  UnknownIndex = 3,
  /** IP packet whose route says "ask the control plane": no connection yet (intent, buffering), DNS sentinel. */
  RouteException = 4,
  /** IP packet for a connection without a usable session or path. The record names the connection. */
  NoSession = 5,
  /** Notice without packet: the first transport message arrived on a session that awaited confirmation. */
  SessionConfirmed = 6,
  /** Notice without packet: an authenticated transport message came from another address than the path's. */
  EndpointMoved = 7,
  /** Notice without packet: a session has sent REKEY_AFTER_MESSAGES messages. */
  RekeyNeeded = 8,
  /** Channel data from a relay's address that no table explains, or another message for the relay layer. */
  Relay = 9,
  /**
   * Decrypted IP packet for a destination that the filters do not allow: the grant may be on its way (spec 04, section 4.9, rule 6). One per
   * connection in DENIED_INTERVAL, so that nobody can flood the control plane; the others are dropped.
   */
  DestinationNotAllowed = 10,
  /** Decrypted packet for us and not for our network: IPv6 from `::` to `::` of protocol 255 (spec 04, section 11.1). */
  PeerMessage = 11,
}

/** What a route leads to: the value of an entry of the route table is `connection slot` or one of these. */
export enum RouteTarget {
  /** Values below this are connection slots. */
  FirstSpecial = 0xffff0000,
  /** Hand the packet to the control plane with `Exception.RouteException`. */
  Exception = 0xffff0001,
  /** Drop silently (counted). */
  Drop = 0xffff0002,
}

/** A slot, index or target that stands for "none". */
export const NONE = 0xffffffff;
