// An allocation's client and a TURN server on a network in simulated time. What becomes of each request can be decided: it is delivered,
// lost, or answered by hand. Whatever the client sends, reports and waits for is written down.

import assert from "node:assert/strict";
import type { SocketAddress } from "../../src/base/address.js";
import { toHex } from "../../src/base/bytes.js";
import type { Instant } from "../../src/base/time.js";
import { ChannelNumber, ErrorCodeAttribute, Lifetime, Nonce, Realm } from "../../src/stun/attributes.js";
import { StunBuilder } from "../../src/stun/builder.js";
import { Method } from "../../src/stun/header.js";
import { longTermKey } from "../../src/stun/integrity.js";
import { parseStunMessage, type StunMessage } from "../../src/stun/message.js";
import { nodeCrypto } from "../../src/system/crypto.js";
import { Allocation } from "../../src/turn/allocation/allocation.js";
import type { AllocationEvent, LongTermCredentials, RelayServer } from "../../src/turn/allocation/events.js";
import type { TurnServerOptions } from "../../src/turn/server/events.js";
import { seededRandom } from "./random.js";
import { at, NOW_UNIX, portalCredentials, TestServer } from "./turn.js";

/** The server's addresses, and the client's: no NAT is between them. */
export const SERVER_V4 = at("198.51.100.1:3478");
export const SERVER_V6 = at("[2001:db8:1::1]:3478");
export const CLIENT_V4 = at("203.0.113.7:51820");
export const CLIENT_V6 = at("[2001:db8:7::7]:51820");

/** Peers that are no one's. */
export const PEER = at("192.0.2.33:40000");
export const PEER_V6 = at("[2001:db8:9::33]:40000");

/** A peer of many. */
export function peer(number: number): SocketAddress {
  return at(`192.0.2.33:${1 + number}`);
}

/** A request of the client. */
export interface SentRequest {
  readonly at: Instant;
  readonly to: SocketAddress;
  readonly message: StunMessage;
  /** `binding`, `allocate`, `refresh`, `delete`, `bind`. */
  readonly what: string;
  readonly bytes: Uint8Array;
}

/** What becomes of a request. */
export type Fate =
  | "deliver"
  | "lose"
  | "lose-answer"
  | { readonly answer: Uint8Array }
  /** Deliver, and let the answer come only after this time. */
  | { readonly late: number };

/** How to make a link. */
export interface LinkOptions {
  readonly server?: RelayServer;
  readonly serverOptions?: Partial<TurnServerOptions>;
  readonly credentials?: LongTermCredentials;
  /** Decides what becomes of a request; default: all are delivered. */
  readonly fate?: (request: SentRequest, link: AllocationLink) => Fate;
}

interface Arrival {
  readonly at: Instant;
  readonly from: SocketAddress;
  readonly payload: Uint8Array;
}

/** See the head of this file. */
export class AllocationLink {
  now: Instant = 10_000;
  /** From a request to its answer, milliseconds. */
  roundTrip = 20;
  fate: (request: SentRequest, link: AllocationLink) => Fate;
  readonly server: TestServer;
  readonly allocation: Allocation;
  readonly credentials: LongTermCredentials;
  /** Since the last {@link take}. */
  requests: SentRequest[] = [];
  events: AllocationEvent[] = [];
  /** When the client woke up by itself. */
  wakeUps: Instant[] = [];
  readonly #arrivals: Arrival[] = [];

  /** Begins; nothing has been delivered yet. */
  constructor(options: LinkOptions = {}) {
    this.server = new TestServer(options.serverOptions);
    this.credentials = options.credentials ?? portalCredentials("salt");
    this.fate = options.fate ?? (() => "deliver");
    this.allocation = new Allocation(
      {
        server: options.server ?? { ipv4: SERVER_V4 },
        credentials: this.credentials,
        random: seededRandom(5),
        crypto: nodeCrypto,
      },
      this.now,
    );
    this.drain();
  }

  /** A link whose client has an allocation, with nothing written down yet. */
  static allocated(options: LinkOptions = {}): AllocationLink {
    const link = new AllocationLink(options);
    link.run(1000);
    assert.ok(link.allocation.hasAllocation, "there is an allocation");
    link.take();
    return link;
  }

  get key(): Uint8Array {
    const { username, realm, password } = this.credentials;
    return longTermKey(username, realm, password, nodeCrypto);
  }

  /** Lets time pass; the client wakes up when it wants to. */
  run(duration: number): void {
    const end = this.now + duration;
    for (let turns = 0; ; turns++) {
      assert.ok(turns < 100_000, "the client does not go round in circles");
      const wakeUp = this.allocation.pollTimeout() ?? Number.POSITIVE_INFINITY;
      const arrival = this.#arrivals[0]?.at ?? Number.POSITIVE_INFINITY;
      const next = Math.min(wakeUp, arrival);
      if (next > end) break;
      this.now = Math.max(this.now, next);
      if (arrival <= wakeUp) this.#arrive();
      else {
        this.wakeUps.push(this.now);
        this.allocation.handleTimeout(this.now);
        this.drain();
      }
    }
    this.now = end;
  }

  /** Calls the client. */
  do(action: (allocation: Allocation, now: Instant) => void): void {
    action(this.allocation, this.now);
    this.drain();
  }

