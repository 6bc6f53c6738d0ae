// Connections over relays: which relay, which way, and what happens when relays, ways and networks go.

import assert from "node:assert/strict";
import { test } from "node:test";
import { LAST_LEAVE_TIME, LEAVE_TIME } from "../../src/connection/relays.js";
import { Method } from "../../src/stun/header.js";
import { behindFirewalls, CLIENT_ID, GATEWAY_ID, NodePair, tellRelays } from "../support/node-network.js";
import { type SimulatedHost, socketAddress } from "../support/simulated-host.js";
import { relayAddress, SimulatedRelay } from "../support/simulated-relay.js";

function relayOf(host: SimulatedHost, connection: string): string | undefined {
  return host.path(connection)?.relay?.server.ip.toString();
}

test("spec 03, 8.6.88: two symmetric NATs and one relay: traffic goes through it, from its address to its address", () => {
  const { pair, relays } = behindFirewalls(1);
  pair.establish();
  const path = pair.client.path(GATEWAY_ID);
  const other = pair.gateway.path(CLIENT_ID);
  assert.ok(path?.relay !== undefined || other?.relay !== undefined, "one side at least sends through its channel");
  const before = relays[0]?.relayed ?? 0;
  pair.assertPasses();
  assert.ok((relays[0]?.relayed ?? 0) > before);
  assert.equal(relays[0]?.allocations, 2);
});

test("spec 02, 15.5.2: a direct way is preferred; when a firewall closes it the relayed one carries on with the same session", () => {
  const pair = new NodePair();
  const relay = new SimulatedRelay(pair.network, "relay", relayAddress("203.0.113.1"));
  tellRelays(pair, [], [relay]);
  pair.network.wait(500);
  pair.establish();
  assert.equal(pair.client.path(GATEWAY_ID)?.relay, undefined);
  pair.assertPasses();
  // Each new way has its handshake; the session before carries on meanwhile.
  const established = () => pair.client.of("connection-established").length;
  pair.network.isBlocked = (source, destination) => source.port === 51820 && destination.port === 51820;
  pair.network.wait(15_000);
  pair.assertPasses("relayed after the direct way has died");
  assert.ok(pair.client.path(GATEWAY_ID)?.relay !== undefined || pair.gateway.path(CLIENT_ID)?.relay !== undefined);
  assert.equal(established(), 1);
  assert.deepEqual(pair.failures(), { client: [], gateway: [] });

  // And back, as soon as the way is there again.
  pair.network.isBlocked = () => false;
  const [host] = pair.client.addresses;
  assert.ok(host);
  pair.client.machine.removeLocalHostCandidate(host, pair.now);
  pair.client.machine.addLocalHostCandidate(host, pair.now);
  pair.client.drain(pair.now);
  pair.network.wait(3000);
  assert.equal(pair.client.path(GATEWAY_ID)?.relay, undefined);
  pair.assertPasses("direct again");
  assert.equal(established(), 1);
});

test("spec 03, 6.4; spec 02, 15.5.3 and 15.5.4: a connection whose relay is taken back moves to another one, without losing its session", () => {
  for (const isKilled of [false, true]) {
    const { pair, relays } = behindFirewalls(2);
    pair.establish();
    const used = relays.find(({ relayed }) => relayed > 0);
    assert.ok(used);
    used.isDown = isKilled;
    tellRelays(
      pair,
      [used.id],
      relays.filter((other) => other !== used),
    );
    pair.network.wait(LEAVE_TIME + 500);
    pair.assertPasses(isKilled ? "after a kill" : "after it has left in good order");
    assert.deepEqual(pair.failures(), { client: [], gateway: [] });
    assert.equal(pair.client.of("connection-established").length, 1);
    if (!isKilled) assert.equal(used.allocations, 0, "what was lent is given back");
  }
});

test("spec 03, 8.3.36: the last relay is used on for a while when the portal takes it back", () => {
  const { pair, relays } = behindFirewalls(1);
  pair.establish();
  tellRelays(pair, ["relay-0"], []);
  pair.network.wait(LAST_LEAVE_TIME - 2000);
  pair.assertPasses();
  pair.network.wait(5000);
  assert.equal(relays[0]?.allocations, 0);
});

