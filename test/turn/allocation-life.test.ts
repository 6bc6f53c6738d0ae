// How an allocation's client keeps its allocation, and what ends it (spec 03, sections 5.8 to 5.11 and 8.5; spec 02, section 15.2), against
// our own server.

import assert from "node:assert/strict";
import { test } from "node:test";
import { MINUTE, SECOND } from "../../src/base/time.js";
import { Lifetime, Nonce } from "../../src/stun/attributes.js";
import { CHANNEL_MIN } from "../../src/stun/channel-data.js";
import { KEEP_ALIVE_INTERVAL } from "../../src/turn/allocation/server-paths.js";
import { AllocationLink, CLIENT_V4, channelOf, PEER, peer, SERVER_V4, SERVER_V6 } from "../support/allocation-link.js";
import { at } from "../support/turn.js";

/** What is told when an allocation is gone. */
const LOST = ["relayed-address-lost IPv4", "relayed-address-lost IPv6"];
/** From the answer to the first transmission of a refresh: half of ten minutes. */
const HALF_LIFE = 5 * MINUTE;
/** From the first transmission of a request to its end. */
const GIVEN_UP = 8125;

/** Runs until a request of this kind is sent, and to its answer. */
function runUntil(link: AllocationLink, what: string): void {
  for (let i = 0; link.sent(what).length === 0; i++) {
    assert.ok(i < 20 * 60, `${what} within 20 min`);
    link.run(SECOND);
  }
  link.run(100);
}

function withoutBindings(link: AllocationLink): string[] {
  return link.requests.map(({ what }) => what).filter((what) => what !== "binding");
}

test("spec 03, 8.5.60: asked whether it lives, a client sends one Refresh, and none to end it", () => {
  const link = AllocationLink.allocated();
  link.do((allocation, now) => allocation.probe(now));
  link.do((allocation, now) => allocation.probe(now));
  assert.deepEqual(
    link.requests.map(({ what }) => what),
    ["refresh"],
  );
  assert.equal(link.requests[0]?.message.has(Lifetime), false);
  link.run(10 * SECOND);
  assert.deepEqual(withoutBindings(link), ["refresh"], "the answer will do");
  assert.deepEqual(link.told(), []);
});

test("spec 03, 6.4: the question whether it lives is asked once, and a second later it does not", () => {
  const link = AllocationLink.allocated();
  link.lose("refresh");
  link.do((allocation, now) => allocation.probe(now));
  link.run(999);
  assert.deepEqual(link.told(), []);
  link.run(1);
  assert.deepEqual(link.told(), LOST);
  link.deliver();
  link.run(SECOND);
  assert.ok(link.allocation.hasAllocation, "it has begun anew");
});

test("spec 03, 8.5.61: the relay knows no allocation: both addresses and all channels are gone; how it sees us is not", () => {
  const link = AllocationLink.allocated();
  link.do((allocation, now) => allocation.bindChannel(PEER, now));
  link.run(SECOND);
  link.take();
  link.refuse("refresh", 437);
  link.do((allocation, now) => allocation.probe(now));
  link.run(link.roundTrip);
  assert.deepEqual(link.told(), LOST);
  assert.deepEqual(link.allocation.mappedAddresses, [{ mapped: CLIENT_V4, base: CLIENT_V4 }]);
  assert.equal(link.allocation.handleChannelData(CHANNEL_MIN, link.now), undefined);
});

test("spec 03, 8.5.62: while the first Allocate is under way there is nothing to ask for", () => {
  const link = new AllocationLink();
  link.take();
  link.do((allocation, now) => allocation.probe(now));
  assert.deepEqual(link.take(), []);
});

test("spec 03, 8.5.63; spec 02, 15.2.8: after a Refresh that the relay cannot place there is a new Allocate", () => {
  const link = AllocationLink.allocated();
  link.refuse("refresh", 437);
  runUntil(link, "refresh");
  // The relay has it nevertheless, so it has to be deleted.
  assert.deepEqual(withoutBindings(link), ["refresh", "allocate", "delete", "allocate"]);
  assert.ok(link.allocation.hasAllocation);
});

