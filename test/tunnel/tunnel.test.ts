// Client and gateway together, over a simulated network and portal: from the first packet to a resource on.

import assert from "node:assert/strict";
import { test } from "node:test";
import { GATEWAY_ID } from "../support/node-network.js";
import { socketAddress } from "../support/simulated-host.js";
import { cidr, packetTo, TunnelPair } from "../support/tunnel-network.js";

const A = cidr("a", "10.1.0.0/16");
const B = cidr("b", "10.2.0.0/16");

test("spec 04, 4: the first packets to a resource arrive, all and in order", () => {
  const pair = new TunnelPair([A]);
  const packets = Array.from({ length: 50 }, (_, i) => packetTo("10.1.0.1", i));
  for (const packet of packets) {
    pair.send(packet);
    pair.network.wait(10);
  }
  pair.network.wait(1000);
  assert.deepEqual(pair.reached, packets);
  assert.deepEqual(pair.requests(), ["connection-intent a", "request-connection a"]);
  assert.equal(pair.client.of("gateway-connected").length, 1);
  assert.equal(pair.gateway.of("client-connected").length, 1);
});

test("spec 04, 10.6.37: two resources of one gateway, 10 ms apart: one connection, one access, no third packet", () => {
  for (const latency of [5, 20, 200]) {
    const pair = new TunnelPair([A, B]);
    pair.portalLatency = latency;
    pair.send(packetTo("10.1.0.1"));
    pair.network.wait(10);
    pair.send(packetTo("10.2.0.1"));
    pair.network.wait(5000);
    const requests = pair.requests().filter((request) => !request.startsWith("connection-intent"));
    assert.deepEqual(requests, ["request-connection a", "request-access b"]);
    assert.deepEqual(pair.reached, [packetTo("10.1.0.1"), packetTo("10.2.0.1")]);
    const answered = pair.client.events.findIndex(({ event }) => event.type === "added-ice-candidates");
    const access = pair.client.events.findIndex(({ event }) => event.type === "request-access");
    assert.ok(access > answered, "access is requested after the answer");
  }
});

test("spec 04, 4.9: a further resource of a connected gateway: its packets wait for the grant, and none is lost", () => {
  for (const delay of [0, 200, 700]) {
    const pair = new TunnelPair([A, B]);
    // Longer than the client waits: then the gateway does.
    pair.delays = { "request-access": delay };
    pair.send(packetTo("10.1.0.1"));
    pair.network.wait(60_000);
    const packets = Array.from({ length: 14 }, (_, i) => packetTo("10.2.0.1", i));
    for (const packet of packets) {
      pair.send(packet);
      pair.network.wait(50);
    }
    pair.network.wait(2000);
    assert.deepEqual(pair.reached.slice(1), packets, `${delay}`);
    // The connection is the same.
    assert.equal(pair.client.of("connection-added").length, 1);
  }
});

test("spec 04, 10.6.42 and 4.10: a grant that arrives before the connection request, with and without addresses", () => {
  for (const sendsClientAddresses of [true, false]) {
    const pair = new TunnelPair([A, B]);
    pair.sendsClientAddresses = sendsClientAddresses;
    pair.send(packetTo("10.1.0.1"));
    pair.network.wait(10);
    // As an older client would: access for B while the connection request is under way.
    pair.gateway.machine.handleAccess(
      {
        clientId: "client",
        ...(sendsClientAddresses ? { ipv4: pair.tunnelAddresses[0], ipv6: pair.tunnelAddresses[1] } : {}),
        resource: { type: "cidr", id: "b", address: B.address, filters: [] },
        expiresAt: undefined,
      },
      pair.now,
      0,
    );
    pair.network.wait(3000);
    pair.send(packetTo("10.2.0.1"));
    pair.network.wait(1000);
    assert.equal(pair.reached.length, 2);
  }
});

test("spec 04, 6.6: filters hold for packets through the tunnel", () => {
  const pair = new TunnelPair([A]);
  pair.filters = [{ protocol: "udp", first: 53, last: 53 }];
  pair.send(packetTo("10.1.0.1", 1, 53));
  pair.send(packetTo("10.1.0.1", 2, 54));
  pair.network.wait(5000);
  assert.deepEqual(pair.reached, [packetTo("10.1.0.1", 1, 53)]);
  assert.equal(pair.gateway.machine.counters.notGranted, 1);
});

