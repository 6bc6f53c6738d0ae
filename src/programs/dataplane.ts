// Where the planes meet: events of the control plane become table writes, exceptions of the datapath become inputs. The control
// plane names connections by what the portal calls them; the tables name them by slot. This file is the only one that knows both.

import { Exception, RouteTarget } from "../../assembly/abi.js";
import { IpAddress, type IpPrefix, SocketAddress } from "../base/address.js";
import type { Transmit } from "../base/state-machine.js";
import type { Path as ConnectionPath } from "../connection/events.js";
import type { Datapath } from "../datapath/datapath.js";
import type { Activity } from "../engine/activity.js";
import type { ExceptionRecord } from "../engine/exceptions.js";
import type { Path } from "../engine/path.js";
import type { Filter } from "../engine/rules.js";
import { type ConnectionOptions, Tables } from "../engine/tables.js";
import { mac1KeyOf } from "../wireguard/cookie.js";
import type { EstablishedSession } from "../wireguard/peer-events.js";

/** What an entry of the routing table leads to. */
export type RouteDestination =
  | { readonly type: "connection"; readonly connection: string }
  /** The control plane decides: intent, buffering. */
  | { readonly type: "exception" }
  | { readonly type: "drop" };

/** A change that the control plane wants in the tables, or something that only the datapath can send. */
export type DataplaneUpdate =
  | { readonly type: "connection-added"; readonly connection: string }
  | { readonly type: "connection-removed"; readonly connection: string }
  | { readonly type: "session-established"; readonly connection: string; readonly session: EstablishedSession }
  | { readonly type: "session-current"; readonly connection: string; readonly localIndex: number }
  | { readonly type: "session-removed"; readonly connection: string; readonly localIndex: number }
  | { readonly type: "path-selected"; readonly connection: string; readonly path: ConnectionPath }
  | { readonly type: "path-lost"; readonly connection: string }
  | { readonly type: "watch-source"; readonly connection: string }
  | { readonly type: "route-set"; readonly prefix: IpPrefix; readonly target: RouteDestination }
  | { readonly type: "route-removed"; readonly prefix: IpPrefix }
  | { readonly type: "filters-set"; readonly connection: string; readonly filters: readonly Filter[] }
  | { readonly type: "deliver-packet"; readonly packet: Uint8Array }
  | { readonly type: "send-keepalive"; readonly connection: string }
  | { readonly type: "send-packet"; readonly connection: string; readonly packet: Uint8Array }
  | { readonly type: "send-peer-message"; readonly connection: string; readonly packet: Uint8Array };

/** Inputs of the control plane that come from the datapath. Byte strings are the receiver's to keep. */
export interface DataplaneInputs {
  /** STUN, or a WireGuard handshake message. */
  handleDatagram(local: SocketAddress, from: SocketAddress, datagram: Uint8Array): void;
  /** An IP packet whose route asks the control plane, or whose connection (if named) cannot carry it now. */
  handlePacket(connection: string | undefined, packet: Uint8Array): void;
  /** A packet of the peer's that the connection's filters do not allow. Absent: such packets are dropped. */
  handleDeniedPacket?(connection: string, packet: Uint8Array): void;
  /** A message of the peer itself, inside the tunnel. Absent: such messages are dropped. */
  handlePeerMessage?(connection: string, packet: Uint8Array): void;
  /** The peer has used a session that it had not used before. */
  handleSessionConfirmed(connection: string, localIndex: number): void;
  /** The peer sends from elsewhere than its path leads to; once per path and `watch-source`. Absent: of no interest. */
  handleEndpointMoved?(connection: string): void;
  /** After a batch of inputs: drain the state machines. */
  endOfBatch(): void;
}

/** Counts of what a program could not do because a table was full. Each is logged when it happens. */
export interface DataplaneCounters {
  connectionsRefused: number;
  sessionsRefused: number;
  pathsRefused: number;
  routesRefused: number;
  filtersRefused: number;
}

