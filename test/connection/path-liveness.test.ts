// How soon a dead way is noticed, and what happens to packets meanwhile.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Duration } from "../../src/base/time.js";
import {
  LOOK_INTERVAL,
  MAX_QUESTIONS,
  MAX_QUESTIONS_ALONE,
  MIN_ANSWER_TIME,
  PathLiveness,
  SILENCE,
} from "../../src/connection/path-liveness.js";
import { MAX_WAITING_PACKETS } from "../../src/connection/session.js";
import { CLIENT_ID, GATEWAY_ID, NodePair } from "../support/node-network.js";
import { relayAddress, SimulatedRelay } from "../support/simulated-relay.js";

const alone = () => false;
const another = () => true;

test("silence while sending makes it ask, twice or four times, and then say that the way is dead; idleness does not", () => {
  for (const [hasAlternative, questions] of [
    [another, MAX_QUESTIONS],
    [alone, MAX_QUESTIONS_ALONE],
  ] as const) {
    const liveness = new PathLiveness();
    liveness.reset(1000);
    assert.equal(liveness.deadline(1000), undefined);
    assert.equal(liveness.judge(60_000, 0, hasAlternative), undefined, "nothing was sent");
    liveness.handleHeard(60_000);
    liveness.handleSent(60_000 + SILENCE - LOOK_INTERVAL - 1);
    const early = liveness.judge(60_000 + SILENCE, 0, hasAlternative);
    assert.equal(early, undefined, "what was sent may still be answered");
    liveness.handleSent(60_000 + SILENCE - LOOK_INTERVAL);
    const verdicts: [Duration, string][] = [];
    for (let now = 60_000; now < 63_000; now += 50) {
      const verdict = liveness.judge(now, 0, hasAlternative);
      if (verdict !== undefined) verdicts.push([now - 60_000, verdict]);
      if (verdict === "dead") break;
    }
    const expected = Array.from({ length: questions }, (_, i) => [SILENCE + i * MIN_ANSWER_TIME, "ask"]);
    assert.deepEqual(verdicts, [...expected, [SILENCE + questions * MIN_ANSWER_TIME, "dead"]]);
    assert.equal(liveness.askedSince, 60_000 + SILENCE);
  }
});

test("an answer ends the questions; distant peers have more time", () => {
  const liveness = new PathLiveness();
  liveness.reset(0);
  liveness.handleSent(1000);
  assert.equal(liveness.judge(1000, 300, another), "ask");
  assert.equal(liveness.judge(1599, 300, another), undefined);
  assert.equal(liveness.deadline(1599), 1600);
  liveness.handleHeard(1599);
  assert.equal(liveness.judge(1600, 300, another), undefined);
  assert.equal(liveness.judge(3000, 300, another), undefined, "nothing was sent since");
});

test("when the other side sends from elsewhere it asks soon, and what is heard is no answer", () => {
  const liveness = new PathLiveness();
  liveness.reset(0);
  liveness.doubt(5000);
  assert.equal(liveness.judge(5000, 10, another), "ask-here");
  liveness.handleHeard(5050);
  assert.equal(liveness.judge(5000 + MIN_ANSWER_TIME, 10, another), "ask");
  assert.equal(liveness.judge(5000 + MAX_QUESTIONS * MIN_ANSWER_TIME, 10, another), "dead");
  liveness.handleHeard(6000);
  liveness.doubt(6000);
  assert.equal(liveness.deadline(6000), 6000 + SILENCE, "it was heard over this way a moment ago");
  assert.equal(liveness.judge(6000 + SILENCE, 10, another), "ask-here");
  assert.equal(liveness.handleAnswer(6350), true, "an answer settles it, and there may be another doubt");
  assert.equal(liveness.handleAnswer(6360), false);
  assert.equal(liveness.judge(6400, 10, another), undefined);
  liveness.handleHeard(6400);
  assert.equal(liveness.judge(6500, 10, another), undefined);
});

/** Sends a packet from both sides every 50 ms. */
function traffic(pair: NodePair, duration: Duration): void {
  for (let at = 0; at < duration; at += 50) {
    pair.client.send(GATEWAY_ID, Uint8Array.of(0x45, 1), pair.now);
    pair.gateway.send(CLIENT_ID, Uint8Array.of(0x45, 2), pair.now);
    pair.network.wait(50);
  }
}

/** Traffic goes on from here: with a silence of at most 1.5 s on either side (issue 5), and without a connection failing. */
function survivesWithShortSilence(pair: NodePair): void {
  const start = pair.now;
  traffic(pair, 5000);
  for (const host of [pair.client, pair.gateway]) {
    const gap = longestGap(pair, host, start);
    assert.ok(gap <= 1500, `${gap} ms of silence on ${host.name}`);
  }
  assert.deepEqual(pair.failures(), { client: [], gateway: [] });
}

