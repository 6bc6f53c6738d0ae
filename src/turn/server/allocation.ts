// An allocation as the relay keeps it (RFC 8656, section 3; spec 03, section 3.2), with its permissions and channels.
//
//   channel   bound ── 10 min after the last bind ──► cooling down ── 5 min ──► free
//   permission  5 min after it was last installed ──► gone

import type { AddressFamily, IpAddress, SocketAddress } from "../../base/address.js";
import { type Duration, earliest, type Instant, MINUTE } from "../../base/time.js";

/** How long a channel lasts (RFC 8656, section 12). */
export const CHANNEL_LIFETIME: Duration = 10 * MINUTE;
/** How long number and peer belong to each other after that. */
export const CHANNEL_COOL_DOWN: Duration = 5 * MINUTE;
/** How long a permission lasts (RFC 8656, section 9). */
export const PERMISSION_LIFETIME: Duration = 5 * MINUTE;
/** Permissions of an allocation at most. */
export const MAX_PERMISSIONS = 4096;

/** A channel. */
export interface ServerChannel {
  readonly number: number;
  readonly peer: SocketAddress;
  expiresAt: Instant;
  isBound: boolean;
}

/** Why a channel cannot be bound: number or peer is in use with another one. */
export type ChannelConflict = "conflict";

/** See the head of this file. */
export class ServerAllocation {
  readonly client: SocketAddress;
  /** The relay's address that the client has written to. */
  readonly local: SocketAddress;
  readonly username: string;
  readonly port: number;
  readonly families: readonly AddressFamily[];
  expiresAt: Instant;
  /** Of the request that made it, for its repetitions. */
  readonly transaction: string;
  response: Uint8Array = new Uint8Array();
  readonly #byNumber = new Map<number, ServerChannel>();
  readonly #byPeer = new Map<string, ServerChannel>();
  /** By peer address: until when. */
  readonly #permissions = new Map<string, Instant>();

  constructor(fields: {
    readonly client: SocketAddress;
    readonly local: SocketAddress;
    readonly username: string;
    readonly port: number;
    readonly families: readonly AddressFamily[];
    readonly expiresAt: Instant;
    readonly transaction: string;
  }) {
    this.client = fields.client;
    this.local = fields.local;
    this.username = fields.username;
    this.port = fields.port;
    this.families = fields.families;
    this.expiresAt = fields.expiresAt;
    this.transaction = fields.transaction;
  }

  /** Channels that forward. */
  get boundChannels(): readonly ServerChannel[] {
    return [...this.#byNumber.values()].filter(({ isBound }) => isBound);
  }

  /** Binds a channel, or binds it again. */
  bind(number: number, peer: SocketAddress, now: Instant): ServerChannel | ChannelConflict {
    const ofNumber = this.#byNumber.get(number);
    const ofPeer = this.#byPeer.get(peer.key);
    if (ofNumber !== ofPeer) return "conflict";
    const channel = ofNumber ?? { number, peer, expiresAt: now, isBound: true };
    channel.expiresAt = now + CHANNEL_LIFETIME;
    channel.isBound = true;
    this.#byNumber.set(number, channel);
    this.#byPeer.set(peer.key, channel);
    return channel;
  }

  /** The channel that forwards to and from a peer. */
  channelOf(peer: SocketAddress): ServerChannel | undefined {
    const channel = this.#byPeer.get(peer.key);
    return channel?.isBound === true ? channel : undefined;
  }

  /** The channel that forwards under a number. */
  channel(number: number): ServerChannel | undefined {
    const channel = this.#byNumber.get(number);
    return channel?.isBound === true ? channel : undefined;
  }

  /** Whether {@link permit} would find room. */
  hasRoomFor(ip: IpAddress): boolean {
    return this.#permissions.has(ip.key) || this.#permissions.size < MAX_PERMISSIONS;
  }

  /** Lets a peer's address send, from any port. @returns false when there are too many. */
  permit(ip: IpAddress, now: Instant): boolean {
    if (!this.hasRoomFor(ip)) return false;
    this.#permissions.set(ip.key, now + PERMISSION_LIFETIME);
    return true;
  }

  isPermitted(ip: IpAddress, now: Instant): boolean {
    return (this.#permissions.get(ip.key) ?? Number.NEGATIVE_INFINITY) > now;
  }

  /** Ends what is due. @returns channels that forward no more. */
  expire(now: Instant): readonly ServerChannel[] {
    const unbound: ServerChannel[] = [];
    for (const channel of this.#byNumber.values()) {
      if (channel.isBound && channel.expiresAt <= now) {
        channel.isBound = false;
        unbound.push(channel);
      }
      if (channel.isBound || channel.expiresAt + CHANNEL_COOL_DOWN > now) continue;
      this.#byNumber.delete(channel.number);
      this.#byPeer.delete(channel.peer.key);
    }
    for (const [key, until] of this.#permissions) if (until <= now) this.#permissions.delete(key);
    return unbound;
  }

  /** When {@link expire}, or the end of the allocation, is due next. */
  get deadline(): Instant {
    let next: Instant = this.expiresAt;
    for (const { isBound, expiresAt } of this.#byNumber.values())
      next = earliest(next, isBound ? expiresAt : expiresAt + CHANNEL_COOL_DOWN) ?? next;
    for (const until of this.#permissions.values()) next = earliest(next, until) ?? next;
    return next;
  }
}
