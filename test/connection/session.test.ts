// The WireGuard side of a connection by itself: two of them, whose paths lead to each other.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { SocketAddress } from "../../src/base/address.js";
import { type Instant, SECOND } from "../../src/base/time.js";
import type { FailureReason, NodeEvent } from "../../src/connection/events.js";
import { Patience } from "../../src/connection/patience.js";
import { SelectedPath } from "../../src/connection/selected-path.js";
import {
  ConnectionSession,
  MAX_WAITING_PACKETS,
  MAX_WRONG_ANSWERS,
  PERSISTENT_KEEPALIVE,
} from "../../src/connection/session.js";
import { IceAgent } from "../../src/ice/agent.js";
import { IceDispatcher } from "../../src/ice/dispatcher.js";
import type { IceRole } from "../../src/ice/pair.js";
import { nodeCrypto } from "../../src/system/crypto.js";
import { NEW_HANDSHAKE_TIMEOUT, REJECT_AFTER_TIME, REKEY_ATTEMPT_TIME } from "../../src/wireguard/constants.js";
import { CookieChecker } from "../../src/wireguard/cookie.js";
import type { WireGuardError } from "../../src/wireguard/errors.js";
import { LocalIdentity } from "../../src/wireguard/identity.js";
import { PeerIndices, peerIndexOf } from "../../src/wireguard/indices.js";
import { parseMessage } from "../../src/wireguard/messages.js";
import { HandshakeReceiver } from "../../src/wireguard/receiver.js";
import { Tai64nClock } from "../../src/wireguard/tai64n.js";
import { repeated } from "../support/hex.js";
import { seededRandom } from "../support/random.js";
import { at, NOW_UNIX } from "../support/turn.js";

const START: Instant = 10_000;
const SESSION_KEY = repeated(0x5e, 32);
const CLIENT = at("192.168.0.2:52625");
const GATEWAY = at("203.0.113.9:52625");
const OTHER_CLIENT = at("192.168.0.3:52625");
const OTHER_GATEWAY = at("203.0.113.10:52625");

/** Names of events in their order. */
const typesOf = (events: readonly NodeEvent[]) => events.map(({ type }) => type);

/** The first bytes of the packets among events: tests number them so. */
const packetsOf = (events: readonly NodeEvent[]) =>
  events.flatMap((event) => (event.type === "send-packet" ? [event.packet[0]] : []));

/** One side: a session with real path and patience, and no connection around them. */
class Side {
  readonly identity: LocalIdentity;
  readonly path: SelectedPath;
  readonly patience = new Patience();
  readonly session: ConnectionSession;
  readonly failures: FailureReason[] = [];
  readonly receiver: HandshakeReceiver;
  readonly #events: NodeEvent[] = [];
  readonly #sent: { readonly to: string; readonly payload: Uint8Array }[] = [];

  constructor(role: IceRole, sessionKey: Uint8Array = SESSION_KEY, identity?: LocalIdentity) {
    const random = seededRandom(role === "controlling" ? 1 : 2);
    this.identity = identity ?? new LocalIdentity(random.bytes(32), nodeCrypto);
    this.receiver = new HandshakeReceiver({ identity: this.identity, crypto: nodeCrypto, random });
    const agent = new IceAgent({ role, crypto: nodeCrypto, random, dispatcher: new IceDispatcher() });
    const emit = (event: NodeEvent) => this.#events.push(event);
    this.path = new SelectedPath("c", agent, {
      emit: () => undefined,
      transmit: ({ destination, payload }) => this.#sent.push({ to: String(destination), payload }),
      relayedPath: () => "direct",
    });
    this.session = new ConnectionSession(
      { id: "c", path: this.path, patience: this.patience, fail: (reason) => this.failures.push(reason) },
      sessionKey,
      {
        role,
        identity: this.identity,
        crypto: nodeCrypto,
        random,
        clock: new Tai64nClock(START, NOW_UNIX),
        indices: new PeerIndices(random),
        emit,
      },
    );
  }

  takeEvents = () => this.#events.splice(0);
  takeSent = () => this.#sent.splice(0);

  /** A way is found, as the connection does. */
  select(remote: SocketAddress, now: Instant): void {
    if (this.path.select(CLIENT, remote, now)) this.session.handlePathSelected(now);
    this.session.update(now);
  }