/** The datapath as the control plane uses it. */
export class Dataplane {
  readonly counters: DataplaneCounters = {
    connectionsRefused: 0,
    sessionsRefused: 0,
    pathsRefused: 0,
    routesRefused: 0,
    filtersRefused: 0,
  };
  /** Exceptions that the workers have handed to the control plane. They must not grow with the traffic. */
  exceptions = 0;
  readonly #datapath: Datapath;
  readonly #tables: Tables;
  readonly #connectionOptions: ConnectionOptions;
  readonly #onTableFull: (table: string) => void;
  readonly #slots = new Map<string, number>();
  readonly #names = new Map<number, string>();

  private constructor(
    datapath: Datapath,
    tables: Tables,
    connectionOptions: ConnectionOptions,
    onTableFull: (table: string) => void,
  ) {
    this.#datapath = datapath;
    this.#tables = tables;
    this.#connectionOptions = connectionOptions;
    this.#onTableFull = onTableFull;
  }

  /**
   * Becomes the tables' writer.
   *
   * @param onTableFull called each time an entry does not fit; the counter has been incremented.
   */
  static async create(
    datapath: Datapath,
    connectionOptions: ConnectionOptions,
    onTableFull: (table: string) => void,
  ): Promise<Dataplane> {
    const tables = await Tables.create({ memory: datapath.memory, layout: datapath.layout });
    return new Dataplane(datapath, tables, connectionOptions, onTableFull);
  }

  /** Says whose public key handshake messages must be meant for. */
  setIdentity(publicKey: Uint8Array): void {
    this.#tables.setMac1Key(mac1KeyOf(publicKey));
  }

  /** Applies one update. */
  apply(update: DataplaneUpdate): void {
    switch (update.type) {
      case "connection-added":
        this.#allocate(update.connection);
        return;
      case "connection-removed":
        this.#release(update.connection);
        return;
      case "session-established":
        this.#install(update.connection, update.session);
        return;
      case "session-current": {
        const slot = this.#slots.get(update.connection);
        if (slot !== undefined) this.#tables.setCurrentSession(slot, update.localIndex);
        return;
      }
      case "session-removed":
        this.#tables.removeSession(update.localIndex);
        return;
      case "path-selected": {
        const slot = this.#slots.get(update.connection);
        if (slot === undefined || this.#tables.setPath(slot, tablePath(update.path))) return;
        this.#refused("pathsRefused", "paths");
        return;
      }
      case "path-lost": {
        const slot = this.#slots.get(update.connection);
        if (slot !== undefined) this.#tables.setPath(slot, undefined);
        return;
      }
      case "watch-source": {
        const slot = this.#slots.get(update.connection);
        if (slot !== undefined) this.#tables.watchSource(slot);
        return;
      }
      case "route-set":
        this.#route(update.prefix, update.target);
        return;
      case "route-removed":
        this.#tables.removeRoute(update.prefix);
        return;
      case "filters-set": {
        const slot = this.#slots.get(update.connection);
        if (slot === undefined || this.#tables.setFilters(slot, update.filters)) return;
        this.#refused("filtersRefused", "filters");
        return;
      }
      case "send-keepalive": {
        const slot = this.#slots.get(update.connection);
        if (slot !== undefined) this.#datapath.sendKeepalive(slot);
        return;
      }
      case "send-peer-message": {
        const slot = this.#slots.get(update.connection);
        if (slot !== undefined) this.#datapath.sendToPeer(slot, update.packet);
        return;
      }
      case "deliver-packet":
        this.#datapath.deliverToTun(update.packet);
        return;
      case "send-packet":
        this.#datapath.injectPacket(update.packet);
        return;
    }
  }

  /** Sends a datagram of the control plane. */
  transmit(transmit: Transmit): void {
    this.#datapath.sendControl(transmit);
  }

  /** Delivers exceptions to `inputs` from now on. */
  connect(inputs: DataplaneInputs): void {
    this.#datapath.onExceptions({
      handle: (record) => this.#dispatch(record, inputs),
      endOfBatch: () => inputs.endOfBatch(),
    });
  }

