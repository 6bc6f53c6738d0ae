// Relays that come, go and come again while there are connections: spec 03, section 8.6, and spec 02, section 15.5.

import assert from "node:assert/strict";
import { test } from "node:test";
import { LAST_LEAVE_TIME, LEAVE_TIME } from "../../src/connection/relays.js";
import { StunBuilder } from "../../src/stun/builder.js";
import { encodeChannelData } from "../../src/stun/channel-data.js";
import { Method } from "../../src/stun/header.js";
import { behindFirewalls, CLIENT_ID, GATEWAY_ID, NodePair, tellRelays } from "../support/node-network.js";
import { type SimulatedHost, socketAddress } from "../support/simulated-host.js";
import { relayAddress, SimulatedRelay } from "../support/simulated-relay.js";

/** Way of a host's packets over a relay, if it is one. */
function relayPath(host: SimulatedHost, connection: string) {
  return host.path(connection)?.relay;
}

test("spec 03, 8.6.83: a relay that is taken away and given again in one update, with other credentials and all that it knew: 437, delete, Allocate", () => {
  const { pair, relays } = behindFirewalls(1);
  const [relay] = relays;
  assert.ok(relay);
  pair.establish();
  relay.password = "new";
  const before = relay.requests.length;
  tellRelays(pair, ["relay-0"], [relay]);
  pair.network.wait(1000);
  const requests = relay.requests.slice(before);
  const count = (method: number) => requests.filter((request) => request.method === method).length;
  const mismatches = requests.filter(({ error }) => error === 437);
  assert.deepEqual(
    mismatches.map(({ method }) => method),
    [Method.Allocate, Method.Allocate],
    "of each side one",
  );
  assert.ok(count(Method.Refresh) >= 2, "the old allocations are deleted");
  assert.equal(relay.allocations, 2);
  pair.assertPasses("over the new allocations");
  assert.deepEqual(pair.failures(), { client: [], gateway: [] });
});

test("spec 03, 8.6.84: all relays are replaced in one update: the connection goes on over the new ones", () => {
  for (const isKilled of [false, true]) {
    const { pair, relays } = behindFirewalls(2);
    pair.establish();
    for (const relay of relays) relay.isDown = isKilled;
    const fresh = [3, 4].map((i) => new SimulatedRelay(pair.network, `new-${i}`, relayAddress(`203.0.113.${i}`)));
    tellRelays(
      pair,
      relays.map(({ id }) => id),
      fresh,
    );
    pair.network.wait(LEAVE_TIME + 2000);
    pair.assertPasses(isKilled ? "after a kill" : "after an end in good order");
    assert.deepEqual(pair.failures(), { client: [], gateway: [] });
    assert.equal(pair.client.of("connection-established").length, 1, "with the same session");
    const used = relayPath(pair.client, GATEWAY_ID) ?? relayPath(pair.gateway, CLIENT_ID);
    assert.ok(fresh.some((relay) => relay.serves(used?.server ?? socketAddress("0.0.0.0:0"))));
  }
});

test("spec 03, 8.6.89: a client with IPv4 and a gateway with IPv6 meet at one dual-stack relay", () => {
  const pair = new NodePair({ clientAddresses: ["192.0.2.1:51820"], gatewayAddresses: ["[2001:db8:2::1]:51820"] });
  const relay = new SimulatedRelay(pair.network, "dual", relayAddress("203.0.113.1"), relayAddress("2001:db8:113::1"));
  pair.network.isBlocked = (source, destination) => source.family !== destination.family;
  tellRelays(pair, [], [relay]);
  pair.network.wait(1000);
  pair.establish();
  const before = relay.relayed;
  pair.assertPasses();
  assert.ok(relay.relayed >= before + 2);
});

test("spec 03, 8.6.87, with channels on demand: a host candidate of the other side asks for no channel, others do, and of the connection's relay only", () => {
  const { pair, relays } = behindFirewalls(2);
  pair.connect();
  pair.network.wait(40);
  assert.equal(pair.client.machine.isExpectingAnswer(GATEWAY_ID), false);
  // Without time for checks, which ask for the channels that they need.
  const binds = (candidate: string) => {
    const before = pair.client.outbox.length;
    pair.client.machine.addRemoteCandidate(GATEWAY_ID, candidate, pair.now);
    pair.client.drain(pair.now);
    return pair.client.outbox.slice(before).map(({ destination }) => destination.ip.toString());
  };
  assert.deepEqual(binds("candidate:1 1 udp 2130706175 198.51.100.77 1 typ host"), []);
  const reflexive = binds("candidate:2 1 udp 1694498559 198.51.100.78 2 typ srflx");
  const relayed = binds("candidate:3 1 udp 50331391 198.51.100.79 3 typ relay");
  assert.equal(reflexive.length, 1);
  assert.deepEqual(relayed, reflexive, "the same relay");
  assert.ok(relays.some((relay) => relay.addresses.some(({ ip }) => ip.toString() === reflexive[0])));
});

