// Channels of a relay from their binding to the end of their cool-down: spec 03, sections 3.8 to 3.11 and 8.2.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { SocketAddress } from "../../src/base/address.js";
import {
  ChannelNumber,
  Lifetime,
  RequestedAddressFamily,
  XorPeerAddress,
  XorRelayedAddress,
} from "../../src/stun/attributes.js";
import { encodeChannelData } from "../../src/stun/channel-data.js";
import { Method } from "../../src/stun/header.js";
import { MAX_PERMISSIONS } from "../../src/turn/server/allocation.js";
import { at, codeOf, TestClient, TestServer } from "../support/turn.js";

const PEER = at("192.0.2.33:52625");
const OTHER = at("192.0.2.34:1");
const PEER6 = at("[2001:db8:33::1]:52625");
const DATA = Uint8Array.of(1, 2, 3, 4);
/** Seconds and milliseconds of section 3.8, and of permissions (RFC 8656, section 9). */
const HOUR = 3600;
const LIFETIME = 600_000;
const COOL_DOWN = 300_000;
const PERMISSION = 300_000;

function bind(client: TestClient, channel: number, peer: SocketAddress): number {
  return codeOf(
    client.request(Method.ChannelBind, (message) => message.add(ChannelNumber, channel).add(XorPeerAddress, peer)),
  );
}

/** A client with an allocation for an hour. */
function allocated(address?: string, family?: number) {
  const server = new TestServer();
  const client = new TestClient(server, address);
  const answer = client.allocate((message) => {
    message.add(Lifetime, HOUR);
    if (family !== undefined) message.add(RequestedAddressFamily, family);
  });
  const relayed = answer.getAll(XorRelayedAddress);
  return { server, client, relayed, port: relayed[0]?.port ?? 0 };
}

/** What arrives at the peer of channel data, and at the client of the peer's: numbers of datagrams. */
function pass({ server, client, port }: ReturnType<typeof allocated>, channel: number, peer: SocketAddress): number[] {
  const before = server.of("send-to-peer").length;
  server.receive(client.address, encodeChannelData(channel, DATA));
  const sent = server.of("send-to-peer").slice(before);
  for (const event of sent) assert.deepEqual([event.allocationPort, String(event.peer)], [port, String(peer)]);
  server.server.handlePeerData(port, peer, DATA, server.now);
  const received = server.drain();
  for (const datagram of received) assert.deepEqual(datagram, encodeChannelData(channel, DATA));
  return [sent.length, received.length];
}

test("spec 03, 8.2.15 and 8.2.16: ping-pong over a channel, by IPv4 and by IPv6", () => {
  for (const [address, family, peer] of [
    ["203.0.113.7:51820", undefined, PEER],
    ["[2001:db8:7::7]:51820", 2, PEER6],
  ] as const) {
    const world = allocated(address, family);
    assert.deepEqual(
      world.relayed.map((relayed) => relayed.family),
      [peer.family],
      "one address, of the family that was asked for",
    );
    assert.equal(bind(world.client, 0x4000, peer), 0);
    assert.deepEqual(pass(world, 0x4000, peer), [1, 1], address);
    // The permission that comes with the channel, then the channel.
    assert.equal(world.server.server.pollTimeout(), world.server.now + PERMISSION);
    world.server.wait(PERMISSION);
    assert.equal(world.server.server.pollTimeout(), world.server.now + LIFETIME - PERMISSION);
  }
});

test("spec 03, 8.2.17: it is woken for a channel's end after 600 s and its cool-down's after 900 s; then the number is another peer's", () => {
  const { server, client } = allocated();
  bind(client, 0x4000, PEER);
  const boundAt = server.now;
  server.wait(PERMISSION);
  assert.equal(server.server.pollTimeout(), boundAt + LIFETIME);
  server.wait(LIFETIME - PERMISSION);
  assert.equal(server.server.channels, 0);
  assert.equal(server.server.pollTimeout(), boundAt + LIFETIME + COOL_DOWN);
  server.wait(COOL_DOWN - 1);
  assert.equal(bind(client, 0x4000, OTHER), 400, "the cool-down lasts to its end");
  server.wait(1);
  assert.equal(bind(client, 0x4000, OTHER), 0);
  server.wait(PERMISSION);
  assert.equal(server.server.pollTimeout(), server.now + LIFETIME - PERMISSION);
});

