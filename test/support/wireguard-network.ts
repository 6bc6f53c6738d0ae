// Two WireGuard peers in simulated time: the control plane under test, a small datapath in TypeScript that does what the packet
// engine does with sessions, and a network between them with latency and loss.

import assert from "node:assert/strict";
import { IpAddress, SocketAddress } from "../../src/base/address.js";
import { viewOf } from "../../src/base/bytes.js";
import { type Random, randomBelow } from "../../src/base/random.js";
import { type Duration, earliest, type Instant } from "../../src/base/time.js";
import { nodeCrypto } from "../../src/system/crypto.js";
import { ActivityPoll } from "../../src/wireguard/activity-poll.js";
import { REJECT_AFTER_TIME } from "../../src/wireguard/constants.js";
import type { WireGuardError } from "../../src/wireguard/errors.js";
import { LocalIdentity } from "../../src/wireguard/identity.js";
import { PeerIndices, peerIndexOf } from "../../src/wireguard/indices.js";
import { encodeTransport, parseMessage, type TransportData } from "../../src/wireguard/messages.js";
import { Peer, type PeerOptions } from "../../src/wireguard/peer.js";
import type { EstablishedSession, PeerEvent } from "../../src/wireguard/peer-events.js";
import { HandshakeReceiver } from "../../src/wireguard/receiver.js";
import { Tai64nClock } from "../../src/wireguard/tai64n.js";
import { seededRandom } from "./random.js";

/** Simulations start here: 0 stands for "never" in the datapath's stamps. */
export const START: Instant = 10_000;

const UNIX_TIME = 1_724_716_800_000;

interface DatapathSession extends EstablishedSession {
  confirmed: boolean;
  counter: bigint;
  readonly seen: Set<bigint>;
}

/** One side: a node with one peer. */
export class SimulatedPeer {
  readonly name: string;
  readonly identity: LocalIdentity;
  readonly address: SocketAddress;
  readonly receiver: HandshakeReceiver;
  readonly peer: Peer;
  /** Datagrams that left and were not fetched yet. */
  readonly outbox: Uint8Array[] = [];
  /** Packets that arrived. */
  readonly delivered: Uint8Array[] = [];
  /** Everything that the peer reported. */
  readonly events: PeerEvent[] = [];
  readonly errors: (WireGuardError | "NoCurrentSession")[] = [];
  /** Keepalives sent. */
  keepalives = 0;

  readonly #activityPoll = new ActivityPoll();
  readonly #sessions = new Map<number, DatapathSession>();
  #current: DatapathSession | undefined;
  #activity = { sentAt: 0, receivedAt: 0, sentDataAt: 0, receivedDataAt: 0 };

  constructor(
    name: string,
    identity: LocalIdentity,
    address: SocketAddress,
    options: Pick<PeerOptions, "remotePublicKey" | "mayInitiate"> & Partial<PeerOptions>,
    random: Random,
    now: Instant,
  ) {
    this.name = name;
    this.identity = identity;
    this.address = address;
    this.receiver = new HandshakeReceiver({ identity, crypto: nodeCrypto, random });
    const indices = new PeerIndices(random);
    const clock = new Tai64nClock(now, UNIX_TIME + now);
    this.peer = new Peer({ identity, crypto: nodeCrypto, random, indices, clock, ...options }, now);
  }

