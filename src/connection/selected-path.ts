// The way that a connection's datagrams go: the pair that ICE has nominated last, over a relay or not, watched by the traffic on it (spec 02, sections 6.6
// and 14). Handshake messages go over it too, and wait for it while there is none.
//
//   none ──selected──► a way ──selected──► another ──lost: nothing answers──► none, though there was one

import type { SocketAddress } from "../base/address.js";
import { BoundedQueue } from "../base/queue.js";
import type { Transmit } from "../base/state-machine.js";
import type { Instant } from "../base/time.js";
import type { IceAgent } from "../ice/agent.js";
import type { Activity } from "../wireguard/timers.js";
import type { NodeEvent, Path, RelayedPath } from "./events.js";
import { PathLiveness } from "./path-liveness.js";

/** Handshake messages that wait for a nomination (spec 02, section 2.5); the oldest has to go first. */
export const MAX_HELD_MESSAGES = 10;
/** Addresses of the other side that are remembered as those of relays: it has two relays at a time, of two IP versions each. */
const MAX_REMOTE_RELAYS = 32;

/** What the node does for a connection's path. */
export interface PathContext {
  emit(event: NodeEvent): void;
  /** Takes what is sent; from an address that a relay lends us it goes over the relay. */
  transmit(transmit: Transmit, now: Instant): void;
  /** The way over a relay from an address that it lends us; `direct` from an address of ours; `undefined` when no channel leads there (yet). */
  relayedPath(local: SocketAddress, peer: SocketAddress, now: Instant): RelayedPath | "direct" | undefined;
}

/** See the head of this file. */
export class SelectedPath {
  readonly #connection: string;
  readonly #agent: IceAgent;
  readonly #context: PathContext;
  readonly #liveness = new PathLiveness();
  readonly #held = new BoundedQueue<Uint8Array>(MAX_HELD_MESSAGES, "drop-oldest");
  /** Keys of addresses that relays lend the other side. */
  readonly #remoteRelays = new Set<string>();
  #current: Path | undefined;
  #isLost = false;

  /** @param connection its id. */
  constructor(connection: string, agent: IceAgent, context: PathContext) {
    this.#connection = connection;
    this.#agent = agent;
    this.#context = context;
  }

  /** Where datagrams go; `undefined` while no way is known. */
  get current(): Path | undefined {
    return this.#current;
  }

  /** Whether there was a way, and will be one. */
  get isLost(): boolean {
    return this.#isLost;
  }

  /** Handshake messages that were dropped since too many waited. */
  get dropped(): number {
    return this.#held.dropped;
  }

  /** ICE has nominated a pair. @returns whether that is another way than before. */
  select(local: SocketAddress, remote: SocketAddress, now: Instant): boolean {
    if (this.#leads(local, remote)) return false;
    const relay = this.#context.relayedPath(local, remote, now);
    // Checks have just passed, so there was a channel; a new one is on its way.
    if (relay === undefined) return false;
    this.#isLost = false;
    this.#liveness.reset(now);
    this.#announce({
      local,
      remote,
      ...(relay !== "direct" && { relay }),
      ...(this.#remoteRelays.has(remote.key) && { remoteIsRelay: true }),
    });
    for (const message of this.#held.drain()) this.send(message, now);
    return true;
  }

  /** No pair works any more. */
  lose(): void {
    this.#current = undefined;
    this.#isLost = true;
    this.#context.emit({ type: "path-lost", connection: this.#connection });
  }

  /** The other side has said that a relay lends it this address. Checks from there may have come before: then the path is announced again. */
  addRemoteRelay({ key }: SocketAddress): void {
    if (this.#remoteRelays.size >= MAX_REMOTE_RELAYS) return;
    this.#remoteRelays.add(key);
    const path = this.#current;
    if (path?.remote.key === key && path.remoteIsRelay !== true) this.#announce({ ...path, remoteIsRelay: true });
  }

  /** The way over the relay to a peer has another channel. */
  handleChannelChanged(peer: SocketAddress, now: Instant): void {
    const path = this.#current;
    if (path?.relay === undefined || !path.remote.equals(peer)) return;
    const relay = this.#context.relayedPath(path.local, path.remote, now);
    if (relay === undefined || relay === "direct" || isSameWay(relay, path.relay)) return;
    this.#announce({ ...path, relay });
  }

  /** Sends a handshake message, as soon as there is a way. */
  send(payload: Uint8Array, now: Instant): void {
    const path = this.#current;
    if (path === undefined) this.#held.push(payload);
    else this.#context.transmit({ source: path.local, destination: path.remote, payload }, now);
  }

  /** A check of the other side came to `local` from `remote`. */
  handleCheck(local: SocketAddress, remote: SocketAddress, now: Instant): void {
    if (this.#leads(local, remote)) this.#liveness.handleHeard(now);
  }

  /** A check of ours on this way was answered. */
  handleAnswer(now: Instant): void {
    if (this.#liveness.handleAnswer(now)) this.#context.emit({ type: "watch-source", connection: this.#connection });
  }

  /** What the datapath has counted. */
  handleActivity({ receivedAt, sentDataAt }: Activity): void {
    this.#liveness.handleHeard(receivedAt);
    this.#liveness.handleSent(sentDataAt);
  }

  /** The datapath has received a message from elsewhere than this way leads to. */
  handleEndpointMoved(now: Instant): void {
    this.#liveness.doubt(now);
  }

  /** Looks whether what is sent is answered; if not, ICE asks the other side, or looks for another way. */
  watch(now: Instant): void {
    if (this.#current === undefined) return;
    const agent = this.#agent;
    const verdict = this.#liveness.judge(now, agent.roundTrip, (since) => agent.hasAlternative(since));
    switch (verdict) {
      case "ask":
      case "ask-here":
        agent.ask(verdict === "ask" ? "all" : "selected", now);
        agent.handleTimeout(now);
        return;
      case "dead":
        agent.suspect(this.#liveness.askedSince, now);
        return;
      case undefined:
        return;
    }
  }

  /** When {@link watch} may have something to do. */
  deadline(now: Instant): Instant | undefined {
    return this.#current === undefined ? undefined : this.#liveness.deadline(now);
  }

  #leads(local: SocketAddress, remote: SocketAddress): boolean {
    return this.#current?.local.equals(local) === true && this.#current.remote.equals(remote);
  }

  #announce(path: Path): void {
    this.#current = path;
    this.#context.emit({ type: "path-selected", connection: this.#connection, path });
  }
}

function isSameWay(a: RelayedPath, b: RelayedPath): boolean {
  return a.channel === b.channel && a.server.equals(b.server);
}