  /** Calls `visit` for each connection that has carried something since the last call, with what it has carried since it was added. */
  forEachActivity(visit: (connection: string, activity: Activity) => void): void {
    this.#tables.forEachTouched((slot) => {
      const connection = this.#names.get(slot);
      if (connection !== undefined) visit(connection, this.#tables.activity(slot));
    });
  }

  /** Frees what removed entries left behind, as far as no worker can be using it. To be called about once a second. */
  reclaim(): void {
    this.#tables.reclaim();
  }

  /** Dropped packets by reason (`Drop`). */
  drops(): number[] {
    return this.#tables.counters();
  }

  #allocate(connection: string): void {
    if (this.#slots.has(connection)) return;
    const slot = this.#tables.allocateConnection(this.#connectionOptions);
    if (slot === undefined) {
      this.#refused("connectionsRefused", "connections");
      return;
    }
    this.#slots.set(connection, slot);
    this.#names.set(slot, connection);
  }

  #release(connection: string): void {
    const slot = this.#slots.get(connection);
    if (slot === undefined) return;
    this.#tables.releaseConnection(slot);
    this.#slots.delete(connection);
    this.#names.delete(slot);
  }

  #install(connection: string, session: EstablishedSession): void {
    const slot = this.#slots.get(connection);
    if (slot !== undefined) {
      const installed = this.#tables.installSession({
        connection: slot,
        localIndex: session.localIndex,
        remoteIndex: session.remoteIndex,
        sendKey: session.sendKey,
        receiveKey: session.receiveKey,
        confirmed: session.role === "initiator",
        createdAt: session.establishedAt,
      });
      if (!installed) this.#refused("sessionsRefused", "sessions");
    }
    session.sendKey.fill(0);
    session.receiveKey.fill(0);
  }

  #route(prefix: IpPrefix, target: RouteDestination): void {
    const value = this.#routeValue(target);
    if (!this.#tables.setRoute(prefix, value)) this.#refused("routesRefused", "routes");
  }

  #routeValue(target: RouteDestination): number {
    switch (target.type) {
      case "connection":
        // A connection that found no slot carries nothing: deny.
        return this.#slots.get(target.connection) ?? RouteTarget.Drop;
      case "exception":
        return RouteTarget.Exception;
      case "drop":
        return RouteTarget.Drop;
    }
  }

  #refused(counter: keyof DataplaneCounters, table: string): void {
    this.counters[counter]++;
    this.#onTableFull(table);
  }

  #dispatch(record: ExceptionRecord, inputs: DataplaneInputs): void {
    this.exceptions++;
    const connection = record.connection === undefined ? undefined : this.#names.get(record.connection);
    switch (record.reason) {
      case Exception.Stun:
      case Exception.WireGuardHandshake:
      case Exception.Relay:
        if (record.family === undefined) return;
        inputs.handleDatagram(
          socketAddress(record.localAddress, record.localPort),
          socketAddress(record.remoteAddress, record.remotePort),
          record.payload.slice(),
        );
        return;
      case Exception.RouteException:
        inputs.handlePacket(undefined, record.payload.slice());
        return;
      case Exception.NoSession:
        inputs.handlePacket(connection, record.payload.slice());
        return;
      case Exception.DestinationNotAllowed:
        if (connection !== undefined) inputs.handleDeniedPacket?.(connection, record.payload.slice());
        return;
      case Exception.PeerMessage:
        if (connection !== undefined) inputs.handlePeerMessage?.(connection, record.payload.slice());
        return;
      case Exception.SessionConfirmed:
        if (connection !== undefined && record.localIndex !== undefined)
          inputs.handleSessionConfirmed(connection, record.localIndex);
        return;
      // A transport message for a session that is gone: the peer notices by itself within seconds (WireGuard's timers).
      case Exception.UnknownIndex:
      // Sessions are replaced every two minutes, long before 2^60 messages.
      case Exception.RekeyNeeded:
        return;
      case Exception.EndpointMoved:
        // Paths come from ICE, but that the peer uses another one says something.
        if (connection !== undefined) inputs.handleEndpointMoved?.(connection);
        return;
    }
  }
}

/** A path as the tables have it: over a relay, datagrams go to the relay, from whichever address leads there. */
function tablePath({ local, remote, relay }: ConnectionPath): Path {
  return relay === undefined
    ? { local, remote }
    : { local: undefined, remote: relay.server, relayChannel: relay.channel };
}

function socketAddress(ip: Uint8Array, port: number): SocketAddress {
  return new SocketAddress(IpAddress.fromBytes(ip), port);
}
