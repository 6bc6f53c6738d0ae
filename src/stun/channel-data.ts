// Framing of TURN's channel data (RFC 8656, section 12.4; spec 03, section 1.7). Over UDP there is no padding.
//
//   +-------------------------------+-------------------------------+
//   |  channel number 0x4000-0x4FFF |  length of application data   |
//   +-------------------------------+-------------------------------+
//   |  application data ...                                         |

import { viewOf } from "../base/bytes.js";

/** Lowest channel number. */
export const CHANNEL_MIN = 0x4000;

/** Highest channel number (RFC 8656, section 12). */
export const CHANNEL_MAX = 0x4fff;

/** Highest channel number of clients that go by the RFC before (RFC 5766, section 11). Relays serve them too. */
export const OLD_CHANNEL_MAX = 0x7fff;

/** Bytes before the application data. */
export const CHANNEL_HEADER_LENGTH = 4;

/** Longest application data, in bytes, that the header can announce. */
export const CHANNEL_DATA_MAX = 0xffff;

/** A received channel data message. */
export interface ChannelData {
  readonly channel: number;
  /** A view of the datagram. */
  readonly data: Uint8Array;
}

/** Why a datagram is no channel data message. */
export type ChannelDataError = "too-short" | "bad-channel" | "truncated";

/** Whether a datagram's first byte is that of channel data. Only a relay's datagrams are to be asked (spec 03, section 1.1). */
export function mayBeChannelData(datagram: Uint8Array): boolean {
  return ((datagram[0] ?? 0) & 0xf0) === CHANNEL_MIN >> 8;
}

/** The same for relays: also channels of old clients. */
export function mayBeClientChannelData(datagram: Uint8Array): boolean {
  return ((datagram[0] ?? 0) & 0xc0) === CHANNEL_MIN >> 8;
}

/** Reads a channel data message; bytes after the announced length are cut off. */
export function parseChannelData(datagram: Uint8Array): ChannelData | ChannelDataError {
  if (datagram.length < CHANNEL_HEADER_LENGTH) return "too-short";
  const view = viewOf(datagram);
  const channel = view.getUint16(0);
  if (channel < CHANNEL_MIN || channel > OLD_CHANNEL_MAX) return "bad-channel";
  const end = CHANNEL_HEADER_LENGTH + view.getUint16(2);
  if (end > datagram.length) return "truncated";
  return { channel, data: datagram.subarray(CHANNEL_HEADER_LENGTH, end) };
}

/** A channel data message. `channel` or `data` out of range is a caller's bug and throws. */
export function encodeChannelData(channel: number, data: Uint8Array): Uint8Array {
  if (channel < CHANNEL_MIN || channel > OLD_CHANNEL_MAX) throw new RangeError(`${channel} is no channel number`);
  if (data.length > CHANNEL_DATA_MAX) throw new RangeError(`${data.length} bytes do not fit into channel data`);
  const datagram = new Uint8Array(CHANNEL_HEADER_LENGTH + data.length);
  const view = viewOf(datagram);
  view.setUint16(0, channel);
  view.setUint16(2, data.length);
  datagram.set(data, CHANNEL_HEADER_LENGTH);
  return datagram;
}
