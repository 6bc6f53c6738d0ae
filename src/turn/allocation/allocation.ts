// An allocation, from its client's side (RFC 8656, sections 7, 8 and 12; spec 03, section 5, with the later behaviour):
//
//   probing ──binding answered──► allocating ──success──► allocated ── refresh at half of its lifetime ──┐
//      │  (one address: at once)      │  ▲ 437: delete first    │ ▲──────────────────────────────────────┘
//      │ all unanswered               │  └──────────┐           │ unanswered, ended, or unknown to the relay
//      ▼                              │ refused     │ 10 s ...  ▼
//   failed: no-response               └──► suspended┘        probing
//
//   401 in spite of a nonce: failed, authentication.  420, or nonces without end: failed, protocol.
//
// Bindings ask how the relay sees us, which address of the relay answers first, and keep NATs on the way open.

import type { AddressFamily, SocketAddress } from "../../base/address.js";
import type { Crypto } from "../../base/crypto.js";
import { BoundedQueue } from "../../base/queue.js";
import type { Random } from "../../base/random.js";
import type { StateMachine, Transmit } from "../../base/state-machine.js";
import { type Duration, earliest, type Instant, SECOND } from "../../base/time.js";
import {
  ErrorCodeAttribute,
  Lifetime,
  MessageIntegrity,
  Nonce,
  Realm,
  XorMappedAddress,
  XorRelayedAddress,
} from "../../stun/attributes.js";
import { TRANSACTION_ID_LENGTH } from "../../stun/header.js";
import { longTermKey, verifyIntegrity } from "../../stun/integrity.js";
import type { StunMessage } from "../../stun/message.js";
import { type Channel, ChannelTable } from "./channels.js";
import type {
  AllocationEvent,
  AllocationFailure,
  AllocationOptions,
  LongTermCredentials,
  MappedAddress,
  RelayServer,
} from "./events.js";
import { encodeRequest, methodOf, PendingRequest, type Transmission, type TurnRequest } from "./requests.js";
import { RoundTripTime } from "./round-trip.js";

export type {
  AllocationEvent,
  AllocationFailure,
  AllocationOptions,
  LongTermCredentials,
  RelayServer,
} from "./events.js";

/** Peers whose channels wait for the allocation; the oldest has to go first. */
export const MAX_BUFFERED_BINDS = 100;
/** Requests that wait for an answer; beyond them no channel is bound, which is counted. */
export const MAX_PENDING = 512;
/** Time between bindings when nothing else goes to the relay: NATs forget after 30 s (spec 03, section 6.4). */
export const KEEP_ALIVE_INTERVAL: Duration = 25 * SECOND;
/** Longest time between bindings to an address that does not answer, while another one does. */
const MAX_PROBE_INTERVAL: Duration = 300 * SECOND;
/** Time until a refused request for an allocation is repeated; doubled each time up to {@link MAX_SUSPENSION}. */
export const SUSPENSION: Duration = 10 * SECOND;
export const MAX_SUSPENSION: Duration = 60 * SECOND;
/** Nonces that a relay may ask for before a request is answered. */
const MAX_CHALLENGES = 5;
/** Times that a relay may disagree about whether we have an allocation before we wait, while nothing shows that we have one. */
const MAX_MISMATCHES = 3;

const SOFTWARE = "wirelane";

/** What was dropped, since creation. */
export interface AllocationCounters {
  /** Answers whose integrity is wrong. */
  forged: number;
  /** Answers to nothing that waits. */
  unexpected: number;
  /** Requests that could not be sent since too many wait. */
  tooManyRequests: number;
  /** Peers for whom no channel is free. */
  noChannel: number;
}

interface Granted {
  readonly receivedAt: Instant;
  readonly lifetime: Duration;
}

/** How one address of the relay answers. */
interface Path {
  readonly server: SocketAddress;
  nextProbe: Instant | undefined;
  interval: Duration;
  mapped: MappedAddress | undefined;
}

