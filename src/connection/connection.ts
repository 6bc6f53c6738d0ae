// One connection: an ICE agent that finds the way and a WireGuard peer that protects what goes over it (spec 02, section 6). The node
// owns it, finds it for each input, and removes it once `failure` says why.
//
//   offered ──answer accepted──► connecting ──pair nominated──► connected ──better pair──┐
//      │                             │                              │  ▲──────────────────┘
//      │ 20 s: no-answer             │ 10 s: no-candidates          │ 20 s without answer to a handshake: no-handshake
//      └──────────────┬──────────────┴── no pair left for 2 s: no-path ─┘
//                     ▼
//                  failure
//
// A gateway's connections begin as connecting. Only the controlling side starts WireGuard handshakes, when a pair is nominated: one
// session instead of two that cross (section 14); the other side answers, and answers also a controlled side that begins by itself.

import type { SocketAddress } from "../base/address.js";
import type { Crypto } from "../base/crypto.js";
import { BoundedQueue } from "../base/queue.js";
import type { Random } from "../base/random.js";
import type { Transmit } from "../base/state-machine.js";
import { type Duration, earliest, type Instant, SECOND } from "../base/time.js";
import { type AcceptedMessage, IceAgent, type IceEvent } from "../ice/agent.js";
import type { Candidate } from "../ice/candidate.js";
import { formatCandidate, parseCandidate } from "../ice/candidate-string.js";
import type { IceCredentials } from "../ice/credentials.js";
import type { IceDispatcher } from "../ice/dispatcher.js";
import type { IceRole } from "../ice/pair.js";
import type { WireGuardError } from "../wireguard/errors.js";
import type { LocalIdentity } from "../wireguard/identity.js";
import type { PeerIndex, PeerIndices } from "../wireguard/indices.js";
import type { CookieReply, HandshakeResponse } from "../wireguard/messages.js";
import type { ReceivedInitiation } from "../wireguard/noise.js";
import { Peer } from "../wireguard/peer.js";
import type { PeerEvent } from "../wireguard/peer-events.js";
import type { Tai64nClock } from "../wireguard/tai64n.js";
import type { Activity } from "../wireguard/timers.js";
import type { FailureReason, NodeEvent, Path, RelayedPath } from "./events.js";
import { PathLiveness } from "./path-liveness.js";
import { RelayUse } from "./relay-use.js";

/** How long the other side may take to answer an offer (spec 02, section 2.5). */
export const ANSWER_TIMEOUT: Duration = 20 * SECOND;
/** How long after the signalling the other side may take to show its first candidate (section 2.5). */
export const CANDIDATE_TIMEOUT: Duration = 10 * SECOND;
/** How long a connection without a working pair is kept in case one comes back (section 6.8, "later changed"). */
export const DISCONNECTED_GRACE: Duration = 2 * SECOND;
/** How long handshakes go unanswered before the connection is given up: longer than ICE takes to notice a dead path (section 14). */
export const HANDSHAKE_TIMEOUT: Duration = 20 * SECOND;
/** Time without packets after which the path is checked less often (section 14). */
export const IDLE_TIME: Duration = 20 * SECOND;
/** Interval of WireGuard's persistent keepalive (section 2.5); what the portal says about it is ignored. */
export const PERSISTENT_KEEPALIVE: Duration = 10 * SECOND;
/** Handshake messages that wait for a nomination (section 2.5); the oldest has to go first. */
export const MAX_HELD_MESSAGES = 10;
/** Addresses of the other side that are remembered as those of relays: it has two relays at a time, of two IP versions each. */
const MAX_REMOTE_RELAYS = 32;
/** Packets that wait while no way works; the oldest has to go first: what is repeated meanwhile is newer. */
export const MAX_WAITING_PACKETS = 64;
/** Answers to our handshakes, made with other keys than ours, in a row, after which both sides must start over. One could be forged. */
export const MAX_WRONG_ANSWERS = 3;

