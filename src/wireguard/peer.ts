// One remote peer: the life of its handshakes and sessions as a state machine (spec 02, sections 11.3 and 11.6 to 11.10;
// whitepaper, section 6). Data messages never come here: the datapath encrypts and decrypts them, with the keys from the
// `session-established` events. The peer sees handshake messages, packets that found no session, and the datapath's stamps.
//
//                 initiate, handlePacket,            no answer: again every 5 s
//                 rekey or timer due                 +----------+
//      +------+  -------------------------->  +------------+    |
//      | idle |                               | initiating | <--+
//      +------+  <--------------------------  +------------+
//                 a session became current,
//                 or 90 s without answer (expired)
//
// Answering the other side's initiations goes on beside that, at any time, and sessions live on their own (session.ts).

import { constantTimeEqual } from "../base/bytes.js";
import type { Crypto } from "../base/crypto.js";
import { EventQueue } from "../base/event-queue.js";
import { BoundedQueue } from "../base/queue.js";
import type { Random } from "../base/random.js";
import { type Duration, earliest, type Instant, SECOND } from "../base/time.js";
import { KEY_LENGTH, PACKET_QUEUE_CAPACITY, REKEY_TIMEOUT, ZERO_KEYS_AFTER_TIME } from "./constants.js";
import { CookieGenerator } from "./cookie.js";
import type { WireGuardError } from "./errors.js";
import type { LocalIdentity } from "./identity.js";
import { type PeerIndex, type PeerIndices, SessionIndices } from "./indices.js";
import { InitiationGuard } from "./initiation-guard.js";
import { Initiator, rekeyJitter } from "./initiator.js";
import type { CookieReply, HandshakeResponse } from "./messages.js";
import {
  consumeResponse,
  createResponse,
  finishInitiation,
  NO_PRESHARED_KEY,
  type ReceivedInitiation,
  type SessionKeys,
} from "./noise.js";
import type { PeerEvent } from "./peer-events.js";
import { renewalDue } from "./renewal.js";
import { SessionList, type SessionRole } from "./session.js";
import type { Tai64nClock } from "./tai64n.js";
import { type Activity, ActivityTimers } from "./timers.js";

/** What a peer is made of. */
export interface PeerOptions {
  readonly identity: LocalIdentity;
  /** The peer's static public key, 32 bytes. */
  readonly remotePublicKey: Uint8Array;
  /** 32 bytes; absent: none (zeros). */
  readonly presharedKey?: Uint8Array;
  /** Interval after which something is sent in any case; absent: never. */
  readonly persistentKeepalive?: Duration | undefined;
  /**
   * Whether the peer starts handshakes of its own accord: for packets that wait, for ageing sessions, when nothing is answered. Without it the other side has to
   * (spec 02, section 14: only the controlling side initiates). {@link Peer.initiate} works in any case.
   */
  readonly mayInitiate: boolean;
  readonly crypto: Crypto;
  readonly random: Random;
  /** Indices of the node, shared by its peers. */
  readonly indices: PeerIndices;
  /** Timestamps of the node, shared by its peers. */
  readonly clock: Tai64nClock;
}

/**
 * How long after a session became current the datapath may still report packets without session: they were on their way to us.
 * Later ones mean that it has no room for the session; releasing them would bring them back for ever.
 */
const RELEASE_WINDOW: Duration = 1000;

/** One remote peer. */
export class Peer {
  /** The peer's static public key, 32 bytes. */
  readonly remotePublicKey: Uint8Array;
  /** The upper 24 bits of all local indices of this peer: how its owner finds it again. */
  readonly index: PeerIndex;
  /** See {@link PeerOptions.mayInitiate}. */
  mayInitiate: boolean;
  /** Packets dropped because too many were waiting, the peer expired, or the datapath has no room for the session; since creation. */
  droppedPackets = 0;

  readonly #options: PeerOptions;
  readonly #sessionIndices: SessionIndices;
  readonly #cookies: CookieGenerator;
  readonly #timers: ActivityTimers;
  readonly #initiator: Initiator;
  readonly #initiationGuard = new InitiationGuard();
  readonly #sessions = new SessionList();
  readonly #packets = new BoundedQueue<Uint8Array>(PACKET_QUEUE_CAPACITY, "drop-newest");
  #presharedKey: Uint8Array;
  /** DH of the static keys; absent when the remote key has low order: then no handshake succeeds. */
  #staticStatic: Uint8Array | undefined;

  /** Added to the age at which a session is renewed, so that two sides that began at the same time do not go on so. */
  #rekeyJitter: Duration = 0;
  /** When the current session became current. */
  #currentSince: Instant = Number.NEGATIVE_INFINITY;

