// When workers help each other (src/datapath/work-sharing.ts): who is woken, how often, and when nothing is shared.

import assert from "node:assert/strict";
import { test } from "node:test";
import { createControlBlock, WorkerControl } from "../../src/datapath/control-block.js";
import { WorkSharing } from "../../src/datapath/work-sharing.js";
import { FakeEngine } from "../support/fake-datapath.js";

function setUp(workers: number) {
  const block = createControlBlock(workers);
  const controls = Array.from({ length: workers }, (_, i) => new WorkerControl(block, i, workers));
  const woken: number[] = [];
  const engines = controls.map(() => new FakeEngine());
  const sharings = engines.map(
    (engine, index) => new WorkSharing({ engine, index, controls, wake: (other) => woken.push(other) }),
  );
  const [engine, sharing] = [engines[0] as FakeEngine, sharings[0] as WorkSharing];
  /** A turn at `now` in which so many jobs were posted; returns who was woken. */
  const turn = (now: number, jobs: number) => {
    engine.jobsPosted += jobs;
    sharing.endTurn(now);
    return woken.splice(0);
  };
  return { engines, sharings, engine, sharing, turn };
}

test("a worker without others shares nothing", () => {
  const { engine, sharing } = setUp(1);
  assert.equal(sharing.alone, true);
  assert.equal(engine.sharing, false);
  sharing.beginHelping();
  assert.equal(sharing.helping, false);
});

test("a busy worker wakes the others in turn, at intervals, but none that helps already", () => {
  const { sharings, turn } = setUp(3);
  assert.deepEqual(turn(0, 3), []);
  assert.deepEqual(turn(0, 4), [1]);
  sharings[1]?.beginHelping();
  assert.deepEqual(turn(0.5, 40), []);
  assert.deepEqual(turn(1, 40), [2]);
  sharings[2]?.beginHelping();
  assert.deepEqual(turn(10, 40), []);
});

test("who looks in vain sleeps again, and is woken less often", () => {
  const { engines, sharings, turn } = setUp(2);
  const [, helper] = sharings as [WorkSharing, WorkSharing];
  let now = 0;
  const gaps: number[] = [];
  for (let last = 0, i = 0; i < 12; last = now, i++) {
    while (turn(now, 40).length === 0) now += 0.5;
    gaps.push(now - last);
    helper.beginHelping();
    assert.equal(helper.help(), 0);
    assert.equal(helper.helping, false);
  }
  assert.deepEqual(gaps, [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 256, 256]);
  // One that found something before it gave up is woken at once again.
  now += 256;
  assert.deepEqual(turn(now, 40), [1]);
  helper.beginHelping();
  engines[1]?.helped.push(16, 3);
  assert.equal(helper.help(), 16);
  assert.equal(helper.help(), 3);
  assert.equal(helper.help(), 0);
  assert.deepEqual(turn(now + 256, 40), [1]);
  helper.beginHelping();
  engines[1]?.helped.push(1);
  helper.help();
  helper.help();
  assert.deepEqual(turn(now + 257, 40), [1]);
});

test("where helpers have no core, nothing is shared for a second", () => {
  const { engine, turn } = setUp(2);
  assert.equal(engine.sharing, true);
  engine.jobsStalled++;
  assert.deepEqual(turn(0, 40), []);
  assert.equal(engine.sharing, false);
  assert.deepEqual(turn(999, 40), []);
  assert.equal(engine.sharing, false);
  turn(1000, 40);
  assert.equal(engine.sharing, true);
});
