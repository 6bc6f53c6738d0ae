// The door of a node: mac1, rate limit and cookies.

import assert from "node:assert/strict";
import { test } from "node:test";
import { IpAddress, SocketAddress } from "../../src/base/address.js";
import { SECOND } from "../../src/base/time.js";
import { nodeCrypto } from "../../src/system/crypto.js";
import { CookieGenerator } from "../../src/wireguard/cookie.js";
import { LocalIdentity } from "../../src/wireguard/identity.js";
import { encodeInitiation, encodeResponse, parseMessage } from "../../src/wireguard/messages.js";
import {
  CHECKED_SOURCE_LIMIT,
  HANDSHAKE_LIMIT,
  HandshakeRateLimiter,
  TRACKED_SOURCES,
} from "../../src/wireguard/rate-limit.js";
import { HandshakeReceiver, type HandshakeSources } from "../../src/wireguard/receiver.js";
import { repeated } from "../support/hex.js";
import { seededRandom } from "../support/random.js";

const identity = new LocalIdentity(repeated(2, 32), nodeCrypto);
const random = seededRandom(6);
const START = 50_000;

const source = (host: number, port = 51820) =>
  new SocketAddress(IpAddress.fromBytes(Uint8Array.of(198, 18 + (host >> 16), (host >> 8) & 0xff, host & 0xff)), port);

const newReceiver = (sources?: HandshakeSources) =>
  new HandshakeReceiver({ identity, crypto: nodeCrypto, random: seededRandom(7), ...(sources && { sources }) });

/** Somebody who knows the node's public key and nothing else. */
class Stranger {
  readonly #cookies = new CookieGenerator(identity.publicKey, nodeCrypto);
  readonly #index = 77;

  /** A response that passes mac1 and is cheap to make: it counts like an initiation. */
  response(now: number): Uint8Array {
    const bytes = encodeResponse({
      senderIndex: this.#index,
      receiverIndex: 1,
      ephemeral: random.bytes(32),
      encryptedNothing: random.bytes(16),
    });
    this.#cookies.addMacs(bytes, this.#index, now);
    return bytes;
  }

  initiation(now: number): Uint8Array {
    const bytes = encodeInitiation({
      senderIndex: this.#index,
      ephemeral: random.bytes(32),
      encryptedStatic: random.bytes(48),
      encryptedTimestamp: random.bytes(28),
    });
    this.#cookies.addMacs(bytes, this.#index, now);
    return bytes;
  }

  takeCookie(reply: Uint8Array, now: number): string | undefined {
    const message = parseMessage(reply);
    assert.ok(message?.type === "cookie-reply");
    return this.#cookies.consumeReply(message, now);
  }
}

/** Opens an initiation that is let in. */
function openAdmitted(receiver: HandshakeReceiver, datagram: Uint8Array) {
  const admission = receiver.admit(datagram, source(1), START);
  assert.ok(admission.type === "sealed-initiation");
  return receiver.open(admission.message);
}

/** Sends responses from ever new addresses until they are not processed any more. */
function exhaust(receiver: HandshakeReceiver, now: number): void {
  const stranger = new Stranger();
  const message = stranger.response(now);
  for (let host = 0; host < 150; host++) receiver.admit(message, source(1000 + host), now);
}

test("spec 02, 15.6.6: the 101st handshake message within one second is not processed, after 1 s it is", () => {
  const receiver = newReceiver();
  const stranger = new Stranger();
  const types = (count: number, now: number) =>
    Array.from({ length: count }, () => receiver.admit(stranger.response(now), source(1), now).type);
  assert.deepEqual(new Set(types(100, START)), new Set(["response"]));
  assert.deepEqual(types(3, START + 999), ["send-cookie-reply", "send-cookie-reply", "send-cookie-reply"]);
  assert.equal(receiver.counters.cookieReplies, 3);
  assert.deepEqual(new Set(types(100, START + SECOND)), new Set(["response"]), "field notes, 4.3: not for ever");
});

test("spec 02, 11.4: under load a message is processed only with the cookie in its mac2", () => {
  const receiver = newReceiver();
  const stranger = new Stranger();
  exhaust(receiver, START);
  const reception = receiver.admit(stranger.response(START), source(1), START);
  assert.ok(reception.type === "send-cookie-reply");
  assert.equal(stranger.takeCookie(reception.reply, START), undefined);
  assert.equal(receiver.admit(stranger.response(START), source(1), START).type, "response");
});

test("field notes, 4.3: a cookie is good for its address and port alone", () => {
  const receiver = newReceiver();
  const stranger = new Stranger();
  exhaust(receiver, START);
  const reception = receiver.admit(stranger.response(START), source(1, 4000), START);
  assert.ok(reception.type === "send-cookie-reply");
  stranger.takeCookie(reception.reply, START);
  const message = stranger.response(START);
  assert.equal(receiver.admit(message, source(1, 4001), START).type, "send-cookie-reply", "another port");
  assert.equal(receiver.admit(message, source(2, 4000), START).type, "send-cookie-reply", "another address");
  assert.equal(receiver.admit(message, source(1, 4000), START).type, "response");
});