test("spec 03, 5.2, later fixed: new credentials for a known relay leave a living allocation alone, and replace a dead one", () => {
  const { pair, relays } = behindFirewalls(1);
  const [relay] = relays;
  assert.ok(relay);
  pair.establish();
  const allocations = () => relay.requests.filter(({ method }) => method === Method.Allocate).length;
  const before = allocations();
  const renamed = { ...relay.description, username: "4102444801:other" };
  pair.client.machine.updateRelays([], [renamed], pair.now);
  pair.client.drain(pair.now);
  pair.network.wait(1000);
  assert.equal(allocations(), before, "it lives");
  pair.assertPasses();

  relay.restart();
  relay.password = "new";
  pair.client.machine.updateRelays([], [relay.description], pair.now);
  pair.gateway.machine.updateRelays([], [relay.description], pair.now);
  pair.client.drain(pair.now);
  pair.gateway.drain(pair.now);
  pair.network.wait(1000);
  assert.equal(relay.allocations, 2);
  pair.assertPasses("over the relay that has restarted");
});

test("spec 03, 8.6.85; spec 02, 9.5: after a reset allocations start anew from another port, with their credentials and without 437", () => {
  const { pair, relays } = behindFirewalls(1);
  pair.establish();
  const after = socketAddress("10.77.0.2:40000");
  pair.client.addresses.splice(0, 1, after);
  pair.client.machine.reset(pair.now);
  pair.client.machine.addLocalHostCandidate(after, pair.now);
  pair.client.drain(pair.now);
  pair.network.wait(200);
  assert.ok(relays[0]?.requests.every(({ error }) => error !== 437));
  assert.equal(relays[0]?.allocations, 3, "one of the old address is left to end by itself");
  pair.establish();
  pair.assertPasses();
});

test("a gateway whose network has changed asks its relays anew, and its relayed connections go on with their sessions", () => {
  for (const hasMoved of [false, true]) {
    const { pair, relays } = behindFirewalls(1);
    pair.establish();
    if (hasMoved) {
      const [before, after] = [pair.gateway.addresses[0], socketAddress("10.78.0.2:51820")];
      assert.ok(before);
      pair.gateway.addresses.splice(0, 1, after);
      pair.gateway.machine.removeLocalHostCandidate(before, pair.now);
      pair.gateway.machine.addLocalHostCandidate(after, pair.now);
    }
    pair.gateway.machine.restartRelays(pair.now);
    pair.gateway.drain(pair.now);
    pair.network.wait(1000);
    pair.assertPasses(hasMoved ? "from another address" : "from the same address");
    assert.deepEqual(pair.failures(), { client: [], gateway: [] });
    assert.equal(pair.client.of("connection-established").length, 1);
    assert.equal(relays[0]?.allocations, hasMoved ? 3 : 2, "the one of the old address is left to end by itself");
  }
});

test("spec 03, 8.6.86; spec 02, 15.5.6, later changed: idle for twelve minutes: the connection and its channels stay, and packets pass", () => {
  const { pair, relays } = behindFirewalls(1);
  pair.establish();
  pair.network.wait(12 * 60_000);
  pair.assertPasses();
  assert.deepEqual(pair.failures(), { client: [], gateway: [] });
  assert.equal(relays[0]?.allocations, 2);
});

test("a relay that comes while the two sides still look for a way is used at once", () => {
  const { pair } = behindFirewalls(0);
  pair.connect();
  pair.network.wait(3000);
  const relay = new SimulatedRelay(pair.network, "late", relayAddress("203.0.113.9"));
  tellRelays(pair, [], [relay]);
  pair.network.wait(2000);
  pair.assertPasses();
  assert.ok(relayOf(pair.client, GATEWAY_ID) !== undefined || relayOf(pair.gateway, CLIENT_ID) !== undefined);
});
