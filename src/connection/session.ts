// The WireGuard side of a connection: the peer, from the moment when the other side is known, and the packets that wait until it can send them (spec 02,
// sections 6.5, 6.6 and 14).
//
//   key only ──start──► no session ──handshake──► session ◄──► renewed for ever
//
// Only the controlling side starts handshakes, when a way is selected: one session instead of two that cross (section 14); the other side answers, and
// answers also a controlled side that begins by itself.

import type { Crypto } from "../base/crypto.js";
import { BoundedQueue } from "../base/queue.js";
import type { Random } from "../base/random.js";
import { type Duration, type Instant, SECOND } from "../base/time.js";
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
import type { FailureReason, NodeEvent } from "./events.js";
import type { Patience } from "./patience.js";
import type { SelectedPath } from "./selected-path.js";

/** Interval of WireGuard's persistent keepalive (spec 02, section 2.5); what the portal says about it is ignored. */
export const PERSISTENT_KEEPALIVE: Duration = 10 * SECOND;
/** Packets that wait while no way works; the oldest has to go first: what is repeated meanwhile is newer. */
export const MAX_WAITING_PACKETS = 64;
/** Answers to our handshakes, made with other keys than ours, in a row, after which both sides must start over. One could be forged. */
export const MAX_WRONG_ANSWERS = 3;

/** What the sessions of all connections share. */
export interface SessionContext {
  readonly role: IceRole;
  readonly identity: LocalIdentity;
  readonly crypto: Crypto;
  readonly random: Random;
  readonly clock: Tai64nClock;
  readonly indices: PeerIndices;
  emit(event: NodeEvent): void;
}

/** What a session has to do with in its connection. */
export interface SessionOwner {
  /** The connection's. */
  readonly id: string;
  /** Where handshake messages go. */
  readonly path: SelectedPath;
  /** Waits for the other side's answers. */
  readonly patience: Patience;
  /** The connection is at its end. */
  fail(reason: FailureReason): void;
}

/** See the head of this file. */
export class ConnectionSession {
  readonly #owner: SessionOwner;
  readonly #context: SessionContext;
  /** Until the peer has it. */
  readonly #sessionKey: Uint8Array;
  readonly #waiting = new BoundedQueue<Uint8Array>(MAX_WAITING_PACKETS, "drop-oldest");
  #peer: Peer | undefined;
  #wrongAnswers = 0;
  #isEstablished = false;
  /** An empty message is to be sent: to confirm a session, or because nothing else was sent for long. */
  #isKeepaliveDue = false;

  /** @param sessionKey 32 bytes: WireGuard's preshared key. Copied. */
  constructor(owner: SessionOwner, sessionKey: Uint8Array, context: SessionContext) {
    this.#owner = owner;
    this.#context = context;
    this.#sessionKey = sessionKey.slice();
  }

  /** Whether there is a session to send with. */
  get isConnected(): boolean {
    return this.#peer?.isConnected === true;
  }

  /** The other side's static key; `undefined` before {@link start}. */
  get remotePublicKey(): Uint8Array | undefined {
    return this.#peer?.remotePublicKey;
  }

  /** The upper 24 bits of the connection's WireGuard indices; `undefined` before {@link start}. */
  get peerIndex(): PeerIndex | undefined {
    return this.#peer?.index;
  }

  /** Packets that were dropped. */
  get dropped(): number {
    return this.#waiting.dropped + (this.#peer?.droppedPackets ?? 0);
  }

  /** The other side is known now. */
  start(remotePublicKey: Uint8Array, now: Instant): void {
    const { identity, crypto, random, clock, indices } = this.#context;
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
  }