/** See the head of this file. */
export class Allocation implements StateMachine<AllocationEvent> {
  readonly server: RelayServer;
  readonly counters: AllocationCounters = { forged: 0, unexpected: 0, tooManyRequests: 0, noChannel: 0 };

  readonly #credentials: LongTermCredentials;
  readonly #key: Uint8Array;
  readonly #random: Random;
  readonly #crypto: Crypto;
  readonly #software: string;
  /** IPv4 first. */
  readonly #paths: readonly Path[];
  readonly #channels = new ChannelTable();
  readonly #roundTrip = new RoundTripTime();
  readonly #relayed = new Map<AddressFamily, SocketAddress>();
  readonly #pending = new Set<PendingRequest>();
  readonly #byTransaction = new Map<string, PendingRequest>();
  readonly #buffered = new BoundedQueue<SocketAddress>(MAX_BUFFERED_BINDS, "drop-oldest");
  #active: SocketAddress | undefined;
  #nonce: string | undefined;
  #granted: Granted | undefined;
  /** No refresh before then: the last one was refused. */
  #refreshAfter: Instant = Number.NEGATIVE_INFINITY;
  /** When to ask again after a refusal. */
  #resumeAt: Instant | undefined;
  #suspension = SUSPENSION;
  #mismatches = 0;
  /** Last datagram of the datapath to the relay. */
  #usedAt: Instant = Number.NEGATIVE_INFINITY;
  #failure: AllocationFailure | undefined;
  #isClosed = false;
  #transmits: Transmit[] = [];
  #events: AllocationEvent[] = [];