test("spec 03, 8.5.64; spec 02, 15.2.8: the allocation is refreshed at half of its life, once, and again at half of the next", () => {
  const link = AllocationLink.allocated();
  // The answer came after two round trips.
  const receivedAt = link.now - SECOND + 2 * link.roundTrip;
  link.run(10 * MINUTE + SECOND);
  const sent = link.sent("refresh").map((request) => request.at - receivedAt);
  assert.deepEqual(sent, [HALF_LIFE, 2 * HALF_LIFE + link.roundTrip]);
  assert.deepEqual(link.told(), []);
});

test("a lifetime shorter than the usual one counts, and time that has passed before does not add up", () => {
  const link = AllocationLink.allocated();
  link.fate = (request) =>
    request.what === "refresh" ? { answer: link.success(request, (message) => message.add(Lifetime, 60)) } : "deliver";
  link.do((allocation, now) => allocation.probe(now));
  link.run(link.roundTrip);
  link.take();
  link.run(30 * SECOND - 1);
  assert.deepEqual(link.sent("refresh"), []);
  link.run(1);
  assert.equal(link.sent("refresh").length, 1);
});

test("spec 03, 8.5.65: Refresh 437, then Allocate 500: nothing more until it is asked again", () => {
  const link = AllocationLink.allocated();
  link.fate = (request) => {
    if (request.what === "refresh") return { answer: link.error(request, 437) };
    return request.what === "allocate" ? { answer: link.error(request, 500) } : "deliver";
  };
  link.do((allocation, now) => allocation.probe(now));
  link.run(9 * SECOND);
  assert.deepEqual(withoutBindings(link), ["refresh", "allocate"]);
  link.run(2 * SECOND);
  assert.deepEqual(withoutBindings(link), ["refresh", "allocate", "allocate"]);
});

test("spec 03, 8.5.66: a suspended allocation is asked for again at once when it is asked whether it lives", () => {
  const link = new AllocationLink();
  link.refuse("allocate", 500);
  link.run(SECOND);
  link.take();
  link.deliver();
  link.do((allocation, now) => allocation.probe(now));
  link.run(100);
  assert.ok(link.allocation.hasAllocation);
});

test("spec 03, 8.5.68; spec 02, 15.2.9: a channel of an allocation that the relay has lost is bound on a new one, without being asked for again", () => {
  const link = AllocationLink.allocated();
  const [before] = link.server.of("allocation-created");
  assert.ok(before);
  // The relay restarts: it keeps its secret.
  let isFirst = true;
  link.fate = (request) => {
    if (request.what !== "bind" || !isFirst) return "deliver";
    isFirst = false;
    return { answer: link.error(request, 437) };
  };
  link.do((allocation, now) => allocation.bindChannel(PEER, now));
  link.run(SECOND);
  assert.deepEqual(withoutBindings(link), ["bind", "allocate", "delete", "allocate", "bind"]);
  assert.equal(link.server.of("channel-bound").length, 1);
  assert.ok(link.allocation.channelTo(PEER, link.now));
});

test("many channels of a lost allocation make one new one; who still needs his channel asks for it", () => {
  const link = AllocationLink.allocated();
  link.fate = (request) =>
    request.what === "bind" && link.requests.length <= 10 ? { answer: link.error(request, 437) } : "deliver";
  link.do((allocation, now) => {
    for (let i = 0; i < 10; i++) allocation.bindChannel(peer(i), now);
  });
  link.run(SECOND);
  const [, ...others] = withoutBindings(link).slice(9);
  assert.deepEqual(others, ["allocate", "delete", "allocate", "bind"]);
  link.do((allocation, now) => assert.ok(allocation.channelTo(peer(5), now)));
});

test("a relay that lends addresses and knows none of them when a channel is bound is not asked without end", () => {
  const link = AllocationLink.allocated();
  link.refuse("bind", 437);
  link.do((allocation, now) => allocation.bindChannel(PEER, now));
  link.run(9 * SECOND);
  assert.ok(link.requests.length < 20, `${link.requests.length} requests`);
});

