// What an allocation's client makes of answers that are lost, late, repeated, reordered or forged: our own server on a bad network.

import assert from "node:assert/strict";
import { test } from "node:test";
import { MINUTE, SECOND } from "../../src/base/time.js";
import {
  ErrorCodeAttribute,
  Lifetime,
  MessageIntegrity,
  Nonce,
  Realm,
  XorMappedAddress,
  XorRelayedAddress,
} from "../../src/stun/attributes.js";
import { StunBuilder } from "../../src/stun/builder.js";
import { nodeCrypto } from "../../src/system/crypto.js";
import { MAX_PENDING } from "../../src/turn/allocation/transactions.js";
import { AllocationLink, CLIENT_V4, type Fate, PEER, peer, type SentRequest } from "../support/allocation-link.js";
import { seededRandom } from "../support/random.js";
import { at, portalCredentials } from "../support/turn.js";

/** A key that is not the client's. */
const OTHER_KEY = new Uint8Array(16).fill(9);

const kinds = (link: AllocationLink) => link.requests.map(({ what }) => what).filter((what) => what !== "binding");

/** Lets this fate befall the first `count` requests of a kind. */
function befall(link: AllocationLink, what: string, count: number, fate: Fate): void {
  let left = count;
  link.fate = (request) => (request.what === what && left-- > 0 ? fate : "deliver");
}

test("lost: the 401 that brings the nonce; the next transmission brings it", () => {
  const link = new AllocationLink({
    fate: ({ what, message }) => (what === "allocate" && !message.has(Nonce) ? "lose-answer" : "deliver"),
  });
  link.run(500);
  link.deliver();
  link.run(600);
  assert.ok(link.allocation.hasAllocation);
});

test("lost: the success of an Allocate; the repetition meets the allocation that was made, which is deleted for another", () => {
  const link = new AllocationLink();
  let lost = false;
  link.fate = ({ what, message }) => {
    if (what !== "allocate" || !message.has(Nonce) || lost) return "deliver";
    lost = true;
    return "lose-answer";
  };
  link.run(2 * SECOND);
  assert.deepEqual(kinds(link), ["allocate", "allocate", "allocate", "delete", "allocate"]);
  assert.ok(link.allocation.hasAllocation);
  assert.equal(link.server.open.size, 1, "one port on the relay");
});

for (const what of ["bind", "refresh"])
  test(`lost: three transmissions of a ${what}, or their answers; the fourth counts`, () => {
    for (const fate of ["lose", "lose-answer"] as const) {
      const link = AllocationLink.allocated();
      if (what === "refresh") link.run(4 * MINUTE);
      link.take();
      befall(link, what, 3, fate);
      link.do((allocation, now) => (what === "bind" ? allocation.bindChannel(PEER, now) : undefined));
      link.run(2 * MINUTE);
      assert.equal(link.sent(what).length, 4);
      assert.deepEqual(link.told(), []);
      assert.ok(link.allocation.hasAllocation);
    }
  });

test("spec 03, 5.6: late answers count: with 1.4 s to the relay an allocation is made, and one only", () => {
  const link = new AllocationLink();
  link.roundTrip = 1400;
  link.fate = () => ({ late: 1400 });
  link.do((allocation, now) => allocation.restart(now));
  link.do((allocation, now) => allocation.bindChannel(PEER, now));
  link.run(6 * SECOND);
  assert.ok(link.allocation.hasAllocation);
  assert.deepEqual(link.sent("delete"), [], "no repetition was taken for another request");
  assert.equal(link.server.of("allocation-created").length, 1);
  assert.equal(link.server.of("channel-bound").length > 0, true);
  assert.equal(link.allocation.failure, undefined);
  assert.deepEqual(
    link.told().filter((event) => event.includes("lost")),
    [],
  );
});

test("late: an answer after the request was given up changes nothing", () => {
  const link = new AllocationLink({ fate: () => "lose" });
  const [request] = link.sent("allocate");
  link.run(MINUTE);
  assert.equal(link.allocation.failure, "no-response");
  assert.ok(request);
  link.take();
  assert.equal(link.receive(success(link, request)), false);
  assert.deepEqual(link.told(), []);
  assert.equal(link.allocation.hasAllocation, false);
});

test("late: an answer to a request from before a change of network changes nothing", () => {
  const link = new AllocationLink({ fate: () => "lose" });
  const [request] = link.sent("allocate");
  link.do((allocation, now) => allocation.restart(now));
  assert.ok(request);
  assert.equal(link.receive(success(link, request)), false);
  assert.equal(link.allocation.hasAllocation, false);
});

