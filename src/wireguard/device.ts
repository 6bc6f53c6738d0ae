// A plain WireGuard device: peers with configured or learned endpoints and cryptokey routing, as one state machine. It is what
// remains when the portal and ICE are taken away: `wirelane wg`.
//
//   configuration ──►                     ──► table updates: connections, routes, paths, sessions
//   handshake datagrams, notices and ──►  ──► handshake messages and cookie replies to send
//   packets without session (exceptions)  ──► packets and keepalives to send through the datapath
//
// Peers are named by their public key in hexadecimal digits; a peer is a connection of the datapath. Roaming (whitepaper, section 2.1): the source
// address of the last authenticated message is where a peer is. Authenticated are an accepted initiation or response and transport data; a
// cookie reply is not, it proves only that somebody read our message.

import type { SocketAddress } from "../base/address.js";
import { bytesEqual, constantTimeEqual, toHex } from "../base/bytes.js";
import type { Crypto } from "../base/crypto.js";
import { Deadlines } from "../base/deadlines.js";
import { EventQueue } from "../base/event-queue.js";
import type { Random } from "../base/random.js";
import type { StateMachine, Transmit } from "../base/state-machine.js";
import { earliest, type Instant } from "../base/time.js";
import { ActivityPoll } from "./activity-poll.js";
import type { ConfigurationError, DeviceChange, DeviceConfiguration, PeerChange } from "./configuration.js";
import { KEY_LENGTH } from "./constants.js";
import { CryptokeyRouting } from "./cryptokey-routing.js";
import type { ConnectionActivity, DeviceEvent, PeerName } from "./device-events.js";
import { intervalOf, newPeerRecord, type PeerRecord, peerConfiguration, transmit, UNSPECIFIED } from "./device-peer.js";
import type { WireGuardError } from "./errors.js";
import { HandshakeDoor, type MessageOrigin } from "./handshake-door.js";
import { LocalIdentity } from "./identity.js";
import { type PeerIndex, PeerIndices, peerIndexOf } from "./indices.js";
import type { BatchResult } from "./initiation-block.js";
import type { InitiationBatch, InitiationQueue } from "./initiation-queue.js";
import { Peer } from "./peer.js";
import type { PeerEvent } from "./peer-events.js";
import { Roaming } from "./roaming.js";
import type { Tai64nClock } from "./tai64n.js";

/** What a device is made of. */
export interface WireGuardDeviceOptions {
  readonly crypto: Crypto;
  readonly random: Random;
  readonly clock: Tai64nClock;
  /** Capacity of the datapath's tables. */
  readonly maxPeers: number;
  readonly maxAllowedIps: number;
  /** Whether the owner fetches and computes batches of initiations; default: all is computed at once. */
  readonly batches?: boolean;
}

/** A WireGuard device without the device: see the head of this file. */
export class WireGuardDevice implements StateMachine<DeviceEvent> {
  /** Packets without a peer that could take them: no endpoint known, or no private key. */
  droppedPackets = 0;

  readonly #options: WireGuardDeviceOptions;
  readonly #indices: PeerIndices;
  readonly #peers = new Map<PeerName, PeerRecord>();
  readonly #byIndex = new Map<PeerIndex, PeerRecord>();
  readonly #deadlines = new Deadlines<PeerRecord>();
  readonly #activityPoll = new ActivityPoll();
  readonly #routing: CryptokeyRouting;
  readonly #roaming: Roaming;
  readonly #door: HandshakeDoor;
  #identity: LocalIdentity | undefined;
  #listenPort = 0;
  #fwmark = 0;
  /** Drained by the owner after every input, as are the events. */
  #transmits: Transmit[] = [];
  readonly #events = new EventQueue<DeviceEvent>();