test("spec 03, 8.6.91: the last relay's end is told once; what comes from it afterwards is dropped and changes nothing", () => {
  const { pair, relays } = behindFirewalls(1);
  pair.establish();
  const channel = relayPath(pair.client, GATEWAY_ID)?.channel ?? relayPath(pair.gateway, CLIENT_ID)?.channel;
  assert.ok(channel !== undefined);
  tellRelays(pair, ["relay-0"], []);
  tellRelays(pair, ["relay-0"], []);
  pair.network.wait(LAST_LEAVE_TIME + 1000);
  for (const host of [pair.client, pair.gateway]) {
    const lost = host.of("invalidate-ice-candidate").filter(({ candidate }) => candidate.includes("typ relay"));
    assert.equal(lost.length, 1, `${host.name}: the relay's only candidate is taken back once`);
  }

  const { client } = pair;
  const { machine } = client;
  const [local] = client.addresses;
  const server = relays[0]?.addresses[0];
  assert.ok(local && server);
  const before = [client.events.length, client.outbox.length];
  const { badChannelData } = machine.relaysCounters;
  const { unhandledStun } = machine.counters;
  const binding = new StunBuilder("success", Method.Binding, new Uint8Array(12)).finish();
  client.receive(local, server, encodeChannelData(channel, binding), pair.now);
  client.receive(local, server, binding, pair.now);
  assert.deepEqual([client.events.length, client.outbox.length], before);
  assert.equal(machine.relaysCounters.badChannelData, badChannelData + 1);
  assert.equal(machine.counters.unhandledStun, unhandledStun + 1);
});

test("spec 02, 15.5.7: all relays are taken away and given again: direct connections stay, relayed ones come back", () => {
  const direct = new NodePair();
  const relay = new SimulatedRelay(direct.network, "relay", relayAddress("203.0.113.1"));
  tellRelays(direct, [], [relay]);
  direct.network.wait(500);
  direct.establish();
  tellRelays(direct, ["relay"], []);
  direct.network.wait(LAST_LEAVE_TIME + 1000);
  direct.assertPasses("direct, without relays");
  tellRelays(direct, [], [relay]);
  direct.network.wait(1000);
  direct.assertPasses("direct, with relays again");
  assert.deepEqual(direct.failures(), { client: [], gateway: [] });
  assert.equal(direct.client.of("connection-established").length, 1);

  const { pair, relays } = behindFirewalls(2);
  pair.establish();
  tellRelays(
    pair,
    relays.map(({ id }) => id),
    [],
  );
  pair.network.wait(LAST_LEAVE_TIME + 20_000);
  assert.deepEqual([pair.client.connections, pair.gateway.connections], [[], []], "there was no way without a relay");
  tellRelays(pair, [], relays);
  pair.network.wait(1000);
  pair.establish();
  pair.assertPasses("relayed again");
});

test("spec 02, 15.6.20: channel data longer than its length field is cut, shorter is refused, and so is what comes on a channel that is none of ours", () => {
  const { pair, relays } = behindFirewalls(1);
  pair.establish();
  const host = relayPath(pair.client, GATEWAY_ID) === undefined ? pair.gateway : pair.client;
  const channel = relayPath(host, host === pair.client ? GATEWAY_ID : CLIENT_ID)?.channel;
  const [local] = host.addresses;
  const server = relays[0]?.addresses[0];
  assert.ok(channel !== undefined && local && server);
  const { counters, relaysCounters } = host.machine;
  const refused = counters.unhandledStun;
  // A message that no agent takes: what is unwrapped gets as far as that.
  const whole = encodeChannelData(channel, new StunBuilder("success", Method.Binding, new Uint8Array(12)).finish());
  const outcome = (datagram: Uint8Array) => {
    host.machine.handleInput(local, server, datagram, pair.now);
    return [counters.unhandledStun - refused, relaysCounters.badChannelData];
  };
  assert.deepEqual(outcome(whole), [1, 0]);
  assert.deepEqual(outcome(Uint8Array.of(...whole, 1, 2, 3)), [2, 0], "cut");
  assert.deepEqual(outcome(whole.subarray(0, -1)), [2, 1], "shorter");
  assert.deepEqual(outcome(whole.subarray(0, 3)), [2, 2], "no header");
  const other = whole.slice();
  other[1] = (other[1] ?? 0) ^ 0x40;
  assert.deepEqual(outcome(other), [2, 3], "another channel");
});
