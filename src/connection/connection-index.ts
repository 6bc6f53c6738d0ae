// A node's connections by everything that an input may name them by, so that none is looked for among the others.

import type { SocketAddress } from "../base/address.js";
import { toHex } from "../base/bytes.js";
import { peerIndexOf } from "../wireguard/indices.js";
import type { Connection } from "./connection.js";

/** See the head of this file. */
export class ConnectionIndex {
  readonly #byId = new Map<string, Connection>();
  /** By user fragment of the agent. */
  readonly #byUsername = new Map<string, Connection>();
  /** By WireGuard peer index. */
  readonly #byIndex = new Map<number, Connection>();
  /** By the other side's static key in hexadecimal digits; several only while the portal names one program by several ids. */
  readonly #byPublicKey = new Map<string, Set<Connection>>();
  /** By address that an authenticated check has come from; several where a NAT has used a port again. */
  readonly #bySource = new Map<string, Set<Connection>>();

  /** Number of connections. */
  get size(): number {
    return this.#byId.size;
  }

  /** All connections; what looks at them is no matter of a single packet or turn. */
  values(): IterableIterator<Connection> {
    return this.#byId.values();
  }

  /** Ids of all connections. */
  ids(): string[] {
    return [...this.#byId.keys()];
  }

  /** The connection with this id. */
  get(id: string): Connection | undefined {
    return this.#byId.get(id);
  }

  /** The connection whose agent has this user fragment. */
  withUsername(username: string): Connection | undefined {
    return this.#byUsername.get(username);
  }

  /** The connections with this remote static key. */
  withPublicKey(publicKey: Uint8Array): Iterable<Connection> {
    return this.#byPublicKey.get(toHex(publicKey)) ?? [];
  }

  /** The connections that an authenticated check has come from this address for. */
  withSource(source: SocketAddress): Iterable<Connection> {
    return this.#bySource.get(source.key) ?? [];
  }

  /** Whether an authenticated check has come from this address, for any connection. */
  isSource(source: SocketAddress): boolean {
    return this.#bySource.has(source.key);
  }

  /** The connection with this remote static key that an authenticated check has come from this address for. */
  findInitiator(publicKey: Uint8Array, source: SocketAddress): Connection | undefined {
    for (const connection of this.withPublicKey(publicKey)) if (connection.sources.has(source.key)) return connection;
    return undefined;
  }

  /** The connection with this WireGuard index, if an authenticated check has come from this address for it. */
  findReceiver(receiverIndex: number, source: SocketAddress): Connection | undefined {
    const connection = this.#byIndex.get(peerIndexOf(receiverIndex));
    return connection?.sources.has(source.key) === true ? connection : undefined;
  }

  /** Adds a connection. */
  add(connection: Connection): void {
    this.#byId.set(connection.id, connection);
    this.#byUsername.set(connection.agent.localCredentials.username, connection);
  }

  /** The other side of the connection is known now. */
  addPeer(connection: Connection): void {
    const { peerIndex, remotePublicKey } = connection;
    if (peerIndex !== undefined) this.#byIndex.set(peerIndex, connection);
    if (remotePublicKey !== undefined) addTo(this.#byPublicKey, toHex(remotePublicKey), connection);
  }

  /** An authenticated check has come from this address. */
  addSource(connection: Connection, source: SocketAddress): void {
    if (connection.sources.has(source.key)) return;
    connection.sources.add(source.key);
    addTo(this.#bySource, source.key, connection);
  }

  /** Removes a connection. */
  remove(connection: Connection): void {
    const { peerIndex, remotePublicKey } = connection;
    this.#byId.delete(connection.id);
    this.#byUsername.delete(connection.agent.localCredentials.username);
    if (peerIndex !== undefined) this.#byIndex.delete(peerIndex);
    if (remotePublicKey !== undefined) removeFrom(this.#byPublicKey, toHex(remotePublicKey), connection);
    for (const source of connection.sources) removeFrom(this.#bySource, source, connection);
  }
}

function addTo<T>(map: Map<string, Set<T>>, key: string, value: T): void {
  const known = map.get(key);
  if (known === undefined) map.set(key, new Set([value]));
  else known.add(value);
}

function removeFrom<T>(map: Map<string, Set<T>>, key: string, value: T): void {
  const known = map.get(key);
  known?.delete(value);
  if (known?.size === 0) map.delete(key);
}
