// An allocation as the relay keeps it (RFC 8656, section 3; spec 03, section 3.2), with its permissions and channels.
//
//   channel   bound ── 10 min after the last bind ──► cooling down ── 5 min ──► free
//   permission  5 min after it was last installed ──► gone

import type { AddressFamily, IpAddress, SocketAddress } from "../../base/address.js";
import { type Duration, earliest, type Instant, MINUTE, SECOND } from "../../base/time.js";

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

/** What an allocation has with peers. Most of those that wait for a need that never comes have nothing, and cost no maps. */
interface Peers {
  readonly byNumber: Map<number, ServerChannel>;
  readonly byPeer: Map<string, ServerChannel>;
  /** By peer address: until when. */
  readonly permissions: Map<string, Instant>;
}

/** Why a channel cannot be bound: number or peer is in use with another one. */
export type ChannelConflict = "conflict";

/** What an allocation is made of. */
export interface ServerAllocationFields {
  readonly client: SocketAddress;
  readonly local: SocketAddress;
  readonly username: string;
  readonly port: number;
  readonly families: readonly AddressFamily[];
  readonly now: Instant;
  /** In seconds. */
  readonly lifetime: number;
  readonly transaction: string;
}

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
  /** What that request was granted, in seconds. */
  readonly lifetime: number;
  #peers: Peers | undefined;

  constructor(fields: ServerAllocationFields) {
    this.client = fields.client;
    this.local = fields.local;
    this.username = fields.username;
    this.port = fields.port;
    this.families = fields.families;
    this.lifetime = fields.lifetime;
    this.expiresAt = fields.now + fields.lifetime * SECOND;
    this.transaction = fields.transaction;
  }

  /** Channels that forward. */
  get boundChannels(): readonly ServerChannel[] {
    return [...(this.#peers?.byNumber.values() ?? [])].filter(({ isBound }) => isBound);
  }

  /** Binds a channel, or binds it again. */
  bind(number: number, peer: SocketAddress, now: Instant): ServerChannel | ChannelConflict {
    const { byNumber, byPeer } = this.#withPeers();
    const ofNumber = byNumber.get(number);
    const ofPeer = byPeer.get(peer.key);
    if (ofNumber !== ofPeer) return "conflict";
    const channel = ofNumber ?? { number, peer, expiresAt: now, isBound: true };
    channel.expiresAt = now + CHANNEL_LIFETIME;
    channel.isBound = true;
    byNumber.set(number, channel);
    byPeer.set(peer.key, channel);
    return channel;
  }

  /** The channel that forwards to and from a peer. */
  channelOf(peer: SocketAddress): ServerChannel | undefined {
    const channel = this.#peers?.byPeer.get(peer.key);
    return channel?.isBound === true ? channel : undefined;
  }

  /** The channel that forwards under a number. */
  channel(number: number): ServerChannel | undefined {
    const channel = this.#peers?.byNumber.get(number);
    return channel?.isBound === true ? channel : undefined;
  }

  /** Whether {@link permit} would find room. */
  hasRoomFor(ip: IpAddress): boolean {
    const permissions = this.#peers?.permissions;
    return permissions === undefined || permissions.has(ip.key) || permissions.size < MAX_PERMISSIONS;
  }

  /** Lets a peer's address send, from any port. @returns false when there are too many. */
  permit(ip: IpAddress, now: Instant): boolean {
    if (!this.hasRoomFor(ip)) return false;
    this.#withPeers().permissions.set(ip.key, now + PERMISSION_LIFETIME);
    return true;
  }

  isPermitted(ip: IpAddress, now: Instant): boolean {
    return (this.#peers?.permissions.get(ip.key) ?? Number.NEGATIVE_INFINITY) > now;
  }

  /** Ends what is due. @returns channels that forward no more. */
  expire(now: Instant): readonly ServerChannel[] {
    const unbound: ServerChannel[] = [];
    if (this.#peers === undefined) return unbound;
    const { byNumber, byPeer, permissions } = this.#peers;
    for (const channel of byNumber.values()) {
      if (channel.isBound && channel.expiresAt <= now) {
        channel.isBound = false;
        unbound.push(channel);
      }
      if (channel.isBound || channel.expiresAt + CHANNEL_COOL_DOWN > now) continue;
      byNumber.delete(channel.number);
      byPeer.delete(channel.peer.key);
    }
    for (const [key, until] of permissions) if (until <= now) permissions.delete(key);
    if (byNumber.size === 0 && permissions.size === 0) this.#peers = undefined;
    return unbound;
  }

  /** When {@link expire}, or the end of the allocation, is due next. */
  get deadline(): Instant {
    let next: Instant = this.expiresAt;
    if (this.#peers === undefined) return next;
    for (const { isBound, expiresAt } of this.#peers.byNumber.values())
      next = earliest(next, isBound ? expiresAt : expiresAt + CHANNEL_COOL_DOWN) ?? next;
    for (const until of this.#peers.permissions.values()) next = earliest(next, until) ?? next;
    return next;
  }

  #withPeers(): Peers {
    this.#peers ??= { byNumber: new Map(), byPeer: new Map(), permissions: new Map() };
    return this.#peers;
  }
}