test("repeated: each answer that comes again, also many times, changes nothing", () => {
  const link = new AllocationLink();
  link.do((allocation, now) => allocation.bindChannel(PEER, now));
  const answers: Uint8Array[] = [];
  const original = link.receive.bind(link);
  link.receive = (payload, from) => {
    answers.push(payload);
    return original(payload, from);
  };
  link.run(SECOND);
  const before = { kinds: kinds(link), told: link.told() };
  assert.ok(answers.length >= 4);
  for (let i = 0; i < 10; i++) for (const answer of answers) assert.equal(original(answer), false);
  assert.deepEqual({ kinds: kinds(link), told: link.told() }, before);
});

test("repeated: a 401 that comes ten times while the Allocate with its nonce is under way is one 401", () => {
  const link = new AllocationLink({ fate: () => "lose" });
  const [request] = link.sent("allocate");
  assert.ok(request);
  const challenge = link.error(request, 401, { nonce: "nonce", signed: false });
  for (let i = 0; i < 10; i++) assert.equal(link.receive(challenge), true);
  assert.equal(link.sent("allocate").length, 2);
  assert.equal(link.allocation.failure, undefined);
});

test("RFC 8489, 9.2.4: a relay that refuses what is signed without a nonce, as coturn does, is asked once more unsigned, and gives one", () => {
  const link = new AllocationLink();
  link.fate = (request) => {
    const isEarly = request.what === "allocate" && request.message.has(MessageIntegrity) && !request.message.has(Nonce);
    return isEarly ? { answer: link.error(request, 400, { signed: false }) } : "deliver";
  };
  link.do((allocation, now) => allocation.restart(now));
  link.take();
  link.do((allocation, now) => allocation.restart(now));
  link.run(SECOND);
  const sent = link.sent("allocate").map(({ message }) => [message.has(MessageIntegrity), message.has(Nonce)]);
  assert.deepEqual(sent.slice(-3), [
    [true, false],
    [false, false],
    [true, true],
  ]);
  assert.ok(link.allocation.hasAllocation);
  // One that finds the unsigned request bad too has had its say.
  const other = new AllocationLink();
  other.fate = (request) =>
    request.what === "allocate" ? { answer: other.error(request, 400, { signed: false }) } : "deliver";
  other.do((allocation, now) => allocation.restart(now));
  other.take();
  other.do((allocation, now) => allocation.restart(now));
  other.run(SECOND);
  assert.equal(other.sent("allocate").length, 2);
});

test("reordered: 401 to both transmissions of the first Allocate, the second after the nonce is known: it is old news", () => {
  const link = new AllocationLink({ fate: () => "lose" });
  link.run(1100);
  const [first, second] = link.sent("allocate");
  assert.ok(first && second);
  link.receive(link.error(second, 401, { nonce: "newer", signed: false }));
  link.receive(link.error(first, 401, { nonce: "older", signed: false }));
  const sent = link.sent("allocate");
  assert.deepEqual(
    sent.map(({ message }) => message.get(Nonce)),
    [undefined, undefined, "newer"],
  );
});

test("a relay that has a new nonce for every request is given up", () => {
  const link = new AllocationLink();
  let number = 0;
  link.fate = (request) =>
    request.what === "allocate" ? { answer: link.error(request, 438, { nonce: `nonce ${number++}` }) } : "deliver";
  link.run(MINUTE);
  assert.equal(link.allocation.failure, "protocol");
  assert.ok(link.sent("allocate").length < 10);
});

test("spec 03, 8.5.78: an answer with another transaction, from another address, or to another method, or no message, is not ours", () => {
  const link = new AllocationLink({ fate: () => "lose" });
  const [request] = link.sent("allocate");
  assert.ok(request);
  const genuine = success(link, request);
  const { unexpected } = link.allocation.counters;
  const foreign = genuine.slice();
  foreign[8] = (foreign[8] ?? 0) ^ 1;
  assert.equal(link.receive(foreign), false, "transaction");
  assert.equal(link.receive(genuine, at("198.51.100.1:3479")), false, "port");
  assert.equal(link.receive(genuine, at("198.51.100.2:3478")), false, "address");
  const otherMethod = genuine.slice();
  otherMethod[1] = 0x04;
  assert.equal(link.receive(otherMethod), false, "method");
  assert.equal(link.receive(request.bytes), false, "a request");
  assert.equal(link.receive(genuine.subarray(0, 30)), false, "cut off");
  assert.equal(link.allocation.counters.unexpected, unexpected + 5);
  assert.equal(link.allocation.hasAllocation, false);
  assert.equal(link.receive(genuine), true);
  assert.ok(link.allocation.hasAllocation);
});