  /** A datagram comes. @returns why it is refused. */
  receive(payload: Uint8Array, now: Instant): WireGuardError | undefined {
    const reception = this.receiver.admit(payload, CLIENT, now);
    let error: WireGuardError | undefined;
    if (reception.type === "sealed-initiation") {
      const opened = this.receiver.open(reception.message);
      error = typeof opened === "string" ? opened : this.session.handleInitiation(opened, now);
    } else if (reception.type === "response") error = this.session.handleResponse(reception.message, now);
    else if (reception.type === "cookie-reply") error = this.session.handleCookieReply(reception.message, now);
    else assert.fail(reception.type);
    this.session.update(now);
    return error;
  }

  /** Time has come, as far as the session wants to know. */
  run(until: Instant): void {
    for (;;) {
      const next = this.session.pollTimeout();
      if (next === undefined || next > until) return;
      this.session.handleTimeout(next);
      this.session.update(next);
    }
  }
}

/** Two sides that know each other; no way yet. */
function pair(gatewayKey?: Uint8Array): { client: Side; gateway: Side } {
  const client = new Side("controlling");
  const gateway = new Side("controlled", gatewayKey);
  client.session.start(gateway.identity.publicKey, START);
  gateway.session.start(client.identity.publicKey, START);
  return { client, gateway };
}

/** Takes what `from` has sent to `to`. @returns why it is refused. */
function pass(from: Side, to: Side, now: Instant): (WireGuardError | undefined)[] {
  return from.takeSent().map(({ payload }) => to.receive(payload, now));
}

/** The datapath of the gateway has received the first message of its newest session. */
function confirm(gateway: Side, events: readonly NodeEvent[], now: Instant): void {
  const established = events.filter((event) => event.type === "session-established").at(-1);
  assert.ok(established?.type === "session-established");
  gateway.session.handleConfirmed(established.session.localIndex, now);
  gateway.session.update(now);
}

/** A pair with paths and a session that both may use. */
function connected(): { client: Side; gateway: Side } {
  const { client, gateway } = pair();
  client.select(GATEWAY, START);
  gateway.select(CLIENT, START);
  assert.deepEqual(pass(client, gateway, START), [undefined]);
  assert.deepEqual(pass(gateway, client, START), [undefined]);
  confirm(gateway, gateway.takeEvents(), START);
  for (const side of [client, gateway]) {
    side.takeEvents();
    assert.equal(side.session.isConnected, true);
  }
  return { client, gateway };
}

// ---- Making a session

test("before the other side is known nothing is done, refused or kept", () => {
  const { client, gateway } = connected();
  client.select(OTHER_GATEWAY, START + 100);
  const [initiation] = client.takeSent();
  assert.ok(initiation);
  assert.equal(gateway.receive(initiation.payload, START + 100), undefined);
  const [response] = gateway.takeSent();
  assert.ok(response);

  const early = new Side("controlling");
  early.select(GATEWAY, START);
  early.session.handlePacket(Uint8Array.of(1), START);
  early.session.handleTimeout(START);
  const stray = parseMessage(response.payload);
  assert.ok(stray?.type === "response");
  assert.equal(early.session.handleResponse(stray, START), "UnexpectedPacket");
  const reply = {
    type: "cookie-reply",
    receiverIndex: 1,
    nonce: repeated(0, 24),
    encryptedCookie: repeated(0, 32),
  } as const;
  assert.equal(early.session.handleCookieReply(reply, START), "UnexpectedPacket");
  const sealed = parseMessage(initiation.payload);
  assert.ok(sealed?.type === "initiation");
  const opened = gateway.receiver.open(sealed);
  assert.ok(typeof opened === "object");
  assert.equal(early.session.handleInitiation(opened, START), "WrongKey");
  early.session.update(START);
  assert.deepEqual([early.takeEvents(), early.takeSent(), early.failures], [[], [], []]);
  const { isConnected, remotePublicKey, peerIndex, dropped } = early.session;
  assert.deepEqual([isConnected, remotePublicKey, peerIndex, dropped], [false, undefined, undefined, 0]);
  assert.equal(early.session.pollTimeout(), undefined);
});