test("spec 03, 8.5.70; spec 02, 15.2.8: a Refresh that is never answered ends the allocation, after its last repetition; then all begins anew", () => {
  const link = AllocationLink.allocated();
  // Bindings are answered: it is the allocation that is in question.
  link.lose("refresh");
  runUntil(link, "refresh");
  const [{ at: sentAt } = assert.fail()] = link.sent("refresh");
  link.run(sentAt + GIVEN_UP - 1 - link.now);
  assert.deepEqual(link.told(), []);
  link.run(1);
  assert.equal(link.sent("refresh").length, 4);
  assert.deepEqual(link.told(), LOST);
  link.run(SECOND);
  assert.ok(link.allocation.hasAllocation);
});

test("spec 03, 8.5.71; spec 02, 15.2.8: an allocation whose time is over is gone; another one is asked for", () => {
  const link = AllocationLink.allocated();
  link.refuse("refresh", 500);
  link.run(10 * MINUTE - SECOND);
  assert.deepEqual(link.told(), []);
  link.run(SECOND);
  assert.deepEqual(link.told().slice(0, 2), LOST);
  link.run(SECOND);
  assert.ok(link.allocation.hasAllocation);
});

test("spec 03, 8.5.71: a host that has slept finds its allocation over, and asks for another one at once", () => {
  const link = AllocationLink.allocated();
  link.now += 60 * MINUTE;
  link.do((allocation, now) => allocation.handleTimeout(now));
  assert.deepEqual(link.told(), LOST);
  link.run(SECOND);
  assert.ok(link.allocation.hasAllocation);
  assert.equal(link.allocation.failure, undefined);
});

test("spec 03, 8.5.72: 401 to a Refresh with a nonce: no message, no wake-up, both addresses gone, and it has failed", () => {
  const link = AllocationLink.allocated();
  link.refuse("refresh", 401);
  link.do((allocation, now) => allocation.probe(now));
  assert.ok(link.requests[0]?.message.has(Nonce));
  link.run(link.roundTrip);
  assert.deepEqual(withoutBindings(link), ["refresh"]);
  assert.deepEqual(link.told(), LOST);
  assert.equal(link.allocation.pollTimeout(), undefined);
  assert.equal(link.allocation.failure, "authentication");
  link.do((allocation, now) => {
    allocation.bindChannel(PEER, now);
    allocation.probe(now);
  });
  assert.deepEqual(withoutBindings(link), ["refresh"]);
});

test("spec 03, 6.4: 420 is an end too: the relay wants what we cannot do", () => {
  const link = new AllocationLink();
  link.refuse("allocate", 420);
  link.run(SECOND);
  assert.equal(link.allocation.failure, "protocol");
  // The first one had brought a nonce.
  assert.equal(link.sent("allocate").length, 2);
});

test("spec 03, 8.5.80: the way to the relay is kept open with a Binding every 25 s", () => {
  const link = AllocationLink.allocated();
  const answeredAt = link.now - SECOND + link.roundTrip;
  link.run(60 * SECOND);
  const sent = link.sent("binding").map((request) => request.at - answeredAt);
  assert.deepEqual(sent, [KEEP_ALIVE_INTERVAL, 2 * KEEP_ALIVE_INTERVAL + link.roundTrip]);
  assert.ok(link.sent("binding").every(({ to }) => to.equals(SERVER_V4)));
});

test("spec 03, 8.5.80: data on a channel keeps it open as well", () => {
  const link = AllocationLink.allocated();
  link.do((allocation, now) => allocation.bindChannel(PEER, now));
  for (let i = 0; i < 12; i++) {
    link.run(10 * SECOND);
    link.do((allocation, now) => allocation.handleChannelActivity(PEER, now));
  }
  assert.deepEqual(link.sent("binding"), []);
  link.run(KEEP_ALIVE_INTERVAL);
  assert.equal(link.sent("binding").length, 1);
});