test("spec 04, 6.13: when the grant has expired the gateway ends the connection, and the client starts over by itself", () => {
  const pair = new TunnelPair([A]);
  pair.expiresAt = pair.now + 30_000;
  pair.send(packetTo("10.1.0.1", 1));
  pair.network.wait(5000);
  assert.equal(pair.reached.length, 1);
  pair.network.wait(60_000);
  assert.deepEqual(pair.gateway.connections, []);
  assert.deepEqual(pair.client.connections, []);
  assert.equal(pair.client.of("gateway-disconnected").length, 1);
  pair.expiresAt = undefined;
  pair.send(packetTo("10.1.0.1", 2));
  pair.network.wait(5000);
  assert.equal(pair.reached.length, 2);
});

test("spec 04, 10.6.39: a gateway that never answers: cleaned after 20 s, and tried again for the next packet", () => {
  const pair = new TunnelPair([A]);
  pair.delays = { "request-connection": 60_000 };
  pair.send(packetTo("10.1.0.1", 1));
  pair.network.wait(20_100);
  assert.deepEqual(pair.client.connections, []);
  pair.delays = {};
  pair.send(packetTo("10.1.0.1", 2));
  pair.network.wait(3000);
  assert.deepEqual(pair.reached, [packetTo("10.1.0.1", 2)]);
  // The late answer to the first offer comes in the end, and disturbs the gateway's side only.
  pair.network.wait(60_000);
  pair.send(packetTo("10.1.0.1", 3));
  pair.network.wait(30_000);
  pair.send(packetTo("10.1.0.1", 4));
  pair.network.wait(10_000);
  assert.ok(pair.reached.some((packet) => packet.length > 0 && Buffer.from(packet).equals(packetTo("10.1.0.1", 4))));
});

test("spec 04, 3.11: roaming: after a reset and with a new address traffic goes on with the next packet", () => {
  const pair = new TunnelPair([A]);
  pair.send(packetTo("10.1.0.1", 1));
  pair.network.wait(5000);
  const address = socketAddress("203.0.113.50:51820");
  pair.client.addresses.splice(0, 1, address);
  pair.client.machine.reset(pair.now);
  pair.client.machine.addLocalHostCandidate(address, pair.now);
  pair.client.drain(pair.now);
  assert.deepEqual(pair.client.connections, []);
  pair.send(packetTo("10.1.0.1", 2));
  pair.network.wait(2000);
  assert.deepEqual(pair.reached, [packetTo("10.1.0.1", 1), packetTo("10.1.0.1", 2)]);
  assert.ok(pair.gateway.path("client")?.remote.equals(address));
});

test("spec 04, 3.7: when the path dies the client forgets the gateway and makes a new connection for the next packet", () => {
  const pair = new TunnelPair([A]);
  pair.send(packetTo("10.1.0.1", 1));
  pair.network.wait(5000);
  pair.network.isBlocked = () => true;
  pair.network.wait(40_000);
  assert.deepEqual(pair.client.connections, []);
  assert.equal(pair.client.machine.resources()[0]?.status, "Unknown");
  pair.network.isBlocked = () => false;
  pair.send(packetTo("10.1.0.1", 2));
  pair.network.wait(2000);
  assert.equal(pair.reached.length, 2);
  assert.equal(pair.client.of("connection-added").at(-1)?.connection, GATEWAY_ID);
});

test("traffic goes on through many sessions, and states stay small", () => {
  const pair = new TunnelPair([A]);
  let sent = 0;
  for (; sent < 300; sent++) {
    pair.send(packetTo("10.1.0.1", sent));
    pair.network.wait(2000);
  }
  assert.equal(pair.reached.length, sent);
  assert.ok(pair.client.sessions <= 3 && pair.gateway.sessions <= 3);
  assert.deepEqual(pair.requests(), ["connection-intent a", "request-connection a"]);
});
