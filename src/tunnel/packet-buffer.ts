// Packets that wait for a connection (spec 04, section 4.9, rule 1): the first packet to a resource is not lost.

import { bytesEqual } from "../base/bytes.js";
import { type IpPacket, synIdentity } from "../packet/ip.js";

/** Packets kept per resource; the oldest is dropped for one more. 128 packets of 1280 bytes are 160 KiB. */
export const PACKET_BUFFER_CAPACITY = 128;

interface Entry {
  packet: Uint8Array;
  readonly syn: string | undefined;
}

/** A bounded buffer of IP packets in order of arrival. */
export class PacketBuffer {
  /** Packets that were pushed out by younger ones. */
  dropped = 0;
  #entries: Entry[] = [];

  get length(): number {
    return this.#entries.length;
  }

  /** Keeps a packet. A copy of one that waits already is skipped; a repeated SYN replaces its earlier self: fresher timestamps. */
  push(packet: IpPacket): void {
    const syn = synIdentity(packet);
    const same = this.#entries.find((entry) =>
      syn === undefined ? bytesEqual(entry.packet, packet.bytes) : entry.syn === syn,
    );
    if (same !== undefined) {
      same.packet = packet.bytes;
      return;
    }
    if (this.#entries.length === PACKET_BUFFER_CAPACITY) {
      this.#entries.shift();
      this.dropped++;
    }
    this.#entries.push({ packet: packet.bytes, syn });
  }

  /** Takes all packets out, oldest first. */
  drain(): Uint8Array[] {
    const packets = this.#entries.map((entry) => entry.packet);
    this.#entries = [];
    return packets;
  }
}