test("spec 02, 11.4: the secret changes every two minutes; a cookie is good for as long as its holder uses it, and no longer", () => {
  const receiver = newReceiver();
  exhaust(receiver, START);
  // A first cookie starts the secret; the second is made just before it changes.
  assert.equal(receiver.admit(new Stranger().response(START), source(9), START).type, "send-cookie-reply");
  const stranger = new Stranger();
  const madeAt = START + 119 * SECOND;
  exhaust(receiver, madeAt);
  const reception = receiver.admit(stranger.response(madeAt), source(1), madeAt);
  assert.ok(reception.type === "send-cookie-reply");
  stranger.takeCookie(reception.reply, madeAt);
  const usedAt = madeAt + 119 * SECOND;
  const message = stranger.response(usedAt);
  exhaust(receiver, usedAt);
  assert.equal(receiver.admit(message, source(1), usedAt).type, "response");
  for (const later of [START + 241 * SECOND, START + 2000 * SECOND]) {
    exhaust(receiver, later);
    assert.equal(receiver.admit(message, source(1), later).type, "send-cookie-reply");
  }
});

test("field notes, 4.3: one flooder does not force cookies on the others", () => {
  const receiver = newReceiver();
  const flooder = new Stranger();
  const flood = flooder.response(START);
  for (let second = 0; second < 5; second++) {
    const now = START + second * SECOND;
    let processed = 0;
    for (let i = 0; i < 2000; i++) if (receiver.admit(flood, source(666), now).type === "response") processed++;
    assert.equal(processed, HANDSHAKE_LIMIT);
    for (let host = 0; host < 50; host++) {
      const { type } = receiver.admit(new Stranger().response(now), source(host), now);
      assert.equal(type, "response", `second ${second}, host ${host}`);
    }
  }
});

test("where handshakes come only from checked addresses, 500 behind one NAT are served in one second, and nobody floods in another's name", () => {
  const receiver = newReceiver("checked");
  for (let client = 0; client < 5 * HANDSHAKE_LIMIT; client++)
    assert.equal(receiver.admit(new Stranger().response(START), source(1, 1024 + client), START).type, "response");
  assert.equal(receiver.counters.cookieReplies, 0);

  const flood = new Stranger().response(START);
  const outcomes = Array.from({ length: 2000 }, () => receiver.admit(flood, source(1, 999), START).type);
  assert.equal(outcomes.filter((type) => type === "response").length, CHECKED_SOURCE_LIMIT);
  assert.equal(outcomes.at(-1), "send-cookie-reply");
  assert.equal(receiver.admit(new Stranger().response(START), source(1, 998), START).type, "response");
  // Whose address it is gets the cookie, and through.
  const honest = new Stranger();
  const reception = receiver.admit(honest.response(START), source(1, 999), START);
  assert.ok(reception.type === "send-cookie-reply");
  honest.takeCookie(reception.reply, START);
  assert.equal(receiver.admit(honest.response(START), source(1, 999), START).type, "response");
  assert.equal(receiver.admit(flood, source(1, 999), START + SECOND).type, "response");
});

test("field notes, 4.3: a flooder with an IPv6 network counts as one, whatever addresses it uses", () => {
  const limiter = new HandshakeRateLimiter();
  let admitted = 0;
  for (let host = 0; host < 1000; host++) {
    const bytes = Uint8Array.of(0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, host >> 8, host & 0xff);
    if (limiter.admit(IpAddress.fromBytes(bytes), START)) admitted++;
  }
  assert.equal(admitted, HANDSHAKE_LIMIT);
  const other = Uint8Array.of(0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1);
  assert.equal(limiter.admit(IpAddress.fromBytes(other), START), true);
});

test("a flood from forged addresses is bounded in work and memory; who proves its address is served", () => {
  const receiver = newReceiver();
  const forged = new Stranger().response(START);
  let processed = 0;
  for (let host = 0; host < TRACKED_SOURCES + 500; host++)
    if (receiver.admit(forged, source(host), START).type === "response") processed++;
  assert.ok(processed <= 2 * HANDSHAKE_LIMIT, `${processed}`);

  const next = START + SECOND;
  exhaust(receiver, next);
  const honest = new Stranger();
  const reception = receiver.admit(honest.response(next), source(5), next);
  assert.ok(reception.type === "send-cookie-reply");
  honest.takeCookie(reception.reply, next);
  const outcomes = Array.from({ length: 120 }, () => receiver.admit(honest.response(next), source(5), next));
  assert.equal(outcomes.filter(({ type }) => type === "response").length, 100);
  assert.deepEqual(outcomes.at(-1), { type: "rejected", error: "UnderLoad" });
});

test("spec 02, 11.4: a wrong mac1 is refused before it counts, cookie replies are not limited", () => {
  const receiver = newReceiver();
  const wrong = new Stranger().initiation(START);
  wrong[120] = (wrong[120] ?? 0) ^ 1;
  for (let i = 0; i < 300; i++)
    assert.deepEqual(receiver.admit(wrong, source(1), START), { type: "rejected", error: "InvalidMac" });
  assert.equal(receiver.counters.rejected.InvalidMac, 300);
  // An initiation with valid macs and nonsense in it fails at the static key.
  assert.equal(openAdmitted(receiver, new Stranger().initiation(START)), "InvalidAeadTag");
  exhaust(receiver, START);
  const other = newReceiver();
  exhaust(other, START);
  const reception = other.admit(new Stranger().response(START), source(1), START);
  assert.ok(reception.type === "send-cookie-reply");
  assert.equal(receiver.admit(reception.reply, source(1), START).type, "cookie-reply");
});

test("field notes, 4.3: an initiation with an ephemeral key of low order is refused", () => {
  const receiver = newReceiver();
  const bytes = encodeInitiation({
    senderIndex: 1,
    ephemeral: new Uint8Array(32),
    encryptedStatic: random.bytes(48),
    encryptedTimestamp: random.bytes(28),
  });
  new CookieGenerator(identity.publicKey, nodeCrypto).addMacs(bytes, 1, START);
  assert.equal(openAdmitted(receiver, bytes), "WrongKey");
  assert.deepEqual(receiver.counters.rejected, { WrongKey: 1 });
});