/** What a node's connections share. */
export interface ConnectionContext {
  readonly role: IceRole;
  readonly identity: LocalIdentity;
  readonly crypto: Crypto;
  readonly random: Random;
  readonly clock: Tai64nClock;
  readonly indices: PeerIndices;
  readonly dispatcher: IceDispatcher;
  /** Takes what the connection reports. */
  emit(event: NodeEvent): void;
  /** When the connection wants to be woken; each call replaces the one before. */
  schedule(connection: Connection, deadline: Instant | undefined): void;
  /** Takes what the connection sends; from an address that a relay lends us it goes over the relay. */
  transmit(transmit: Transmit, now: Instant): void;
  /** Makes sure that there will be a channel of the relay to a peer. */
  bindChannel(relay: string, peer: SocketAddress, now: Instant): void;
  /** The way over a relay from an address that it lends us; `direct` from an address of ours; `undefined` when no channel leads there (yet). */
  relayedPath(local: SocketAddress, peer: SocketAddress, now: Instant): RelayedPath | "direct" | undefined;
  /** No way works any more: if the relay is to blame, it may take long to say so. */
  pathLost(connection: Connection, now: Instant): void;
  /** The other side has proved to be at this address: WireGuard messages from there are welcome. */
  sourceDiscovered(connection: Connection, source: SocketAddress): void;
}

/** See the head of this file. */
export class Connection {
  readonly id: string;
  readonly agent: IceAgent;
  /** Why the connection is at its end; `undefined` while it is not. */
  failure: FailureReason | undefined;
  /** Keys of addresses that WireGuard messages may come from: the node's index, kept here to be undone. */
  readonly sources = new Set<string>();
  /** What the connection has of its relay. */
  readonly #relay: RelayUse;

  readonly #context: ConnectionContext;
  /** Until the peer has it. */
  readonly #sessionKey: Uint8Array;
  readonly #createdAt: Instant;
  /** Last packet in either direction. */
  #usedAt: Instant;
  #peer: Peer | undefined;
  #signalledAt: Instant = 0;
  #path: Path | undefined;
  #isEstablished = false;
  #disconnectedAt: Instant | undefined;
  #handshakeSince: Instant | undefined;
  #wrongAnswers = 0;
  /** Addresses that relays lend the other side. */
  readonly #remoteRelays = new Set<string>();
  readonly #held = new BoundedQueue<Uint8Array>(MAX_HELD_MESSAGES, "drop-oldest");
  readonly #liveness = new PathLiveness();
  /** There was a way, and there will be one. */
  #isPathLost = false;
  /** An empty message is to be sent: to confirm a session, or because nothing else was sent for long. */
  #isKeepaliveDue = false;
  readonly #waiting = new BoundedQueue<Uint8Array>(MAX_WAITING_PACKETS, "drop-oldest");
  /** Signalled candidates that do not parse. */
  #badCandidates = 0;
  /** Server-reflexive candidates that the other side was told. */
  readonly #reflexive = new Set<string>();