  /** Another way is selected: the side that begins does. */
  handlePathSelected(now: Instant): void {
    const peer = this.#peer;
    if (peer === undefined || this.#context.role !== "controlling") return;
    peer.mayInitiate = true;
    peer.handlePathChanged(now);
  }

  /** @returns why the message is refused. */
  handleInitiation(initiation: ReceivedInitiation, now: Instant): WireGuardError | undefined {
    return this.#peer === undefined ? "WrongKey" : this.#peer.handleInitiation(initiation, now);
  }

  /** @returns why the message is refused. */
  handleResponse(message: HandshakeResponse, now: Instant): WireGuardError | undefined {
    const error = this.#peer === undefined ? "UnexpectedPacket" : this.#peer.handleResponse(message, now);
    // Both sides would repeat that for ever: other session keys, after signalling messages got lost or crossed.
    if (error === "InvalidAeadTag" && ++this.#wrongAnswers >= MAX_WRONG_ANSWERS) this.#owner.fail("wrong-keys");
    return error;
  }

  /** @returns why the message is refused. */
  handleCookieReply(message: CookieReply, now: Instant): WireGuardError | undefined {
    return this.#peer === undefined ? "UnexpectedPacket" : this.#peer.handleCookieReply(message, now);
  }

  /** A packet that the datapath could not send. It waits for path and session. */
  handlePacket(packet: Uint8Array, now: Instant): void {
    if (this.#owner.path.isLost) this.#waiting.push(packet);
    else this.#peer?.handlePacket(packet, now);
  }

  /** Packets that had no way over a connection that this one takes the place of: they wait for the first session. */
  inheritPackets(packets: readonly Uint8Array[]): void {
    for (const packet of packets) this.#waiting.push(packet);
  }

  /** Takes the packets that wait for a way, to be sent over the connection that takes this one's place. */
  takeWaitingPackets(): readonly Uint8Array[] {
    return this.#waiting.drain();
  }

  /** What the datapath has counted. */
  handleActivity(activity: Activity, now: Instant): void {
    this.#peer?.handleActivity(activity, now);
  }

  /** The datapath has received the first message of a session. */
  handleConfirmed(localIndex: number, now: Instant): void {
    this.#peer?.handleSessionConfirmed(localIndex, now);
  }

  /** Does what is due. */
  handleTimeout(now: Instant): void {
    this.#peer?.handleTimeout(now);
  }

  /** When {@link handleTimeout} is wanted next. */
  pollTimeout(): Instant | undefined {
    return this.#peer?.pollTimeout();
  }

  /** Hands on everything that inputs have caused. */
  update(now: Instant): void {
    const peer = this.#peer;
    if (peer === undefined) return;
    const { id, path } = this.#owner;
    for (let event = peer.pollEvent(); event !== undefined; event = peer.pollEvent()) this.#handleEvent(event, now);
    for (let message = peer.pollTransmit(); message !== undefined; message = peer.pollTransmit())
      path.send(message, now);
    this.#reportEstablished(peer);
    // It lets the other side send, so whatever the owner makes of an established connection, as routes, must be in place.
    if (this.#isKeepaliveDue) this.#context.emit({ type: "send-keepalive", connection: id });
    this.#isKeepaliveDue = false;
    this.#releasePackets(peer);
  }

  /** Ends all sessions; keys are wiped, and what the tables know of them is taken back. */
  close(): void {
    const peer = this.#peer;
    peer?.close();
    for (let event = peer?.pollEvent(); event !== undefined; event = peer?.pollEvent())
      if (event.type === "session-removed") this.#context.emit({ ...event, connection: this.#owner.id });
    this.#sessionKey.fill(0);
  }

  #handleEvent(event: PeerEvent, now: Instant): void {
    const { id, patience } = this.#owner;
    switch (event.type) {
      case "session-established":
      case "session-current":
      case "session-removed":
        this.#context.emit({ ...event, connection: id });
        return;
      case "send-keepalive":
        this.#isKeepaliveDue = true;
        return;
      case "handshake-initiated":
        patience.await("no-handshake", now);
        return;
      case "handshake-complete":
        patience.settle("no-handshake");
        this.#wrongAnswers = 0;
        return;
      case "expired":
        this.#owner.fail("no-handshake");
        return;
    }
  }

  #reportEstablished(peer: Peer): void {
    const { id, path } = this.#owner;
    const isEstablished = peer.isConnected && (path.current !== undefined || path.isLost);
    if (isEstablished === this.#isEstablished) return;
    this.#isEstablished = isEstablished;
    if (isEstablished) this.#context.emit({ type: "connection-established", connection: id });
  }

  /** Sends what has waited, if there is a way and a session now: oldest first. */
  #releasePackets(peer: Peer): void {
    const { id, path } = this.#owner;
    if (path.current === undefined || !peer.isConnected) return;
    for (const packet of this.#waiting.drain()) this.#context.emit({ type: "send-packet", connection: id, packet });
    for (let packet = peer.pollPacket(); packet !== undefined; packet = peer.pollPacket())
      this.#context.emit({ type: "send-packet", connection: id, packet });
  }
}
