// Messages between client and gateway inside the tunnel (spec 04, section 11.1): IPv6 packets from `::` to `::` of protocol 255, whose
// payload begins with eight bytes, the first of them the kind. Programs of 2024 drop them.
//
//   | IPv6 header, 40 bytes: from ::, to ::, next header 255 | kind | 0 0 0 0 0 0 0 | ... |

import { viewOf } from "../base/bytes.js";
import type { PeerMessageEvent } from "./events.js";

const IPV6_HEADER_LENGTH = 40;
const MESSAGE_HEADER_LENGTH = 8;
/** Reserved protocol number. */
const PROTOCOL = 255;
/** Of no consequence: there is no router on the way. */
const HOP_LIMIT = 255;
const GOODBYE = 2;

/** What one side tells the other. */
export type PeerMessage =
  /** The sender is going: nothing sent to it will be answered. */
  { readonly type: "goodbye" };

/** A message as a packet. */
export function encodePeerMessage(message: PeerMessage): Uint8Array {
  const packet = new Uint8Array(IPV6_HEADER_LENGTH + MESSAGE_HEADER_LENGTH);
  const view = viewOf(packet);
  view.setUint8(0, 0x60);
  view.setUint16(4, MESSAGE_HEADER_LENGTH);
  view.setUint8(6, PROTOCOL);
  view.setUint8(7, HOP_LIMIT);
  switch (message.type) {
    case "goodbye":
      view.setUint8(IPV6_HEADER_LENGTH, GOODBYE);
  }
  return packet;
}

/** Tells the other side of a connection that we are going. */
export function goodbyeTo(connection: string): PeerMessageEvent {
  return { type: "send-peer-message", connection, packet: encodePeerMessage({ type: "goodbye" }) };
}

/** Parses a packet that the datapath took for a message; `undefined` for kinds that we do not know and for anything else. */
export function parsePeerMessage(packet: Uint8Array): PeerMessage | undefined {
  const isOne =
    packet.length >= IPV6_HEADER_LENGTH + MESSAGE_HEADER_LENGTH &&
    (packet[0] ?? 0) >> 4 === 6 &&
    packet[6] === PROTOCOL &&
    packet.subarray(8, IPV6_HEADER_LENGTH).every((byte) => byte === 0);
  return isOne && packet[IPV6_HEADER_LENGTH] === GOODBYE ? { type: "goodbye" } : undefined;
}
