// Clients and gateways in simulated time: state machines under test (nodes, or the tunnel states above them), for each a small
// datapath in TypeScript that does what the packet engine does with sessions and paths, and a network between them with latency,
// loss, blocked ways, NATs and a STUN server.

import assert from "node:assert/strict";
import { IpAddress, SocketAddress } from "../../src/base/address.js";
import { viewOf } from "../../src/base/bytes.js";
import { type Random, randomBelow } from "../../src/base/random.js";
import type { StateMachine, Transmit } from "../../src/base/state-machine.js";
import type { Duration, Instant } from "../../src/base/time.js";
import { ClientNode } from "../../src/connection/client-node.js";
import type { DatapathEvent, NodeEvent, Offer, Path } from "../../src/connection/events.js";
import { GatewayNode } from "../../src/connection/gateway-node.js";
import { XorMappedAddress } from "../../src/stun/attributes.js";
import { StunBuilder } from "../../src/stun/builder.js";
import { parseStunMessage } from "../../src/stun/message.js";
import { nodeCrypto } from "../../src/system/crypto.js";
import { REJECT_AFTER_TIME } from "../../src/wireguard/constants.js";
import { LocalIdentity } from "../../src/wireguard/identity.js";
import { encodeTransport, parseMessage, type TransportData } from "../../src/wireguard/messages.js";
import type { EstablishedSession } from "../../src/wireguard/peer.js";
import { Tai64nClock } from "../../src/wireguard/tai64n.js";
import type { Activity } from "../../src/wireguard/timers.js";
import { seededRandom } from "./random.js";

/** Simulations start here: 0 stands for "never" in the datapath's stamps. */
export const START: Instant = 10_000;

/** Wall-clock time at `Instant` 0. */
export const UNIX_TIME = 1_724_716_800_000;

/** Parses a socket address. */
export function socketAddress(text: string): SocketAddress {
  const address = SocketAddress.parse(text);
  assert.ok(address, text);
  return address;
}

/** Parses an IP address. */
export function ipAddress(text: string): IpAddress {
  const address = IpAddress.parse(text);
  assert.ok(address, text);
  return address;
}

/** What a host can drive: a node, or the state that owns one. */
export interface Machine<Event> extends StateMachine<Event> {
  handleInput(local: SocketAddress, from: SocketAddress, datagram: Uint8Array, now: Instant): void;
  handlePacket(connection: string, packet: Uint8Array, now: Instant): void;
  handleActivity(connection: string, activity: Activity, now: Instant): void;
  handleSessionConfirmed(connection: string, localIndex: number, now: Instant): void;
}

interface Session extends EstablishedSession {
  readonly connection: string;
  confirmed: boolean;
  counter: bigint;
  readonly seen: Set<bigint>;
}

interface Connection {
  current: Session | undefined;
  path: Path | undefined;
  activity: { sentAt: Instant; receivedAt: Instant; sentDataAt: Instant; receivedDataAt: Instant };
}

/** A packet that has arrived. */
export interface Delivery {
  readonly at: Instant;
  readonly connection: string;
  readonly packet: Uint8Array;
}

/** Translates the addresses of a host: one public address, ports by mapping. */
export interface Nat {
  readonly address: IpAddress;
  /** A mapping of its own for each destination ("symmetric"), instead of one for all. */
  readonly symmetric: boolean;
}

/** A state machine with sockets and a datapath. */
export class SimulatedHost<
  Event extends { readonly type: string } = NodeEvent,
  M extends Machine<Event> = Machine<Event>,
