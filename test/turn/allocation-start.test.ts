// How an allocation's client gets its allocation (spec 03, sections 5.4 to 5.9 and 8.5; spec 02, section 15.2), against our own server.

import assert from "node:assert/strict";
import { test } from "node:test";
import { MINUTE, SECOND } from "../../src/base/time.js";
import {
  AdditionalAddressFamily,
  Lifetime,
  MessageIntegrity,
  Nonce,
  Realm,
  RequestedTransport,
  Software,
  Username,
  XorRelayedAddress,
} from "../../src/stun/attributes.js";
import { CHANNEL_MIN, encodeChannelData, parseChannelData } from "../../src/stun/channel-data.js";
import { verifyIntegrity } from "../../src/stun/integrity.js";
import { nodeCrypto } from "../../src/system/crypto.js";
import { MAX_BUFFERED_BINDS, SUSPENSION } from "../../src/turn/allocation/allocation.js";
import {
  AllocationLink,
  CLIENT_V4,
  CLIENT_V6,
  channelOf,
  PEER,
  PEER_V6,
  peer,
  SERVER_V4,
  SERVER_V6,
  type SentRequest,
  sameTransaction,
} from "../support/allocation-link.js";
import { at, portalCredentials } from "../support/turn.js";

const DUAL = { ipv4: SERVER_V4, ipv6: SERVER_V6 };

/** A success for an Allocate, as a relay without IPv4 gives it. */
function allocated(link: AllocationLink, request: SentRequest, relayed: readonly string[]): Uint8Array {
  return link.success(request, (message) => {
    for (const address of relayed) message.add(XorRelayedAddress, at(address));
    message.add(Lifetime, 600);
  });
}

/** Repetitions of a request that nobody answers, after the first transmission (spec 03, 5.6, "later"). */
const REPETITIONS = [1000, 2500, 4750];
const GIVEN_UP = 8125;

test("spec 03, 8.5.50; spec 02, 15.2.3: a channel that is asked for before there is an allocation is bound as soon as there is", () => {
  const link = new AllocationLink();
  link.do((allocation, now) => allocation.bindChannel(PEER, now));
  link.run(30);
  assert.deepEqual(link.sent("bind"), []);
  link.run(30);
  assert.deepEqual(link.sent("bind").map(channelOf), [CHANNEL_MIN]);
  link.run(SECOND);
  assert.equal(link.server.of("channel-bound").length, 1);
});

test("spec 03, 8.5.51; spec 02, 15.2.4: data to a peer goes to the relay, behind four bytes, as soon as its channel is on its way", () => {
  const link = AllocationLink.allocated();
  link.do((allocation, now) => {
    const way = allocation.channelTo(PEER, now);
    assert.deepEqual([way?.channel, way?.server], [CHANNEL_MIN, SERVER_V4]);
  });
  assert.deepEqual(link.take(), ["bind"], "who has no channel yet gets one");
  const payload = Uint8Array.of(1, 2, 3);
  const datagram = encodeChannelData(CHANNEL_MIN, payload);
  assert.equal(datagram.length, 4 + payload.length);
  link.server.server.handleInput(CLIENT_V4, SERVER_V4, datagram, link.now, 0);
  link.server.drain();
  assert.deepEqual(
    link.server.of("send-to-peer").map(({ peer, data }) => [peer.key, [...data]]),
    [[PEER.key, [1, 2, 3]]],
  );
});

test("spec 03, 8.4.44: data of a peer comes to our relayed address of its IP version; on channels that are none it is nobody's", () => {
  const link = AllocationLink.allocated();
  link.do((allocation, now) => allocation.bindChannel(PEER_V6, now));
  const back = parseChannelData(encodeChannelData(CHANNEL_MIN, Uint8Array.of(9)));
  assert.ok(typeof back !== "string");
  const origin = link.allocation.handleChannelData(back.channel, link.now);
  assert.deepEqual([origin?.peer.key, origin?.relayed.family], [PEER_V6.key, 6]);
  assert.equal(link.allocation.handleChannelData(CHANNEL_MIN + 1, link.now), undefined);
});

test("spec 03, 8.5.52; spec 02, 15.2.3: a channel that the relay refuses is forgotten, and its user is told", () => {
  const link = AllocationLink.allocated();
  link.refuse("bind", 400);
  link.do((allocation, now) => allocation.bindChannel(PEER, now));
  link.run(SECOND);
  assert.deepEqual(link.told(), [`channel-changed ${PEER}`]);
  assert.equal(link.allocation.handleChannelData(CHANNEL_MIN, link.now), undefined);
  assert.equal(link.sent("bind").length, 1);
});