  constructor(options: WireGuardDeviceOptions) {
    this.#options = options;
    this.#indices = new PeerIndices(options.random);
    this.#routing = new CryptokeyRouting(options.maxAllowedIps, this.#events);
    this.#roaming = new Roaming(this.#events);
    const { crypto, random, batches = false } = options;
    this.#door = new HandshakeDoor({
      crypto,
      random,
      sources: "anybody",
      batches,
      handleInitiation: (opened, origin, now) => {
        const record = this.#peers.get(toHex(opened.staticPublicKey));
        const error = record?.peer === undefined ? "WrongKey" : record.peer.handleInitiation(opened, now);
        this.#afterMessage(record, error, { origin, moves: true }, now);
      },
      handleResponse: (message, origin, now) => {
        const record = this.#byIndex.get(peerIndexOf(message.receiverIndex));
        const error = record?.peer === undefined ? "UnexpectedPacket" : record.peer.handleResponse(message, now);
        this.#afterMessage(record, error, { origin, moves: true }, now);
      },
      handleCookieReply: (message, origin, now) => {
        const record = this.#byIndex.get(peerIndexOf(message.receiverIndex));
        const error = record?.peer === undefined ? "UnexpectedPacket" : record.peer.handleCookieReply(message, now);
        this.#afterMessage(record, error, { origin, moves: false }, now);
      },
      sendCookieReply: (reply, { local, from }) => this.#transmits.push(transmit({ local, remote: from }, reply)),
      refuse: (from, error) => this.#refuse(from, error),
    });
  }

  /** The configuration with what has happened so far. `handleActivity` beforehand brings the byte counts up to date. */
  configuration(): DeviceConfiguration {
    return {
      ...(this.#identity && { privateKey: this.#identity.privateKey }),
      listenPort: this.#listenPort,
      fwmark: this.#fwmark,
      peers: [...this.#peers.values()].map((record) => peerConfiguration(record, this.#routing.prefixesOf(record))),
    };
  }

  /**
   * Changes the configuration. Port and mark are the owner's to bring about beforehand; see {@link handleBound}.
   *
   * @returns why it stopped half-way; `undefined`: all is in force.
   */
  configure(change: DeviceChange, now: Instant): ConfigurationError | undefined {
    if (change.privateKey !== undefined) this.#setPrivateKey(change.privateKey, now);
    if (change.fwmark !== undefined) this.#fwmark = change.fwmark;
    if (change.replacePeers === true) for (const record of [...this.#peers.values()]) this.#removePeer(record);
    for (const peerChange of change.peers) {
      const error = this.#configurePeer(peerChange, now);
      if (error !== undefined) return error;
    }
    return undefined;
  }

  /** The sockets are bound to `port` now, perhaps other than before: remembered local addresses are stale. */
  handleBound(port: number): void {
    this.#listenPort = port;
    this.handleNetworkChange();
  }

  /** Local addresses or routes have gone: where datagrams of peers came to may be no source any more. */
  handleNetworkChange(): void {
    this.#door.forgetLocalAddresses(UNSPECIFIED);
    for (const record of this.#peers.values()) this.#roaming.forgetLocalAddress(record);
  }

  /** A handshake datagram that came to `local` from `from`. */
  handleDatagram(local: SocketAddress, from: SocketAddress, datagram: Uint8Array, now: Instant): void {
    this.#door.handleDatagram(local, from, datagram, now);
  }

  /** The next initiations to be opened by the owner, who hands the outcome to {@link handleBatch}. To be polled until there is none. */
  pollBatch(): InitiationBatch | undefined {
    return this.#door.pollBatch();
  }

  /** What came of a batch; `undefined` instead of `results`: nothing. It is not needed any more when the private key has changed since. */
  handleBatch(id: number, results: readonly BatchResult[] | undefined, now: Instant): void {
    this.#door.handleBatch(id, results, now);
  }

  /** How initiations fared that were not opened at once. */
  get batchCounters(): Readonly<InitiationQueue["counters"]> {
    return this.#door.batchCounters;
  }

  /** A packet for a peer that has no usable session, or no path. The device owns the bytes from now on. */
  handlePacket(name: PeerName, packet: Uint8Array, now: Instant): void {
    const record = this.#peers.get(name);
    if (record?.peer === undefined || record.endpoint === undefined) {
      this.droppedPackets++;
      return;
    }
    record.peer.handlePacket(packet, now);
    this.#drain(record, now);
  }

  /** The datapath has received the first transport message of a session. */
  handleSessionConfirmed(name: PeerName, localIndex: number, now: Instant): void {
    const record = this.#peers.get(name);
    record?.peer?.handleSessionConfirmed(localIndex, now);
    if (record !== undefined) this.#drain(record, now);
  }

  /** The datapath has received an authenticated transport message from another address than the peer's. */
  handleEndpointMoved(name: PeerName, local: SocketAddress, remote: SocketAddress, now: Instant): void {
    const record = this.#peers.get(name);
    if (record === undefined) return;
    this.#roaming.move(record, { local, remote }, "rewrite-path");
    this.#drain(record, now);
  }

  /** A session has sent so much that it should be replaced. */
  handleRekeyNeeded(name: PeerName, now: Instant): void {
    const record = this.#peers.get(name);
    if (record?.endpoint === undefined) return;
    record.peer?.initiate(now);
    this.#drain(record, now);
  }

  /** What a peer's connection has carried. To be fed before each {@link handleTimeout} for all of those that have carried something. */
  handleActivity(name: PeerName, activity: ConnectionActivity, now: Instant): void {
    const record = this.#peers.get(name);
    if (record === undefined) return;
    record.activity = activity;
    if (record.peer === undefined) return;
    record.peer.handleActivity(activity, now);
    this.#deadlines.set(record, record.peer.pollTimeout());
  }

  handleTimeout(now: Instant): void {
    this.#activityPoll.handleTimeout(now);
    for (const record of this.#deadlines.takeDue(now)) {
      record.peer?.handleTimeout(now);
      this.#drain(record, now);
    }
  }

  pollTimeout(): Instant | undefined {
    return earliest(this.#deadlines.next(), this.#activityPoll.pollTimeout());
  }

  pollTransmit(): Transmit | undefined {
    return this.#transmits.shift();
  }

  pollEvent(): DeviceEvent | undefined {
    return this.#events.shift();
  }

  /** Forgets everything; the device is as new, `connection-removed` and the like follow. */
  close(now: Instant): void {
    this.configure({ privateKey: new Uint8Array(KEY_LENGTH), replacePeers: true, peers: [] }, now);
    this.#transmits = [];
  }

  // ---- Configuration

  #setPrivateKey(privateKey: Uint8Array, now: Instant): void {
    // The same key again, as `wg setconf` sends it, must not cost the sessions.
    if (this.#identity !== undefined && constantTimeEqual(this.#identity.privateKey, privateKey)) return;
    for (const record of this.#peers.values()) this.#stopPeer(record);
    this.#identity?.wipe();
    this.#identity = undefined;
    this.#door.close();
    if (privateKey.every((byte) => byte === 0)) {
      this.#events.push({ type: "identity-changed", publicKey: undefined });
      return;
    }

    const identity = new LocalIdentity(privateKey, this.#options.crypto);
    this.#identity = identity;
    this.#door.open(identity);
    this.#events.push({ type: "identity-changed", publicKey: identity.publicKey });
    for (const record of [...this.#peers.values()]) {
      if (bytesEqual(record.publicKey, identity.publicKey)) this.#removePeer(record);
      else this.#startPeer(record, now);
    }
  }

  #configurePeer(change: PeerChange, now: Instant): ConfigurationError | undefined {
    const name = toHex(change.publicKey);
    const known = this.#peers.get(name);
    if (change.remove === true) {
      if (known !== undefined) this.#removePeer(known);
      return undefined;
    }
    if (known === undefined && change.updateOnly === true) return undefined;
    // A device is not its own peer; like the kernel, this is not called an error.
    if (this.#identity !== undefined && bytesEqual(change.publicKey, this.#identity.publicKey)) return undefined;
    const record = known ?? this.#addPeer(name, change.publicKey, now);
    if (record === undefined) return "too-many-peers";

    if (change.presharedKey !== undefined) {
      record.presharedKey.fill(0);
      record.presharedKey = change.presharedKey.slice();
      record.peer?.setPresharedKey(change.presharedKey);
    }
    if (change.endpoint !== undefined) this.#roaming.configure(record, change.endpoint);
    const error = this.#routing.configure(record, change);
    if (change.persistentKeepaliveInterval !== undefined)
      this.#setPersistentKeepalive(record, change.persistentKeepaliveInterval, now);
    this.#drain(record, now);
    return error;
  }

  #setPersistentKeepalive(record: PeerRecord, interval: number, now: Instant): void {
    const wasOff = record.persistentKeepaliveInterval === 0;
    record.persistentKeepaliveInterval = interval;
    record.peer?.setPersistentKeepalive(intervalOf(record), now);
    // Switched on: the first keepalive is due at once, and that is a handshake where there is no session.
    if (!wasOff || interval === 0 || record.peer === undefined || record.endpoint === undefined) return;
    if (record.peer.isConnected) this.#events.push({ type: "send-keepalive", connection: record.name });
    else record.peer.initiate(now);
  }

  // ---- Peers

  #addPeer(name: PeerName, publicKey: Uint8Array, now: Instant): PeerRecord | undefined {
    if (this.#peers.size >= this.#options.maxPeers) return undefined;
    const record = newPeerRecord(name, publicKey);
    this.#peers.set(name, record);
    this.#events.push({ type: "connection-added", connection: name });
    this.#startPeer(record, now);
    return record;
  }

  #removePeer(record: PeerRecord): void {
    this.#stopPeer(record);
    this.#routing.removePeer(record);
    record.presharedKey.fill(0);
    this.#peers.delete(record.name);
    this.#events.push({ type: "connection-removed", connection: record.name });
  }

  #startPeer(record: PeerRecord, now: Instant): void {
    if (this.#identity === undefined) return;
    const { crypto, random, clock } = this.#options;
    record.peer = new Peer(
      {
        identity: this.#identity,
        remotePublicKey: record.publicKey,
        presharedKey: record.presharedKey,
        persistentKeepalive: intervalOf(record),
        mayInitiate: record.endpoint !== undefined,
        crypto,
        random,
        clock,
        indices: this.#indices,
      },
      now,
    );
    this.#byIndex.set(record.peer.index, record);
    this.#deadlines.set(record, record.peer.pollTimeout());
  }

  #stopPeer(record: PeerRecord): void {
    const { peer } = record;
    if (peer === undefined) return;
    peer.close();
    for (let event = peer.pollEvent(); event !== undefined; event = peer.pollEvent()) {
      this.#activityPoll.handleEvent(event);
      if (event.type === "session-removed") this.#events.push({ ...event, connection: record.name });
    }
    this.#byIndex.delete(peer.index);
    record.peer = undefined;
    this.#deadlines.set(record, undefined);
  }

  #refuse(from: SocketAddress, error: WireGuardError): void {
    this.#events.push({ type: "handshake-refused", from, error });
  }

  /** A handshake message was for this peer; where it was accepted and `moves`, the peer is where the message came from. */
  #afterMessage(
    record: PeerRecord | undefined,
    error: WireGuardError | undefined,
    { origin, moves }: { readonly origin: MessageOrigin; readonly moves: boolean },
    now: Instant,
  ): void {
    const { local, from, length } = origin;
    if (error !== undefined) this.#refuse(from, error);
    if (record === undefined) return;
    if (error === undefined) {
      record.handshakeRxBytes += length;
      if (moves) this.#roaming.move(record, { local, remote: from }, "if-changed");
    }
    this.#drain(record, now);
  }

  #drain(record: PeerRecord, now: Instant): void {
    const { peer } = record;
    if (peer === undefined) return;
    for (let event = peer.pollEvent(); event !== undefined; event = peer.pollEvent())
      this.#handlePeerEvent(record, event, now);
    for (let message = peer.pollTransmit(); message !== undefined; message = peer.pollTransmit()) {
      if (record.endpoint === undefined) continue;
      record.handshakeTxBytes += message.length;
      this.#transmits.push(transmit(record.endpoint, message));
    }
    for (let packet = peer.pollPacket(); packet !== undefined; packet = peer.pollPacket())
      this.#events.push({ type: "send-packet", connection: record.name, packet });
    this.#deadlines.set(record, peer.pollTimeout());
  }

  #handlePeerEvent(record: PeerRecord, event: PeerEvent, now: Instant): void {
    const connection = record.name;
    this.#activityPoll.handleEvent(event);
    switch (event.type) {
      case "session-established":
      case "session-current":
      case "session-removed":
      case "send-keepalive":
        this.#events.push({ ...event, connection });
        return;
      case "handshake-initiated":
        // No answer to the first: perhaps because our old address is not ours any more.
        if (event.attempt > 1) this.#roaming.forgetLocalAddress(record);
        this.#events.push({ type: "handshake-initiated", connection, attempt: event.attempt });
        return;
      case "handshake-complete":
        record.lastHandshakeAt = this.#options.clock.unixTime(now);
        this.#events.push({ type: "handshake-complete", connection, role: event.role });
        return;
      case "expired":
        this.#events.push({ type: "peer-expired", connection, reason: event.reason });
        return;
    }
  }
}