test("spec 03, 8.2.18: while it cools down a channel carries nothing in either direction, and can be bound to its peer only", () => {
  const world = allocated();
  const { server, client } = world;
  bind(client, 0x4000, PEER);
  server.wait(LIFETIME);
  assert.deepEqual(pass(world, 0x4000, PEER), [0, 0]);
  assert.equal(bind(client, 0x4000, OTHER), 400, "the number to another peer");
  assert.equal(bind(client, 0x4001, PEER), 400, "the peer to another number");
  assert.deepEqual(pass(world, 0x4000, PEER), [0, 0]);
  assert.equal(bind(client, 0x4000, PEER), 0, "the same pair");
  assert.deepEqual(pass(world, 0x4000, PEER), [1, 1]);
});

test("spec 03, 8.2.20: a peer of a family that the allocation does not have is 443, whichever it is", () => {
  assert.deepEqual([bind(allocated().client, 0x4000, PEER6), bind(allocated().client, 0x4000, PEER)], [443, 0]);
  const ipv6 = () => allocated(undefined, 2).client;
  assert.deepEqual([bind(ipv6(), 0x4000, PEER), bind(ipv6(), 0x4000, PEER6)], [443, 0]);
});

test("spec 03, 8.2.29: the datapath hears of a channel when it is made, refreshed, revived, expired, and when its allocation ends", () => {
  const { server, client } = allocated();
  const heard = () =>
    server.events
      .splice(0)
      .flatMap((event) => (event.type === "channel-bound" || event.type === "channel-unbound" ? [event] : []))
      .map(({ type, channel }) => `${type} ${channel.toString(16)}`);
  bind(client, 0x4000, PEER);
  assert.deepEqual(heard(), ["channel-bound 4000"], "made");
  bind(client, 0x4000, PEER);
  assert.deepEqual(heard(), ["channel-bound 4000"], "refreshed");
  server.wait(LIFETIME);
  assert.deepEqual(heard(), ["channel-unbound 4000"], "expired");
  bind(client, 0x4000, PEER);
  assert.deepEqual(heard(), ["channel-bound 4000"], "revived");
  bind(client, 0x4001, OTHER);
  server.wait(LIFETIME - 1);
  bind(client, 0x4001, OTHER);
  server.wait(1);
  assert.deepEqual(heard(), ["channel-bound 4001", "channel-bound 4001", "channel-unbound 4000"]);
  client.request(Method.Refresh, (message) => message.add(Lifetime, 0));
  assert.deepEqual(heard(), ["channel-unbound 4001"], "and not of the one that was not bound any more");
});

test("a channel whose peer finds no room among the permissions is not bound", () => {
  const { server, client } = allocated();
  const peers = Array.from({ length: MAX_PERMISSIONS }, (_, i) => at(`192.0.${2 + (i >> 8)}.${i & 255}:1`));
  for (let i = 0; i < peers.length; i += 32)
    client.request(Method.CreatePermission, (message) => {
      for (const peer of peers.slice(i, i + 32)) message.add(XorPeerAddress, peer);
    });
  assert.equal(bind(client, 0x4000, at("10.0.0.1:1")), 508);
  assert.equal(server.of("channel-bound").length, 0);
  assert.equal(bind(client, 0x4000, at("192.0.2.1:2")), 0, "one that has a permission may have a channel");
  assert.equal(server.server.channels, 1);
  server.wait(LIFETIME);
  assert.equal(server.server.channels, 0);
});