  /** Hands the client a datagram. @returns whether it took it. */
  receive(payload: Uint8Array, from = SERVER_V4): boolean {
    const message = parseStunMessage(payload);
    if (typeof message === "string") return false;
    const local = from.family === 4 ? CLIENT_V4 : CLIENT_V6;
    const taken = this.allocation.handleInput(message, local, from, this.now);
    this.drain();
    return taken;
  }

  /** What was sent, in words, since the last call; forgets it, and the events and wake-ups too. */
  take(): string[] {
    const taken = this.requests.map(({ what }) => what);
    this.requests = [];
    this.events = [];
    this.wakeUps = [];
    return taken;
  }

  /** The requests of a kind since the last {@link take}. */
  sent(what: string): SentRequest[] {
    return this.requests.filter((request) => request.what === what);
  }

  /** The events since the last {@link take}, in words. */
  told(): string[] {
    return this.events.map((event) => {
      switch (event.type) {
        case "mapped-address":
        case "mapped-address-lost":
          return `${event.type} ${event.mapped}`;
        case "channel-changed":
          return `${event.type} ${event.peer}`;
        default:
          return `${event.type} IPv${event.address.family}`;
      }
    });
  }

  /** An error as an answer to a request, signed unless it is said otherwise. */
  error(
    { message }: SentRequest,
    code: number,
    options: { readonly nonce?: string; readonly realm?: string; readonly signed?: boolean } = {},
  ): Uint8Array {
    const answer = new StunBuilder("error", message.method, message.transactionId);
    answer.add(ErrorCodeAttribute, { code, reason: "" });
    if (options.nonce !== undefined) answer.add(Nonce, options.nonce).add(Realm, options.realm ?? "firezone");
    return options.signed === false ? answer.finish() : answer.addIntegrity(this.key, nodeCrypto).finish();
  }

  /** A success as an answer to a request, signed with `key`. */
  success({ message }: SentRequest, add: (answer: StunBuilder) => unknown, key = this.key): Uint8Array {
    const answer = new StunBuilder("success", message.method, message.transactionId);
    add(answer);
    return answer.addIntegrity(key, nodeCrypto).finish();
  }

  /** Answers every request of a kind with an error from now on; other requests are delivered. */
  refuse(what: string, code: number): void {
    this.fate = (request) => (request.what === what ? { answer: this.error(request, code) } : "deliver");
  }

  /** Loses everything of these kinds from now on. */
  lose(...kinds: readonly string[]): void {
    this.fate = ({ what }) => (kinds.includes(what) ? "lose" : "deliver");
  }

  /** Delivers everything from now on. */
  deliver(): void {
    this.fate = () => "deliver";
  }

  /** Takes what the client has to send and to report. */
  drain(): void {
    const { allocation } = this;
    for (let event = allocation.pollEvent(); event !== undefined; event = allocation.pollEvent())
      this.events.push(event);
    for (let transmit = allocation.pollTransmit(); transmit !== undefined; transmit = allocation.pollTransmit()) {
      assert.equal(transmit.source, undefined, "whichever interface leads to the relay");
      const message = parseStunMessage(transmit.payload);
      if (typeof message === "string") assert.fail(message);
      const what = describe(message);
      const request = { at: this.now, to: transmit.destination, message, what, bytes: transmit.payload };
      this.requests.push(request);
      this.#decide(request, this.fate(request, this));
    }
  }

  /** Lets a datagram arrive at the client later. */
  arriveAfter(delay: number, payload: Uint8Array, from = SERVER_V4): void {
    const arrival = { at: this.now + delay, from, payload };
    const index = this.#arrivals.findIndex((other) => other.at > arrival.at);
    this.#arrivals.splice(index === -1 ? this.#arrivals.length : index, 0, arrival);
  }

  #decide(request: SentRequest, fate: Fate): void {
    if (fate === "lose") return;
    if (typeof fate === "object" && "answer" in fate) {
      this.arriveAfter(this.roundTrip, fate.answer, request.to);
      return;
    }
    const delay = typeof fate === "object" ? fate.late : this.roundTrip;
    for (const answer of this.#serve(request)) if (fate !== "lose-answer") this.arriveAfter(delay, answer, request.to);
  }

  /** The server's answers; it takes a request when it is sent. */
  #serve({ to, bytes }: SentRequest): Uint8Array[] {
    const { server } = this.server;
    this.server.now = this.now;
    server.handleTimeout(this.now);
    server.handleInput(to.family === 4 ? CLIENT_V4 : CLIENT_V6, to, bytes, this.now, NOW_UNIX);
    return this.server.drain();
  }

  #arrive(): void {
    const arrival = this.#arrivals.shift();
    if (arrival !== undefined) this.receive(arrival.payload, arrival.from);
  }
}

/** The channel number that a request is to bind. */
export function channelOf({ message }: SentRequest): number | undefined {
  return message.get(ChannelNumber);
}

/** Whether two requests are the same transmission. */
export function sameTransaction(a: SentRequest | undefined, b: SentRequest | undefined): boolean {
  return a !== undefined && b !== undefined && toHex(a.message.transactionId) === toHex(b.message.transactionId);
}

function describe(message: StunMessage): string {
  switch (message.method) {
    case Method.Binding:
      return "binding";
    case Method.Allocate:
      return "allocate";
    case Method.Refresh:
      return message.get(Lifetime) === 0 ? "delete" : "refresh";
    case Method.ChannelBind:
      return "bind";
    default:
      return `method ${message.method}`;
  }
}
