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
// A gateway's connections begin as connecting. The way in use is kept and watched in selected-path.ts, handshakes and waiting packets are in session.ts, and
// what is waited for how long in patience.ts: here is what they have to do with each other, with ICE and with the signalling.

import type { SocketAddress } from "../base/address.js";
import { type Duration, earliest, type Instant, SECOND } from "../base/time.js";
import type { AcceptedMessage } from "../ice/acceptance.js";
import { IceAgent } from "../ice/agent.js";
import type { Candidate } from "../ice/candidate.js";
import { formatCandidate, parseCandidate } from "../ice/candidate-string.js";
import type { IceCredentials } from "../ice/credentials.js";
import type { IceDispatcher } from "../ice/dispatcher.js";
import type { IceEvent } from "../ice/events.js";
import type { WireGuardError } from "../wireguard/errors.js";
import type { PeerIndex } from "../wireguard/indices.js";
import type { CookieReply, HandshakeResponse } from "../wireguard/messages.js";
import type { ReceivedInitiation } from "../wireguard/noise.js";
import type { Activity } from "../wireguard/timers.js";
import type { FailureReason, Path } from "./events.js";
import { Patience } from "./patience.js";
import { RelayUse } from "./relay-use.js";
import { type PathContext, SelectedPath } from "./selected-path.js";
import { ConnectionSession, type SessionContext } from "./session.js";

/** Time without packets after which the path is checked less often (spec 02, section 14). */
export const IDLE_TIME: Duration = 20 * SECOND;

/** What a node's connections share. */
export interface ConnectionContext extends PathContext, SessionContext {
  readonly dispatcher: IceDispatcher;
  /** When the connection wants to be woken; each call replaces the one before. */
  schedule(connection: Connection, deadline: Instant | undefined): void;
  /** Makes sure that there will be a channel of the relay to a peer. */
  bindChannel(relay: string, peer: SocketAddress, now: Instant): void;
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
  readonly #context: ConnectionContext;
  readonly #patience = new Patience();
  readonly #path: SelectedPath;
  readonly #session: ConnectionSession;
  /** What the connection has of its relay. */
  readonly #relay: RelayUse;
  /** Server-reflexive candidates that the other side was told. */
  readonly #reflexive = new Set<string>();
  #isExpectingAnswer = true;
  /** Last packet in either direction. */
  #usedAt: Instant;
  /** Signalled candidates that do not parse. */
  #badCandidates = 0;

