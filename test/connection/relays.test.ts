// How relays see us: server-reflexive candidates, alone and as the way through NATs.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Relay } from "../../src/connection/events.js";
import { FIRST_RETRY_INTERVAL } from "../../src/connection/relays.js";
import { Method } from "../../src/stun/header.js";
import { parseStunMessage } from "../../src/stun/message.js";
import { CLIENT_ID, GATEWAY_ID, NodePair } from "../support/node-network.js";
import { ipAddress, type SimulatedHost, socketAddress } from "../support/simulated-host.js";

const PRIVATE = { clientAddresses: ["10.1.0.2:51820"], gatewayAddresses: ["10.2.0.2:51820"] };

function relay(id: string, ipv4: string | undefined, ipv6?: string): Relay {
  return {
    id,
    ipv4: ipv4 === undefined ? undefined : socketAddress(ipv4),
    ipv6: ipv6 === undefined ? undefined : socketAddress(ipv6),
    username: "user",
    password: "password",
    realm: "example",
  };
}

/** Tells both sides of relays. */
function addRelays(pair: NodePair, ...relays: readonly Relay[]): void {
  for (const { ipv4, ipv6 } of relays)
    for (const server of [ipv4, ipv6]) if (server !== undefined) pair.network.stunServers.add(server.key);
  for (const host of [pair.client, pair.gateway]) {
    host.machine.updateRelays([], relays, pair.now);
    host.drain(pair.now);
  }
}

function reflexive(host: SimulatedHost, type: "new-ice-candidate" | "invalidate-ice-candidate"): string[] {
  return host
    .of(type)
    .map(({ candidate }) => / (\S+ \d+) typ srflx/.exec(candidate)?.[1])
    .filter((address) => address !== undefined);
}

function probes(pair: NodePair, from: string, server: string): number[] {
  const isBinding = (payload: Uint8Array) => {
    const message = parseStunMessage(payload);
    return typeof message !== "string" && message.method === Method.Binding;
  };
  return pair.network.sent
    .filter((sent) => sent.from === from && sent.destination.toString() === server && isBinding(sent.payload))
    .map(({ at }) => at);
}

test("spec 02, 4.1: two sides behind NATs find each other by how a relay sees them", () => {
  const pair = new NodePair(PRIVATE);
  pair.client.nat = { address: ipAddress("192.0.2.10"), symmetric: false };
  pair.gateway.nat = { address: ipAddress("198.51.100.10"), symmetric: false };
  addRelays(pair, relay("a", "203.0.113.1:3478"));
  pair.network.wait(100);
  pair.establish();
  assert.equal(reflexive(pair.client, "new-ice-candidate").length, 1);
  assert.equal(pair.client.path(GATEWAY_ID)?.remote.ip.toString(), "198.51.100.10");
  assert.equal(pair.client.path(GATEWAY_ID)?.local.toString(), "10.1.0.2:51820");
  assert.equal(pair.gateway.path(CLIENT_ID)?.remote.ip.toString(), "192.0.2.10");
  pair.assertPasses();
});

test("spec 02, 10.5: a NAT that maps each destination differently is passed if the other side has none: peer-reflexive", () => {
  const pair = new NodePair({ clientAddresses: PRIVATE.clientAddresses });
  pair.client.nat = { address: ipAddress("192.0.2.10"), symmetric: true };
  addRelays(pair, relay("a", "203.0.113.1:3478"));
  pair.network.wait(100);
  pair.establish();
  const [told] = reflexive(pair.client, "new-ice-candidate");
  const seen = pair.gateway.path(CLIENT_ID)?.remote;
  assert.equal(seen?.ip.toString(), "192.0.2.10");
  assert.notEqual(told, `${seen?.ip} ${seen?.port}`);
  pair.assertPasses();
});

