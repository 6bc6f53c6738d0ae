// A network in simulated time: latency, loss, blocked ways, NATs and a STUN server between hosts.

import assert from "node:assert/strict";
import { SocketAddress } from "../../src/base/address.js";
import { type Random, randomBelow } from "../../src/base/random.js";
import type { StateMachine } from "../../src/base/state-machine.js";
import type { Duration, Instant } from "../../src/base/time.js";
import { XorMappedAddress } from "../../src/stun/attributes.js";
import { StunBuilder } from "../../src/stun/builder.js";
import { parseStunMessage } from "../../src/stun/message.js";
import { seededRandom } from "./random.js";
import { type Machine, type SimulatedHost, START } from "./simulated-host.js";

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

/** Something in the network that is no host of ours: a relay. */
export interface NetworkService {
  /** Whether datagrams to this address are for it. */
  serves(address: SocketAddress): boolean;
  receive(source: SocketAddress, destination: SocketAddress, payload: Uint8Array, now: Instant): void;
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
  readonly services: NetworkService[] = [];

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

  /** A service sends a datagram. */
  transmit(source: SocketAddress, destination: SocketAddress, payload: Uint8Array): void {
    if (this.loss > 0 && randomBelow(this.random, 100) < this.loss) return;
    if (!this.isBlocked(source, destination, payload))
      this.schedule(this.latency, () => this.#deliver(source, destination, payload));
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
    const service = this.services.find((candidate) => candidate.serves(destination));
    if (service !== undefined) {
      service.receive(source, destination, payload, this.now);
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