  /** @param sessionKey 32 bytes: WireGuard's preshared key. Copied. */
  constructor(id: string, sessionKey: Uint8Array, context: ConnectionContext, now: Instant) {
    this.id = id;
    this.#context = context;
    this.#usedAt = now;
    this.agent = new IceAgent(context);
    this.#path = new SelectedPath(id, this.agent, context);
    const fail = (reason: FailureReason) => {
      this.failure ??= reason;
    };
    this.#session = new ConnectionSession(
      { id, path: this.#path, patience: this.#patience, fail },
      sessionKey,
      context,
    );
    this.#relay = new RelayUse({
      agent: this.agent,
      signal: (type, candidate) => this.#signal(type, candidate),
      bindChannel: (relay, peer, at) => context.bindChannel(relay, peer, at),
    });
    this.#patience.await("no-answer", now);
    context.emit({ type: "connection-added", connection: id });
    this.#update(now);
  }

  /** Whether an offer was made and not answered yet. */
  get isExpectingAnswer(): boolean {
    return this.#isExpectingAnswer;
  }

  /** Whether there is a session to send with. */
  get hasSession(): boolean {
    return this.#session.isConnected;
  }

  /** The other side's static key; `undefined` while no answer is there. */
  get remotePublicKey(): Uint8Array | undefined {
    return this.#session.remotePublicKey;
  }

  /** The upper 24 bits of the connection's WireGuard indices; `undefined` while no answer is there. */
  get peerIndex(): PeerIndex | undefined {
    return this.#session.peerIndex;
  }

  /** Messages, candidates and packets dropped by this connection, since it was made. */
  get dropped(): number {
    return this.agent.dropped + this.#path.dropped + this.#session.dropped + this.#badCandidates;
  }

  /** Both sides know each other now: candidates may be signalled and checked. */
  start(remotePublicKey: Uint8Array, credentials: IceCredentials, now: Instant): void {
    this.#isExpectingAnswer = false;
    this.agent.setRemoteCredentials(credentials);
    this.#session.start(remotePublicKey, now);
    this.#patience.settle("no-answer");
    this.#patience.await("no-candidates", now);
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
    return this.#path.current;
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
    this.#path.handleChannelChanged(peer, now);
  }

  /** A candidate of the other side, as signalled; ignored when it does not parse. */
  addRemoteCandidate(text: string, now: Instant): void {
    const parsed = parseCandidate(text);
    if (typeof parsed === "string") {
      this.#badCandidates++;
      return;
    }
    if (parsed.candidate.kind === "relay") this.#path.addRemoteRelay(parsed.candidate.address);
    // The channel first: the checks follow right behind.
    if (this.agent.addRemoteCandidate(parsed.candidate, now, parsed.username)) this.#relay.reach(parsed.candidate, now);
    this.#update(now);
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
    this.#path.handleCheck(local, from, now);
    this.agent.handleInput(message, local, from, now);
    this.#update(now);
  }

  /** @returns why the message is refused. */
  handleInitiation(initiation: ReceivedInitiation, now: Instant): WireGuardError | undefined {
    const error = this.#session.handleInitiation(initiation, now);
    this.#update(now);
    return error;
  }

  /** @returns why the message is refused. */
  handleResponse(message: HandshakeResponse, now: Instant): WireGuardError | undefined {
    const error = this.#session.handleResponse(message, now);
    this.#update(now);
    return error;
  }

  /** @returns why the message is refused. */
  handleCookieReply(message: CookieReply, now: Instant): WireGuardError | undefined {
    const error = this.#session.handleCookieReply(message, now);
    this.#update(now);
    return error;
  }

  /** A packet that the datapath could not send. It waits for path and session. */
  handlePacket(packet: Uint8Array, now: Instant): void {
    this.#session.handlePacket(packet, now);
    this.#update(now);
  }

  /** Packets that had no way over a connection that this one takes the place of: they wait for the first session. */
  inheritPackets(packets: readonly Uint8Array[]): void {
    this.#session.inheritPackets(packets);
  }

  /** Takes the packets that wait for a way, to be sent over the connection that takes this one's place. */
  takeWaitingPackets(): readonly Uint8Array[] {
    return this.#session.takeWaitingPackets();
  }

  /** What the datapath has counted. Whatever follows from it is done in this turn's {@link handleTimeout}. */
  handleActivity(activity: Activity, now: Instant): void {
    this.#session.handleActivity(activity, now);
    this.#path.handleActivity(activity);
    this.#usedAt = Math.max(this.#usedAt, activity.sentDataAt, activity.receivedDataAt);
    this.#context.schedule(this, now);
  }

  /** The datapath has received a message from elsewhere than the path leads to. */
  handleEndpointMoved(now: Instant): void {
    this.#path.handleEndpointMoved(now);
    this.#update(now);
  }

  /** The datapath has received the first message of a session. */
  handleSessionConfirmed(localIndex: number, now: Instant): void {
    this.#session.handleConfirmed(localIndex, now);
    this.#update(now);
  }

  /** Does what is due. */
  handleTimeout(now: Instant): void {
    this.agent.handleTimeout(now);
    this.#session.handleTimeout(now);
    this.agent.setPace(now >= this.#usedAt + IDLE_TIME ? "idle" : "eager", now);
    this.#path.watch(now);
    this.#update(now);
    this.failure ??= this.#patience.overdue(now);
    this.#context.schedule(this, this.#nextDeadline(now));
  }

  /** Ends the connection; what the tables know of it is taken back. */
  close(): void {
    this.agent.close();
    this.#session.close();
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
    if (this.agent.knowsRemoteCandidates) this.#patience.settle("no-candidates");
    this.#session.update(now);
    this.#context.schedule(this, this.#nextDeadline(now));
  }

  #handleIceEvent(event: IceEvent, now: Instant): void {
    switch (event.type) {
      case "source-discovered":
        this.#context.sourceDiscovered(this, event.source);
        return;
      case "state-changed":
        if (event.state === "disconnected") this.#patience.await("no-path", now);
        else this.#patience.settle("no-path");
        return;
      case "path-nominated":
        if (!this.#path.select(event.local, event.remote, now)) return;
        this.#context.sourceDiscovered(this, event.remote);
        this.#session.handlePathSelected(now);
        return;
      case "path-answered":
        this.#path.handleAnswer(now);
        return;
      case "path-lost":
        this.#path.lose();
        this.#context.pathLost(this, now);
        return;
    }
  }

  #nextDeadline(now: Instant): Instant | undefined {
    const next = earliest(this.agent.pollTimeout(), this.#session.pollTimeout());
    return earliest(next, earliest(this.#path.deadline(now), this.#patience.deadline()));
  }
}
