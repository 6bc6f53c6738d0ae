// Where the WireGuard device meets the datapath: its events become table writes, the datapath's exceptions become its inputs. The
// device names peers by public key, the tables by slot; only this file knows both.

import { Exception } from "../../../assembly/abi.js";
import { IpAddress, SocketAddress } from "../../base/address.js";
import type { Transmit } from "../../base/state-machine.js";
import type { Instant } from "../../base/time.js";
import type { Datapath } from "../../datapath/datapath.js";
import type { ExceptionRecord } from "../../engine/exceptions.js";
import { Tables } from "../../engine/tables.js";
import { mac1KeyOf } from "../../wireguard/cookie.js";
import type { WireGuardDevice } from "../../wireguard/device.js";
import type { DeviceEvent, PeerName } from "../../wireguard/device-events.js";
import type { EstablishedSession } from "../../wireguard/peer-events.js";

/** Peers have no filters: cryptokey routing is all. Their endpoints are learned. */
const CONNECTION_OPTIONS = { filtered: false, learnEndpoint: true } as const;

/** The datapath as the device uses it. */
export class DeviceDataplane {
  readonly #datapath: Datapath;
  readonly #tables: Tables;
  readonly #onTableFull: (table: string) => void;
  readonly #slots = new Map<PeerName, number>();
  readonly #names = new Map<number, PeerName>();

  private constructor(datapath: Datapath, tables: Tables, onTableFull: (table: string) => void) {
    this.#datapath = datapath;
    this.#tables = tables;
    this.#onTableFull = onTableFull;
  }

  /** Becomes the tables' writer. `onTableFull` is called for each entry that does not fit. */
  static async create(datapath: Datapath, onTableFull: (table: string) => void): Promise<DeviceDataplane> {
    const tables = await Tables.create({ memory: datapath.memory, layout: datapath.layout });
    return new DeviceDataplane(datapath, tables, onTableFull);
  }

  /** Carries out what an event asks of the datapath; news are no concern of it. */
  apply(event: DeviceEvent): void {
    switch (event.type) {
      case "connection-added":
        this.#allocate(event.connection);
        return;
      case "connection-removed":
        this.#release(event.connection);
        return;
      case "session-established":
        this.#install(event.connection, event.session);
        return;
      case "session-removed":
        this.#tables.removeSession(event.localIndex);
        return;
      case "route-set":
        this.#withSlot(event.target.connection, (slot) => this.#tables.setRoute(event.prefix, slot) || "routes");
        return;
      case "route-removed":
        this.#tables.removeRoute(event.prefix);
        return;
      case "session-current":
        // A session that found no place in the tables cannot become current.
        this.#withSlot(
          event.connection,
          (slot) => this.#tables.setCurrentSession(slot, event.localIndex) || "sessions",
        );
        return;
      case "identity-changed":
        this.#tables.setMac1Key(event.publicKey && mac1KeyOf(event.publicKey));
        return;
      case "path-selected":
        this.#withSlot(event.connection, (slot) => this.#tables.setPath(slot, event.path) || "paths");
        return;
      case "send-keepalive":
        this.#withSlot(event.connection, (slot) => {
          this.#datapath.sendKeepalive(slot);
          return true;
        });
        return;
      case "send-packet":
        this.#datapath.injectPacket(event.packet);
        return;
      case "handshake-initiated":
      case "handshake-complete":
      case "handshake-refused":
      case "endpoint-changed":
      case "peer-expired":
        return;
    }
  }

  /** Sends a handshake message. */
  transmit(transmit: Transmit): void {
    this.#datapath.sendControl(transmit);
  }

  /** Delivers exceptions to `device` from now on; `endOfBatch` is the moment to drain it. */
  connect(device: WireGuardDevice, now: () => Instant, endOfBatch: () => void): void {
    this.#datapath.onExceptions({ handle: (record) => this.#dispatch(record, device, now()), endOfBatch });
  }

  /** Tells `device` of each connection that has carried something since the last call what it has carried. */
  feedActivity(device: WireGuardDevice, now: Instant): void {
    this.#tables.forEachTouched((slot) => {
      const name = this.#names.get(slot);
      if (name !== undefined) device.handleActivity(name, this.#tables.activity(slot), now);
    });
  }

  /** Frees what removed entries left behind, as far as no worker can be using it. To be called about once a second. */
  reclaim(): void {
    this.#tables.reclaim();
  }

  /** Calls `write` with the slot of a peer, if it has one; `write` names the table where it was full. */
  #withSlot(name: PeerName, write: (slot: number) => true | string): void {
    const slot = this.#slots.get(name);
    if (slot === undefined) return;
    const outcome = write(slot);
    if (outcome !== true) this.#onTableFull(outcome);
  }

  #allocate(name: PeerName): void {
    const slot = this.#tables.allocateConnection(CONNECTION_OPTIONS);
    if (slot === undefined) {
      this.#onTableFull("connections");
      return;
    }
    this.#slots.set(name, slot);
    this.#names.set(slot, name);
  }

  #release(name: PeerName): void {
    const slot = this.#slots.get(name);
    if (slot === undefined) return;
    this.#tables.releaseConnection(slot);
    this.#slots.delete(name);
    this.#names.delete(slot);
  }

  #install(name: PeerName, session: EstablishedSession): void {
    const { localIndex, remoteIndex, sendKey, receiveKey, role, establishedAt } = session;
    this.#withSlot(name, (connection) => {
      const keys = { connection, localIndex, remoteIndex, sendKey, receiveKey, createdAt: establishedAt };
      return this.#tables.installSession({ ...keys, confirmed: role === "initiator" }) || "sessions";
    });
    sendKey.fill(0);
    receiveKey.fill(0);
  }

  #dispatch(record: ExceptionRecord, device: WireGuardDevice, now: Instant): void {
    const name = record.connection === undefined ? undefined : this.#names.get(record.connection);
    switch (record.reason) {
      case Exception.WireGuardHandshake:
        if (record.family === undefined) return;
        // A copy: the device keeps nothing of it, but its hashes want memory that is not shared.
        device.handleDatagram(localOf(record), remoteOf(record), record.payload.slice(), now);
        return;
      case Exception.NoSession:
        if (name !== undefined) device.handlePacket(name, record.payload.slice(), now);
        return;
      case Exception.SessionConfirmed:
        if (name !== undefined && record.localIndex !== undefined)
          device.handleSessionConfirmed(name, record.localIndex, now);
        return;
      case Exception.EndpointMoved:
        if (name !== undefined && record.family !== undefined)
          device.handleEndpointMoved(name, localOf(record), remoteOf(record), now);
        return;
      case Exception.RekeyNeeded:
        if (name !== undefined) device.handleRekeyNeeded(name, now);
        return;
      // A transport message for a session that is gone: the peer notices by itself within seconds (WireGuard's timers).
      case Exception.UnknownIndex:
      // Not of this protocol: whatever sends STUN or TURN to this port, it is not for us.
      case Exception.Stun:
      case Exception.Relay:
      // All routes lead to peers.
      case Exception.RouteException:
        return;
    }
  }
}

function localOf(record: ExceptionRecord): SocketAddress {
  return new SocketAddress(IpAddress.fromBytes(record.localAddress), record.localPort);
}

function remoteOf(record: ExceptionRecord): SocketAddress {
  return new SocketAddress(IpAddress.fromBytes(record.remoteAddress), record.remotePort);
}
