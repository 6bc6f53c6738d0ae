// Which connection uses which relay, and what it learns of it (spec 02, section 4.1; spec 03, section 5.15, with the later behaviour): each uses the one
// that is best when it needs one, and goes on with it until that leaves, or the way over it is lost.

import type { Instant } from "../base/time.js";
import type { Connection } from "./connection.js";
import type { ConnectionIndex } from "./connection-index.js";
import type { RelayFailed } from "./events.js";
import type { Relays, RelaysEvent } from "./relays.js";

/** See the head of this file. */
export class RelayAssignment {
  readonly #relays: Relays;
  readonly #connections: ConnectionIndex;

  constructor(relays: Relays, connections: ConnectionIndex) {
    this.#relays = relays;
    this.#connections = connections;
  }

  /** Gives a connection the relay that is best now; without any it keeps the one that it has, which may come back. */
  assign(connection: Connection, now: Instant): void {
    const relay = this.#relays.choose();
    if (relay !== undefined && relay !== connection.relay)
      connection.useRelay(relay, this.#relays.relayCandidates(relay), now);
  }

  /** Gives a connection another relay besides the one that it has, if there is one: either may be the way. */
  assignAnother(connection: Connection, now: Instant): void {
    const relay = this.#relays.choose(connection.relay);
    if (relay !== undefined) connection.useRelay(relay, this.#relays.relayCandidates(relay), now);
  }

  /** Tells the connections what has become known of a relay. */
  handleEvent(event: Exclude<RelaysEvent, RelayFailed>, now: Instant): void {
    switch (event.type) {
      case "reflexive-found":
        for (const connection of this.#connections.values()) connection.addReflexiveCandidate(event.candidate);
        return;
      case "reflexive-lost":
        for (const connection of this.#connections.values()) connection.removeReflexiveCandidate(event.candidate);
        return;
      case "relayed-found":
        for (const connection of this.#connections.values())
          if (connection.relay === event.relay) connection.addRelayCandidate(event.candidate, now);
          else if (!connection.isRelayUsable) this.assign(connection, now);
        return;
      case "relayed-lost":
        for (const connection of this.#connections.values()) {
          // The other relay first: there is always a way to hope for.
          if (connection.relay === event.relay) this.assign(connection, now);
          connection.removeRelayCandidate(event.candidate, now);
        }
        return;
      case "relay-leaving":
        for (const connection of this.#connections.values())
          if (connection.relay === event.relay) this.assign(connection, now);
        return;
      case "channel-changed":
        for (const connection of this.#connections.withSource(event.peer))
          if (connection.relay === event.relay) connection.handleChannelChanged(event.peer, now);
        return;
    }
  }
}