test("forged: an answer that is signed with another key is counted and not heeded; the genuine one after it is", () => {
  const link = new AllocationLink({ fate: () => "lose" });
  const [request] = link.sent("allocate");
  assert.ok(request);
  for (const code of [401, 420, 437, 438, 500]) {
    const answer = new StunBuilder("error", request.message.method, request.message.transactionId)
      .add(ErrorCodeAttribute, { code, reason: "" })
      .add(Nonce, "forged")
      .add(Realm, "firezone")
      .addIntegrity(OTHER_KEY, nodeCrypto)
      .finish();
    assert.equal(link.receive(answer), true);
  }
  assert.equal(link.receive(success(link, request, OTHER_KEY)), true);
  assert.equal(link.allocation.counters.forged, 6);
  assert.equal(link.allocation.failure, undefined);
  assert.equal(link.allocation.hasAllocation, false);
  assert.equal(link.sent("allocate").length, 1, "nothing is sent because of it");
  link.receive(success(link, request));
  assert.ok(link.allocation.hasAllocation);
});

test("a relay with another secret, as after a restart, is recognized within a few round trips", () => {
  // What such a relay signs with its key would look like a forgery to us; so it signs nothing for who has another.
  const link = new AllocationLink({ credentials: { ...portalCredentials("salt"), password: "of the secret before" } });
  link.run(3 * link.roundTrip);
  assert.equal(link.allocation.failure, "authentication");
  assert.equal(link.allocation.counters.forged, 0);
});

test("a Binding that says nothing about us, or of the other IP version, tells nothing", () => {
  const link = new AllocationLink({ fate: () => "lose" });
  const [request] = link.sent("binding");
  assert.ok(request);
  const answer = new StunBuilder("success", request.message.method, request.message.transactionId);
  link.receive(answer.add(XorMappedAddress, at("[2001:db8::1]:1")).finish());
  assert.deepEqual(link.told(), []);
});

test("what is bound while too many requests wait is refused and counted; the rest of the life of the allocation goes on", () => {
  const link = AllocationLink.allocated();
  link.run(4 * MINUTE + 50 * SECOND);
  link.lose("bind");
  // Just before the refresh is due.
  link.run(9 * SECOND - 100);
  link.do((allocation, now) => {
    for (let i = 0; i < MAX_PENDING + 10; i++) allocation.bindChannel(peer(i), now);
  });
  assert.ok(link.allocation.counters.tooManyRequests >= 10);
  assert.equal(link.allocation.channelTo(peer(MAX_PENDING + 5), link.now), undefined);
  link.take();
  link.run(2 * SECOND);
  assert.equal(link.sent("refresh").length, 1);
});

test("on a network that loses, delays, repeats and reorders a third of everything it has an allocation most of the time, and one at most", () => {
  for (let seed = 1; seed <= 20; seed++) {
    const random = seededRandom(seed);
    const dice = () => (random.bytes(1)[0] ?? 0) / 256;
    const link = new AllocationLink();
    link.do((allocation, now) => allocation.restart(now));
    link.fate = () => {
      const throwOf = dice();
      if (throwOf < 0.1) return "lose";
      if (throwOf < 0.2) return "lose-answer";
      return throwOf < 0.35 ? { late: Math.floor(dice() * 3000) } : "deliver";
    };
    const original = link.receive.bind(link);
    link.receive = (payload, from) => {
      if (dice() < 0.1) link.arriveAfter(Math.floor(dice() * 5000), payload);
      return original(payload, from);
    };
    let had = 0;
    for (let second = 0; second < 20 * 60; second++) {
      link.run(SECOND);
      if (second % 30 === 0) link.do((allocation, now) => allocation.channelTo(peer(second % 7), now));
      if (link.allocation.failure !== undefined) link.do((allocation, now) => allocation.restart(now));
      if (link.allocation.hasAllocation) had++;
      link.events = [];
    }
    assert.ok(had > 0.95 * 20 * 60, `seed ${seed}: ${had} s`);
    assert.ok(link.server.open.size <= 1);
    assert.ok(link.requests.length < 1500, `seed ${seed}: ${link.requests.length} requests`);
  }
});

/** A success for an Allocate. */
function success(link: AllocationLink, request: SentRequest, key = link.key): Uint8Array {
  const add = (answer: StunBuilder) =>
    answer.add(XorRelayedAddress, at("198.51.100.1:50000")).add(XorMappedAddress, CLIENT_V4).add(Lifetime, 600);
  return link.success(request, add, key);
}
