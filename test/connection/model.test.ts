// Spec 02, section 13: the invariants of a node under random sequences of inputs, with loss, resets and garbage. The simulated hosts
// check the rest: no busy loop, sessions and paths only of connections that exist, indices that are not in use.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { randomBelow } from "../../src/base/random.js";
import { parseStunMessage } from "../../src/stun/message.js";
import { CLIENT_ID, GATEWAY_ID, NodePair } from "../support/node-network.js";
import { assertProperty } from "../support/property.js";
import { type SimulatedHost, socketAddress } from "../support/simulated-host.js";

const SIDES = ["client", "gateway"] as const;

const side = fc.constantFrom(...SIDES);

/** An input to the pair. */
const action = fc.oneof(
  { weight: 4, arbitrary: fc.record({ type: fc.constant("wait"), duration: fc.integer({ min: 0, max: 3000 }) }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant("wait"), duration: fc.integer({ min: 3000, max: 200_000 }) }) },
  { weight: 3, arbitrary: fc.record({ type: fc.constant("connect") }) },
  { weight: 3, arbitrary: fc.record({ type: fc.constant("send"), side }) },
  { weight: 2, arbitrary: fc.record({ type: fc.constant("block"), mask: fc.integer({ min: 0, max: 15 }) }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant("loss"), percent: fc.integer({ min: 0, max: 60 }) }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant("remove"), side }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant("reset"), side }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant("removeAddress"), side, index: fc.nat({ max: 1 }) }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant("addAddress"), side, index: fc.nat({ max: 1 }) }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant("garbage"), side, bytes: fc.uint8Array({ maxLength: 200 }) }) },
  { weight: 2, arbitrary: fc.record({ type: fc.constant("replay"), side, flips: fc.nat({ max: 3 }) }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant("candidate"), side, text: fc.string({ maxLength: 80 }) }) },
) as fc.Arbitrary<Action>;

type Side = (typeof SIDES)[number];

type Action =
  | { readonly type: "wait"; readonly duration: number }
  | { readonly type: "connect" }
  | { readonly type: "send" | "remove" | "reset"; readonly side: Side }
  | { readonly type: "block"; readonly mask: number }
  | { readonly type: "loss"; readonly percent: number }
  | { readonly type: "removeAddress" | "addAddress"; readonly side: Side; readonly index: number }
  | { readonly type: "garbage"; readonly side: Side; readonly bytes: Uint8Array }
  | { readonly type: "replay"; readonly side: Side; readonly flips: number }
  | { readonly type: "candidate"; readonly side: Side; readonly text: string };

const ADDRESSES = {
  client: ["192.0.2.1:51820", "[2001:db8:1::1]:51820"].map(socketAddress),
  gateway: ["198.51.100.1:51820", "[2001:db8:2::1]:51820"].map(socketAddress),
};

function newPair(seed: number): NodePair {
  return new NodePair({
    seed,
    clientAddresses: ADDRESSES.client.map(String),
    gatewayAddresses: ADDRESSES.gateway.map(String),
  });
}

function idOn(name: Side): string {
  return name === "client" ? GATEWAY_ID : CLIENT_ID;
}

