// A client or gateway in simulated time: a state machine under test (a node, or the tunnel state above it) and a small datapath in
// TypeScript that does what the packet engine does with sessions and paths.

import assert from "node:assert/strict";
import { IpAddress, SocketAddress } from "../../src/base/address.js";
import { viewOf } from "../../src/base/bytes.js";
import type { StateMachine, Transmit } from "../../src/base/state-machine.js";
import type { Instant } from "../../src/base/time.js";
import type { DatapathEvent, NodeEvent, Path } from "../../src/connection/events.js";
import { encodeChannelData, parseChannelData } from "../../src/stun/channel-data.js";
import { nodeCrypto } from "../../src/system/crypto.js";
import { REJECT_AFTER_TIME } from "../../src/wireguard/constants.js";
import { encodeTransport, parseMessage, type TransportData } from "../../src/wireguard/messages.js";
import type { EstablishedSession } from "../../src/wireguard/peer-events.js";
import type { Activity } from "../../src/wireguard/timers.js";

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
  handleEndpointMoved(connection: string, now: Instant): void;
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
  /** A message came from elsewhere since the path was selected. */
  moved: boolean;
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
  /** Connections that have carried something since the machine was last told. */
  readonly #touched = new Set<string>();

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
    // Channel data of a transport message is the datapath's too, whichever channel it is.
    const channelData = parseChannelData(datagram);
    const message = parseMessage(typeof channelData === "string" ? datagram : channelData.data);
    if (message?.type === "transport") this.#open(message, from, now);
    else this.machine.handleInput(local, from, datagram, now);
    this.drain(now);
  }

  handleTimeout(now: Instant): void {
    for (const id of this.#touched) {
      const connection = this.#connections.get(id);
      if (connection !== undefined) this.machine.handleActivity(id, { ...connection.activity }, now);
    }
    this.#touched.clear();
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

  #open(message: TransportData, from: SocketAddress, now: Instant): void {
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
    const remote = connection?.path?.relay?.server ?? connection?.path?.remote;
    if (connection !== undefined && remote?.equals(from) === false && !connection.moved) {
      connection.moved = true;
      this.machine.handleEndpointMoved(session.connection, now);
    }
    if (connection !== undefined) {
      connection.activity.receivedAt = Math.floor(now);
      if (packet.length > 0) connection.activity.receivedDataAt = Math.floor(now);
      this.#touched.add(session.connection);
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
    this.outbox.push(
      path.relay === undefined
        ? { source: path.local, destination: path.remote, payload }
        : { destination: path.relay.server, payload: encodeChannelData(path.relay.channel, payload) },
    );
    activity.sentAt = Math.floor(now);
    if (packet.length > 0) activity.sentDataAt = Math.floor(now);
    this.#touched.add(id);
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
        moved: false,
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
      case "path-lost":
        known.path = undefined;
        return;
      case "watch-source":
        known.moved = false;
        return;
      case "path-selected":
        known.path = event.path;
        known.moved = false;
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
  "path-lost": true,
  "watch-source": true,
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