test("the side that begins does so when a way is selected; both tell of the session, then of the connection, and only then comes the keepalive", () => {
  const { client, gateway } = pair();
  assert.deepEqual(client.session.remotePublicKey, gateway.identity.publicKey);
  client.session.update(START);
  assert.deepEqual(client.takeSent(), [], "no way yet");
  client.select(GATEWAY, START);
  const sent = client.takeSent();
  assert.deepEqual(
    sent.map(({ to, payload }) => `${to} ${parseMessage(payload)?.type}`),
    [`${GATEWAY} initiation`],
  );
  assert.deepEqual(client.takeEvents(), []);
  assert.equal(gateway.receive(sent[0]?.payload ?? repeated(0, 1), START), undefined);
  const established = gateway.takeEvents();
  assert.deepEqual(typesOf(established), ["session-established"]);
  assert.deepEqual(gateway.takeSent(), [], "the answer waits for the way back");
  gateway.select(CLIENT, START);
  assert.deepEqual(pass(gateway, client, START), [undefined]);
  const events = client.takeEvents();
  assert.deepEqual(typesOf(events), [
    "session-established",
    "session-current",
    "connection-established",
    "send-keepalive",
  ]);
  assert.ok(events.every((event) => "connection" in event && event.connection === "c"));
  const [first] = events;
  assert.ok(first?.type === "session-established");
  assert.equal(peerIndexOf(first.session.localIndex), client.session.peerIndex);

  assert.equal(gateway.session.isConnected, false, "until the client has shown that it has the keys");
  confirm(gateway, established, START + 10);
  assert.deepEqual(typesOf(gateway.takeEvents()), ["session-current", "connection-established"]);
  assert.equal(gateway.session.isConnected, true);
});

test("spec 02, 14: the controlled side answers, and begins nothing of its own accord, whatever waits", () => {
  const { gateway } = pair();
  gateway.select(CLIENT, START);
  gateway.session.handlePacket(Uint8Array.of(1), START);
  gateway.session.update(START);
  gateway.run(START + 600 * SECOND);
  assert.deepEqual(gateway.takeSent(), []);
});

test("a connection is established when it has a session and a way", () => {
  const { client, gateway } = pair();
  client.select(GATEWAY, START);
  pass(client, gateway, START);
  confirm(gateway, gateway.takeEvents(), START);
  assert.deepEqual(typesOf(gateway.takeEvents()), ["session-current"]);
  gateway.select(CLIENT, START);
  assert.deepEqual(typesOf(gateway.takeEvents()), ["connection-established"]);
});

test("spec 02, 6.6: another way is cause for another handshake, which goes over it; the sessions stay", () => {
  const { client, gateway } = connected();
  client.select(GATEWAY, START + 50);
  assert.deepEqual(client.takeSent(), [], "the same way");
  client.select(OTHER_GATEWAY, START + 100);
  const sent = client.takeSent();
  assert.deepEqual(
    sent.map(({ to }) => to),
    [String(OTHER_GATEWAY)],
  );
  assert.equal(gateway.receive(sent[0]?.payload ?? repeated(0, 1), START + 100), undefined);
  assert.deepEqual(pass(gateway, client, START + 110), [undefined]);
  assert.deepEqual(typesOf(client.takeEvents()), ["session-established", "session-current", "send-keepalive"]);
});

test("the caller may wipe its session key once a session is made; the copy is wiped when it is no longer needed, or at the end", () => {
  const copies: Uint8Array[] = [];
  const recorded = (key: Uint8Array) =>
    Object.assign(key, {
      slice: () => {
        const copy = Uint8Array.from(key);
        copies.push(copy);
        return copy;
      },
    });
  const key = recorded(SESSION_KEY.slice());
  const client = new Side("controlling", key);
  key.fill(0);
  const gateway = new Side("controlled");
  client.session.start(gateway.identity.publicKey, START);
  gateway.session.start(client.identity.publicKey, START);
  client.select(GATEWAY, START);
  gateway.select(CLIENT, START);
  assert.deepEqual(pass(client, gateway, START), [undefined]);
  assert.deepEqual(pass(gateway, client, START), [undefined]);
  assert.deepEqual(copies, [repeated(0, 32)]);

  const unused = new Side("controlling", recorded(SESSION_KEY.slice()));
  assert.deepEqual(copies[1], SESSION_KEY);
  unused.session.close();
  assert.deepEqual(copies[1], repeated(0, 32));
});

test("a cookie is taken: the next initiation carries it", () => {
  const { client, gateway } = pair();
  client.select(GATEWAY, START);
  const [first] = client.takeSent();
  const message = parseMessage(first?.payload ?? repeated(0, 1));
  assert.ok(first && message?.type === "initiation");
  const checker = new CookieChecker(gateway.identity.publicKey, nodeCrypto, seededRandom(3));
  assert.equal(
    client.receive(checker.createReply(first.payload, message.senderIndex, CLIENT, START), START),
    undefined,
  );
  client.select(OTHER_GATEWAY, START + 100);
  const [second] = client.takeSent();
  assert.ok(second);
  assert.equal(checker.checkMac2(second.payload, CLIENT, START + 100), true);
});

// ---- Packets that wait

