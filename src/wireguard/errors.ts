// Why the WireGuard layer refuses a message: the names of spec 02, section 12.1, as far as they concern the control plane (the
// datapath counts what concerns data messages). All are per message: the message is dropped, no state has changed.

/** Reason for which a handshake message is refused. */
export type WireGuardError =
  /** Not of a handshake type, reserved bytes not zero, or of the wrong length for its type. */
  | "InvalidPacket"
  /** mac1 does not verify: the sender does not know our public key. */
  | "InvalidMac"
  /**
   * Too many handshake messages, and this one's sender has used up its share although its cookie is valid; or too many initiations wait to be
   * opened.
   */
  | "UnderLoad"
  /** An AEAD tag does not verify: another preshared key, another static key, or forged. */
  | "InvalidAeadTag"
  /** The static key is no configured peer's, or a key of the message is a point of low order. */
  | "WrongKey"
  /** The initiation's timestamp is not newer than the newest one seen from this peer: a replay. */
  | "WrongTai64nTimestamp"
  /** The initiation is authentic, but follows the one before sooner than a peer may (20 ms). */
  | "InitiationFlood"
  /** The answer belongs to no initiation that is still waiting, or the cookie reply comes unasked. */
  | "UnexpectedPacket"
  /** The cookie reply does not name the last handshake message that was sent. */
  | "WrongIndex";