  /** Asks the relay at once. */
  constructor(options: AllocationOptions, now: Instant) {
    const { server, credentials, random, crypto, software = SOFTWARE } = options;
    this.server = server;
    this.#credentials = credentials;
    this.#key = longTermKey(credentials.username, credentials.realm, credentials.password, crypto);
    this.#random = random;
    this.#crypto = crypto;
    this.#software = software;
    const servers = [server.ipv4, server.ipv6].filter((address) => address !== undefined);
    this.#paths = servers.map((address) => ({
      server: address,
      nextProbe: undefined,
      interval: KEEP_ALIVE_INTERVAL,
      mapped: undefined,
    }));
    this.#begin(now);
  }

  /** Why it is of no use; it does nothing any more then. */
  get failure(): AllocationFailure | undefined {
    return this.#failure;
  }

  get hasAllocation(): boolean {
    return this.#granted !== undefined;
  }

  /** The addresses that the relay lends us, IPv4 first. */
  get relayedAddresses(): readonly SocketAddress[] {
    return [this.#relayed.get(4), this.#relayed.get(6)].filter((address) => address !== undefined);
  }

  /** How the relay sees us, IPv4 first. */
  get mappedAddresses(): readonly MappedAddress[] {
    return this.#paths.map(({ mapped }) => mapped).filter((mapped) => mapped !== undefined);
  }

  /** The relay's address in use; `undefined` while none has answered. */
  get activeServer(): SocketAddress | undefined {
    return this.#active;
  }

  /** Smoothed over all answers; `undefined` before the first. */
  get roundTripTime(): Duration | undefined {
    return this.#roundTrip.value;
  }

  /** Whether this is an address of the relay, in use or not. */
  hasServer(address: SocketAddress): boolean {
    return this.#paths.some(({ server }) => server.equals(address));
  }

  /** A STUN message from one of the relay's addresses. @returns false when it answers nothing of ours. */
  handleInput(message: StunMessage, local: SocketAddress, from: SocketAddress, now: Instant): boolean {
    const isAnswer = message.class === "success" || message.class === "error";
    const pending = isAnswer ? this.#byTransaction.get(message.transactionKey) : undefined;
    if (pending === undefined || !this.hasServer(from) || message.method !== methodOf(pending.request)) {
      this.counters.unexpected++;
      return false;
    }
    // Who can read our requests but not hold back the relay's answers must not get ahead of them. Relays of 2024 sign nothing.
    if (message.has(MessageIntegrity) && !verifyIntegrity(message, this.#key, this.#crypto)) {
      this.counters.forged++;
      return true;
    }
    const { transactionKey } = message;
    const transmission = pending.transmissions.find(({ id }) => id === transactionKey);
    if (transmission === undefined) return false;
    this.#roundTrip.sample(now - transmission.sentAt);
    if (message.class === "error") this.#handleError(pending, transmission, message, now);
    else this.#handleSuccess(pending, message, local, now);
    return true;
  }

  /** Data came on a channel: from whom, and at which address of ours. `undefined`: not a channel of ours. */
  handleChannelData(
    channel: number,
    now: Instant,
  ): { readonly peer: SocketAddress; readonly relayed: SocketAddress } | undefined {
    const peer = this.#channels.receive(channel, now);
    const relayed = peer && this.#relayed.get(peer.family);
    return peer === undefined || relayed === undefined ? undefined : { peer, relayed };
  }

  /** Makes sure that there will be a channel to a peer, as soon as there is an allocation. */
  bindChannel(peer: SocketAddress, now: Instant): void {
    if (this.#failure !== undefined || this.#isClosed) return;
    if (!this.hasAllocation) {
      if (this.#resumeAt === undefined && ![...this.#buffered].some((other) => other.equals(peer)))
        this.#buffered.push(peer);
      return;
    }
    if (!this.#relayed.has(peer.family) || this.#channels.isInFlight(peer)) return;
    if (this.#channels.find(peer, now) !== undefined) return;
    const channel = this.#channels.begin(peer, now);
    if (channel === undefined) this.counters.noChannel++;
    else this.#bind(channel, now);
  }

  /** The channel to a peer, and the relay's address; one on its way is as good. `undefined`: none, not yet or not at all. */
  channelTo(
    peer: SocketAddress,
    now: Instant,
  ): { readonly channel: number; readonly server: SocketAddress } | undefined {
    this.bindChannel(peer, now);
    const channel = this.hasAllocation ? this.#channels.find(peer, now) : undefined;
    const server = this.#active;
    return channel === undefined || server === undefined ? undefined : { channel, server };
  }

  /** The datapath has used the channel to a peer at `at`. */
  handleChannelActivity(peer: SocketAddress, at: Instant): void {
    this.#channels.use(peer, at);
    this.#usedAt = Math.max(this.#usedAt, at);
  }

  /** Asks whether the allocation still lives; begins anew if there is no answer within a second. */
  probe(now: Instant): void {
    if (this.#resumeAt !== undefined) this.#resumeAt = now;
    if (this.hasAllocation && !this.#isWaitingFor("refresh")) this.#request({ type: "refresh", isProbe: true }, now);
  }

  /** The network has changed: forgets everything but the credentials, and begins anew. */
  restart(now: Instant): void {
    if (this.#isClosed) return;
    this.#failure = undefined;
    this.#forgetRequests();
    this.#invalidate();
    for (const path of this.#paths) {
      if (path.mapped !== undefined) this.#events.push({ type: "mapped-address-lost", ...path.mapped });
      path.mapped = undefined;
    }
    this.#buffered.clear();
    this.#transmits = [];
    this.#begin(now);
  }

  /** Gives the allocation back, without waiting for an answer. */
  close(now: Instant): void {
    if (this.#isClosed) return;
    const wasAllocated = this.hasAllocation || this.#isWaitingFor("allocate");
    this.#forgetRequests();
    if (wasAllocated && this.#failure === undefined) this.#request({ type: "delete" }, now);
    this.#isClosed = true;
    this.#forgetRequests();
    this.#channels.clear();
    this.#granted = undefined;
    this.#key.fill(0);
    this.#events = [];
  }

  handleTimeout(now: Instant): void {
    if (this.#failure !== undefined || this.#isClosed) return;
    if (this.#granted !== undefined && now >= this.#granted.receivedAt + this.#granted.lifetime) {
      this.#invalidate();
      this.#request({ type: "allocate" }, now);
    }
    for (const pending of [...this.#pending]) {
      if (!this.#pending.has(pending) || now < pending.due) continue;
      if (pending.isExhausted) this.#handleExhausted(pending, now);
      else this.#transmit(pending, now);
    }
    if (this.#failure !== undefined) return;
    if (this.#resumeAt !== undefined && now >= this.#resumeAt) {
      this.#resumeAt = undefined;
      this.#request({ type: "allocate" }, now);
    }
    if (this.#refreshDue() !== undefined && now >= (this.#refreshDue() ?? now))
      this.#request({ type: "refresh", isProbe: false }, now);
    if (this.hasAllocation)
      for (const { peer } of this.#channels.dueForRefresh(now)) {
        const channel = this.#channels.begin(peer, now);
        if (channel !== undefined) this.#bind(channel, now);
      }
    for (const path of this.#paths) this.#keepAlive(path, now);
  }

  pollTimeout(): Instant | undefined {
    if (this.#failure !== undefined || this.#isClosed) return undefined;
    let next = earliest(this.#refreshDue(), this.#resumeAt);
    if (this.#granted !== undefined) {
      next = earliest(next, this.#granted.receivedAt + this.#granted.lifetime);
      next = earliest(next, this.#channels.nextRefresh());
    }
    for (const { due } of this.#pending) next = earliest(next, due);
    for (const { nextProbe } of this.#paths) next = earliest(next, nextProbe);
    return next;
  }

  pollTransmit(): Transmit | undefined {
    return this.#transmits.shift();
  }

  pollEvent(): AllocationEvent | undefined {
    return this.#events.shift();
  }

  // ---- Details, in order of use

  #begin(now: Instant): void {
    this.#active = undefined;
    this.#nonce = undefined;
    this.#resumeAt = undefined;
    this.#suspension = SUSPENSION;
    this.#mismatches = 0;
    const [only, another] = this.#paths;
    for (const path of this.#paths) this.#probePath(path, now);
    // An allocation on each of two addresses would be one too many; on a single one there is no need to wait for anything.
    if (only === undefined || another !== undefined) return;
    this.#active = only.server;
    this.#request({ type: "allocate" }, now);
  }

  #probePath(path: Path, now: Instant): void {
    path.nextProbe = undefined;
    this.#requestFrom({ type: "binding" }, path.server, now);
  }

  #request(request: TurnRequest, now: Instant): void {
    if (this.#active !== undefined) this.#requestFrom(request, this.#active, now);
  }

  #requestFrom(request: TurnRequest, server: SocketAddress, now: Instant): void {
    // There are but a few of the others, and each must be sent in its time.
    if (request.type === "channel-bind" && this.#pending.size >= MAX_PENDING) {
      this.counters.tooManyRequests++;
      this.#channels.remove(request.channel.number);
      return;
    }
    const pending = new PendingRequest(request, server);
    this.#pending.add(pending);
    this.#transmit(pending, now);
  }

  #transmit(pending: PendingRequest, now: Instant): void {
    const { request, server } = pending;
    const { username, realm } = this.#credentials;
    const nonce = this.#nonce;
    const isPlain = request.type === "binding" || (nonce === undefined && pending.needsNonce);
    const authentication = isPlain ? undefined : { username, realm, nonce, key: this.#key };
    const transactionId = this.#random.bytes(TRANSACTION_ID_LENGTH);
    const payload = encodeRequest(request, transactionId, this.#software, authentication, this.#crypto);
    this.#byTransaction.set(pending.handleSent(transactionId, authentication && nonce, now), pending);
    // No source: whichever interface leads to the relay.
    this.#transmits.push({ destination: server, payload });
  }

  #bind(channel: Channel, now: Instant): void {
    this.#request({ type: "channel-bind", channel: { number: channel.number, peer: channel.peer } }, now);
  }

  #isWaitingFor(...types: readonly TurnRequest["type"][]): boolean {
    return [...this.#pending].some(({ request }) => types.includes(request.type));
  }

  #forget(pending: PendingRequest): void {
    this.#pending.delete(pending);
    for (const { id } of pending.transmissions) this.#byTransaction.delete(id);
  }

  #forgetRequests(): void {
    for (const pending of this.#pending) this.#forget(pending);
  }

  #refreshDue(): Instant | undefined {
    if (this.#granted === undefined || this.#isWaitingFor("refresh", "delete")) return undefined;
    return Math.max(this.#granted.receivedAt + this.#granted.lifetime / 2, this.#refreshAfter);
  }

  #keepAlive(path: Path, now: Instant): void {
    if (path.nextProbe === undefined || now < path.nextProbe) return;
    const isActive = this.#active?.equals(path.server) === true;
    // What the datapath sends keeps the way open too, and among much of it a binding may get lost.
    if (isActive && now < this.#usedAt + KEEP_ALIVE_INTERVAL) path.nextProbe = this.#usedAt + KEEP_ALIVE_INTERVAL;
    else this.#probePath(path, now);
  }

  // ---- Answers

  #handleSuccess(pending: PendingRequest, message: StunMessage, local: SocketAddress, now: Instant): void {
    const { request, server } = pending;
    this.#forget(pending);
    switch (request.type) {
      case "binding":
        this.#handleBinding(server, message, local, now);
        return;
      case "allocate":
        this.#handleAllocated(message, now);
        return;
      case "refresh":
        this.#mismatches = 0;
        if (this.#grant(message, now)) return;
        this.#invalidate();
        this.#request({ type: "allocate" }, now);
        return;
      case "delete":
        this.#request({ type: "allocate" }, now);
        return;
      case "channel-bind":
        this.#mismatches = 0;
        this.#channels.confirm(request.channel.number, now);
        return;
    }
  }

  #handleBinding(server: SocketAddress, message: StunMessage, local: SocketAddress, now: Instant): void {
    const path = this.#paths.find((other) => other.server.equals(server));
    const mapped = message.get(XorMappedAddress);
    if (path === undefined) return;
    path.interval = KEEP_ALIVE_INTERVAL;
    path.nextProbe = now + KEEP_ALIVE_INTERVAL;
    const known = path.mapped;
    const isNew = mapped !== undefined && !(known?.mapped.equals(mapped) === true && known.base.equals(local));
    if (isNew && mapped.family === server.family) {
      path.mapped = { mapped, base: local };
      this.#events.push({ type: "mapped-address", ...path.mapped });
    }
    if (this.#active !== undefined) return;
    this.#active = server;
    if (!this.hasAllocation) this.#request({ type: "allocate" }, now);
  }

  #handleAllocated(message: StunMessage, now: Instant): void {
    const relayed = message.getAll(XorRelayedAddress);
    if (relayed.length === 0 || !this.#grant(message, now)) {
      this.#suspend(now);
      return;
    }
    this.#suspension = SUSPENSION;
    for (const family of [4, 6] as const) {
      const address = relayed.find((other) => other.family === family);
      if (address === undefined || this.#relayed.get(family)?.equals(address) === true) continue;
      this.#loseRelayed(family);
      this.#relayed.set(family, address);
      this.#events.push({ type: "relayed-address", address });
    }
    for (const peer of this.#buffered.drain()) this.bindChannel(peer, now);
  }

  /** Notes how long the allocation lasts. @returns whether the answer says so. */
  #grant(message: StunMessage, now: Instant): boolean {
    const lifetime = message.get(Lifetime);
    if (lifetime === undefined || lifetime === 0) return false;
    this.#granted = { receivedAt: now, lifetime: lifetime * SECOND };
    return true;
  }

  #handleError(pending: PendingRequest, { nonce }: Transmission, message: StunMessage, now: Instant): void {
    const code = message.get(ErrorCodeAttribute)?.code;
    const isChallenge = code === 438 || (code === 401 && nonce === undefined);
    // What is said about a nonce counts for a request that has gone out with no newer one; a repetition of it, or a late answer, does not.
    if ((isChallenge || code === 401) && pending.nonce !== nonce) return;
    if (isChallenge) {
      this.#handleChallenge(pending, message, now);
      return;
    }
    if (code === 400 && nonce === undefined && pending.request.type !== "binding" && !pending.needsNonce) {
      pending.needsNonce = true;
      pending.restart();
      this.#transmit(pending, now);
      return;
    }
    this.#forget(pending);
    if (code === 401) this.#fail("authentication");
    else if (code === 420) this.#fail("protocol");
    else if (code === 437) this.#handleMismatch(pending.request, now);
    else this.#handleRefusal(pending.request, now);
  }

  /** The relay wants a (newer) nonce. */
  #handleChallenge(pending: PendingRequest, message: StunMessage, now: Instant): void {
    const nonce = message.get(Nonce);
    const realm = message.get(Realm);
    const isOurs = realm === undefined || realm === this.#credentials.realm;
    if (nonce === undefined || !isOurs || ++pending.challenges > MAX_CHALLENGES) {
      this.#fail("protocol");
      return;
    }
    this.#nonce = nonce;
    pending.restart();
    this.#transmit(pending, now);
  }

  /** The relay has an allocation of ours that we do not know of, or does not know the one that we have. */
  #handleMismatch(request: TurnRequest, now: Instant): void {
    this.#invalidate();
    if (request.type === "channel-bind") this.#buffered.push(request.channel.peer);
    if (++this.#mismatches > MAX_MISMATCHES) this.#suspend(now);
    else this.#request({ type: request.type === "allocate" ? "delete" : "allocate" }, now);
  }

  #handleRefusal(request: TurnRequest, now: Instant): void {
    switch (request.type) {
      case "allocate":
      case "delete":
        this.#suspend(now);
        return;
      case "channel-bind":
        this.#channels.remove(request.channel.number);
        this.#events.push({ type: "channel-changed", peer: request.channel.peer });
        return;
      case "refresh":
        // Nothing is lost yet; the lifetime will tell.
        this.#refreshAfter = now + SUSPENSION;
        return;
      case "binding":
        // Strange, and of no consequence: the relay is asked again in its time.
        return;
    }
  }

  #suspend(now: Instant): void {
    this.#buffered.clear();
    this.#mismatches = 0;
    this.#resumeAt = now + this.#suspension;
    this.#suspension = Math.min(2 * this.#suspension, MAX_SUSPENSION);
  }

  /** Nothing answers a request. */
  #handleExhausted(pending: PendingRequest, now: Instant): void {
    this.#forget(pending);
    const path = this.#paths.find(({ server }) => server.equals(pending.server));
    const isActive = this.#active?.equals(pending.server) === true;
    if (pending.request.type === "binding" && path !== undefined && !isActive) {
      path.interval = Math.min(2 * path.interval, MAX_PROBE_INTERVAL);
      path.nextProbe = now + path.interval;
    }
    const hasHope = this.#isWaitingFor("binding") || (this.#active !== undefined && !isActive);
    if (this.hasAllocation && isActive) {
      this.#forgetRequests();
      this.#invalidate();
      this.#begin(now);
    } else if (!hasHope) {
      this.#fail("no-response");
    } else if (isActive) {
      // The other address may still answer.
      this.#active = undefined;
    }
  }

  #fail(failure: AllocationFailure): void {
    this.#forgetRequests();
    this.#invalidate();
    this.#failure = failure;
    this.#resumeAt = undefined;
    for (const path of this.#paths) path.nextProbe = undefined;
  }

  /** The allocation is gone, with everything that hung on it. */
  #invalidate(): void {
    this.#granted = undefined;
    this.#refreshAfter = Number.NEGATIVE_INFINITY;
    // Bindings have to do with the way to the relay, not with the allocation.
    for (const pending of this.#pending) if (pending.request.type !== "binding") this.#forget(pending);
    this.#channels.clear();
    this.#loseRelayed(4);
    this.#loseRelayed(6);
  }

  #loseRelayed(family: AddressFamily): void {
    const address = this.#relayed.get(family);
    if (address === undefined) return;
    this.#relayed.delete(family);
    this.#events.push({ type: "relayed-address-lost", address });
  }
}