  /** Last time a session was established, or the peer made, or expiry reported. */
  #freshAt: Instant;
  #expiryReported = false;
  /** When {@link handleTimeout} was last called. */
  #handledAt: Instant;
  /** The latest time seen: a driver whose clock goes backwards must not confuse us. */
  #now: Instant;

  /** Both are drained by the owner after every input, and an input adds a few at most. */
  #transmits: Uint8Array[] = [];
  readonly #events = new EventQueue<PeerEvent>();

  constructor(options: PeerOptions, now: Instant) {
    this.#options = options;
    this.remotePublicKey = options.remotePublicKey.slice();
    this.mayInitiate = options.mayInitiate;
    this.index = options.indices.allocate();
    this.#sessionIndices = new SessionIndices(this.index);
    this.#cookies = new CookieGenerator(this.remotePublicKey, options.crypto);
    this.#timers = new ActivityTimers(options.persistentKeepalive, now);
    this.#initiator = new Initiator(options);
    this.#presharedKey = (options.presharedKey ?? NO_PRESHARED_KEY).slice();
    this.#staticStatic = options.crypto.x25519(options.identity.privateKey, this.remotePublicKey);
    this.#freshAt = now;
    this.#handledAt = now;
    this.#now = now;
  }

  /** Whether there is a session to send with. */
  get isConnected(): boolean {
    return this.#sessions.isUsable(this.#now);
  }

  /** Replaces the preshared key (32 bytes) for handshakes from now on. */
  setPresharedKey(presharedKey: Uint8Array): void {
    this.#presharedKey.fill(0);
    this.#presharedKey = presharedKey.slice();
  }

  /** Changes the interval of persistent keepalives; `undefined`: none. */
  setPersistentKeepalive(interval: Duration | undefined, now: Instant): void {
    this.#timers.persistentKeepalive = interval;
    this.#timers.skipPersistentKeepalive(this.#advance(now));
  }