test("spec 03, 8.5.53; spec 02, 15.2.3: one request per peer, whether it is buffered, in flight or bound; several peers in order", () => {
  const link = new AllocationLink();
  const twice = () =>
    link.do((allocation, now) => {
      for (const number of [1, 2, 1, 2]) allocation.bindChannel(peer(number), now);
    });
  twice();
  link.run(SECOND);
  assert.deepEqual(link.sent("bind").map(channelOf), [CHANNEL_MIN, CHANNEL_MIN + 1], "buffered");
  twice();
  assert.equal(link.sent("bind").length, 2, "bound");
  link.do((allocation, now) => {
    for (const number of [3, 4, 3, 4]) allocation.bindChannel(peer(number), now);
  });
  link.run(SECOND);
  assert.deepEqual(link.sent("bind").slice(2).map(channelOf), [CHANNEL_MIN + 2, CHANNEL_MIN + 3], "in flight");
});

test("spec 03, 8.5.54; spec 02, 15.2.5: without answers requests are repeated after 1, 2.5 and 4.75 s, and given up after 8.125 s", () => {
  const link = new AllocationLink({ server: DUAL, fate: () => "lose" });
  const start = link.now;
  link.run(MINUTE);
  const wakeUps = [...new Set(link.wakeUps)].map((time) => time - start);
  assert.deepEqual(wakeUps, [...REPETITIONS, GIVEN_UP]);
  for (const server of [SERVER_V4, SERVER_V6]) {
    const sent = link.requests.filter(({ to }) => to.equals(server)).map((request) => request.at - start);
    assert.deepEqual(sent, [0, ...REPETITIONS], `${server}`);
  }
  assert.equal(link.allocation.failure, "no-response");
});

test("spec 03, 8.5.55; spec 02, 15.2.6: no channel to a peer whose IP version the relay has not lent us, buffered or not", () => {
  for (const [absent, wanted, unwanted] of [
    ["ipv6", PEER, PEER_V6],
    ["ipv4", PEER_V6, PEER],
  ] as const) {
    const server = absent === "ipv4" ? { ipv6: SERVER_V6 } : { ipv4: SERVER_V4 };
    const link = new AllocationLink({ server, serverOptions: { [absent]: undefined }, fate: () => "lose" });
    link.deliver();
    // Our server without IPv4 lends nothing to who asks for both.
    if (absent === "ipv4")
      link.fate = (request) => {
        if (request.what === "bind") return { answer: link.success(request, () => undefined) };
        return request.what === "allocate"
          ? { answer: allocated(link, request, ["[2001:db8:1::1]:50000"]) }
          : "deliver";
      };
    const ask = () =>
      link.do((allocation, now) => {
        allocation.bindChannel(unwanted, now);
        allocation.bindChannel(wanted, now);
      });
    ask();
    link.run(2 * SECOND);
    assert.equal(link.sent("bind").length, 1, "buffered");
    ask();
    link.run(SECOND);
    assert.equal(link.sent("bind").length, 1, "asked for later");
    assert.equal(link.allocation.channelTo(unwanted, link.now), undefined);
  }
});

test("spec 03, 8.5.56 and 5.4; spec 02, 15.2.7: the first Allocate is signed, but has no nonce yet", () => {
  const link = new AllocationLink();
  const [{ message } = assert.fail()] = link.sent("allocate");
  assert.equal(message.get(Username), portalCredentials("salt").username);
  assert.equal(message.get(Realm), "firezone");
  assert.equal(message.has(Nonce), false);
  assert.equal(message.get(RequestedTransport), 17);
  assert.equal(message.get(AdditionalAddressFamily), 2);
  assert.equal(message.has(Lifetime), false);
  assert.ok(message.has(Software) && message.has(MessageIntegrity));
  assert.ok(verifyIntegrity(message, link.key, nodeCrypto));
});

test("spec 03, 8.5.57; spec 02, 15.2.7: after 438 the same is asked with the new nonce, from the start of its schedule", () => {
  const link = AllocationLink.allocated();
  let refused = false;
  link.fate = (request) => {
    if (request.what !== "bind" || refused) return "lose";
    refused = true;
    return { answer: link.error(request, 438, { nonce: "nonce2" }) };
  };
  link.do((allocation, now) => allocation.bindChannel(PEER, now));
  const start = link.now + link.roundTrip;
  link.run(5 * SECOND);
  const [first, ...others] = link.sent("bind");
  assert.notEqual(first?.message.get(Nonce), "nonce2");
  assert.deepEqual(
    others.map((request) => [request.at - start, request.message.get(Nonce), channelOf(request)]),
    [0, ...REPETITIONS].map((after) => [after, "nonce2", CHANNEL_MIN]),
  );
});

