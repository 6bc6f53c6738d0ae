// A node: all connections of a client or a gateway, over one set of sockets (spec 02, sections 2 and 7 to 9). It finds the
// connection that an input is for, in constant time and whatever address it came from (section 7, "later fixed"):
//
//   STUN request         by the user fragment that it names
//   STUN response        by the transaction that it answers
//   WireGuard initiation by the static key in it
//   WireGuard answers    by the receiver index
//
// WireGuard messages are looked at only when they come from where an authenticated connectivity check has come from: whoever has not
// proved to be on the other side of a connection costs no public-key operation.

import type { SocketAddress } from "../base/address.js";
import type { Crypto } from "../base/crypto.js";
import { Deadlines } from "../base/deadlines.js";
import { EventQueue } from "../base/event-queue.js";
import { BoundedQueue } from "../base/queue.js";
import type { Random } from "../base/random.js";
import type { StateMachine, Transmit } from "../base/state-machine.js";
import { earliest, type Instant } from "../base/time.js";
import { isCandidateAddress } from "../ice/candidate.js";
import { IceDispatcher } from "../ice/dispatcher.js";
import { hostCandidate } from "../ice/local-candidate.js";
import type { IceRole } from "../ice/pair.js";
import { mayBeChannelData } from "../stun/channel-data.js";
import { parseStunMessage, type StunMessage } from "../stun/message.js";
import { ActivityPoll } from "../wireguard/activity-poll.js";
import type { WireGuardError } from "../wireguard/errors.js";
import { HandshakeDoor } from "../wireguard/handshake-door.js";
import type { LocalIdentity } from "../wireguard/identity.js";
import { PeerIndices } from "../wireguard/indices.js";
import type { Tai64nClock } from "../wireguard/tai64n.js";
import type { Activity } from "../wireguard/timers.js";
import { Connection, type ConnectionContext } from "./connection.js";
import { ConnectionIndex } from "./connection-index.js";
import type { FailureReason, NodeEvent, Relay } from "./events.js";
import { RelayAssignment } from "./relay-assignment.js";
import { Relays, type RelaysCounters } from "./relays.js";

/** Addresses of this host that are offered to others; further ones are refused and counted. */
export const MAX_HOST_CANDIDATES = 64;

/** Datagrams that wait to be fetched; the oldest has to go first. The driver fetches after every input. */
export const MAX_QUEUED_TRANSMITS = 8192;

/** What a node is made of. */
export interface NodeOptions {
  /** The node's static key pair, the same for all connections. */
  readonly identity: LocalIdentity;
  readonly crypto: Crypto;
  /** Cryptographic in programs, seeded in tests. */
  readonly random: Random;
  /** Timestamps of handshakes. */
  readonly clock: Tai64nClock;
}

/** What a node has dropped, since creation. */
export interface NodeCounters {
  /** STUN messages that no agent takes: unknown, forged, or late (`UnhandledStunMessage`). */
  unhandledStun: number;
  /** Messages that belong to no connection, or came from where no check has come from (`UnhandledPacket`). */
  unhandledPacket: number;
  /** Handshake messages refused by the connection that they were for, or before it was known which. */
  readonly refusedHandshakes: Partial<Record<WireGuardError, number>>;
  /** Packets for connections that do not exist, or have no answer yet. */
  notConnected: number;
  /** Local addresses that were no candidates, or too many: refused, or datagrams that came there dropped. */
  badLocalAddress: number;
}

/** What client and gateway nodes have in common. */
export abstract class ConnectionNode implements StateMachine<NodeEvent> {
  readonly counters: NodeCounters = {
    unhandledStun: 0,
    unhandledPacket: 0,
    refusedHandshakes: {},
    notConnected: 0,
    badLocalAddress: 0,
  };

  protected readonly random: Random;
  readonly #identity: LocalIdentity;
  readonly #context: ConnectionContext;
  readonly #door: HandshakeDoor;
  readonly #relays: Relays;
  readonly #assignment: RelayAssignment;
  readonly #dispatcher = new IceDispatcher();
  readonly #connections = new ConnectionIndex();
  readonly #deadlines = new Deadlines<Connection>();
  readonly #activityPoll = new ActivityPoll();
  readonly #hosts = new Map<string, SocketAddress>();
  readonly #transmits = new BoundedQueue<Transmit>(MAX_QUEUED_TRANSMITS, "drop-oldest");
  readonly #events = new EventQueue<NodeEvent>();