  /**
   * Starts a handshake, unless one is in flight, or there is a session and the last initiation left less than 5 s ago. Without a session
   * an initiation that would come too early leaves as soon as it may.
   *
   * @returns whether a handshake was started.
   */
  initiate(now: Instant): boolean {
    const at = this.#advance(now);
    if (this.#initiator.isActive || (this.isConnected && at < this.#initiator.earliestStart)) return false;
    this.#initiator.start(at);
    this.#sendDueInitiation(at);
    return true;
  }

  /**
   * The way to the peer has changed: starts a handshake, or repeats the one in flight at once, since its messages went the old way. Their answers are
   * still taken. Never sooner than 20 ms after the last initiation: the peer would drop it.
   */
  handlePathChanged(now: Instant): void {
    const at = this.#advance(now);
    this.#initiator.hasten(at);
    this.#sendDueInitiation(at);
  }

  /**
   * Answers an initiation that `HandshakeReceiver` found to be from this peer, if it is authentic, newer than the last one and not too soon after it.
   *
   * @returns why it is refused; `undefined`: the response waits in {@link pollTransmit}, and the sender's address is the peer's.
   */
  handleInitiation(received: ReceivedInitiation, now: Instant): WireGuardError | undefined {
    const at = this.#advance(now);
    const { crypto, random } = this.#options;
    if (this.#staticStatic === undefined) return "WrongKey";
    if (!constantTimeEqual(received.staticPublicKey, this.remotePublicKey)) return "WrongKey";
    const initiation = finishInitiation(crypto, received, this.#staticStatic);
    if (typeof initiation === "string") return initiation;
    const refusal = this.#initiationGuard.check(initiation.timestamp, at);
    if (refusal !== undefined) return refusal;

    const localIndex = this.#nextLocalIndex();
    const response = createResponse(crypto, initiation, {
      presharedKey: this.#presharedKey,
      ephemeralPrivateKey: random.bytes(KEY_LENGTH),
      localIndex,
    });
    if (response === undefined) return "WrongKey";
    this.#initiationGuard.accept(initiation.timestamp, at);
    this.#timers.handleReceived(at);
    this.#establish({ localIndex, remoteIndex: initiation.message.senderIndex, role: "responder" }, response.keys, at);
    this.#transmitHandshake(response.message, localIndex, at);
    // Simultaneous initiation: leave it to the other side, unless nothing comes of it.
    this.#initiator.defer(at);
    return undefined;
  }

  /** Completes a handshake; returns why the response is refused. */
  handleResponse(message: HandshakeResponse, now: Instant): WireGuardError | undefined {
    const at = this.#advance(now);
    const state = this.#initiator.find(message.receiverIndex);
    if (state === undefined) return "UnexpectedPacket";
    const { crypto, identity } = this.#options;
    const keys = consumeResponse(crypto, state, identity, this.#presharedKey, message);
    if (typeof keys === "string") return keys;

    const { localIndex } = state;
    this.#initiator.forget();
    this.#timers.handleReceived(at);
    this.#establish({ localIndex, remoteIndex: message.senderIndex, role: "initiator" }, keys, at);
    this.#promote(localIndex, "initiator");
    // The responder may not send before it has received something on the new session. Waiting packets do, a keepalive otherwise.
    if (this.#packets.length === 0) this.#sendKeepalive(at);
    return undefined;
  }

  /** Takes a cookie; the next initiation carries it. Returns why the reply is refused. */
  handleCookieReply(message: CookieReply, now: Instant): WireGuardError | undefined {
    return this.#cookies.consumeReply(message, this.#advance(now));
  }

  /** The datapath has decrypted the first transport message of a session that we answered for. */
  handleSessionConfirmed(localIndex: number, now: Instant): void {
    this.#timers.handleReceived(this.#advance(now));
    this.#promote(localIndex, "responder");
  }

  /** Takes the datapath's stamps of this peer's connection, when they have changed. To be fed before each {@link handleTimeout}. */
  handleActivity(activity: Activity, now: Instant): void {
    this.#advance(now);
    this.#timers.observe(activity);
  }

  /** A packet for the peer found no usable session: it waits for one in {@link pollPacket}. The peer owns the bytes from now on. */
  handlePacket(packet: Uint8Array, now: Instant): void {
    const at = this.#advance(now);
    const isStranded = this.isConnected && at >= this.#currentSince + RELEASE_WINDOW;
    if (isStranded || !this.#packets.push(packet)) this.droppedPackets++;
    if (!this.isConnected && this.mayInitiate) this.initiate(at);
  }

  /** Does what is due. */
  handleTimeout(now: Instant): void {
    const at = this.#advance(now);
    this.#handledAt = at;
    for (let ended = this.#sessions.expire(at); ended !== undefined; ended = this.#sessions.expire(at))
      this.#events.push({ type: "session-removed", localIndex: ended.localIndex });
    this.#expireIfDue(at);
    this.#sendDueInitiation(at);
    // In this order: a keepalive on an old session is a use of it.
    this.#keepaliveIfDue(at);
    this.#rekeyIfDue(at);
  }

  /**
   * When {@link handleTimeout} is wanted next. Keepalives on a session wait for a full second: the peers of a node wake it up together. Where
   * the datapath carries something meanwhile, {@link handleActivity} makes it another time.
   */
  pollTimeout(): Instant | undefined {
    let next = this.#expiryReported ? undefined : this.#freshAt + ZERO_KEYS_AFTER_TIME;
    next = earliest(next, this.#initiator.pollTimeout());
    if (this.mayInitiate && !this.#initiator.isActive) next = earliest(next, this.#rekeyDue());
    const persistent = this.#timers.persistentKeepaliveDue();
    if (this.#sessions.isEmpty) return earliest(next, persistent);
    next = earliest(next, this.#sessions.nextExpiry());
    const keepalive = earliest(persistent, this.#timers.keepaliveDue());
    return keepalive === undefined ? next : earliest(next, this.#fullSecondFor(keepalive));
  }

  /** The next handshake message to send to the peer; the owner knows the address. */
  pollTransmit(): Uint8Array | undefined {
    return this.#transmits.shift();
  }

  /** The next packet that waited and can be sent now. */
  pollPacket(): Uint8Array | undefined {
    return this.isConnected ? this.#packets.shift() : undefined;
  }

  /** The next event. Keep draining: an input causes a few. */
  pollEvent(): PeerEvent | undefined {
    return this.#events.shift();
  }

  /**
   * Ends all sessions and handshakes and forgets waiting packets and secrets; `session-removed` events follow. The peer must not be used
   * afterwards, besides draining it.
   */
  close(): void {
    for (let session = this.#sessions.removeOldest(); session !== undefined; session = this.#sessions.removeOldest())
      this.#events.push({ type: "session-removed", localIndex: session.localIndex });
    this.#initiator.complete();
    this.#initiator.forget();
    this.#dropPackets();
    this.#transmits = [];
    this.#timers.persistentKeepalive = undefined;
    this.#expiryReported = true;
    this.#presharedKey.fill(0);
    this.#staticStatic?.fill(0);
    this.#staticStatic = undefined;
    this.#options.indices.release(this.index);
  }

  #advance(now: Instant): Instant {
    this.#now = Math.max(this.#now, now);
    return this.#now;
  }

  /** The first full second at which something due at `due` can be done. One that cannot, for want of a session to send on, waits for the next. */
  #fullSecondFor(due: Instant): Instant {
    const next = (Math.floor(this.#handledAt / SECOND) + 1) * SECOND;
    return Math.max(next, Math.ceil(due / SECOND) * SECOND);
  }

  #nextLocalIndex(): number {
    return this.#sessionIndices.next((index) => this.#sessions.has(index) || this.#initiator.find(index) !== undefined);
  }

  #sendDueInitiation(now: Instant): void {
    const initiation = this.#initiator.sendIfDue(now, this.#staticStatic, () => this.#nextLocalIndex());
    if (initiation === undefined) return;
    const { message, localIndex, number } = initiation;
    this.#transmitHandshake(message, localIndex, now);
    this.#events.push({ type: "handshake-initiated", attempt: number, localIndex });
  }

  #transmitHandshake(message: Uint8Array, localIndex: number, now: Instant): void {
    this.#cookies.addMacs(message, localIndex, now);
    this.#transmits.push(message);
    this.#timers.handleSent(now);
  }

  #establish(
    names: { readonly localIndex: number; readonly remoteIndex: number; readonly role: SessionRole },
    keys: SessionKeys,
    now: Instant,
  ): void {
    this.#freshAt = now;
    this.#expiryReported = false;
    this.#rekeyJitter = rekeyJitter(this.#options.random);
    const { localIndex, role } = names;
    const evicted = this.#sessions.add({ localIndex, role, establishedAt: now });
    if (evicted !== undefined) this.#events.push({ type: "session-removed", localIndex: evicted.localIndex });
    this.#events.push({ type: "session-established", session: { ...names, ...keys, establishedAt: now } });
  }

  /** Makes a session that both sides have the current one, unless a younger one is. */
  #promote(localIndex: number, role: SessionRole): void {
    if (!this.#sessions.promote(localIndex)) return;
    this.#currentSince = this.#now;
    this.#initiator.complete();
    this.#events.push({ type: "session-current", localIndex });
    this.#events.push({ type: "handshake-complete", role, localIndex });
  }

  #sendKeepalive(now: Instant): void {
    this.#events.push({ type: "send-keepalive" });
    this.#timers.handleSent(now);
  }

  /** Gives up: the attempt after 90 s, everything after 540 s without a new session. */
  #expireIfDue(now: Instant): void {
    if (this.#initiator.giveUpIfDue(now)) {
      this.#dropPackets();
      this.#events.push({ type: "expired", reason: "no-answer" });
    }
    if (!this.#expiryReported && now >= this.#freshAt + ZERO_KEYS_AFTER_TIME) {
      this.#expiryReported = true;
      this.#dropPackets();
      this.#events.push({ type: "expired", reason: "no-session" });
    }
  }

  #rekeyIfDue(now: Instant): void {
    if (!this.mayInitiate || this.#initiator.isActive) return;
    const due = this.#rekeyDue();
    if (due === undefined || due > now) return;
    this.#timers.handleNewHandshake();
    this.initiate(now);
  }

  /**
   * When a handshake is wanted: a new session, or data have not been answered for 15 s. Never sooner after an initiation than the next one may
   * leave, nor right after answering one: the session that the other side is setting up is as good, and two sides that renew at the same
   * time would do so for ever.
   */
  #rekeyDue(): Instant | undefined {
    const due = earliest(
      this.#timers.newHandshakeDue(),
      renewalDue(this.#sessions.current, this.#timers, this.#rekeyJitter),
    );
    if (due === undefined) return undefined;
    return Math.max(due, this.#initiator.earliestStart, this.#initiationGuard.acceptedAt + REKEY_TIMEOUT);
  }

  #keepaliveIfDue(now: Instant): void {
    const passive = this.#timers.keepaliveDue();
    if (this.isConnected && passive !== undefined && passive <= now) this.#sendKeepalive(now);
    const persistent = this.#timers.persistentKeepaliveDue();
    if (persistent === undefined || persistent > now) return;
    this.#timers.skipPersistentKeepalive(now);
    if (this.isConnected) this.#sendKeepalive(now);
    else if (this.mayInitiate) this.initiate(now);
  }

  #dropPackets(): void {
    this.droppedPackets += this.#packets.length;
    this.#packets.clear();
  }
}