test("packets wait for the first session, and go in their order; on the side that does not begin too", () => {
  const { client, gateway } = pair();
  client.session.handlePacket(Uint8Array.of(1), START);
  client.session.update(START);
  assert.deepEqual(client.takeSent(), [], "an initiation without a way would be in the way of the next one");
  client.select(GATEWAY, START);
  gateway.select(CLIENT, START);
  client.session.handlePacket(Uint8Array.of(2), START);
  gateway.session.handlePacket(Uint8Array.of(3), START);
  pass(client, gateway, START);
  const established = gateway.takeEvents();
  assert.deepEqual(packetsOf(established), []);
  pass(gateway, client, START);
  const events = client.takeEvents();
  assert.deepEqual(packetsOf(events), [1, 2]);
  assert.ok(!typesOf(events).includes("send-keepalive"), "a packet says as much");
  assert.ok(typesOf(events).indexOf("connection-established") < typesOf(events).indexOf("send-packet"));
  confirm(gateway, established, START);
  assert.deepEqual(packetsOf(gateway.takeEvents()), [3]);
});

test("while no way works any more packets wait for the next, the newest of them; the connection is as it was", () => {
  const { client } = connected();
  client.path.lose();
  client.session.update(START + SECOND);
  for (let i = 0; i <= MAX_WAITING_PACKETS; i++) client.session.handlePacket(Uint8Array.of(i), START + SECOND);
  client.session.update(START + SECOND);
  assert.deepEqual(client.takeEvents(), []);
  assert.equal(client.session.dropped, 1);
  client.select(OTHER_GATEWAY, START + 2 * SECOND);
  const events = client.takeEvents();
  assert.deepEqual(
    packetsOf(events),
    Array.from({ length: MAX_WAITING_PACKETS }, (_, i) => i + 1),
  );
  assert.equal(events.length, MAX_WAITING_PACKETS, "nothing else is news");
});

test("a connection that takes another one's place inherits its packets: they go before all others", () => {
  const { client: before } = connected();
  before.path.lose();
  before.session.handlePacket(Uint8Array.of(1), START);
  before.session.handlePacket(Uint8Array.of(2), START);
  const { client, gateway } = pair();
  client.session.inheritPackets(before.session.takeWaitingPackets());
  assert.deepEqual(before.session.takeWaitingPackets(), []);
  client.select(GATEWAY, START);
  gateway.select(CLIENT, START);
  client.session.handlePacket(Uint8Array.of(3), START);
  pass(client, gateway, START);
  pass(gateway, client, START);
  assert.deepEqual(packetsOf(client.takeEvents()), [1, 2, 3]);
});

test("packets that find no place are counted, wherever they waited", () => {
  const { client } = connected();
  // A second after the session became current the datapath has no room for it: packets would come back for ever.
  client.session.handlePacket(Uint8Array.of(1), START + SECOND);
  assert.equal(client.session.dropped, 1);
  client.path.lose();
  for (let i = 0; i <= MAX_WAITING_PACKETS; i++) client.session.handlePacket(Uint8Array.of(i), START + SECOND);
  assert.equal(client.session.dropped, 2);
});

// ---- What keeps a session alive, and what ends it

test("spec 02, 2.5: an empty message every 10 s keeps the way open, from both sides", () => {
  for (const side of Object.values(connected())) {
    side.run(START + PERSISTENT_KEEPALIVE - 1);
    assert.deepEqual(side.takeEvents(), []);
    side.run(START + PERSISTENT_KEEPALIVE);
    assert.deepEqual(side.takeEvents(), [{ type: "send-keepalive", connection: "c" }]);
    side.session.update(START + PERSISTENT_KEEPALIVE);
    assert.deepEqual(side.takeEvents(), [], "once");
  }
});

test("data that nothing answers are cause for a handshake, of the side that begins", () => {
  const { client, gateway } = connected();
  const sentAt = START + SECOND;
  for (const side of [client, gateway]) {
    side.session.handleActivity({ sentAt, sentDataAt: sentAt, receivedAt: START, receivedDataAt: START }, sentAt);
    side.run(sentAt + NEW_HANDSHAKE_TIMEOUT - 1);
    assert.deepEqual(side.takeSent(), []);
    side.run(sentAt + NEW_HANDSHAKE_TIMEOUT + SECOND);
  }
  assert.deepEqual(
    client.takeSent().map(({ payload }) => parseMessage(payload)?.type),
    ["initiation"],
  );
  assert.deepEqual(gateway.takeSent(), []);
});