/** Longest time from `start` until now in which nothing arrived on a host. */
function longestGap(pair: NodePair, host: NodePair["client"] | NodePair["gateway"], start: number): Duration {
  const times = [...host.delivered.map(({ at }) => at).filter((at) => at >= start), pair.now];
  return times.reduce((longest, at, i) => Math.max(longest, at - (times[i - 1] ?? start)), 0);
}

test("a direct way that dies under traffic gives way to the relayed one within a second and a half", () => {
  const pair = new NodePair();
  const relay = new SimulatedRelay(pair.network, "relay", relayAddress("203.0.113.1"));
  for (const host of [pair.client, pair.gateway]) {
    host.machine.updateRelays([], [relay.description], pair.now);
    host.drain(pair.now);
  }
  pair.network.wait(500);
  pair.establish();
  traffic(pair, 3000);
  pair.network.isBlocked = (source, destination) => source.port === 51820 && destination.port === 51820;
  const start = pair.now;
  traffic(pair, 5000);
  const gap = longestGap(pair, pair.client, start);
  assert.ok(gap <= 1500, `${gap} ms`);
  assert.ok(gap >= SILENCE, "it was the direct way that carried");
  assert.deepEqual(pair.failures(), { client: [], gateway: [] });
});

for (const dead of ["the client's", "the gateway's"])
  test(`each direction has its own relay, and ${dead} dies: the other one takes over within a second and a half`, () => {
    const pair = new NodePair();
    const relays = [pair.client, pair.gateway].map((host, i) => {
      const relay = new SimulatedRelay(pair.network, `relay ${i}`, relayAddress(`203.0.113.${i + 1}`));
      host.machine.updateRelays([], [relay.description], pair.now);
      host.drain(pair.now);
      return relay;
    });
    pair.network.isBlocked = (source, destination) => source.port === 51820 && destination.port === 51820;
    pair.network.wait(500);
    pair.establish();
    traffic(pair, 3000);
    const victim = relays[dead === "the client's" ? 0 : 1];
    assert.ok(victim !== undefined && relays.every(({ relayed }) => relayed > 20), "both relays are in use");
    victim.isDown = true;
    survivesWithShortSilence(pair);
  });

test("the relay of both directions dies, and neither portal nor relay says so: another one takes over within a second and a half", () => {
  const pair = new NodePair();
  const relays = [1, 2].map((n) => new SimulatedRelay(pair.network, `relay ${n}`, relayAddress(`203.0.113.${n}`)));
  const offer = (relay: SimulatedRelay | undefined) => {
    assert.ok(relay !== undefined);
    for (const host of [pair.client, pair.gateway]) {
      host.machine.updateRelays([], [relay.description], pair.now);
      host.drain(pair.now);
    }
    pair.network.wait(500);
  };
  pair.network.isBlocked = (source, destination) => source.port === 51820 && destination.port === 51820;
  offer(relays[0]);
  pair.establish();
  offer(relays[1]);
  traffic(pair, 3000);
  const [first, second] = relays;
  assert.ok(first !== undefined && second !== undefined && second.relayed === 0, "the first relay is used on");
  first.isDown = true;
  survivesWithShortSilence(pair);
});

test("while no way works packets wait, the newest of them, and go out when one works again", () => {
  const pair = new NodePair();
  pair.establish();
  traffic(pair, 3000);
  pair.network.isBlocked = () => true;
  traffic(pair, 5000);
  assert.equal(pair.client.path(GATEWAY_ID), undefined);
  const before = pair.client.delivered.length;
  pair.network.isBlocked = () => false;
  pair.network.wait(2000);
  assert.equal(pair.client.delivered.length - before, MAX_WAITING_PACKETS);
  pair.assertPasses();
  assert.deepEqual(pair.failures(), { client: [], gateway: [] });
});

test("packets that wait on a gateway go to the client that comes back with a new connection", () => {
  const pair = new NodePair();
  pair.establish();
  traffic(pair, 3000);
  pair.network.isBlocked = () => true;
  traffic(pair, 3000);
  pair.client.machine.reset(pair.now);
  for (const address of pair.client.addresses) pair.client.machine.addLocalHostCandidate(address, pair.now);
  pair.client.drain(pair.now);
  pair.network.isBlocked = () => false;
  const before = pair.client.delivered.length;
  pair.establish();
  // What was sent since the gateway knew; when it looked is a matter of a packet or two.
  const waited = (3000 - SILENCE - MAX_QUESTIONS_ALONE * MIN_ANSWER_TIME) / 50;
  const arrived = pair.client.delivered.length - before;
  assert.ok(waited < MAX_WAITING_PACKETS && arrived <= waited && arrived >= waited - 3, `${arrived} of ${waited}`);
});

test("a way that is silent in one direction only is asked now and then, and stays", () => {
  const pair = new NodePair();
  pair.establish();
  const selected = pair.client.of("path-selected").length;
  for (let i = 0; i < 400; i++) {
    pair.client.send(GATEWAY_ID, Uint8Array.of(0x45, 1), pair.now);
    pair.network.wait(25);
  }
  assert.equal(pair.client.of("path-selected").length, selected);
  assert.equal(pair.client.of("path-lost").length, 0);
});