  protected constructor(role: IceRole, options: NodeOptions) {
    const { identity, crypto, random, clock } = options;
    this.random = random;
    this.#identity = identity;
    this.#door = new HandshakeDoor({
      crypto,
      random,
      sources: "checked",
      batches: false,
      handleInitiation: (opened, { from }, now) =>
        this.#deliver(this.#connections.findInitiator(opened.staticPublicKey, from), (connection) =>
          connection.handleInitiation(opened, now),
        ),
      handleResponse: (message, { from }, now) =>
        this.#deliver(this.#connections.findReceiver(message.receiverIndex, from), (connection) =>
          connection.handleResponse(message, now),
        ),
      handleCookieReply: (message, { from }, now) =>
        this.#deliver(this.#connections.findReceiver(message.receiverIndex, from), (connection) =>
          connection.handleCookieReply(message, now),
        ),
      sendCookieReply: (reply, { local, from }, now) =>
        this.#transmit({ source: local, destination: from, payload: reply }, now),
      refuse: (_from, error) => this.#countRefused(error),
    });
    this.#door.open(identity);
    this.#relays = new Relays(random, crypto);
    this.#assignment = new RelayAssignment(this.#relays, this.#connections);
    this.#context = {
      role,
      identity,
      crypto,
      random,
      clock,
      indices: new PeerIndices(random),
      dispatcher: this.#dispatcher,
      schedule: (connection, deadline) => this.#deadlines.set(connection, deadline),
      emit: (event) => {
        this.#activityPoll.handleEvent(event);
        this.#events.push(event);
      },
      transmit: (transmit, now) => this.#transmit(transmit, now),
      bindChannel: (relay, peer, now) => {
        this.#relays.bindChannel(relay, peer, now);
        this.#drainRelays(now);
      },
      relayedPath: (local, peer, now) =>
        this.#relays.isRelayed(local) ? this.#relays.pathTo(local, peer, now) : "direct",
      pathLost: (connection, now) => this.#assignment.assignAnother(connection, now),
      sourceDiscovered: (connection, source) => this.#connections.addSource(connection, source),
    };
  }

  /** What the relays have dropped. */
  get relaysCounters(): Readonly<RelaysCounters> {
    return this.#relays.counters;
  }

  /** Gives what relays lend us back, before the program ends. What is left to send is in {@link pollTransmit}. */
  close(now: Instant): void {
    this.#relays.close(now);
    this.#drainRelays(now);
  }

  /** The node's static public key, 32 bytes. */
  get publicKey(): Uint8Array {
    return this.#identity.publicKey;
  }

  /** Takes a candidate of the other side, as signalled; ignored for unknown connections and when it does not parse. */
  addRemoteCandidate(id: string, candidate: string, now: Instant): void {
    this.#with(id, (connection) => connection.addRemoteCandidate(candidate, now));
  }

  /** A candidate of the other side is gone. */
  removeRemoteCandidate(id: string, candidate: string, now: Instant): void {
    this.#with(id, (connection) => connection.removeRemoteCandidate(candidate, now));
  }

  /** Offers an address of this host, with the port of our socket. @returns false when it cannot be a candidate (spec 02, section 4.1). */
  addLocalHostCandidate(address: SocketAddress, now: Instant): boolean {
    if (this.#hosts.has(address.key)) return true;
    if (!isCandidateAddress(address) || this.#hosts.size >= MAX_HOST_CANDIDATES) {
      this.counters.badLocalAddress++;
      return false;
    }
    this.#hosts.set(address.key, address);
    for (const connection of this.#connections.values()) connection.addHostCandidate(hostCandidate(address), now);
    return true;
  }

  /** The address is no longer this host's. */
  removeLocalHostCandidate(address: SocketAddress, now: Instant): void {
    if (!this.#hosts.delete(address.key)) return;
    for (const connection of this.#connections.values()) connection.removeHostCandidate(hostCandidate(address), now);
    this.#relays.removeBase(address, now);
    this.#drainRelays(now);
  }

  /** Removes relays, then adds some. */
  updateRelays(removed: readonly string[], added: readonly Relay[], now: Instant): void {
    this.#relays.updateRelays(removed, added, now);
    this.#drainRelays(now);
  }

  /** Relays are asked anew how they see us, and to lend us addresses; connections stay. */
  restartRelays(now: Instant): void {
    this.#relays.reset(now);
    this.#drainRelays(now);
  }

  /** Ends a connection without a failed or closed event. */
  removeConnection(id: string, _now: Instant): void {
    this.#remove(id);
  }

  /** The network has changed: all connections end, addresses of this host and how relays see them are to be found anew. */
  reset(now: Instant): void {
    const ids = this.#connections.ids();
    for (const id of ids) this.#remove(id);
    this.#hosts.clear();
    this.#transmits.clear();
    this.restartRelays(now);
    for (const connection of ids) this.#events.push({ type: "connection-closed", connection, reason: "reset" });
  }

  /** A STUN message, a WireGuard handshake message or channel data, which came to `local` from `from`. */
  handleInput(local: SocketAddress, from: SocketAddress, datagram: Uint8Array, now: Instant): void {
    if (!this.addLocalHostCandidate(local, now)) return;
    if (mayBeChannelData(datagram)) {
      const relayed = this.#relays.unwrap(datagram, from, now);
      this.#drainRelays(now);
      if (relayed !== undefined) this.#handleMessage(relayed.relayed, relayed.peer, relayed.data, now);
      return;
    }
    this.#handleMessage(local, from, datagram, now);
  }

  /** An IP packet for which the datapath has no usable session or path. The node owns the bytes from now on. */
  handlePacket(id: string, packet: Uint8Array, now: Instant): void {
    if (this.#connections.get(id)?.isExpectingAnswer !== false) this.counters.notConnected++;
    else this.#with(id, (connection) => connection.handlePacket(packet, now));
  }

  /** What the datapath has counted for a connection: to be fed before each {@link handleTimeout} for all of those that have carried something. */
  handleActivity(id: string, activity: Activity, now: Instant): void {
    const connection = this.#connections.get(id);
    connection?.handleActivity(activity, now);
    const path = connection?.path;
    if (path?.relay !== undefined)
      this.#relays.handleActivity(path.local, path.remote, Math.max(activity.sentAt, activity.receivedAt));
  }

  /** The datapath has received the first message of a session that the other side started. */
  handleSessionConfirmed(id: string, localIndex: number, now: Instant): void {
    this.#with(id, (connection) => connection.handleSessionConfirmed(localIndex, now));
  }

  /** The datapath has received a message of a connection from elsewhere than its path leads to. */
  handleEndpointMoved(id: string, now: Instant): void {
    this.#with(id, (connection) => connection.handleEndpointMoved(now));
  }

  /** Id of a connection with this remote key (32 bytes) that has a session. */
  connectionId(publicKey: Uint8Array): string | undefined {
    for (const { id, hasSession } of this.#connections.withPublicKey(publicKey)) if (hasSession) return id;
    return undefined;
  }

  handleTimeout(now: Instant): void {
    this.#activityPoll.handleTimeout(now);
    for (const connection of this.#deadlines.takeDue(now)) {
      connection.handleTimeout(now);
      this.#removeIfFailed(connection);
    }
    this.#relays.handleTimeout(now);
    this.#drainRelays(now);
  }

  pollTimeout(): Instant | undefined {
    const own = earliest(this.#deadlines.next(), this.#activityPoll.pollTimeout());
    return earliest(this.#relays.pollTimeout(), own);
  }

  pollTransmit(): Transmit | undefined {
    return this.#transmits.shift();
  }

  pollEvent(): NodeEvent | undefined {
    return this.#events.shift();
  }

  /** The connection with this id. */
  protected connection(id: string): Connection | undefined {
    return this.#connections.get(id);
  }

  /** Makes a connection, in place of one with this id. */
  protected create(id: string, sessionKey: Uint8Array, now: Instant): Connection {
    const waiting = this.#connections.get(id)?.takeWaitingPackets() ?? [];
    this.#remove(id);
    const connection = new Connection(id, sessionKey, this.#context, now);
    connection.inheritPackets(waiting);
    this.#connections.add(connection);
    return connection;
  }

  /** The signalling of a connection is complete, {@link Connection.start} has been called: offers what is known of our addresses. */
  protected seed(connection: Connection, now: Instant): void {
    this.#connections.addPeer(connection);
    for (const address of this.#hosts.values()) connection.addHostCandidate(hostCandidate(address), now);
    for (const candidate of this.#relays.reflexiveCandidates) connection.addReflexiveCandidate(candidate);
    this.#assignment.assign(connection, now);
  }

  /** Ends a connection and says why. */
  protected fail(connection: Connection, reason: FailureReason): void {
    connection.failure ??= reason;
    this.#removeIfFailed(connection);
  }

  #handleMessage(local: SocketAddress, from: SocketAddress, datagram: Uint8Array, now: Instant): void {
    const message = parseStunMessage(datagram);
    if (typeof message !== "string") this.#handleStun(message, local, from, now);
    else this.#handleHandshake(local, from, datagram, now);
  }

  #handleStun(message: StunMessage, local: SocketAddress, from: SocketAddress, now: Instant): void {
    if (this.#relays.handleInput(message, local, from, now)) {
      this.#drainRelays(now);
      return;
    }
    const agent = this.#dispatcher.find(message);
    const accepted = agent?.accept(message);
    const connection = agent && this.#connections.withUsername(agent.localCredentials.username);
    if (accepted === undefined || connection === undefined) {
      this.counters.unhandledStun++;
      return;
    }
    connection.handleCheck(accepted, local, from, now);
    this.#removeIfFailed(connection);
  }

  #handleHandshake(local: SocketAddress, from: SocketAddress, datagram: Uint8Array, now: Instant): void {
    if (!this.#connections.isSource(from)) {
      this.counters.unhandledPacket++;
      return;
    }
    this.#door.handleDatagram(local, from, datagram, now);
  }

  #deliver(connection: Connection | undefined, handle: (connection: Connection) => WireGuardError | undefined): void {
    if (connection === undefined) {
      this.counters.unhandledPacket++;
      return;
    }
    const error = handle(connection);
    if (error !== undefined) this.#countRefused(error);
    this.#removeIfFailed(connection);
  }

  #countRefused(error: WireGuardError): void {
    this.counters.refusedHandshakes[error] = (this.counters.refusedHandshakes[error] ?? 0) + 1;
  }

  #with(id: string, act: (connection: Connection) => void): boolean {
    const connection = this.#connections.get(id);
    if (connection === undefined) return false;
    act(connection);
    this.#removeIfFailed(connection);
    return true;
  }

  /** Sends a datagram; over a relay if it is to leave from an address that one lends us. */
  #transmit(transmit: Transmit, now: Instant): void {
    const { source, destination, payload } = transmit;
    if (source === undefined || !this.#relays.isRelayed(source)) {
      this.#transmits.push(transmit);
      return;
    }
    const wrapped = this.#relays.wrap(source, destination, payload, now);
    // A channel that was asked for right now goes first.
    this.#drainRelayTransmits();
    if (wrapped !== undefined) this.#transmits.push(wrapped);
  }

  #drainRelayTransmits(): void {
    for (let transmit = this.#relays.pollTransmit(); transmit !== undefined; transmit = this.#relays.pollTransmit())
      this.#transmits.push(transmit);
  }

  #drainRelays(now: Instant): void {
    this.#drainRelayTransmits();
    for (let event = this.#relays.pollEvent(); event !== undefined; event = this.#relays.pollEvent())
      if (event.type === "relay-failed") this.#events.push(event);
      else this.#assignment.handleEvent(event, now);
    this.#drainRelayTransmits();
  }

  #removeIfFailed(connection: Connection): void {
    const { id, failure } = connection;
    if (failure === undefined || this.#connections.get(id) !== connection) return;
    this.#remove(id);
    this.#events.push({ type: "connection-failed", connection: id, reason: failure });
  }

  #remove(id: string): void {
    const connection = this.#connections.get(id);
    if (connection === undefined) return;
    this.#connections.remove(connection);
    this.#deadlines.set(connection, undefined);
    connection.close();
  }
}
