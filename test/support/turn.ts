// A TURN server in simulated time, with ports that open when they are asked to, and a client that makes its requests by hand.

import assert from "node:assert/strict";
import { IpAddress, SocketAddress } from "../../src/base/address.js";
import type { Instant } from "../../src/base/time.js";
import { ErrorCodeAttribute, Nonce, Realm, RequestedTransport, Username } from "../../src/stun/attributes.js";
import { StunBuilder } from "../../src/stun/builder.js";
import { Method } from "../../src/stun/header.js";
import { longTermKey, verifyIntegrity } from "../../src/stun/integrity.js";
import { parseStunMessage, type StunMessage } from "../../src/stun/message.js";
import { nodeCrypto } from "../../src/system/crypto.js";
import type { LongTermCredentials } from "../../src/turn/allocation/events.js";
import { portalUsers, relayPassword } from "../../src/turn/credentials.js";
import type { TurnServerEvent, TurnServerOptions } from "../../src/turn/server/events.js";
import { TurnServer } from "../../src/turn/server/server.js";
import { seededRandom } from "./random.js";

/** An IP address. */
export function ip(text: string): IpAddress {
  const address = IpAddress.parse(text);
  assert.ok(address, text);
  return address;
}

/** A socket address. */
export function at(text: string): SocketAddress {
  const address = SocketAddress.parse(text);
  assert.ok(address, text);
  return address;
}

/** Wall-clock time of all tests. */
export const NOW_UNIX = 1_724_716_800_000;
/** End of the credentials of {@link TestClient}. */
const EXPIRY = 4_102_444_800;
const SECRET = "4c98bf59c99b3e467ecd7cf9d6b3e5279645fca59be67bc5bb4af3cf653761ab";

/** Credentials that the portal hands out, for {@link TestServer}. */
export function portalCredentials(salt: string): LongTermCredentials {
  const password = relayPassword(SECRET, EXPIRY, salt, nodeCrypto);
  return { username: `${EXPIRY}:${salt}`, password, realm: "firezone" };
}

/** A server at 198.51.100.1 and 2001:db8:1::1. */
export class TestServer {
  now: Instant = 10_000;
  readonly server: TurnServer;
  readonly open = new Set<number>();
  /** Ports that somebody else has. */
  readonly taken = new Set<number>();
  readonly events: TurnServerEvent[] = [];
  readonly local = at("198.51.100.1:3478");

  constructor(options: Partial<TurnServerOptions> = {}) {
    this.server = new TurnServer({
      ipv4: ip("198.51.100.1"),
      ipv6: ip("2001:db8:1::1"),
      lowestPort: 49152,
      highestPort: 65535,
      users: [portalUsers(SECRET, nodeCrypto)],
      ports: {
        open: (port) => !this.taken.has(port) && Boolean(this.open.add(port)),
        close: (port) => this.open.delete(port),
      },
      random: seededRandom(1),
      crypto: nodeCrypto,
      software: "test",
      denyPrivatePeers: false,
      ...options,
    });
  }

  /** Hands a datagram in; returns what comes back. */
  receive(client: SocketAddress, datagram: Uint8Array): Uint8Array[] {
    this.server.handleInput(client, this.local, datagram, this.now, NOW_UNIX);
    return this.drain();
  }

  /** Lets time pass. */
  wait(duration: number): void {
    this.now += duration;
    this.server.handleTimeout(this.now);
    this.drain();
  }

  /** Datagrams to clients; events are kept. */
  drain(): Uint8Array[] {
    for (let event = this.server.pollEvent(); event !== undefined; event = this.server.pollEvent())
      this.events.push(event);
    const sent: Uint8Array[] = [];
    for (let transmit = this.server.pollTransmit(); transmit !== undefined; transmit = this.server.pollTransmit())
      sent.push(transmit.payload);
    return sent;
  }

  of<T extends TurnServerEvent["type"]>(type: T): Extract<TurnServerEvent, { type: T }>[] {
    return this.events.filter((event): event is Extract<TurnServerEvent, { type: T }> => event.type === type);
  }
}

/** A client that the portal sends. */
export class TestClient {
  readonly address: SocketAddress;
  readonly username: string;
  readonly realm = "firezone";
  nonce: string | undefined;
  readonly #server: TestServer;
  readonly #password: string;
  readonly #random = seededRandom(7);

  constructor(server: TestServer, address = "203.0.113.7:51820", salt = "n23JJ2wKKtt30oXi", password?: string) {
    this.#server = server;
    this.address = at(address);
    this.username = `${EXPIRY}:${salt}`;
    this.#password = password ?? relayPassword(SECRET, EXPIRY, salt, nodeCrypto);
  }

  get key(): Uint8Array {
    return longTermKey(this.username, this.realm, this.#password, nodeCrypto);
  }

  /** A request with credentials, and its answer; asks for a nonce first if it has none. */
  request(method: number, add: (message: StunBuilder) => unknown = () => undefined, id?: Uint8Array): StunMessage {
    if (this.nonce === undefined) this.challenge();
    const answer = this.send(method, add, true, id);
    assert.ok(answer, "there is an answer");
    assert.ok(verifyIntegrity(answer, this.key, nodeCrypto), "the answer is signed");
    return answer;
  }

  /** A request that is not signed: 401, and a nonce. */
  challenge(): StunMessage {
    const answer = this.send(Method.Allocate, (message) => message.add(RequestedTransport, 17), false);
    assert.equal(codeOf(answer), 401);
    this.nonce = answer?.get(Nonce);
    return answer ?? assert.fail();
  }

  /** One request. */
  send(
    method: number,
    add: (message: StunBuilder) => unknown,
    signed: boolean,
    id: Uint8Array = this.#random.bytes(12),
  ): StunMessage | undefined {
    const message = new StunBuilder("request", method, id);
    add(message);
    if (signed) {
      message.add(Username, this.username).add(Realm, this.realm);
      if (this.nonce !== undefined) message.add(Nonce, this.nonce);
      message.addIntegrity(this.key, nodeCrypto);
    }
    const [answer] = this.#server.receive(this.address, message.finish());
    if (answer === undefined) return undefined;
    const parsed = parseStunMessage(answer);
    assert.ok(typeof parsed !== "string");
    return parsed;
  }

  allocate(add: (message: StunBuilder) => unknown = () => undefined): StunMessage {
    return this.request(Method.Allocate, (message) => {
      message.add(RequestedTransport, 17);
      add(message);
    });
  }
}

/** Error code of an answer; 0: it is none. */
export function codeOf(answer: StunMessage | undefined): number {
  return answer?.get(ErrorCodeAttribute)?.code ?? 0;
}
