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
// Which address of the relay is used is found out in server-paths.ts; requests are sent, repeated and authenticated in transactions.ts; what the relay
// lends us is kept in lease.ts, channels in channels.ts. Here is what answers, and their absence, mean for all of them.

import type { SocketAddress } from "../../base/address.js";
import { EventQueue } from "../../base/event-queue.js";
import { BoundedQueue } from "../../base/queue.js";
import type { StateMachine, Transmit } from "../../base/state-machine.js";
import { type Duration, earliest, type Instant, SECOND } from "../../base/time.js";
import { Lifetime, XorMappedAddress, XorRelayedAddress } from "../../stun/attributes.js";
import type { StunMessage } from "../../stun/message.js";
import { type Channel, ChannelTable } from "./channels.js";
import type { AllocationEvent, AllocationFailure, AllocationOptions, MappedAddress, RelayServer } from "./events.js";
import { Lease } from "./lease.js";
import type { TurnRequest } from "./requests.js";
import { ServerPaths } from "./server-paths.js";
import { Transactions } from "./transactions.js";

export type {
  AllocationEvent,
  AllocationFailure,
  AllocationOptions,
  LongTermCredentials,
  RelayServer,
} from "./events.js";

/** Peers whose channels wait for the allocation; the oldest has to go first. */
export const MAX_BUFFERED_BINDS = 100;
/** Time until a refused request for an allocation is repeated; doubled each time up to {@link MAX_SUSPENSION}. */
export const SUSPENSION: Duration = 10 * SECOND;
export const MAX_SUSPENSION: Duration = 60 * SECOND;
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

/** See the head of this file. */
export class Allocation implements StateMachine<AllocationEvent> {
  readonly server: RelayServer;
  readonly counters: AllocationCounters = { forged: 0, unexpected: 0, tooManyRequests: 0, noChannel: 0 };

  readonly #paths: ServerPaths;
  readonly #transactions: Transactions;
  readonly #channels = new ChannelTable();
  readonly #lease = new Lease((event) => this.#events.push(event));
  readonly #buffered = new BoundedQueue<SocketAddress>(MAX_BUFFERED_BINDS, "drop-oldest");
  /** When to ask again after a refusal. */
  #resumeAt: Instant | undefined;
  #suspension = SUSPENSION;
  #mismatches = 0;
  #failure: AllocationFailure | undefined;
  #isClosed = false;
  #transmits: Transmit[] = [];
  readonly #events = new EventQueue<AllocationEvent>();

  /** Asks the relay at once. */
  constructor(options: AllocationOptions, now: Instant) {
    const { software = SOFTWARE, ...rest } = options;
    this.server = options.server;
    this.#paths = new ServerPaths(options.server);
    const transmit = (request: Transmit) => this.#transmits.push(request);
    this.#transactions = new Transactions({ ...rest, software, transmit });
    this.#begin(now);
  }

  /** Why it is of no use; it does nothing any more then. */
  get failure(): AllocationFailure | undefined {
    return this.#failure;
  }

  get hasAllocation(): boolean {
    return this.#lease.isHeld;
  }

  /** The addresses that the relay lends us, IPv4 first. */
  get relayedAddresses(): readonly SocketAddress[] {
    return this.#lease.addresses;
  }

  /** How the relay sees us, IPv4 first. */
  get mappedAddresses(): readonly MappedAddress[] {
    return this.#paths.mapped;
  }

  /** The relay's address in use; `undefined` while none has answered. */
  get activeServer(): SocketAddress | undefined {
    return this.#paths.active;
  }

  /** Smoothed over all answers; `undefined` before the first. */
  get roundTripTime(): Duration | undefined {
    return this.#transactions.roundTripTime;
  }

  /** Whether this is an address of the relay, in use or not. */
  hasServer(address: SocketAddress): boolean {
    return this.#paths.has(address);
  }

