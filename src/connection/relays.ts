// The relays of a node: an allocation on each of them, and what these give all connections (spec 02, section 5; spec 03, sections 5.2
// and 6.4).
//
//   portal ──updateRelays──► Relay ──► Allocation ──► how we are seen  ─► one server-reflexive candidate per IP version, for all connections
//                              ▲           │     └──► what it lends us ─► relay candidates of the connections that use this relay
//                              │           │ failed, or lost while other credentials are known
//                              └─ again ◄──┘ after 5 s, 10 s, 20 s ... 60 s: a host that starts without network finds its relays later
//
// A relay that the portal takes back may be gone, may shut down in good order, or may just have lost the portal. Connections move to another
// relay at once, but the way over the first one stays open for a moment; without another relay, for as long as that may help.

import type { SocketAddress } from "../base/address.js";
import type { Crypto } from "../base/crypto.js";
import { EventQueue } from "../base/event-queue.js";
import type { Random } from "../base/random.js";
import type { StateMachine, Transmit } from "../base/state-machine.js";
import { type Duration, earliest, type Instant, SECOND } from "../base/time.js";
import { type Candidate, isCandidateAddress } from "../ice/candidate.js";
import { relayCandidate } from "../ice/local-candidate.js";
import { encodeChannelData, parseChannelData } from "../stun/channel-data.js";
import type { StunMessage } from "../stun/message.js";
import { Allocation, type AllocationEvent, type AllocationFailure } from "../turn/allocation/allocation.js";
import { chooseRelay } from "../turn/allocation/relay-choice.js";
import type { Relay, RelayedPath } from "./events.js";
import { ReflexiveCandidates, type ReflexiveEvent } from "./reflexive-candidates.js";

/** Relays known at most; the portal sends two or so. Further ones are refused and counted. */
export const MAX_RELAYS = 64;
/** Time until a relay that has failed is tried again; doubled each time up to {@link MAX_RETRY_INTERVAL}. */
export const FIRST_RETRY_INTERVAL: Duration = 5 * SECOND;
export const MAX_RETRY_INTERVAL: Duration = 60 * SECOND;

/** How long a relay that the portal has taken back is used on, while connections find their way over another one. */
export const LEAVE_TIME: Duration = 500;
/** The same, when there is no other. */
export const LAST_LEAVE_TIME: Duration = 30 * SECOND;

/** What has become known. */
export type RelaysEvent =
  | ReflexiveEvent
  /** A relay has lent us an address. */
  | { readonly type: "relayed-found"; readonly relay: string; readonly candidate: Candidate }
  | { readonly type: "relayed-lost"; readonly relay: string; readonly candidate: Candidate }
  /** The way to a peer over a relay has another channel, or none: {@link Relays.pathTo} says which. */
  | { readonly type: "channel-changed"; readonly relay: string; readonly peer: SocketAddress }
  /** Connections should use another relay: what this one lends will soon be taken back. */
  | { readonly type: "relay-leaving"; readonly relay: string }
  /** A relay does not serve us (any more). It will be tried again. */
  | { readonly type: "relay-failed"; readonly relay: string; readonly reason: AllocationFailure };

/** Channel data, unwrapped. */
export interface RelayedDatagram {
  /** Who sent it. */
  readonly peer: SocketAddress;
  /** Our address at the relay. */
  readonly relayed: SocketAddress;
  /** A view of the datagram. */
  readonly data: Uint8Array;
}

/** What the relays have dropped, since creation. */
export interface RelaysCounters {
  /** Relays refused because there were too many, or they have no address. */
  refused: number;
  /** Datagrams to peers that no channel leads to. */
  noChannel: number;
  /** Channel data that is malformed, or of channels that are not ours. */
  badChannelData: number;
}

interface Entry {
  /** As the portal described it last. */
  relay: Relay;
  /** Absent between a failure and `retryAt`. */
  allocation: Allocation | undefined;
  /** The credentials of `relay` are newer than those of `allocation`, which works with its own as long as it lives. */
  isStale: boolean;
  retryAt: Instant | undefined;
  /** When the allocation is given back, since the portal has taken the relay back. */
  leaveAt: Instant | undefined;
  retryInterval: Duration;
}