  /** @param sessionKey 32 bytes: WireGuard's preshared key. Copied. */
  constructor(id: string, sessionKey: Uint8Array, context: ConnectionContext, now: Instant) {
    this.id = id;
    this.#sessionKey = sessionKey.slice();
    this.#context = context;
    this.#createdAt = now;
    this.#usedAt = now;
    this.agent = new IceAgent(context);
    this.#relay = new RelayUse({
      agent: this.agent,
      signal: (type, candidate) => this.#signal(type, candidate),
      bindChannel: (relay, peer, at) => context.bindChannel(relay, peer, at),
    });
    context.emit({ type: "connection-added", connection: id });
    this.#update(now);
  }

  /** Whether an offer was made and not answered yet. */
  get isExpectingAnswer(): boolean {
    return this.#peer === undefined;
  }

  /** Whether there is a session to send with. */
  get hasSession(): boolean {
    return this.#peer?.isConnected === true;
  }

  /** The other side's static key; `undefined` while no answer is there. */
  get remotePublicKey(): Uint8Array | undefined {
    return this.#peer?.remotePublicKey;
  }

  /** The upper 24 bits of the connection's WireGuard indices; `undefined` while no answer is there. */
  get peerIndex(): PeerIndex | undefined {
    return this.#peer?.index;
  }

  /** Messages, candidates and packets dropped by this connection, since it was made. */
  get dropped(): number {
    const queued = this.#held.dropped + this.#waiting.dropped;
    return this.agent.dropped + queued + this.#badCandidates + (this.#peer?.droppedPackets ?? 0);
  }

  /** Both sides know each other now: candidates may be signalled and checked. */
  start(remotePublicKey: Uint8Array, credentials: IceCredentials, now: Instant): void {
    const { identity, crypto, random, clock, indices } = this.#context;
    this.agent.setRemoteCredentials(credentials);
    this.#signalledAt = now;
    this.#peer = new Peer(
      {
        identity,
        remotePublicKey,
        presharedKey: this.#sessionKey,
        persistentKeepalive: PERSISTENT_KEEPALIVE,
        // Until there is a way to send it, an initiation would only be in the way of the next one.
        mayInitiate: false,
        crypto,
        random,
        indices,
        clock,
      },
      now,
    );
    this.#sessionKey.fill(0);
    this.#update(now);
  }

  /** Offers an address of this host to the other side. */
  addHostCandidate(candidate: Candidate, now: Instant): void {
    if (this.isExpectingAnswer || !this.agent.addLocalCandidate(candidate, now)) return;
    this.#signal("new-ice-candidate", candidate);
    this.#update(now);
  }

  /** An address of this host is gone. */
  removeHostCandidate(candidate: Candidate, now: Instant): void {
    if (this.isExpectingAnswer || !this.agent.removeLocalCandidate(candidate, now)) return;
    this.#signal("invalidate-ice-candidate", candidate);
    this.#update(now);
  }

  /** Tells the other side how a relay sees us. The agent sends from the base in any case and need not know. */
  addReflexiveCandidate(candidate: Candidate): void {
    const { key } = candidate.address;
    if (this.isExpectingAnswer || this.#reflexive.has(key)) return;
    this.#reflexive.add(key);
    this.#signal("new-ice-candidate", candidate);
  }

  /** A relay sees us differently now. */
  removeReflexiveCandidate(candidate: Candidate): void {
    if (this.#reflexive.delete(candidate.address.key)) this.#signal("invalidate-ice-candidate", candidate);
  }

  /** Id of the relay that the connection uses. */
  get relay(): string | undefined {
    return this.#relay.relay;
  }

  /** Whether the connection's relay lends us an address. */
  get isRelayUsable(): boolean {
    return this.#relay.isUsable;
  }

  /** Where datagrams go; `undefined` while no way is known. */
  get path(): Path | undefined {
    return this.#path;
  }

  /** Uses this relay from now on, in place of another one. */
  useRelay(relay: string, candidates: readonly Candidate[], now: Instant): void {
    if (this.isExpectingAnswer) return;
    this.#relay.use(relay, candidates, now);
    this.#update(now);
  }

  /** The connection's relay has lent us an address. */
  addRelayCandidate(candidate: Candidate, now: Instant): void {
    if (this.isExpectingAnswer) return;
    this.#relay.add(candidate, now);
    this.#update(now);
  }

  /** A relay does not lend us this address any more. */
  removeRelayCandidate(candidate: Candidate, now: Instant): void {
    this.#relay.remove(candidate, now);
    this.#update(now);
  }

  /** The way over the relay to a peer has another channel. */
  handleChannelChanged(peer: SocketAddress, now: Instant): void {
    const path = this.#path;
    if (path?.relay === undefined || !path.remote.equals(peer)) return;
    const relay = this.#context.relayedPath(path.local, path.remote, now);
    if (relay === undefined || relay === "direct" || isSameWay(relay, path.relay)) return;
    this.#path = { ...path, relay };
    this.#context.emit({ type: "path-selected", connection: this.id, path: this.#path });
  }

  /** A candidate of the other side, as signalled; ignored when it does not parse. */
  addRemoteCandidate(text: string, now: Instant): void {
    const parsed = parseCandidate(text);
    if (typeof parsed === "string") {
      this.#badCandidates++;
      return;
    }
    if (parsed.candidate.kind === "relay") this.#addRemoteRelay(parsed.candidate.address);
    // The channel first: the checks follow right behind.
    if (this.agent.addRemoteCandidate(parsed.candidate, now, parsed.username)) this.#relay.reach(parsed.candidate, now);
    this.#update(now);
  }

  /** Checks from an address may be here before it is said to be a relay's: then the path is announced again. */
  #addRemoteRelay({ key }: SocketAddress): void {
    if (this.#remoteRelays.size >= MAX_REMOTE_RELAYS) return;
    this.#remoteRelays.add(key);
    if (this.#path?.remote.key !== key || this.#path.remoteIsRelay === true) return;
    this.#path = { ...this.#path, remoteIsRelay: true };
    this.#context.emit({ type: "path-selected", connection: this.id, path: this.#path });
  }

  /** A candidate of the other side is gone; ignored when it does not parse. */
  removeRemoteCandidate(text: string, now: Instant): void {
    const parsed = parseCandidate(text);
    if (typeof parsed === "string") {
      this.#badCandidates++;
      return;
    }
    this.agent.removeRemoteCandidate(parsed.candidate, now);
    this.#update(now);
  }

  /** A STUN message that the agent has accepted. */
  handleCheck(message: AcceptedMessage, local: SocketAddress, from: SocketAddress, now: Instant): void {
    if (this.#path?.remote.equals(from) === true && this.#path.local.equals(local)) this.#liveness.handleHeard(now);
    this.agent.handleInput(message, local, from, now);
    this.#update(now);
  }

  /** @returns why the message is refused. */
  handleInitiation(initiation: ReceivedInitiation, now: Instant): WireGuardError | undefined {
    const error = this.#peer === undefined ? "WrongKey" : this.#peer.handleInitiation(initiation, now);
    this.#update(now);
    return error;
  }

  /** @returns why the message is refused. */
  handleResponse(message: HandshakeResponse, now: Instant): WireGuardError | undefined {
    const error = this.#peer === undefined ? "UnexpectedPacket" : this.#peer.handleResponse(message, now);
    // Both sides would repeat that for ever: other session keys, after signalling messages got lost or crossed.
    if (error === "InvalidAeadTag" && ++this.#wrongAnswers >= MAX_WRONG_ANSWERS) this.failure ??= "wrong-keys";
    this.#update(now);
    return error;
  }

  /** @returns why the message is refused. */
  handleCookieReply(message: CookieReply, now: Instant): WireGuardError | undefined {
    const error = this.#peer === undefined ? "UnexpectedPacket" : this.#peer.handleCookieReply(message, now);
    this.#update(now);
    return error;
  }

  /** A packet that the datapath could not send. It waits for path and session. */
  handlePacket(packet: Uint8Array, now: Instant): void {
    if (this.#isPathLost) this.#waiting.push(packet);
    else this.#peer?.handlePacket(packet, now);
    this.#update(now);
  }

  /** Packets that had no way over a connection that this one takes the place of: they wait for the first session. */
  inheritPackets(packets: readonly Uint8Array[]): void {
    for (const packet of packets) this.#waiting.push(packet);
  }

  /** Takes the packets that wait for a way, to be sent over the connection that takes this one's place. */
  takeWaitingPackets(): readonly Uint8Array[] {
    return this.#waiting.drain();
  }

  /** What the datapath has counted. Whatever follows from it is done in this turn's {@link handleTimeout}. */
  handleActivity(activity: Activity, now: Instant): void {
    this.#peer?.handleActivity(activity, now);
    const { sentDataAt, receivedDataAt, receivedAt } = activity;
    this.#liveness.handleHeard(receivedAt);
    this.#liveness.handleSent(sentDataAt);
    this.#usedAt = Math.max(this.#usedAt, sentDataAt, receivedDataAt);
    this.#context.schedule(this, now);
  }

  /** The datapath has received a message from elsewhere than the path leads to. */
  handleEndpointMoved(now: Instant): void {
    this.#liveness.doubt(now);
    this.#update(now);
  }

  /** The datapath has received the first message of a session. */
  handleSessionConfirmed(localIndex: number, now: Instant): void {
    this.#peer?.handleSessionConfirmed(localIndex, now);
    this.#update(now);
  }

  /** Does what is due. */
  handleTimeout(now: Instant): void {
    this.agent.handleTimeout(now);
    this.#peer?.handleTimeout(now);
    this.agent.setPace(now >= this.#usedAt + IDLE_TIME ? "idle" : "eager", now);
    this.#watch(now);
    this.#update(now);
    this.#failIfDue(now);
    this.#context.schedule(this, this.#nextDeadline(now));
  }

  /** Ends the connection; what the tables know of it is taken back. */
  close(): void {
    this.agent.close();
    this.#peer?.close();
    for (let event = this.#peer?.pollEvent(); event !== undefined; event = this.#peer?.pollEvent())
      if (event.type === "session-removed") this.#context.emit({ ...event, connection: this.id });
    this.#sessionKey.fill(0);
    this.#held.clear();
    this.#context.emit({ type: "connection-removed", connection: this.id });
  }

  #signal(type: "new-ice-candidate" | "invalidate-ice-candidate", candidate: Candidate): void {
    this.#context.emit({ type, connection: this.id, candidate: formatCandidate(candidate) });
  }

  /** Hands on everything that an input has caused. */
  #update(now: Instant): void {
    // First what ICE sends: a nomination goes ahead of the handshake that it allows.
    for (let transmit = this.agent.pollTransmit(); transmit !== undefined; transmit = this.agent.pollTransmit())
      this.#context.transmit(transmit, now);
    for (let event = this.agent.pollEvent(); event !== undefined; event = this.agent.pollEvent())
      this.#handleIceEvent(event, now);
    const peer = this.#peer;
    if (peer !== undefined) {
      for (let event = peer.pollEvent(); event !== undefined; event = peer.pollEvent())
        this.#handlePeerEvent(event, now);
      for (let message = peer.pollTransmit(); message !== undefined; message = peer.pollTransmit())
        this.#send(message, now);
      this.#reportEstablished(peer);
      // It lets the other side send, so whatever the owner makes of an established connection, as routes, must be in place.
      if (this.#isKeepaliveDue) this.#context.emit({ type: "send-keepalive", connection: this.id });
      this.#isKeepaliveDue = false;
      this.#releasePackets(peer);
    }
    this.#context.schedule(this, this.#nextDeadline(now));
  }

  #handleIceEvent(event: IceEvent, now: Instant): void {
    switch (event.type) {
      case "source-discovered":
        this.#context.sourceDiscovered(this, event.source);
        return;
      case "state-changed":
        this.#disconnectedAt = event.state === "disconnected" ? now : undefined;
        return;
      case "path-nominated":
        this.#selectPath(event.local, event.remote, now);
        return;
      case "path-answered":
        if (this.#liveness.handleAnswer(now)) this.#context.emit({ type: "watch-source", connection: this.id });
        return;
      case "path-lost":
        this.#path = undefined;
        this.#isPathLost = true;
        this.#context.emit({ type: "path-lost", connection: this.id });
        this.#context.pathLost(this, now);
        return;
    }
  }

  #selectPath(local: SocketAddress, remote: SocketAddress, now: Instant): void {
    const before = this.#path;
    if (before?.local.equals(local) === true && before.remote.equals(remote)) return;
    const relay = this.#context.relayedPath(local, remote, now);
    // Checks have just passed, so there was a channel; a new one is on its way.
    if (relay === undefined) return;
    const path: Path = {
      local,
      remote,
      ...(relay !== "direct" && { relay }),
      ...(this.#remoteRelays.has(remote.key) && { remoteIsRelay: true }),
    };
    this.#path = path;
    this.#isPathLost = false;
    this.#liveness.reset(now);
    this.#context.sourceDiscovered(this, path.remote);
    this.#context.emit({ type: "path-selected", connection: this.id, path });
    for (const message of this.#held.drain()) this.#send(message, now);
    const peer = this.#peer;
    if (peer === undefined || this.#context.role !== "controlling") return;
    peer.mayInitiate = true;
    peer.handlePathChanged(now);
  }

  /** Looks whether what is sent is answered. */
  #watch(now: Instant): void {
    if (this.#path === undefined) return;
    const verdict = this.#liveness.judge(now, this.agent.roundTrip, (since) => this.agent.hasAlternative(since));
    switch (verdict) {
      case "ask":
      case "ask-here":
        this.agent.ask(verdict === "ask" ? "all" : "selected", now);
        this.agent.handleTimeout(now);
        return;
      case "dead":
        this.agent.suspect(this.#liveness.askedSince, now);
        return;
      case undefined:
        return;
    }
  }

  #handlePeerEvent(event: PeerEvent, now: Instant): void {
    const connection = this.id;
    switch (event.type) {
      case "session-established":
      case "session-current":
      case "session-removed":
        this.#context.emit({ ...event, connection });
        return;
      case "send-keepalive":
        this.#isKeepaliveDue = true;
        return;
      case "handshake-initiated":
        this.#handshakeSince ??= now;
        return;
      case "handshake-complete":
        this.#handshakeSince = undefined;
        this.#wrongAnswers = 0;
        return;
      case "expired":
        this.failure ??= "no-handshake";
        return;
    }
  }

  #reportEstablished(peer: Peer): void {
    const established = peer.isConnected && (this.#path !== undefined || this.#isPathLost);
    if (established === this.#isEstablished) return;
    this.#isEstablished = established;
    if (established) this.#context.emit({ type: "connection-established", connection: this.id });
  }

  /** Sends what has waited, if there is a way and a session now: oldest first. */
  #releasePackets(peer: Peer): void {
    if (this.#path === undefined || !peer.isConnected) return;
    for (const packet of this.#waiting.drain())
      this.#context.emit({ type: "send-packet", connection: this.id, packet });
    for (let packet = peer.pollPacket(); packet !== undefined; packet = peer.pollPacket())
      this.#context.emit({ type: "send-packet", connection: this.id, packet });
  }

  #send(message: Uint8Array, now: Instant): void {
    if (this.#path === undefined) this.#held.push(message);
    else this.#context.transmit({ source: this.#path.local, destination: this.#path.remote, payload: message }, now);
  }

  #failIfDue(now: Instant): void {
    if (this.failure !== undefined) return;
    const isDue = (deadline: Instant | undefined) => deadline !== undefined && deadline <= now;
    if (isDue(this.#answerDeadline())) this.failure = "no-answer";
    else if (isDue(this.#candidateDeadline())) this.failure = "no-candidates";
    else if (isDue(this.#graceDeadline())) this.failure = "no-path";
    else if (isDue(this.#handshakeDeadline())) this.failure = "no-handshake";
  }

  #answerDeadline(): Instant | undefined {
    return this.isExpectingAnswer ? this.#createdAt + ANSWER_TIMEOUT : undefined;
  }

  #candidateDeadline(): Instant | undefined {
    const isWaiting = !this.isExpectingAnswer && !this.agent.knowsRemoteCandidates;
    return isWaiting ? this.#signalledAt + CANDIDATE_TIMEOUT : undefined;
  }

  #graceDeadline(): Instant | undefined {
    return this.#disconnectedAt === undefined ? undefined : this.#disconnectedAt + DISCONNECTED_GRACE;
  }

  #handshakeDeadline(): Instant | undefined {
    return this.#handshakeSince === undefined ? undefined : this.#handshakeSince + HANDSHAKE_TIMEOUT;
  }

  #nextDeadline(now: Instant): Instant | undefined {
    let next = earliest(this.agent.pollTimeout(), this.#peer?.pollTimeout());
    next = earliest(next, earliest(this.#answerDeadline(), this.#candidateDeadline()));
    if (this.#path !== undefined) next = earliest(next, this.#liveness.deadline(now));
    return earliest(next, earliest(this.#graceDeadline(), this.#handshakeDeadline()));
  }
}

function isSameWay(a: RelayedPath, b: RelayedPath): boolean {
  return a.channel === b.channel && a.server.equals(b.server);
}