test("spec 03, 8.5.58; spec 02, 15.2.7: 401 to a request without nonce brings one; to a request with a nonce it is the end", () => {
  const link = new AllocationLink();
  link.run(SECOND);
  assert.deepEqual(
    link.sent("allocate").map(({ message }) => message.has(Nonce)),
    [false, true],
  );
  const wrong = new AllocationLink({ credentials: { ...portalCredentials("salt"), password: "wrong" } });
  wrong.run(MINUTE);
  assert.deepEqual(wrong.sent("allocate").length, 2);
  assert.equal(wrong.allocation.failure, "authentication");
  assert.equal(wrong.allocation.pollTimeout(), undefined);
});

test("spec 03, 8.5.59: first it is known how the relay sees us, then what it lends us; nothing else is told", () => {
  const link = new AllocationLink();
  link.run(SECOND);
  assert.deepEqual(link.told(), [`mapped-address ${CLIENT_V4}`, "relayed-address IPv4", "relayed-address IPv6"]);
  assert.deepEqual(link.allocation.mappedAddresses, [{ mapped: CLIENT_V4, base: CLIENT_V4 }]);
  assert.deepEqual(
    link.allocation.relayedAddresses.map(({ family }) => family),
    [4, 6],
  );
});

test("spec 03, 8.5.69 and 8.5.65: an Allocate that is refused is asked again later, at growing intervals; nothing else is sent for it", () => {
  const link = new AllocationLink();
  link.refuse("allocate", 500);
  const start = link.now;
  link.run(2 * MINUTE);
  assert.equal(link.allocation.failure, undefined);
  const after = link.sent("allocate").map((request) => Math.round((request.at - start) / SECOND));
  assert.deepEqual(after, [0, 0, 10, 30, 70]);
  assert.equal(SUSPENSION, 10 * SECOND);
  link.deliver();
  link.run(MINUTE);
  assert.ok(link.allocation.hasAllocation);
});

test("spec 03, 8.5.67; spec 02, 15.2.3: a refused Allocate forgets the channels that wait, and takes no further ones", () => {
  const link = new AllocationLink();
  link.do((allocation, now) => allocation.bindChannel(PEER, now));
  link.refuse("allocate", 500);
  link.run(SECOND);
  link.do((allocation, now) => allocation.bindChannel(peer(2), now));
  link.deliver();
  link.run(MINUTE);
  assert.ok(link.allocation.hasAllocation);
  assert.deepEqual(link.sent("bind"), []);
});

test("spec 03, 8.5.73: a fresh allocation has not failed; without any answer over both addresses it has", () => {
  const link = new AllocationLink({ server: DUAL, fate: () => "lose" });
  assert.equal(link.allocation.failure, undefined);
  link.run(GIVEN_UP - 1);
  assert.equal(link.allocation.failure, undefined);
  link.run(1);
  assert.equal(link.allocation.failure, "no-response");
  assert.equal(link.allocation.pollTimeout(), undefined);
});

test("spec 03, 8.5.74: a relay is known by its addresses, each of its own IP version", () => {
  const has = (server: { readonly ipv4?: typeof SERVER_V4; readonly ipv6?: typeof SERVER_V6 }) => {
    const { allocation } = new AllocationLink({ server });
    return [SERVER_V4, SERVER_V6, at("198.51.100.1:3479")].map((address) => allocation.hasServer(address));
  };
  assert.deepEqual(has({ ipv4: SERVER_V4 }), [true, false, false]);
  assert.deepEqual(has({ ipv6: SERVER_V6 }), [false, true, false]);
  assert.deepEqual(has(DUAL), [true, true, false]);
});