function apply(pair: NodePair, input: Action): void {
  const { network, now } = pair;
  switch (input.type) {
    case "wait":
      network.wait(input.duration);
      return;
    case "connect":
      pair.connect();
      return;
    case "send":
      pair[input.side].send(idOn(input.side), Uint8Array.of(0x45, 1, 2, 3), now);
      return;
    case "block":
      // One bit for each direction and family.
      network.isBlocked = (source) => {
        const isClient = ADDRESSES.client.some(({ ip }) => ip.equals(source.ip));
        return (input.mask & (1 << ((isClient ? 2 : 0) + (source.family === 6 ? 1 : 0)))) !== 0;
      };
      return;
    case "loss":
      network.loss = input.percent;
      return;
    case "remove":
      pair[input.side].machine.removeConnection(idOn(input.side), now);
      break;
    case "reset":
      pair[input.side].machine.reset(now);
      for (const address of pair[input.side].addresses) pair[input.side].machine.addLocalHostCandidate(address, now);
      break;
    case "removeAddress": {
      const host = pair[input.side];
      const address = ADDRESSES[input.side][input.index];
      assert.ok(address);
      host.addresses.splice(0, host.addresses.length, ...host.addresses.filter((other) => !other.equals(address)));
      host.machine.removeLocalHostCandidate(address, now);
      break;
    }
    case "addAddress":
      addAddress(pair[input.side], input.side, input.index, now);
      break;
    case "garbage": {
      const [local] = pair[input.side].addresses;
      const [from] = ADDRESSES[input.side === "client" ? "gateway" : "client"];
      if (local !== undefined && from !== undefined) pair[input.side].receive(local, from, input.bytes, now);
      return;
    }
    case "replay": {
      const received = network.sent.filter(({ from }) => from !== input.side);
      const sent = received[received.length === 0 ? 0 : randomBelow(network.random, received.length)];
      if (sent === undefined) return;
      const bytes = sent.payload.slice();
      for (let i = 0; i < input.flips; i++) {
        const at = randomBelow(network.random, bytes.length);
        bytes[at] = (bytes[at] ?? 0) ^ (1 << randomBelow(network.random, 8));
      }
      pair[input.side].receive(sent.destination, sent.source, bytes, now);
      return;
    }
    case "candidate":
      pair[input.side].machine.addRemoteCandidate(idOn(input.side), input.text, now);
      pair[input.side].machine.removeRemoteCandidate(idOn(input.side), input.text, now);
      break;
  }
  pair.client.drain(now);
  pair.gateway.drain(now);
}

function addAddress(host: NodePair[Side], name: Side, index: number, now: number): void {
  const address = ADDRESSES[name][index];
  assert.ok(address);
  if (!host.addresses.some((other) => other.equals(address))) host.addresses.push(address);
  host.machine.addLocalHostCandidate(address, now);
}

function checkInvariants(pair: NodePair, from: number): void {
  for (const name of SIDES) {
    const host: SimulatedHost = pair[name];
    const id = idOn(name);
    assert.ok(host.connections.length <= 1, "invariant 1");
    // Invariant 3: after its end nothing refers to a connection.
    const last = host.events.findLast(({ event }) =>
      ["connection-added", "connection-failed", "connection-closed"].includes(event.type),
    );
    const hasEnded = last !== undefined && last.event.type !== "connection-added";
    if (hasEnded) assert.deepEqual([host.connections, host.sessions], [[], 0], "invariant 3");
    assert.ok(host.sessions <= 4, "sessions are bounded");
    // Invariant 4: WireGuard only goes where a pair was nominated.
    for (const { from: sender, payload, source, destination } of pair.network.sent.slice(from)) {
      if (sender !== name || typeof parseStunMessage(payload) !== "string") continue;
      const isPath = host
        .of("path-selected")
        .some(({ path }) => path.local.equals(source) && path.remote.equals(destination));
      assert.ok(isPath, "invariant 4");
    }
    assert.ok(host.connections.length === 1 || host.path(id) === undefined);
  }
}

test("spec 02, 13: invariants hold under random inputs, and a new connection always comes about afterwards", () => {
  assertProperty(
    fc.property(fc.nat(), fc.array(action, { minLength: 1, maxLength: 30 }), (seed, actions) => {
      const pair = newPair(seed);
      let checked = 0;
      for (const input of actions) {
        apply(pair, input);
        checkInvariants(pair, checked);
        checked = pair.network.sent.length;
      }
      // Whatever has happened: with a network that works, a new connection works.
      pair.network.isBlocked = () => false;
      pair.network.loss = 0;
      for (const name of SIDES) for (const index of [0, 1]) addAddress(pair[name], name, index, pair.now);
      pair.network.wait(100);
      pair.establish();
      pair.assertPasses();
    }),
    { seed: 20261123, numRuns: 150 },
  );
});