  /** A STUN message from one of the relay's addresses. @returns false when it answers nothing of ours. */
  handleInput(message: StunMessage, local: SocketAddress, from: SocketAddress, now: Instant): boolean {
    const answer = this.hasServer(from) ? this.#transactions.handleInput(message, now) : undefined;
    switch (answer?.type) {
      case undefined:
      case "unexpected":
        this.counters.unexpected++;
        return false;
      case "forged":
        this.counters.forged++;
        return true;
      case "continued":
        return true;
      case "success":
        this.#handleSuccess(answer.request, answer.server, message, local, now);
        return true;
      case "error":
        if (answer.code === 437) this.#handleMismatch(answer.request, now);
        else this.#handleRefusal(answer.request, now);
        return true;
      case "failed":
        this.#fail(answer.failure);
        return true;
    }
  }

  /** Data came on a channel: from whom, and at which address of ours. `undefined`: not a channel of ours. */
  handleChannelData(
    channel: number,
    now: Instant,
  ): { readonly peer: SocketAddress; readonly relayed: SocketAddress } | undefined {
    const peer = this.#channels.receive(channel, now);
    const relayed = peer && this.#lease.address(peer.family);
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
    if (this.#lease.address(peer.family) === undefined || this.#channels.isInFlight(peer)) return;
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
    const server = this.#paths.active;
    return channel === undefined || server === undefined ? undefined : { channel, server };
  }

  /** The datapath has used the channel to a peer at `at`. */
  handleChannelActivity(peer: SocketAddress, at: Instant): void {
    this.#channels.use(peer, at);
    this.#paths.handleActivity(at);
  }

  /** Asks whether the allocation still lives; begins anew if there is no answer within a second. */
  probe(now: Instant): void {
    if (this.#resumeAt !== undefined) this.#resumeAt = now;
    if (this.hasAllocation && !this.#transactions.isWaitingFor("refresh"))
      this.#request({ type: "refresh", isProbe: true }, now);
  }

  /** The network has changed: forgets everything but the credentials, and begins anew. */
  restart(now: Instant): void {
    if (this.#isClosed) return;
    this.#failure = undefined;
    this.#transactions.reset();
    this.#invalidate();
    for (const lost of this.#paths.forgetMapped()) this.#events.push({ type: "mapped-address-lost", ...lost });
    this.#buffered.clear();
    this.#transmits = [];
    this.#begin(now);
  }

  /** Gives the allocation back, without waiting for an answer. */
  close(now: Instant): void {
    if (this.#isClosed) return;
    const wasAllocated = this.hasAllocation || this.#transactions.isWaitingFor("allocate");
    if (wasAllocated && this.#failure === undefined) this.#request({ type: "delete" }, now);
    this.#isClosed = true;
    this.#transactions.close();
    this.#channels.clear();
    this.#lease.end();
    this.#events.clear();
  }

  handleTimeout(now: Instant): void {
    if (this.#failure !== undefined || this.#isClosed) return;
    if (isDue(this.#lease.endsAt, now)) {
      this.#invalidate();
      this.#request({ type: "allocate" }, now);
    }
    this.#transactions.handleTimeout(now, (request, server) => this.#handleExhausted(request, server, now));
    if (this.#failure !== undefined) return;
    if (isDue(this.#resumeAt, now)) {
      this.#resumeAt = undefined;
      this.#request({ type: "allocate" }, now);
    }
    if (isDue(this.#refreshAt(), now)) this.#request({ type: "refresh", isProbe: false }, now);
    if (this.hasAllocation)
      for (const { peer } of this.#channels.takeDueForRefresh(now)) {
        const channel = this.#channels.begin(peer, now);
        if (channel !== undefined) this.#bind(channel, now);
      }
    for (const server of this.#paths.takeDue(now)) this.#transactions.send({ type: "binding" }, server, now);
  }

  pollTimeout(): Instant | undefined {
    if (this.#failure !== undefined || this.#isClosed) return undefined;
    let next = earliest(earliest(this.#refreshAt(), this.#lease.endsAt), this.#resumeAt);
    if (this.hasAllocation) next = earliest(next, this.#channels.nextRefresh());
    return earliest(next, earliest(this.#transactions.pollTimeout(), this.#paths.nextDue()));
  }

  pollTransmit(): Transmit | undefined {
    return this.#transmits.shift();
  }

  pollEvent(): AllocationEvent | undefined {
    return this.#events.shift();
  }

  // ---- Details, in order of use

  #begin(now: Instant): void {
    this.#resumeAt = undefined;
    this.#suspension = SUSPENSION;
    this.#mismatches = 0;
    for (const server of this.#paths.begin()) this.#transactions.send({ type: "binding" }, server, now);
    // An allocation on each of two addresses would be one too many: the first one that answers gets it.
    this.#request({ type: "allocate" }, now);
  }

  /** Sends a request to the relay, as soon as one of its addresses has answered. @returns false when too many wait. */
  #request(request: TurnRequest, now: Instant): boolean {
    const { active } = this.#paths;
    return active === undefined || this.#transactions.send(request, active, now);
  }

  #bind(channel: Channel, now: Instant): void {
    const { number, peer } = channel;
    if (this.#request({ type: "channel-bind", channel: { number, peer } }, now)) return;
    this.counters.tooManyRequests++;
    this.#channels.remove(number);
  }

  #refreshAt(): Instant | undefined {
    return this.#transactions.isWaitingFor("refresh", "delete") ? undefined : this.#lease.renewAt;
  }

  // ---- Answers

  #handleSuccess(
    request: TurnRequest,
    server: SocketAddress,
    message: StunMessage,
    local: SocketAddress,
    now: Instant,
  ): void {
    switch (request.type) {
      case "binding":
        this.#handleBinding(server, message, local, now);
        return;
      case "allocate":
        this.#handleAllocated(message, now);
        return;
      case "refresh":
        this.#mismatches = 0;
        if (this.#lease.renew(message.get(Lifetime), now)) return;
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
    const isFirst = this.#paths.active === undefined;
    const mapped = this.#paths.handleAnswer(server, message.get(XorMappedAddress), local, now);
    if (mapped !== undefined) this.#events.push({ type: "mapped-address", ...mapped });
    if (isFirst && !this.hasAllocation) this.#request({ type: "allocate" }, now);
  }

  #handleAllocated(message: StunMessage, now: Instant): void {
    if (!this.#lease.begin(message.getAll(XorRelayedAddress), message.get(Lifetime), now)) {
      this.#suspend(now);
      return;
    }
    this.#suspension = SUSPENSION;
    for (const peer of this.#buffered.drain()) this.bindChannel(peer, now);
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
        this.#lease.postponeRenewal(now + SUSPENSION);
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
  #handleExhausted(request: TurnRequest, server: SocketAddress, now: Instant): void {
    const isActive = this.#paths.isActive(server);
    if (request.type === "binding") this.#paths.handleSilence(server, now);
    const hasHope = this.#transactions.isWaitingFor("binding") || (this.#paths.active !== undefined && !isActive);
    if (this.hasAllocation && isActive) {
      this.#transactions.reset();
      this.#invalidate();
      this.#begin(now);
    } else if (!hasHope) {
      this.#fail("no-response");
    } else if (isActive) {
      // The other address may still answer.
      this.#paths.abandonActive();
    }
  }

  #fail(failure: AllocationFailure): void {
    this.#transactions.reset();
    this.#paths.stop();
    this.#invalidate();
    this.#failure = failure;
    this.#resumeAt = undefined;
  }

  /** The allocation is gone, with everything that hung on it. */
  #invalidate(): void {
    this.#transactions.forgetAllButBindings();
    this.#channels.clear();
    this.#lease.end();
  }
}

function isDue(deadline: Instant | undefined, now: Instant): boolean {
  return deadline !== undefined && now >= deadline;
}
