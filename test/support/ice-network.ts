// Two ICE agents and a network between them in simulated time: latency, blocked directions, and a source NAT.

import { SocketAddress } from "../../src/base/address.js";
import type { Instant } from "../../src/base/time.js";
import { IceAgent } from "../../src/ice/agent.js";
import { IceDispatcher } from "../../src/ice/dispatcher.js";
import type { IceEvent, IceState } from "../../src/ice/events.js";
import { hostCandidate } from "../../src/ice/local-candidate.js";
import { parseStunMessage } from "../../src/stun/message.js";
import { nodeCrypto } from "../../src/system/crypto.js";
import { seededRandom } from "./random.js";

/** Time of a datagram on its way, in milliseconds. */
export const LATENCY = 5;

/** A socket address from its text. */
export function address(text: string): SocketAddress {
  const parsed = SocketAddress.parse(text);
  if (parsed === undefined) throw new RangeError(`"${text}" is not a socket address`);
  return parsed;
}

/** A datagram that was sent. */
export interface Sent {
  readonly at: Instant;
  readonly from: SocketAddress;
  readonly to: SocketAddress;
  readonly payload: Uint8Array;
}

/** One side. */
export class IceSide {
  readonly agent: IceAgent;
  /** All events, in order. */
  readonly events: IceEvent[] = [];
  /** All datagrams that it sent. */
  readonly sent: Sent[] = [];
  /** Datagrams that no agent accepted. */
  rejected = 0;
  readonly #dispatcher = new IceDispatcher();

  constructor(role: "controlling" | "controlled", seed: number) {
    this.agent = new IceAgent({ role, crypto: nodeCrypto, random: seededRandom(seed), dispatcher: this.#dispatcher });
  }

  get state(): IceState {
    return this.agent.state;
  }

  /** Paths that were nominated, as text, in order. */
  get nominations(): string[] {
    return this.events.flatMap((event) => (event.type === "path-nominated" ? [`${event.local} ${event.remote}`] : []));
  }

  /** States that were reported, in order. */
  get states(): IceState[] {
    return this.events.flatMap((event) => (event.type === "state-changed" ? [event.state] : []));
  }

  receive(local: SocketAddress, from: SocketAddress, payload: Uint8Array, now: Instant): void {
    const message = parseStunMessage(payload);
    const accepted = typeof message === "string" ? undefined : this.#dispatcher.find(message)?.accept(message);
    if (accepted === undefined) this.rejected++;
    else this.agent.handleInput(accepted, local, from, now);
  }
}

/** What a network does with a datagram: its source as the receiver sees it, or undefined: lost. */
export type Rule = (from: SocketAddress, to: SocketAddress) => SocketAddress | undefined;

/** The network. `now` starts at 1000, so that nothing depends on zero. */
export class IceNetwork {
  now: Instant = 1000;
  readonly client = new IceSide("controlling", 1);
  readonly gateway = new IceSide("controlled", 2);
  /** Default: everything arrives. */
  rule: Rule = (from) => from;
  /** Who has an address; others are nobody. By key. */
  readonly #owners = new Map<string, IceSide>();
  readonly #wire: { readonly at: Instant; readonly deliver: () => void }[] = [];

  /** Exchanges credentials. */
  introduce(): void {
    this.client.agent.setRemoteCredentials(this.gateway.agent.localCredentials);
    this.gateway.agent.setRemoteCredentials(this.client.agent.localCredentials);
  }

  /** Gives a side host candidates, and signals them to the other. */
  addHosts(side: IceSide, ...texts: string[]): void {
    for (const text of texts) {
      const candidate = hostCandidate(address(text));
      this.own(side, text);
      side.agent.addLocalCandidate(candidate, this.now);
      this.other(side).agent.addRemoteCandidate(candidate, this.now);
    }
  }

  /** Datagrams to this address arrive at `side`. */
  own(side: IceSide, text: string): void {
    this.#owners.set(address(text).key, side);
  }

  other(side: IceSide): IceSide {
    return side === this.client ? this.gateway : this.client;
  }

  /** Lets time pass until `until`. @throws when an agent never rests. */
  run(until: Instant): void {
    for (let turn = 0; turn < 100_000; turn++) {
      this.#drain();
      const next = Math.min(
        ...this.#wire.map(({ at }) => at),
        ...[this.client, this.gateway].map(({ agent }) => agent.pollTimeout() ?? Number.POSITIVE_INFINITY),
      );
      if (next > until) {
        this.now = until;
        return;
      }
      this.now = Math.max(this.now, next);
      for (const datagram of this.#wire.filter(({ at }) => at <= this.now)) {
        this.#wire.splice(this.#wire.indexOf(datagram), 1);
        datagram.deliver();
      }
      for (const { agent } of [this.client, this.gateway])
        if ((agent.pollTimeout() ?? Number.POSITIVE_INFINITY) <= this.now) agent.handleTimeout(this.now);
    }
    throw new Error("the agents never rest");
  }

  #drain(): void {
    for (const side of [this.client, this.gateway]) {
      for (let event = side.agent.pollEvent(); event !== undefined; event = side.agent.pollEvent())
        side.events.push(event);
      for (let transmit = side.agent.pollTransmit(); transmit !== undefined; transmit = side.agent.pollTransmit()) {
        const { source, destination, payload } = transmit;
        if (source === undefined) throw new Error("a check without a source");
        side.sent.push({ at: this.now, from: source, to: destination, payload });
        const seenFrom = this.rule(source, destination);
        const receiver = this.#owners.get(destination.key);
        if (seenFrom === undefined || receiver === undefined) continue;
        this.#wire.push({
          at: this.now + LATENCY,
          deliver: () => receiver.receive(destination, seenFrom, payload, this.now),
        });
      }
    }
  }
}