test("a connection whose session is over is established again by the next one", () => {
  const { client, gateway } = connected();
  const later = START + REJECT_AFTER_TIME + SECOND;
  gateway.path.lose();
  gateway.session.handlePacket(Uint8Array.of(1), START);
  gateway.run(later);
  gateway.session.handleTimeout(later);
  gateway.session.update(later);
  assert.equal(gateway.session.isConnected, false);
  assert.equal(typesOf(gateway.takeEvents()).at(-1), "session-removed");
  gateway.select(OTHER_CLIENT, later);
  assert.deepEqual(gateway.takeEvents(), [], "what waits goes on waiting");
  client.select(OTHER_GATEWAY, later);
  pass(client, gateway, later);
  const events = gateway.takeEvents();
  confirm(gateway, events, later);
  assert.deepEqual(typesOf(gateway.takeEvents()), ["session-current", "connection-established", "send-packet"]);
});

test("an answer is waited for from the first initiation on, and no longer when it has come; WireGuard itself gives up later", () => {
  const { client } = pair();
  assert.equal(client.patience.deadline(), undefined);
  client.select(GATEWAY, START);
  assert.equal(client.patience.deadline(), START + 20 * SECOND);
  client.run(START + 6 * SECOND);
  assert.equal(client.takeSent().length, 2, "repeated");
  assert.equal(client.patience.deadline(), START + 20 * SECOND, "which is no new beginning");
  client.run(START + REKEY_ATTEMPT_TIME - SECOND);
  assert.deepEqual(client.failures, []);
  client.takeSent();
  client.run(START + REKEY_ATTEMPT_TIME);
  assert.deepEqual(client.failures, ["no-handshake"]);

  assert.equal(connected().client.patience.deadline(), undefined);
});

test("answers with other keys than ours are the end only when several come in a row: one could be forged", () => {
  const { client, gateway } = connected();
  let now = START + SECOND;
  /** The client begins, and is answered `count` times with other keys. */
  const answerWrongly = (count: number): Uint8Array => {
    now += SECOND;
    client.select(now % (2 * SECOND) === 0 ? OTHER_GATEWAY : GATEWAY, now);
    const [initiation] = client.takeSent();
    assert.ok(initiation);
    const wrong = wrongAnswer(initiation.payload, gateway, client, now);
    for (let i = 0; i < count; i++) assert.equal(client.receive(wrong, now), "InvalidAeadTag");
    return initiation.payload;
  };
  const initiation = answerWrongly(MAX_WRONG_ANSWERS - 1);
  assert.equal(gateway.receive(initiation, now), undefined);
  assert.deepEqual(pass(gateway, client, now), [undefined], "the right answer is still taken");
  answerWrongly(MAX_WRONG_ANSWERS - 1);
  assert.deepEqual(client.failures, []);
  answerWrongly(1);
  assert.deepEqual(client.failures, ["wrong-keys"]);
});

/** What a gateway with the right static key and another session key answers. */
function wrongAnswer(initiation: Uint8Array, gateway: Side, client: Side, now: Instant): Uint8Array {
  const other = new Side("controlled", repeated(0x77, 32), gateway.identity);
  other.session.start(client.identity.publicKey, now);
  other.select(CLIENT, now);
  assert.equal(other.receive(initiation, now), undefined);
  const [answer] = other.takeSent();
  assert.ok(answer);
  return answer.payload;
}

test("an answer to nothing is refused, and no wrong answer", () => {
  const { client, gateway } = pair();
  gateway.select(CLIENT, START);
  client.select(GATEWAY, START);
  pass(client, gateway, START);
  const [answer] = gateway.takeSent();
  assert.ok(answer);
  assert.equal(client.receive(answer.payload, START), undefined);
  for (let i = 0; i < MAX_WRONG_ANSWERS; i++) assert.equal(client.receive(answer.payload, START), "UnexpectedPacket");
  assert.deepEqual(client.failures, []);
});

test("the end: the tables forget all sessions, and nothing else is told or sent", () => {
  const { client, gateway } = connected();
  client.select(OTHER_GATEWAY, START + 100);
  pass(client, gateway, START + 100);
  pass(gateway, client, START + 100);
  client.takeEvents();
  client.session.handlePacket(Uint8Array.of(1), START + 100);
  client.session.close();
  const events = client.takeEvents();
  assert.deepEqual(typesOf(events), ["session-removed", "session-removed"]);
  assert.equal(new Set(events.map((event) => event.type === "session-removed" && event.localIndex)).size, 2);
  client.session.update(START + 200);
  assert.deepEqual([client.takeEvents(), client.takeSent(), client.session.isConnected], [[], [], false]);
});