> {
  readonly name: string;
  readonly machine: M;
  /** Local addresses; the first of a family is the source of what has none. */
  readonly addresses: SocketAddress[];
  /** Everything that the machine reported, with the time. */
  readonly events: { readonly at: Instant; readonly event: Event }[] = [];
  /** Packets that arrived. */
  readonly delivered: Delivery[] = [];
  /** Datagrams that left and were not fetched by the network yet. */
  readonly outbox: Transmit[] = [];
  /** Transport messages that no session opens. */
  unopened = 0;
  keepalives = 0;
  nat: Nat | undefined;
  /** What the test does with events, after the datapath. */
  onEvent: (event: Event, now: Instant) => void = () => undefined;
  /** What the test does with a packet that has arrived. */
  onPacket: (delivery: Delivery) => void = () => undefined;

  readonly #connections = new Map<string, Connection>();
  readonly #sessions = new Map<number, Session>();

  constructor(name: string, machine: M, addresses: readonly SocketAddress[]) {
    this.name = name;
    this.machine = machine;
    this.addresses = [...addresses];
  }

  /** Ids of the connections that the datapath knows. */
  get connections(): readonly string[] {
    return [...this.#connections.keys()];
  }

  /** Number of sessions that can receive. */
  get sessions(): number {
    return this.#sessions.size;
  }

  path(connection: string): Path | undefined {
    return this.#connections.get(connection)?.path;
  }

  /** Events of one type. */
  of<T extends Event["type"]>(type: T): Extract<Event, { readonly type: T }>[] {
    return this.events
      .map(({ event }) => event)
      .filter((event): event is Extract<Event, { type: T }> => event.type === type);
  }

  /** Sends a packet over a connection, as the datapath does for a packet whose route leads there. */
  send(connection: string, packet: Uint8Array, now: Instant): void {
    if (!this.#seal(connection, packet, now)) this.machine.handlePacket(connection, packet, now);
    this.drain(now);
  }

  receive(local: SocketAddress, from: SocketAddress, datagram: Uint8Array, now: Instant): void {
    const message = parseMessage(datagram);
    if (message?.type === "transport") this.#open(message, now);
    else this.machine.handleInput(local, from, datagram, now);
    this.drain(now);
  }

  handleTimeout(now: Instant): void {
    for (const [id, { activity }] of this.#connections) this.machine.handleActivity(id, { ...activity }, now);
    this.machine.handleTimeout(now);
    this.drain(now);
  }

  /** Takes what the machine has to say. */
  drain(now: Instant): void {
    for (let event = this.machine.pollEvent(); event !== undefined; event = this.machine.pollEvent()) {
      this.events.push({ at: now, event });
      this.#apply(event as { readonly type: string }, now);
      this.onEvent(event, now);
    }
    for (let transmit = this.machine.pollTransmit(); transmit !== undefined; transmit = this.machine.pollTransmit())
      this.outbox.push(transmit);
  }

  #open(message: TransportData, now: Instant): void {
    const session = this.#sessions.get(message.receiverIndex);
    const expired = session !== undefined && now - session.establishedAt >= REJECT_AFTER_TIME;
    const nonce = nonceOf(message.counter);
    const packet =
      session === undefined || expired || session.seen.has(message.counter)
        ? undefined
        : nodeCrypto.chacha20Poly1305Open(session.receiveKey, nonce, message.encryptedPacket, new Uint8Array());
    if (session === undefined || packet === undefined) {
      this.unopened++;
      return;
    }
    session.seen.add(message.counter);
    const connection = this.#connections.get(session.connection);
    if (connection !== undefined) {
      connection.activity.receivedAt = Math.floor(now);
      if (packet.length > 0) connection.activity.receivedDataAt = Math.floor(now);
    }
    if (packet.length > 0) {
      const delivery = { at: now, connection: session.connection, packet };
      this.delivered.push(delivery);
      this.onPacket(delivery);
    }
    if (session.confirmed) return;
    session.confirmed = true;
    this.machine.handleSessionConfirmed(session.connection, session.localIndex, now);
  }

  #seal(id: string, packet: Uint8Array, now: Instant): boolean {
    const connection = this.#connections.get(id);
    const { current: session, path, activity } = connection ?? {};
    if (session === undefined || path === undefined || activity === undefined) return false;
    if (now - session.establishedAt >= REJECT_AFTER_TIME) return false;
    const counter = session.counter++;
    const nonce = nonceOf(counter);
    const encryptedPacket = nodeCrypto.chacha20Poly1305Seal(session.sendKey, nonce, packet, new Uint8Array());
    const payload = encodeTransport({ receiverIndex: session.remoteIndex, counter, encryptedPacket });
    this.outbox.push({ source: path.local, destination: path.remote, payload });
    activity.sentAt = Math.floor(now);
    if (packet.length > 0) activity.sentDataAt = Math.floor(now);
    return true;
  }

  /** The datapath's part of an event. The checks are what `src/programs/dataplane.ts` relies on. */
  #apply(anyEvent: { readonly type: string }, now: Instant): void {
    if (!isDatapathEvent(anyEvent)) return;
    const event = anyEvent;
    const id = event.connection;
    const known = this.#connections.get(id);
    if (event.type === "connection-added") {
      assert.ok(!known, `${this.name}: ${id} is added twice`);
      this.#connections.set(id, {
        current: undefined,
        path: undefined,
        activity: { sentAt: 0, receivedAt: 0, sentDataAt: 0, receivedDataAt: 0 },
      });
      return;
    }
    assert.ok(known, `${this.name}: ${event.type} of ${id}, which does not exist`);
    switch (event.type) {
      case "connection-removed":
        this.#connections.delete(id);
        for (const [index, session] of this.#sessions) if (session.connection === id) this.#sessions.delete(index);
        return;
      case "session-established": {
        const { session } = event;
        assert.ok(!this.#sessions.has(session.localIndex), `${this.name}: local index in use`);
        const confirmed = session.role === "initiator";
        this.#sessions.set(session.localIndex, { ...session, connection: id, confirmed, counter: 0n, seen: new Set() });
        return;
      }
      case "session-current": {
        const session = this.#sessions.get(event.localIndex);
        assert.ok(session?.connection === id, `${this.name}: the current session is installed`);
        known.current = session;
        return;
      }
      case "session-removed":
        assert.ok(this.#sessions.delete(event.localIndex), `${this.name}: a removed session was installed`);
        if (known.current?.localIndex === event.localIndex) known.current = undefined;
        return;
      case "path-selected":
        known.path = event.path;
        return;
      case "send-keepalive":
        if (this.#seal(id, new Uint8Array(), now)) this.keepalives++;
        return;
      case "send-packet":
        // As from an application: without a session or a path it comes back to the machine.
        if (!this.#seal(id, event.packet, now)) this.machine.handlePacket(id, event.packet, now);
        return;
    }
  }
}

const DATAPATH_EVENTS: Record<DatapathEvent["type"], true> = {
  "connection-added": true,
  "connection-removed": true,
  "session-established": true,
  "session-current": true,
  "session-removed": true,
  "path-selected": true,
  "send-keepalive": true,
  "send-packet": true,
};

function isDatapathEvent(event: { readonly type: string }): event is DatapathEvent {
  return Object.hasOwn(DATAPATH_EVENTS, event.type);
}

function nonceOf(counter: bigint): Uint8Array {
  const nonce = new Uint8Array(12);
  viewOf(nonce).setBigUint64(4, counter, true);
  return nonce;
}

/** A datagram on the wire, as the one who sent it saw it. */
export interface SentDatagram {
  readonly at: Instant;
  readonly from: string;
  /** Private address, before a NAT. */
  readonly source: SocketAddress;
  readonly destination: SocketAddress;
  readonly payload: Uint8Array;
}

/** What the network needs of a host, whatever its events are. */
type AnyHost = Pick<
  SimulatedHost<{ readonly type: string }, Machine<{ readonly type: string }>>,
  "name" | "addresses" | "outbox" | "nat" | "receive" | "handleTimeout" | "drain"
> & { readonly machine: Pick<StateMachine<unknown>, "pollTimeout"> };

interface Mapping {
  readonly host: AnyHost;
  readonly inside: SocketAddress;
  /** Whom the inside has sent to: only they may send back. */
  readonly peers: Set<string>;
}

/** Hosts, and what is under way between them. */
export class SimulatedNetwork {
  now: Instant = START;
  readonly random: Random;
  /** One way. */
  latency: Duration = 10;
  /** Percent of datagrams that vanish. */
  loss = 0;
  /** Ways that swallow datagrams; addresses are those on the wire, after a NAT. */
  isBlocked: (source: SocketAddress, destination: SocketAddress, payload: Uint8Array) => boolean = () => false;
  /** Addresses where a STUN server answers binding requests. */
  readonly stunServers = new Set<string>();
  readonly sent: SentDatagram[] = [];

  readonly #hosts: AnyHost[] = [];
  readonly #mappings = new Map<string, Mapping>();
  readonly #mappingOf = new Map<string, SocketAddress>();
  #underWay: { readonly at: Instant; readonly act: () => void }[] = [];
  #nextPort = 40_000;

  constructor(seed = 1) {
    this.random = seededRandom(seed);
  }

  add(host: AnyHost): void {
    this.#hosts.push(host);
  }

  /** Does something later, before timeouts of the same time. */
  schedule(delay: Duration, act: () => void): void {
    const at = this.now + delay;
    const index = this.#underWay.findIndex((entry) => entry.at > at);
    this.#underWay.splice(index === -1 ? this.#underWay.length : index, 0, { at, act });
  }

  /** Lets time pass until `until`, delivering and waking what is due. */
  run(until: Instant): void {
    for (let steps = 0; ; steps++) {
      assert.ok(steps < 1_000_000, "the simulation does not come to rest");
      for (const host of this.#hosts) this.#fetch(host);
      const deadlines = this.#hosts.map(({ machine }) => machine.pollTimeout() ?? Number.POSITIVE_INFINITY);
      const next = Math.min(this.#underWay[0]?.at ?? Number.POSITIVE_INFINITY, ...deadlines);
      if (next > until) break;
      this.now = Math.max(this.now, next);
      const arrived = this.#underWay[0];
      if (arrived !== undefined && arrived.at <= this.now) {
        this.#underWay.shift();
        arrived.act();
        continue;
      }
      for (const host of this.#hosts) {
        if ((host.machine.pollTimeout() ?? Number.POSITIVE_INFINITY) > this.now) continue;
        this.#reachFixedPoint(host);
      }
    }
    this.now = until;
  }

  /** Lets `duration` pass. */
  wait(duration: Duration): void {
    this.run(this.now + duration);
  }

  /** Spec 02, section 13, invariant 11: repeated calls with the same time come to rest. */
  #reachFixedPoint(host: AnyHost): void {
    for (let calls = 0; (host.machine.pollTimeout() ?? Number.POSITIVE_INFINITY) <= this.now; calls++) {
      assert.ok(calls < 8, `${host.name}: handleTimeout leaves something due (busy loop)`);
      host.handleTimeout(this.now);
    }
  }

  #fetch(from: AnyHost): void {
    for (const { source, destination, payload } of from.outbox.splice(0)) {
      const inside = source ?? from.addresses.find(({ family }) => family === destination.family);
      // No address of this family, or not any more: the kernel refuses.
      if (inside === undefined || !from.addresses.some((address) => address.equals(inside))) continue;
      this.sent.push({ at: this.now, from: from.name, source: inside, destination, payload });
      const outside = this.#translate(from, inside, destination);
      if (this.loss > 0 && randomBelow(this.random, 100) < this.loss) continue;
      if (this.isBlocked(outside, destination, payload)) continue;
      this.schedule(this.latency, () => this.#deliver(outside, destination, payload));
    }
  }

  #translate(host: AnyHost, inside: SocketAddress, destination: SocketAddress): SocketAddress {
    const { nat } = host;
    if (nat === undefined || nat.address.family !== inside.family) return inside;
    const key = nat.symmetric ? `${inside.key} ${destination.key}` : inside.key;
    const outside = this.#mappingOf.get(key) ?? new SocketAddress(nat.address, this.#nextPort++);
    this.#mappingOf.set(key, outside);
    const mapping = this.#mappings.get(outside.key) ?? { host, inside, peers: new Set() };
    this.#mappings.set(outside.key, mapping);
    mapping.peers.add(destination.key);
    return outside;
  }

  #deliver(source: SocketAddress, destination: SocketAddress, payload: Uint8Array): void {
    if (this.stunServers.has(destination.key)) {
      this.#answerBinding(source, destination, payload);
      return;
    }
    const mapping = this.#mappings.get(destination.key);
    if (mapping !== undefined) {
      if (mapping.peers.has(source.key)) this.#receive(mapping.host, mapping.inside, source, payload);
      return;
    }
    // The private addresses behind a NAT are not reachable from outside.
    const host = this.#hosts.find(
      ({ addresses, nat }) =>
        nat?.address.family !== destination.family && addresses.some((address) => address.equals(destination)),
    );
    if (host !== undefined) this.#receive(host, destination, source, payload);
  }

  #receive(host: AnyHost, local: SocketAddress, source: SocketAddress, payload: Uint8Array): void {
    if (host.addresses.some((address) => address.equals(local))) host.receive(local, source, payload, this.now);
  }

  #answerBinding(source: SocketAddress, server: SocketAddress, payload: Uint8Array): void {
    const request = parseStunMessage(payload);
    if (typeof request === "string" || request.class !== "request") return;
    const answer = new StunBuilder("success", request.method, request.transactionId)
      .add(XorMappedAddress, source)
      .addFingerprint()
      .finish();
    if (!this.isBlocked(server, source, answer))
      this.schedule(this.latency, () => this.#deliver(server, source, answer));
  }
}

