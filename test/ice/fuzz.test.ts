// Whatever arrives, the agent neither throws nor forgets its bounds, and nothing that is not authentic changes anything.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { parseCandidate } from "../../src/ice/candidate-string.js";
import { MAX_CANDIDATES, MAX_PAIRS } from "../../src/ice/constants.js";
import { hostCandidate } from "../../src/ice/local-candidate.js";
import { address, IceNetwork } from "../support/ice-network.js";
import { assertProperty } from "../support/property.js";

const CLIENT = "192.0.2.1:1000";
const GATEWAY = "198.51.100.1:2000";

test("20 000 random datagrams and mutated checks: nothing throws, nothing is accepted that was changed", () => {
  const network = new IceNetwork();
  network.introduce();
  network.addHosts(network.client, CLIENT);
  network.addHosts(network.gateway, GATEWAY);
  network.run(network.now + 2000);
  const genuine = [...network.client.sent, ...network.gateway.sent].map(({ payload }) => payload);
  const { gateway } = network;
  const before = JSON.stringify(gateway.nominations);
  const datagram = fc.oneof(
    fc.uint8Array({ maxLength: 200 }),
    fc
      .record({
        index: fc.nat(genuine.length - 1),
        at: fc.nat(200),
        value: fc.integer({ min: 1, max: 255 }),
        cut: fc.nat(120),
      })
      .map(({ index, at, value, cut }) => {
        const bytes = (genuine[index] ?? new Uint8Array(1)).slice();
        // Not the fingerprint, the last 8 bytes: it is not looked at, and what it covers is genuine.
        const place = at % (bytes.length - 8);
        bytes[place] = (bytes[place] ?? 0) ^ value;
        return cut > 100 ? bytes.subarray(0, bytes.length - cut + 100) : bytes;
      }),
  );
  let accepted = 0;
  assertProperty(
    fc.property(datagram, (bytes) => {
      const { rejected } = gateway;
      gateway.receive(address(GATEWAY), address("203.0.113.99:9"), bytes, network.now);
      if (gateway.rejected === rejected) accepted++;
    }),
    { seed: 11, numRuns: 20_000 },
  );
  // The two highest bits of the first byte mean nothing (section 10.2).
  assert.equal(accepted, 0);
  network.run(network.now + 2000);
  assert.equal(JSON.stringify(gateway.nominations), before);
});

test("10 000 random candidate strings and sequences of them: bounded, and nothing throws", () => {
  const network = new IceNetwork();
  network.introduce();
  const { agent } = network.client;
  for (let i = 1; i < 4; i++) agent.addLocalCandidate(hostCandidate(address(`192.0.2.${i}:1000`)), network.now);
  const text = fc.oneof(
    fc.string({ maxLength: 80 }),
    fc
      .record({
        a: fc.nat(3),
        b: fc.nat(255),
        port: fc.nat(70_000),
        kind: fc.constantFrom("host", "srflx", "relay", "x"),
      })
      .map(({ a, b, port, kind }) => `candidate:1 1 udp 5 198.51.${a}.${b} ${port} typ ${kind}`),
  );
  assertProperty(
    fc.property(text, fc.boolean(), (string, remove) => {
      const result = parseCandidate(string);
      if (typeof result === "string") return;
      if (remove) agent.removeRemoteCandidate(result.candidate, network.now);
      else agent.addRemoteCandidate(result.candidate, network.now, result.username);
      assert.ok(agent.pairs.length <= MAX_PAIRS);
      assert.ok(agent.remoteCandidates.length <= MAX_CANDIDATES);
    }),
    { seed: 12, numRuns: 10_000 },
  );
});
