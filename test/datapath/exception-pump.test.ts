import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate, setTimeout } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import {
  EXCEPTIONS_PER_LOOK,
  EXCEPTIONS_PER_TURN,
  ExceptionPump,
  TURN_LIMIT,
} from "../../src/datapath/exception-pump.js";

/** A pump over a counter of waiting exceptions, each of which takes `cost` ms. */
function setUp(waiting: number, cost = 0) {
  const words = new Int32Array(new SharedArrayBuffer(8));
  const state = { waiting, now: 0, turns: [] as number[], errors: [] as unknown[] };
  const pump = new ExceptionPump({
    words,
    index: 1,
    drain: (limit) => {
      const handled = Math.min(limit, state.waiting);
      state.waiting -= handled;
      state.now += handled * cost;
      // Of the same turn.
      const turn = state.turns.at(-1) ?? 0;
      if (turn > 0) state.turns[state.turns.length - 1] = turn + handled;
      else if (handled > 0) state.turns.push(handled);
      return handled;
    },
    now: () => state.now,
    endOfTurn: () => state.turns.push(-1),
    onError: (error) => state.errors.push(error),
  });
  const push = (count: number) => {
    state.waiting += count;
    Atomics.add(words, 1, 1);
    Atomics.notify(words, 1);
  };
  return { words, state, pump, push };
}

test("exceptions that wait already, and those pushed later, are handled; each turn ends with one poll", async () => {
  const { state, pump, push } = setUp(3);
  await setImmediate();
  assert.deepEqual(state.turns, [3, -1]);
  push(2);
  await setTimeout(5);
  assert.deepEqual(state.turns, [3, -1, 2, -1]);
  pump.stop();
});

test("a flood is handled in bounded turns, between which the event loop lives", async () => {
  const { state, pump } = setUp(3 * EXCEPTIONS_PER_TURN);
  while (state.waiting > 0) {
    await setImmediate();
    state.turns.push(0);
  }
  pump.stop();
  // The order of two callbacks of one turn of the event loop is not ours to say; three in a row would be starvation.
  const longest = state.turns
    .join(" ")
    .split(" 0")
    .map((run) => run.split("-1").length - 1);
  assert.ok(Math.max(...longest) <= 2, state.turns.join(" "));
});

test("exceptions that cost much end a turn early, and none is forgotten", async () => {
  const { state, pump } = setUp(3 * EXCEPTIONS_PER_LOOK + 1, TURN_LIMIT / EXCEPTIONS_PER_LOOK);
  while (state.waiting > 0) await setImmediate();
  await setImmediate();
  assert.deepEqual(state.turns, [...Array(3).fill([EXCEPTIONS_PER_LOOK, -1]), 1, -1].flat());
  pump.stop();
});

test("another thread's notification wakes the pump", async () => {
  const { words, state, pump } = setUp(0);
  await setImmediate();
  state.waiting = 1;
  const worker = new Worker(
    "const { workerData } = require('node:worker_threads'); Atomics.add(workerData, 1, 1); Atomics.notify(workerData, 1);",
    { eval: true, workerData: words },
  );
  await new Promise((resolve) => worker.on("exit", resolve));
  await setImmediate();
  assert.deepEqual(state.turns, [1, -1]);
  pump.stop();
});

test("nothing is handled after stop", async () => {
  const { state, pump, push } = setUp(0);
  await setImmediate();
  pump.stop();
  push(1);
  await setTimeout(5);
  assert.deepEqual(state.turns, []);
});

test("a handler that throws is reported, and the pump stops", async () => {
  const errors: unknown[] = [];
  const words = new Int32Array(new SharedArrayBuffer(4));
  const bug = new Error("bug");
  new ExceptionPump({
    words,
    index: 0,
    drain: () => {
      throw bug;
    },
    now: () => 0,
    endOfTurn: () => assert.fail("not reached"),
    onError: (error) => errors.push(error),
  });
  await setImmediate();
  assert.deepEqual(errors, [bug]);
});