/** What {@link NodePair} can vary. */
export interface NodePairOptions {
  readonly seed?: number;
  /** From one side to the other through the portal, one way. Default 20 ms. */
  readonly signallingLatency?: Duration;
  readonly clientAddresses?: readonly string[];
  readonly gatewayAddresses?: readonly string[];
}

/** Name of the connection on the client: the gateway's id. */
export const GATEWAY_ID = "gateway";
/** Name of the connection on the gateway: the client's id. */
export const CLIENT_ID = "client";

/** A client node and a gateway node with a portal between them that passes candidates on. */
export class NodePair {
  readonly network: SimulatedNetwork;
  readonly client: SimulatedHost<NodeEvent, ClientNode>;
  readonly gateway: SimulatedHost<NodeEvent, GatewayNode>;
  /** The portal drops candidates for which this is false. */
  passesCandidates: (from: "client" | "gateway", candidate: string) => boolean = () => true;
  readonly #signallingLatency: Duration;

  constructor(options: NodePairOptions = {}) {
    this.network = new SimulatedNetwork(options.seed);
    this.#signallingLatency = options.signallingLatency ?? 20;
    const client = (options.clientAddresses ?? ["192.0.2.1:51820"]).map(socketAddress);
    const gateway = (options.gatewayAddresses ?? ["198.51.100.1:51820"]).map(socketAddress);
    this.client = new SimulatedHost<NodeEvent, ClientNode>("client", clientNode(this.network.random, 1), client);
    this.gateway = new SimulatedHost<NodeEvent, GatewayNode>("gateway", gatewayNode(this.network.random, 2), gateway);
    this.network.add(this.client);
    this.network.add(this.gateway);
    this.client.onEvent = (event) => this.#signal("client", event);
    this.gateway.onEvent = (event) => this.#signal("gateway", event);
    for (const host of [this.client, this.gateway])
      for (const address of host.addresses) host.machine.addLocalHostCandidate(address, this.now);
  }