  /** Local indices of the sessions that can receive. */
  get sessions(): readonly number[] {
    return [...this.#sessions.keys()];
  }

  get current(): number | undefined {
    return this.#current?.localIndex;
  }

  initiate(now: Instant): boolean {
    const started = this.peer.initiate(now);
    this.#drain(now);
    return started;
  }

  /** Sends a packet as the TUN device would. */
  sendPacket(packet: Uint8Array, now: Instant): void {
    if (!this.#seal(packet, now)) this.peer.handlePacket(packet, now);
    this.#drain(now);
  }

  pollTimeout(): Instant | undefined {
    return earliest(this.peer.pollTimeout(), this.#activityPoll.pollTimeout());
  }

  handleTimeout(now: Instant): void {
    this.#activityPoll.handleTimeout(now);
    this.peer.handleActivity(this.#activity, now);
    this.peer.handleTimeout(now);
    this.#drain(now);
  }

  /** Takes a datagram from the network. */
  receive(datagram: Uint8Array, source: SocketAddress, now: Instant): void {
    const message = parseMessage(datagram);
    if (message?.type === "transport") this.#open(message, now);
    else this.#receiveHandshake(datagram, source, now);
    this.#drain(now);
  }

  /** All datagrams that left since the last call. */
  takeOutbox(): Uint8Array[] {
    return this.outbox.splice(0);
  }

  #receiveHandshake(datagram: Uint8Array, source: SocketAddress, now: Instant): void {
    const reception = this.receiver.admit(datagram, source, now);
    let error: WireGuardError | undefined;
    switch (reception.type) {
      case "sealed-initiation": {
        const opened = this.receiver.open(reception.message);
        error = typeof opened === "string" ? opened : this.peer.handleInitiation(opened, now);
        break;
      }
      case "response":
        if (peerIndexOf(reception.receiverIndex) !== this.peer.index) error = "UnexpectedPacket";
        else error = this.peer.handleResponse(reception.message, now);
        break;
      case "cookie-reply":
        if (peerIndexOf(reception.receiverIndex) !== this.peer.index) error = "UnexpectedPacket";
        else error = this.peer.handleCookieReply(reception.message, now);
        break;
      case "send-cookie-reply":
        this.outbox.push(reception.reply);
        break;
      case "rejected":
        error = reception.error;
        break;
    }
    if (error !== undefined) this.errors.push(error);
  }

  #open(message: TransportData, now: Instant): void {
    const session = this.#sessions.get(message.receiverIndex);
    if (
      session === undefined ||
      now - session.establishedAt >= REJECT_AFTER_TIME ||
      session.seen.has(message.counter)
    ) {
      this.errors.push("NoCurrentSession");
      return;
    }
    const { receiveKey } = session;
    const packet = nodeCrypto.chacha20Poly1305Open(
      receiveKey,
      nonceOf(message.counter),
      message.encryptedPacket,
      new Uint8Array(),
    );
    if (packet === undefined) {
      this.errors.push("InvalidAeadTag");
      return;
    }
    session.seen.add(message.counter);
    this.#activity.receivedAt = Math.floor(now);
    if (packet.length > 0) {
      this.#activity.receivedDataAt = Math.floor(now);
      this.delivered.push(packet);
    }
    if (session.confirmed) return;
    session.confirmed = true;
    this.peer.handleSessionConfirmed(session.localIndex, now);
  }

  #seal(packet: Uint8Array, now: Instant): boolean {
    const session = this.#current;
    if (session === undefined || now - session.establishedAt >= REJECT_AFTER_TIME) return false;
    const counter = session.counter++;
    const encryptedPacket = nodeCrypto.chacha20Poly1305Seal(
      session.sendKey,
      nonceOf(counter),
      packet,
      new Uint8Array(),
    );
    this.outbox.push(encodeTransport({ receiverIndex: session.remoteIndex, counter, encryptedPacket }));
    this.#activity.sentAt = Math.floor(now);
    if (packet.length > 0) this.#activity.sentDataAt = Math.floor(now);
    return true;
  }

  #drain(now: Instant): void {
    for (let message = this.peer.pollTransmit(); message !== undefined; message = this.peer.pollTransmit())
      this.outbox.push(message);
    for (let event = this.peer.pollEvent(); event !== undefined; event = this.peer.pollEvent()) {
      this.events.push(event);
      this.#activityPoll.handleEvent(event);
      this.#apply(event, now);
    }
    for (let packet = this.peer.pollPacket(); packet !== undefined; packet = this.peer.pollPacket())
      assert.ok(this.#seal(packet, now), `${this.name}: a released packet finds a session`);
  }

  #apply(event: PeerEvent, now: Instant): void {
    switch (event.type) {
      case "session-established": {
        const { session } = event;
        assert.ok(!this.#sessions.has(session.localIndex), `${this.name}: local index in use`);
        const confirmed = session.role === "initiator";
        this.#sessions.set(session.localIndex, { ...session, confirmed, counter: 0n, seen: new Set() });
        break;
      }
      case "session-current":
        this.#current = this.#sessions.get(event.localIndex);
        assert.ok(this.#current, `${this.name}: the current session is installed`);
        break;
      case "session-removed":
        assert.ok(this.#sessions.delete(event.localIndex), `${this.name}: a removed session was installed`);
        if (this.#current?.localIndex === event.localIndex) this.#current = undefined;
        break;
      case "send-keepalive":
        assert.ok(this.#seal(new Uint8Array(), now), `${this.name}: a keepalive finds a session`);
        this.keepalives++;
        break;
      case "handshake-initiated":
      case "handshake-complete":
      case "expired":
        break;
    }
  }
}

function nonceOf(counter: bigint): Uint8Array {
  const nonce = new Uint8Array(12);
  viewOf(nonce).setBigUint64(4, counter, true);
  return nonce;
}

/** What {@link WireGuardNetwork} can vary. */
export interface NetworkOptions {
  readonly seed?: number;
  /** One way. Default 10 ms. */
  readonly latency?: Duration;
  /** Percent of datagrams that vanish. Default 0. */
  readonly loss?: number;
  readonly left?: Partial<PeerOptions>;
  readonly right?: Partial<PeerOptions>;
}

/** Two peers, `left` and `right`, and what is under way between them. */
export class WireGuardNetwork {
  readonly left: SimulatedPeer;
  readonly right: SimulatedPeer;
  now: Instant = START;
  /** Everything that was sent, in order. */
  readonly sent: { readonly at: Instant; readonly from: SimulatedPeer; readonly datagram: Uint8Array }[] = [];
  loss: number;

  readonly #random: Random;
  readonly #latency: Duration;
  readonly #underWay: { readonly at: Instant; readonly to: SimulatedPeer; readonly datagram: Uint8Array }[] = [];

  constructor(options: NetworkOptions = {}) {
    this.#random = seededRandom(options.seed ?? 1);
    this.#latency = options.latency ?? 10;
    this.loss = options.loss ?? 0;
    const keys = [1, 2].map((byte) => new LocalIdentity(new Uint8Array(32).fill(byte), nodeCrypto));
    const [a, b] = keys;
    assert.ok(a && b);
    const make = (name: string, own: LocalIdentity, other: LocalIdentity, host: number, extra: Partial<PeerOptions>) =>
      new SimulatedPeer(
        name,
        own,
        new SocketAddress(IpAddress.fromBytes(Uint8Array.of(192, 0, 2, host)), 51820),
        { remotePublicKey: other.publicKey, mayInitiate: true, ...extra },
        this.#random,
        START,
      );
    this.left = make("left", a, b, 1, options.left ?? {});
    this.right = make("right", b, a, 2, options.right ?? {});
  }

  /** Lets time pass until `until`, delivering and waking what is due. */
  run(until: Instant): void {
    for (let steps = 0; ; steps++) {
      assert.ok(steps < 1_000_000, "the simulation does not come to rest");
      this.#fetch();
      const next = Math.min(
        this.#underWay[0]?.at ?? Number.POSITIVE_INFINITY,
        this.left.pollTimeout() ?? Number.POSITIVE_INFINITY,
        this.right.pollTimeout() ?? Number.POSITIVE_INFINITY,
      );
      if (next > until) break;
      this.now = Math.max(this.now, next);
      const arrived = this.#underWay[0];
      if (arrived !== undefined && arrived.at <= this.now) {
        this.#underWay.shift();
        const from = arrived.to === this.left ? this.right : this.left;
        arrived.to.receive(arrived.datagram, from.address, this.now);
        continue;
      }
      for (const side of [this.left, this.right]) {
        if ((side.pollTimeout() ?? Number.POSITIVE_INFINITY) > this.now) continue;
        side.handleTimeout(this.now);
        const again = side.pollTimeout();
        assert.ok(
          again === undefined || again > this.now,
          `${side.name}: handleTimeout leaves nothing due (busy loop)`,
        );
      }
    }
    this.now = until;
  }

  /** Lets `duration` pass. */
  wait(duration: Duration): void {
    this.run(this.now + duration);
  }

  /** Number of datagrams of a type sent by one side, or both. */
  count(type: "initiation" | "response" | "cookie-reply" | "transport", from?: SimulatedPeer): number {
    return this.sent.filter(
      (entry) => (from === undefined || entry.from === from) && parseMessage(entry.datagram)?.type === type,
    ).length;
  }

  #fetch(): void {
    for (const from of [this.left, this.right]) {
      const to = from === this.left ? this.right : this.left;
      for (const datagram of from.takeOutbox()) {
        this.sent.push({ at: this.now, from, datagram });
        if (this.loss > 0 && randomBelow(this.#random, 100) < this.loss) continue;
        this.#underWay.push({ at: this.now + this.#latency, to, datagram });
      }
    }
  }
}