test("spec 03, 8.5.75; spec 02, 15.2.10: the address that answers first is used; both tell how they see us", () => {
  const link = new AllocationLink({
    server: DUAL,
    fate: ({ what, to }) => (what === "binding" && to.equals(SERVER_V4) ? { late: 500 } : "deliver"),
  });
  link.run(SECOND);
  assert.deepEqual(
    link.sent("allocate").map(({ to }) => to),
    [SERVER_V6, SERVER_V6],
  );
  assert.deepEqual(link.allocation.activeServer, SERVER_V6);
  assert.deepEqual(
    link.told().filter((event) => event.startsWith("mapped")),
    [`mapped-address ${CLIENT_V6}`, `mapped-address ${CLIENT_V4}`],
  );
  assert.equal(link.server.of("allocation-created").length, 1, "never one for each address");
});

test("spec 03, 8.5.76; spec 02, 15.2.10: a second address that does not answer is given up; so is an Allocate that is not answered", () => {
  const link = new AllocationLink({
    server: DUAL,
    fate: ({ what, to }) => (what === "binding" && to.equals(SERVER_V4) ? "deliver" : "lose"),
  });
  const start = link.now;
  link.run(MINUTE);
  const of = (what: string, to = SERVER_V4) =>
    link
      .sent(what)
      .filter((request) => request.to.equals(to))
      .map((request) => request.at - start);
  assert.deepEqual(of("binding", SERVER_V6), [0, ...REPETITIONS]);
  assert.deepEqual(
    of("allocate"),
    [0, ...REPETITIONS].map((after) => after + link.roundTrip),
  );
  assert.equal(link.allocation.failure, "no-response");
});

test("spec 03, 8.5.77: an allocation of ours that we do not know of is deleted first", () => {
  const link = AllocationLink.allocated();
  const [before] = link.server.of("allocation-created");
  link.do((allocation, now) => allocation.restart(now));
  link.run(SECOND);
  assert.deepEqual(
    link.requests.map(({ what }) => what).filter((what) => what !== "binding"),
    ["allocate", "allocate", "delete", "allocate"],
  );
  assert.ok(link.allocation.hasAllocation);
  assert.deepEqual(
    link.server.of("allocation-deleted").map(({ port, reason }) => [port, reason]),
    [[before?.port, "refreshed-to-zero"]],
  );
});

test("a relay that says again and again that it has an allocation of ours is left alone for a while", () => {
  const link = new AllocationLink();
  link.refuse("allocate", 437);
  link.run(SECOND);
  const count = link.requests.length;
  assert.ok(count < 20, `${count} requests`);
  link.run(8 * SECOND);
  assert.equal(link.requests.length, count);
});

test("spec 03, 8.5.79: a 401 for another realm than ours is not answered", () => {
  const link = new AllocationLink({
    fate: (request, begun) =>
      request.what === "allocate"
        ? { answer: begun.error(request, 401, { nonce: "nonce", realm: "elsewhere", signed: false }) }
        : "deliver",
  });
  link.run(MINUTE);
  assert.equal(link.sent("allocate").length, 1);
  assert.equal(link.allocation.failure, "protocol");
});

test("spec 03, 5.9: a success without lifetime, or that lends no address, is none; it is asked again later", () => {
  for (const answer of [
    (link: AllocationLink, request: Parameters<typeof link.success>[0]) => link.success(request, () => undefined),
    (link: AllocationLink, request: Parameters<typeof link.success>[0]) =>
      link.success(request, (message) => message.add(Lifetime, 600)),
  ]) {
    const link = new AllocationLink();
    link.fate = (request) =>
      request.what === "allocate" && request.message.has(Nonce) ? { answer: answer(link, request) } : "deliver";
    link.run(SECOND);
    assert.equal(link.allocation.hasAllocation, false);
    assert.equal(link.allocation.failure, undefined);
    link.deliver();
    link.run(20 * SECOND);
    assert.ok(link.allocation.hasAllocation);
  }
});

test("spec 03, 8.5.82; spec 02, 15.1.7: a hundred channels wait in order; of more the oldest are forgotten", () => {
  const link = new AllocationLink();
  link.do((allocation, now) => {
    for (let i = 0; i <= MAX_BUFFERED_BINDS; i++) allocation.bindChannel(peer(i), now);
  });
  link.run(SECOND);
  const bound = link.server.of("channel-bound");
  assert.deepEqual(
    bound.map((event) => event.peer.key),
    Array.from({ length: MAX_BUFFERED_BINDS }, (_, i) => peer(i + 1).key),
  );
});

test("spec 03, 5.6: each transmission of a signed request has a transaction id of its own", () => {
  const link = new AllocationLink({ fate: () => "lose" });
  link.run(2 * SECOND);
  const [first, second] = link.sent("allocate");
  assert.ok(first !== undefined && second !== undefined && !sameTransaction(first, second));
});