  get now(): Instant {
    return this.network.now;
  }

  /** Offer, answer and candidates, with the latencies of the portal. */
  connect(): Offer {
    const offer = this.client.machine.newConnection(GATEWAY_ID, this.now);
    this.client.drain(this.now);
    this.connectWith(offer);
    return offer;
  }

  /** The gateway accepts an offer, and the client its answer. */
  connectWith(offer: Offer): void {
    this.network.schedule(this.#signallingLatency, () => {
      const answer = this.gateway.machine.acceptConnection(CLIENT_ID, offer, this.client.machine.publicKey, this.now);
      this.gateway.drain(this.now);
      if (answer === undefined) return;
      this.network.schedule(this.#signallingLatency, () => {
        this.client.machine.acceptAnswer(GATEWAY_ID, this.gateway.machine.publicKey, answer, this.now);
        this.client.drain(this.now);
      });
    });
  }

  /** Connects and waits for it. */
  establish(): Offer {
    const before = [this.client, this.gateway].map((host) => host.of("connection-established").length);
    const offer = this.connect();
    this.network.wait(2000);
    const after = [this.client, this.gateway].map((host) => host.of("connection-established").length);
    assert.deepEqual(
      after,
      before.map((count) => count + 1),
      "client and gateway have a session",
    );
    return offer;
  }

  /** Why the connections failed, on the client and on the gateway. */
  failures(): { readonly client: string[]; readonly gateway: string[] } {
    const of = (host: SimulatedHost<NodeEvent>) => host.of("connection-failed").map(({ reason }) => reason);
    return { client: of(this.client), gateway: of(this.gateway) };
  }

  /** Sends a packet from each side and asserts that both arrive. */
  assertPasses(message = "packets pass"): void {
    const before = [this.client.delivered.length, this.gateway.delivered.length];
    this.client.send(GATEWAY_ID, Uint8Array.of(0x45, 1), this.now);
    this.gateway.send(CLIENT_ID, Uint8Array.of(0x45, 2), this.now);
    this.network.wait(1000);
    assert.deepEqual(
      [this.client.delivered.length, this.gateway.delivered.length],
      before.map((count) => count + 1),
      message,
    );
  }

  #signal(from: "client" | "gateway", event: NodeEvent): void {
    if (event.type !== "new-ice-candidate" && event.type !== "invalidate-ice-candidate") return;
    const { type, candidate } = event;
    if (!this.passesCandidates(from, candidate)) return;
    this.network.schedule(this.#signallingLatency, () => {
      const [to, id] = from === "client" ? [this.gateway, CLIENT_ID] : [this.client, GATEWAY_ID];
      if (type === "new-ice-candidate") to.machine.addRemoteCandidate(id, candidate, this.now);
      else to.machine.removeRemoteCandidate(id, candidate, this.now);
      to.drain(this.now);
    });
  }
}

/** A client's node; its private key is 32 times `key`. */
export function clientNode(random: Random, key: number): ClientNode {
  return new ClientNode(nodeOptions(random, key));
}

/** A gateway's node; its private key is 32 times `key`. */
export function gatewayNode(random: Random, key: number): GatewayNode {
  return new GatewayNode(nodeOptions(random, key));
}

function nodeOptions(random: Random, key: number) {
  return {
    identity: new LocalIdentity(new Uint8Array(32).fill(key), nodeCrypto),
    crypto: nodeCrypto,
    random,
    clock: new Tai64nClock(0, UNIX_TIME),
  };
}
