// What client and gateway state have in common: both rest on a connection node (spec 04, section 2.2). What concerns the node is passed on
// to it, and what it reports is taken at once, after every input: candidates in one message per connection, the beginning and the end of
// connections by the state's own rules, everything else unchanged.

import type { IpPrefix, SocketAddress } from "../base/address.js";
import { EventQueue } from "../base/event-queue.js";
import type { StateMachine, Transmit } from "../base/state-machine.js";
import type { Instant } from "../base/time.js";
import type { NodeEvent, Relay } from "../connection/events.js";
import type { ConnectionNode } from "../connection/node.js";
import { CandidateBatch } from "./candidates.js";
import type { RouteDestination, TunnelEvent } from "./events.js";
import { type Route, RouteTable } from "./route-table.js";

/** What both states need of a connection node. */
export type Connections = Pick<
  ConnectionNode,
  | "addRemoteCandidate"
  | "removeRemoteCandidate"
  | "addLocalHostCandidate"
  | "removeLocalHostCandidate"
  | "updateRelays"
  | "removeConnection"
  | "close"
  | "handleInput"
  | "handlePacket"
  | "handleActivity"
  | "handleSessionConfirmed"
  | "handleEndpointMoved"
> &
  StateMachine<NodeEvent>;

/** What the datapath counts and stamps for a connection. */
export type ConnectionActivity = Parameters<ConnectionNode["handleActivity"]>[1];

/** The end of a connection that the node reports. */
export type ConnectionEnd = Extract<NodeEvent, { readonly type: "connection-failed" | "connection-closed" }>;

/** See the head of this file. `RoleEvent`: what the state reports besides. */
export abstract class StateOverNode<Node extends Connections, RoleEvent>
  implements StateMachine<RoleEvent | TunnelEvent>
{
  protected readonly node: Node;
  readonly #routes = new RouteTable();
  /** Drained by the owner after every input. */
  readonly #events = new EventQueue<RoleEvent | TunnelEvent>();

  constructor(node: Node) {
    this.node = node;
  }

  // ---- Relays and candidates

  /** Removes relays, then adds some. */
  updateRelays(removed: readonly string[], added: readonly Relay[], now: Instant): void {
    this.node.updateRelays(removed, added, now);
    this.drainNode(now);
  }

  /** Offers a local address to connections. @returns false when it cannot be a candidate. */
  addLocalHostCandidate(address: SocketAddress, now: Instant): boolean {
    const accepted = this.node.addLocalHostCandidate(address, now);
    this.drainNode(now);
    return accepted;
  }

  /** A local address is gone. */
  removeLocalHostCandidate(address: SocketAddress, now: Instant): void {
    this.node.removeLocalHostCandidate(address, now);
    this.drainNode(now);
  }

  /** Candidates of the other side, as signalled. */
  handleCandidates(connection: string, candidates: readonly string[], now: Instant): void {
    for (const candidate of candidates) this.node.addRemoteCandidate(connection, candidate, now);
    this.drainNode(now);
  }

  /** Candidates of the other side that are gone. */
  handleInvalidatedCandidates(connection: string, candidates: readonly string[], now: Instant): void {
    for (const candidate of candidates) this.node.removeRemoteCandidate(connection, candidate, now);
    this.drainNode(now);
  }

  // ---- From the datapath

  /** A STUN message or WireGuard handshake. */
  handleInput(local: SocketAddress, from: SocketAddress, datagram: Uint8Array, now: Instant): void {
    this.node.handleInput(local, from, datagram, now);
    this.drainNode(now);
  }

  /** What the datapath has counted for a connection. */
  handleActivity(connection: string, activity: ConnectionActivity, now: Instant): void {
    this.node.handleActivity(connection, activity, now);
    this.drainNode(now);
  }

  /** The other side has used a session for the first time. */
  handleSessionConfirmed(connection: string, localIndex: number, now: Instant): void {
    this.node.handleSessionConfirmed(connection, localIndex, now);
    this.drainNode(now);
  }

  /** The other side sends from elsewhere than we send to. */
  handleEndpointMoved(connection: string, now: Instant): void {
    this.node.handleEndpointMoved(connection, now);
    this.drainNode(now);
  }

  // ---- State machine

  /** Ends: what was lent is given back. */
  close(now: Instant): void {
    this.node.close(now);
    this.drainNode(now);
  }

  handleTimeout(now: Instant): void {
    this.node.handleTimeout(now);
    this.drainNode(now);
  }

  pollTimeout(): Instant | undefined {
    return this.node.pollTimeout();
  }

  pollTransmit(): Transmit | undefined {
    return this.node.pollTransmit();
  }

  pollEvent(): RoleEvent | TunnelEvent | undefined {
    return this.#events.shift();
  }

  // ---- For the states

  /** There is a usable session. Sessions are renewed every few minutes, and each time the node says so. */
  protected abstract handleEstablished(connection: string, now: Instant): void;

  /** The connection has ended, and not because the state removed it. */
  protected abstract handleEnded(event: ConnectionEnd, now: Instant): void;

  /** Reports something. */
  protected report(event: RoleEvent | TunnelEvent): void {
    this.#events.push(event);
  }

  /** Replaces the datapath's routes; reports what has changed. */
  protected setRoutes(routes: Iterable<Route>): void {
    for (const event of this.#routes.replace(routes)) this.#events.push(event);
  }

  /** Where a prefix leads in the datapath; `undefined`: nowhere. Reports a change. */
  protected setRoute(prefix: IpPrefix, target: RouteDestination | undefined): void {
    for (const event of this.#routes.set(prefix, target)) this.#events.push(event);
  }

  /** Takes what the node reports. To be called after each of its inputs. */
  protected drainNode(now: Instant): void {
    const candidates = new CandidateBatch();
    for (let event = this.node.pollEvent(); event !== undefined; event = this.node.pollEvent()) {
      switch (event.type) {
        case "new-ice-candidate":
        case "invalidate-ice-candidate":
          candidates.add(event);
          break;
        case "connection-established":
          this.handleEstablished(event.connection, now);
          break;
        case "connection-failed":
        case "connection-closed":
          this.handleEnded(event, now);
          break;
        case "connection-removed":
          this.#routes.connectionRemoved(event.connection);
          this.report(event);
          break;
        default:
          this.report(event);
      }
    }
    for (const event of candidates.events()) this.#events.push(event);
  }
}