/** See the head of this file. */
export class Relays implements StateMachine<RelaysEvent> {
  readonly counters: RelaysCounters = { refused: 0, noChannel: 0, badChannelData: 0 };
  readonly #random: Random;
  readonly #crypto: Crypto;
  /** By relay id, in the order in which the portal named them. */
  readonly #entries = new Map<string, Entry>();
  /** By our address at the relay. */
  readonly #byRelayedAddress = new Map<string, { readonly id: string; readonly allocation: Allocation }>();
  readonly #reflexive = new ReflexiveCandidates((event) => this.#events.push(event));
  /** Allocations that are given back: their last message is still to be sent. */
  #transmits: Transmit[] = [];
  readonly #events = new EventQueue<RelaysEvent>();

  constructor(random: Random, crypto: Crypto) {
    this.#random = random;
    this.#crypto = crypto;
  }

  /** The server-reflexive candidates in force, IPv4 first. */
  get reflexiveCandidates(): readonly Candidate[] {
    return this.#reflexive.all;
  }

  /** Our candidates at a relay, IPv4 first. */
  relayCandidates(id: string): readonly Candidate[] {
    const addresses = this.#entries.get(id)?.allocation?.relayedAddresses ?? [];
    return addresses.filter(isCandidateAddress).map(relayCandidate);
  }

  /** Round-trip time to a relay; `undefined` while it is not known. */
  roundTripTime(id: string): Duration | undefined {
    return this.#entries.get(id)?.allocation?.roundTripTime;
  }

  /** The relay that a connection should use: one of the nearest that have lent us an address. @param except not this one. */
  choose(except?: string): string | undefined {
    const usable = [...this.#entries].filter(
      ([id, { allocation, leaveAt }]) => allocation?.hasAllocation === true && leaveAt === undefined && id !== except,
    );
    const offered = usable.map(([id, { allocation }]) => ({ id, roundTripTime: allocation?.roundTripTime }));
    return chooseRelay(offered, this.#random) ?? offered[0]?.id;
  }

  /**
   * Removes relays, then adds some. One that is known and has the same addresses keeps its allocation, as long as that lives: it is asked.
   * Portals make new credentials each time they describe a relay.
   */
  updateRelays(removed: readonly string[], added: readonly Relay[], now: Instant): void {
    // Taken back and given again: it has restarted.
    for (const id of removed) if (added.some((relay) => relay.id === id)) this.#remove(id, now);
    this.#addAll(added, now);
    for (const id of removed) if (!added.some((relay) => relay.id === id)) this.#leave(id, now);
  }

  #addAll(added: readonly Relay[], now: Instant): void {
    for (const relay of added) {
      const entry = this.#entries.get(relay.id);
      if (entry !== undefined) entry.leaveAt = undefined;
      if (entry !== undefined && isAt(entry.relay, relay)) {
        entry.isStale ||= relay.username !== entry.relay.username || relay.password !== entry.relay.password;
        entry.relay = relay;
        if (entry.allocation === undefined) this.#start(relay.id, entry, now);
        else entry.allocation.probe(now);
        this.#update(relay.id, entry, now);
        continue;
      }
      if (entry !== undefined) this.#remove(relay.id, now);
      this.#add(relay, now);
    }
  }