test("spec 03, 8.5.80: a Binding that is never answered ends the allocation", () => {
  const link = AllocationLink.allocated();
  link.fate = () => "lose";
  runUntil(link, "binding");
  assert.deepEqual(link.told(), []);
  link.run(GIVEN_UP);
  assert.deepEqual(link.told(), LOST);
  link.run(10 * SECOND);
  assert.equal(link.allocation.failure, "no-response");
});

test("spec 03, 6.4: an address that does not answer is asked again now and then; when the other one dies it is used", () => {
  const silent = (link: AllocationLink, address: typeof SERVER_V4) => {
    link.fate = ({ to }) => (to.equals(address) ? "lose" : "deliver");
  };
  const link = new AllocationLink({
    server: { ipv4: SERVER_V4, ipv6: SERVER_V6 },
    fate: ({ to }) => (to.equals(SERVER_V6) ? "lose" : "deliver"),
  });
  link.run(2 * MINUTE);
  assert.equal(link.allocation.activeServer, SERVER_V4);
  silent(link, SERVER_V4);
  link.run(MINUTE);
  assert.ok(link.allocation.hasAllocation);
  assert.equal(link.allocation.activeServer, SERVER_V6);
});

test("spec 03, 8.5.81: the distance is that of the first answer, and an eighth of every later one", () => {
  const link = new AllocationLink({ fate: () => "lose" });
  assert.equal(link.allocation.roundTripTime, undefined);
  link.roundTrip = 40;
  link.deliver();
  link.do((allocation, now) => allocation.restart(now));
  // The Binding and the first Allocate, then the Allocate with a nonce.
  link.run(80);
  assert.equal(link.allocation.roundTripTime, 40);
  link.roundTrip = 200;
  link.do((allocation, now) => allocation.probe(now));
  link.run(200);
  assert.equal(link.allocation.roundTripTime, 60);
});

test("spec 03, 5.2 and 8.6.85: after a change of network it begins anew with its credentials; from another port there is nothing to delete", () => {
  const link = AllocationLink.allocated();
  link.do((allocation, now) => allocation.bindChannel(PEER, now));
  link.run(SECOND);
  link.take();
  link.do((allocation, now) => allocation.restart(now));
  assert.deepEqual(link.told(), [...LOST, `mapped-address-lost ${CLIENT_V4}`]);
  assert.deepEqual(
    link.requests.map(({ what }) => what),
    ["binding", "allocate"],
  );
  assert.equal(link.requests[1]?.message.has(Nonce), false);
});

test("spec 03, 5.2: what has failed begins anew too", () => {
  const link = AllocationLink.allocated();
  link.refuse("refresh", 401);
  link.do((allocation, now) => allocation.probe(now));
  link.run(SECOND);
  assert.equal(link.allocation.failure, "authentication");
  link.deliver();
  link.do((allocation, now) => allocation.restart(now));
  link.run(SECOND);
  assert.ok(link.allocation.hasAllocation);
});

test("in the end the allocation is given back, with one message; nothing follows", () => {
  const link = AllocationLink.allocated();
  link.do((allocation, now) => allocation.close(now));
  assert.deepEqual(link.take(), ["delete"]);
  link.run(MINUTE);
  link.do((allocation, now) => {
    allocation.close(now);
    allocation.bindChannel(PEER, now);
    allocation.probe(now);
    allocation.restart(now);
  });
  assert.deepEqual(link.take(), []);
  assert.equal(link.server.of("allocation-deleted").length, 1);
});

test("numbers of channels go on where they were when an allocation is replaced", () => {
  const link = AllocationLink.allocated();
  link.do((allocation, now) => allocation.bindChannel(at("192.0.2.33:1"), now));
  link.run(SECOND);
  link.do((allocation, now) => allocation.restart(now));
  link.run(SECOND);
  link.take();
  link.do((allocation, now) => allocation.bindChannel(at("192.0.2.33:2"), now));
  assert.deepEqual(link.sent("bind").map(channelOf), [CHANNEL_MIN + 1]);
});