test("spec 02, 14: a reflexive candidate that is found late is signalled, and both sides may be behind NATs without relays at first", () => {
  const pair = new NodePair(PRIVATE);
  pair.client.nat = { address: ipAddress("192.0.2.10"), symmetric: false };
  pair.gateway.nat = { address: ipAddress("198.51.100.10"), symmetric: false };
  pair.connect();
  pair.network.wait(5000);
  assert.equal(pair.client.path(GATEWAY_ID), undefined);
  addRelays(pair, relay("a", "203.0.113.1:3478"));
  pair.network.wait(5000);
  assert.deepEqual(pair.failures(), { client: [], gateway: [] });
  assert.ok(pair.client.path(GATEWAY_ID));
  pair.assertPasses();
});

test("spec 02, 14: at most one reflexive candidate per IP version, and none without a NAT", () => {
  const pair = new NodePair({ clientAddresses: ["10.1.0.2:51820", "[2001:db8:1::1]:51820"] });
  pair.client.nat = { address: ipAddress("192.0.2.10"), symmetric: true };
  addRelays(pair, relay("a", "203.0.113.1:3478", "[2001:db8:9::1]:3478"), relay("b", "203.0.113.2:3478"));
  pair.network.wait(100);
  pair.establish();
  assert.equal(reflexive(pair.client, "new-ice-candidate").length, 1);
  assert.equal(reflexive(pair.gateway, "new-ice-candidate").length, 0);
});

test("a relay that is removed takes its candidate along, another one stands in, and the new one is told first", () => {
  const pair = new NodePair({ clientAddresses: PRIVATE.clientAddresses });
  pair.client.nat = { address: ipAddress("192.0.2.10"), symmetric: true };
  addRelays(pair, relay("a", "203.0.113.1:3478"), relay("b", "203.0.113.2:3478"));
  pair.network.wait(100);
  pair.establish();
  const [first] = reflexive(pair.client, "new-ice-candidate");
  pair.client.machine.updateRelays(["a"], [], pair.now);
  pair.client.drain(pair.now);
  const [, second] = reflexive(pair.client, "new-ice-candidate");
  assert.ok(second !== undefined && second !== first);
  assert.deepEqual(reflexive(pair.client, "invalidate-ice-candidate"), [first]);
  const types = pair.client.events.slice(-2).map(({ event }) => event.type);
  assert.deepEqual(types, ["new-ice-candidate", "invalidate-ice-candidate"]);
  pair.client.machine.updateRelays(["b"], [], pair.now);
  pair.client.drain(pair.now);
  assert.deepEqual(reflexive(pair.client, "invalidate-ice-candidate"), [first, second]);
});

test("a relay that comes back with another id at the same address goes on being asked", () => {
  const pair = new NodePair();
  addRelays(pair, relay("a", "203.0.113.1:3478"));
  addRelays(pair, relay("b", "203.0.113.1:3478"));
  pair.network.wait(100);
  pair.client.machine.updateRelays(["a"], [], pair.now);
  pair.network.wait(100);
  assert.equal(probes(pair, "client", "203.0.113.1:3478").length, 2);
  pair.client.machine.updateRelays(["b"], [], pair.now);
  assert.equal(pair.client.machine.pollTimeout(), undefined);
});