  /** A local address is gone, and with it what NATs made of it: asks anew where another address may be seen now. */
  removeBase(base: SocketAddress, now: Instant): void {
    for (const [id, entry] of this.#entries) {
      if (!this.#reflexive.dependsOn(id, base)) continue;
      entry.allocation?.restart(now);
      this.#update(id, entry, now);
    }
  }

  /** The network has changed: all allocations start anew, from other ports of ours. */
  reset(now: Instant): void {
    this.#transmits = [];
    for (const [id, entry] of this.#entries) {
      if (entry.allocation === undefined || entry.isStale) this.#restartWithNewCredentials(id, entry, now);
      else entry.allocation.restart(now);
      entry.retryInterval = FIRST_RETRY_INTERVAL;
      this.#update(id, entry, now);
    }
  }

  /** Whether this is an address of a relay. */
  isServer(address: SocketAddress): boolean {
    return this.#allocationAt(address) !== undefined;
  }

  /** Takes a message from a relay. @returns false when it is no answer to a request of ours. */
  handleInput(message: StunMessage, local: SocketAddress, from: SocketAddress, now: Instant): boolean {
    const found = this.#allocationAt(from);
    if (found?.entry.allocation?.handleInput(message, local, from, now) !== true) return false;
    this.#update(found.id, found.entry, now);
    return true;
  }

  /** Unwraps channel data; `undefined` when it is none of ours (counted). */
  unwrap(datagram: Uint8Array, from: SocketAddress, now: Instant): RelayedDatagram | undefined {
    const found = this.#allocationAt(from);
    const message = found && parseChannelData(datagram);
    if (found === undefined || message === undefined || typeof message === "string") {
      this.counters.badChannelData++;
      return undefined;
    }
    const channel = found.entry.allocation?.handleChannelData(message.channel, now);
    this.#update(found.id, found.entry, now);
    if (channel === undefined) {
      this.counters.badChannelData++;
      return undefined;
    }
    return { ...channel, data: message.data };
  }

  /** Makes sure that there will be a way to the peer over this relay. */
  bindChannel(id: string, peer: SocketAddress, now: Instant): void {
    const entry = this.#entries.get(id);
    if (entry?.allocation === undefined) return;
    entry.allocation.bindChannel(peer, now);
    this.#update(id, entry, now);
  }

  /** Whether an address is one that a relay lends us. */
  isRelayed(local: SocketAddress): boolean {
    return this.#byRelayedAddress.has(local.key);
  }

  /** The way from our address at a relay to a peer; `undefined` when there is none (yet). */
  pathTo(local: SocketAddress, peer: SocketAddress, now: Instant): RelayedPath | undefined {
    const found = this.#byRelayedAddress.get(local.key);
    if (found === undefined) return undefined;
    const path = found.allocation.channelTo(peer, now);
    this.#drain(found.allocation);
    return path;
  }

  /** A datagram of ours in channel data, from our address at a relay to a peer; `undefined` when no channel leads there (counted). */
  wrap(local: SocketAddress, peer: SocketAddress, payload: Uint8Array, now: Instant): Transmit | undefined {
    const path = this.pathTo(local, peer, now);
    if (path === undefined) {
      this.counters.noChannel++;
      return undefined;
    }
    return { destination: path.server, payload: encodeChannelData(path.channel, payload) };
  }

  /** The datapath has used the way from our address at a relay to a peer. */
  handleActivity(local: SocketAddress, peer: SocketAddress, at: Instant): void {
    this.#byRelayedAddress.get(local.key)?.allocation.handleChannelActivity(peer, at);
  }

  handleTimeout(now: Instant): void {
    for (const [id, entry] of this.#entries) {
      if (entry.leaveAt !== undefined && now >= entry.leaveAt) {
        this.#remove(id, now);
        continue;
      }
      if (entry.retryAt !== undefined && now >= entry.retryAt) this.#start(id, entry, now);
      entry.allocation?.handleTimeout(now);
      this.#update(id, entry, now);
    }
  }

  pollTimeout(): Instant | undefined {
    let next: Instant | undefined;
    for (const { allocation, retryAt, leaveAt } of this.#entries.values())
      next = earliest(next, earliest(allocation?.pollTimeout(), earliest(retryAt, leaveAt)));
    return next;
  }

  pollTransmit(): Transmit | undefined {
    return this.#transmits.shift();
  }

  pollEvent(): RelaysEvent | undefined {
    return this.#events.shift();
  }

  /** Gives all allocations back. What is left to send is in {@link pollTransmit}. */
  close(now: Instant): void {
    for (const id of [...this.#entries.keys()]) this.#remove(id, now);
  }

  #add(relay: Relay, now: Instant): void {
    const hasAddress = relay.ipv4 !== undefined || relay.ipv6 !== undefined;
    if (!hasAddress || this.#entries.size >= MAX_RELAYS) {
      this.counters.refused++;
      return;
    }
    // A relay at the address of another one is that one, restarted: the same addresses and ports cannot carry two allocations.
    for (const [id, other] of this.#entries) if (overlaps(other.relay, relay)) this.#remove(id, now);
    const entry: Entry = {
      relay,
      allocation: undefined,
      isStale: false,
      retryAt: undefined,
      leaveAt: undefined,
      retryInterval: FIRST_RETRY_INTERVAL,
    };
    this.#entries.set(relay.id, entry);
    this.#start(relay.id, entry, now);
    this.#update(relay.id, entry, now);
  }

  #start(id: string, entry: Entry, now: Instant): void {
    const { username, password, realm, ipv4, ipv6 } = entry.relay;
    entry.retryAt = undefined;
    entry.isStale = false;
    const options = { server: { ipv4, ipv6 }, credentials: { username, password, realm } };
    entry.allocation = new Allocation({ ...options, random: this.#random, crypto: this.#crypto }, now);
    this.#update(id, entry, now);
  }

  #leave(id: string, now: Instant): void {
    const entry = this.#entries.get(id);
    if (entry === undefined || entry.leaveAt !== undefined) return;
    const others = [...this.#entries.values()].some((other) => other !== entry && other.leaveAt === undefined);
    if (entry.allocation?.hasAllocation !== true) {
      this.#remove(id, now);
      return;
    }
    entry.leaveAt = now + (others ? LEAVE_TIME : LAST_LEAVE_TIME);
    this.#events.push({ type: "relay-leaving", relay: id });
  }

  #remove(id: string, now: Instant): void {
    const entry = this.#entries.get(id);
    if (entry === undefined) return;
    this.#end(id, entry, now);
    this.#entries.delete(id);
  }

  /** Gives an allocation back, and with it everything that came from it. */
  #end(id: string, entry: Entry, now: Instant): void {
    const { allocation } = entry;
    if (allocation === undefined) return;
    const lent = allocation.relayedAddresses;
    allocation.close(now);
    this.#drain(allocation);
    entry.allocation = undefined;
    for (const address of lent) this.#loseRelayed(id, address);
    for (const family of [4, 6] as const) this.#reflexive.lose(id, family);
  }

  #restartWithNewCredentials(id: string, entry: Entry, now: Instant): void {
    this.#end(id, entry, now);
    this.#start(id, entry, now);
  }

  /** Takes what an input has caused at a relay. */
  #update(id: string, entry: Entry, now: Instant): void {
    const { allocation } = entry;
    if (allocation === undefined) return;
    this.#drain(allocation);
    let lost = false;
    for (let event = allocation.pollEvent(); event !== undefined; event = allocation.pollEvent()) {
      lost ||= event.type === "relayed-address-lost";
      this.#handleEvent(id, entry, allocation, event);
    }
    const { failure } = allocation;
    if (entry.isStale && (lost || failure !== undefined)) {
      this.#restartWithNewCredentials(id, entry, now);
      return;
    }
    if (failure === undefined) return;
    this.#end(id, entry, now);
    entry.retryAt = now + entry.retryInterval;
    entry.retryInterval = Math.min(2 * entry.retryInterval, MAX_RETRY_INTERVAL);
    this.#events.push({ type: "relay-failed", relay: id, reason: failure });
  }

  #handleEvent(id: string, entry: Entry, allocation: Allocation, event: AllocationEvent): void {
    switch (event.type) {
      case "mapped-address":
        this.#reflexive.see(id, event.mapped, event.base);
        return;
      case "mapped-address-lost":
        this.#reflexive.lose(id, event.mapped.family);
        return;
      case "relayed-address":
        entry.retryInterval = FIRST_RETRY_INTERVAL;
        if (!isCandidateAddress(event.address)) return;
        this.#byRelayedAddress.set(event.address.key, { id, allocation });
        this.#events.push({ type: "relayed-found", relay: id, candidate: relayCandidate(event.address) });
        return;
      case "relayed-address-lost":
        this.#loseRelayed(id, event.address);
        return;
      case "channel-changed":
        this.#events.push({ type: "channel-changed", relay: id, peer: event.peer });
        return;
    }
  }

  #loseRelayed(id: string, address: SocketAddress): void {
    if (this.#byRelayedAddress.get(address.key)?.id !== id) return;
    this.#byRelayedAddress.delete(address.key);
    this.#events.push({ type: "relayed-lost", relay: id, candidate: relayCandidate(address) });
  }

  #drain(allocation: Allocation): void {
    for (let transmit = allocation.pollTransmit(); transmit !== undefined; transmit = allocation.pollTransmit())
      this.#transmits.push(transmit);
  }

  #allocationAt(server: SocketAddress): { readonly id: string; readonly entry: Entry } | undefined {
    for (const [id, entry] of this.#entries) if (entry.allocation?.hasServer(server) === true) return { id, entry };
    return undefined;
  }
}

function overlaps(a: Relay, b: Relay): boolean {
  return (a.ipv4 !== undefined && a.ipv4.key === b.ipv4?.key) || (a.ipv6 !== undefined && a.ipv6.key === b.ipv6?.key);
}

function isAt(a: Relay, b: Relay): boolean {
  return a.ipv4?.key === b.ipv4?.key && a.ipv6?.key === b.ipv6?.key;
}