test("spec 03, 5.6: requests are repeated at growing intervals; a relay that never answers is tried again, and every 25 s once it does", () => {
  const pair = new NodePair();
  const start = pair.now;
  // Nobody answers at the first.
  pair.client.machine.updateRelays([], [relay("a", "203.0.113.1:3478")], pair.now);
  pair.client.drain(pair.now);
  pair.network.wait(60_000);
  const times = probes(pair, "client", "203.0.113.1:3478").map((at) => at - start);
  assert.deepEqual(times.slice(0, 4), [0, 1000, 2500, 4750]);
  const failed = pair.client.events.flatMap(({ at, event }) => (event.type === "relay-failed" ? [at - start] : []));
  const again = [FIRST_RETRY_INTERVAL, 2 * FIRST_RETRY_INTERVAL];
  assert.deepEqual(failed, [8125, 2 * 8125 + (again[0] ?? 0), 3 * 8125 + (again[0] ?? 0) + (again[1] ?? 0)]);
  assert.equal(times[4], 8125 + FIRST_RETRY_INTERVAL);

  pair.network.stunServers.add(socketAddress("203.0.113.1:3478").key);
  pair.network.wait(100_000);
  const later = probes(pair, "client", "203.0.113.1:3478").slice(-3);
  assert.deepEqual([(later[1] ?? 0) - (later[0] ?? 0), (later[2] ?? 0) - (later[1] ?? 0)], [25_020, 25_020]);
});

test("spec 02, 9.5: after a reset relays are asked anew, and the candidate follows the address", () => {
  const pair = new NodePair({ clientAddresses: PRIVATE.clientAddresses });
  pair.client.nat = { address: ipAddress("192.0.2.10"), symmetric: false };
  addRelays(pair, relay("a", "203.0.113.1:3478"));
  pair.network.wait(100);
  pair.establish();
  const after = socketAddress("10.77.0.2:51820");
  pair.client.addresses.splice(0, 1, after);
  pair.client.nat = { address: ipAddress("192.0.2.20"), symmetric: false };
  pair.client.machine.reset(pair.now);
  pair.client.machine.addLocalHostCandidate(after, pair.now);
  pair.client.drain(pair.now);
  pair.network.wait(100);
  pair.establish();
  assert.match(reflexive(pair.client, "new-ice-candidate").at(-1) ?? "", /^192\.0\.2\.20 /);
  pair.assertPasses();
});

test("a local address that is gone takes its reflexive candidate along", () => {
  const pair = new NodePair({ clientAddresses: ["10.1.0.2:51820", "10.1.0.3:51820"] });
  pair.client.nat = { address: ipAddress("192.0.2.10"), symmetric: false };
  addRelays(pair, relay("a", "203.0.113.1:3478"));
  pair.network.wait(100);
  pair.establish();
  const [gone] = pair.client.addresses.splice(0, 1);
  assert.ok(gone);
  pair.client.machine.removeLocalHostCandidate(gone, pair.now);
  pair.client.drain(pair.now);
  assert.equal(reflexive(pair.client, "invalidate-ice-candidate").length, 1);
  pair.network.wait(100);
  assert.equal(reflexive(pair.client, "new-ice-candidate").length, 2);
  pair.network.wait(1000);
  pair.assertPasses();
});

test("answers that nobody asked for, or that came from elsewhere, change nothing", () => {
  const pair = new NodePair({ clientAddresses: PRIVATE.clientAddresses });
  pair.client.nat = { address: ipAddress("192.0.2.10"), symmetric: false };
  addRelays(pair, relay("a", "203.0.113.1:3478"));
  const answers: Uint8Array[] = [];
  pair.network.isBlocked = (source, _destination, payload) => {
    const message = parseStunMessage(payload);
    if (source.port !== 3478 || typeof message === "string") return false;
    answers.push(payload);
    return true;
  };
  pair.network.wait(100);
  const [answer] = answers;
  assert.ok(answer);
  const [local] = pair.client.addresses;
  assert.ok(local);
  pair.client.receive(local, socketAddress("203.0.113.66:3478"), answer, pair.now);
  assert.equal(pair.client.machine.counters.unhandledStun, 1);
  pair.network.wait(1000);
  assert.deepEqual(reflexive(pair.client, "new-ice-candidate"), []);
  // The first request was repeated meanwhile, but a late answer is an answer; a second one is not.
  for (const unhandled of [1, 2]) {
    pair.client.receive(local, socketAddress("203.0.113.1:3478"), answer, pair.now);
    assert.equal(pair.client.machine.counters.unhandledStun, unhandled);
  }
});
