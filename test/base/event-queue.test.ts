// Events are taken in order, all of them, also those that come while others are taken.

import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { EventQueue } from "../../src/base/event-queue.js";

test("events come out as they went in, also those that are added halfway, and once", () => {
  const queue = new EventQueue<number>();
  assert.equal(queue.shift(), undefined);
  for (const round of [0, 10]) {
    queue.push(round);
    queue.push(round + 1);
    assert.equal(queue.shift(), round);
    queue.push(round + 2);
    assert.deepEqual([queue.shift(), queue.shift(), queue.shift()], [round + 1, round + 2, undefined]);
    assert.equal(queue.shift(), undefined);
  }
});

test("what is forgotten halfway does not come back, and nothing of what follows is lost", () => {
  const queue = new EventQueue<number>();
  for (const event of [1, 2, 3]) queue.push(event);
  assert.equal(queue.shift(), 1);
  queue.clear();
  queue.push(4);
  assert.deepEqual([queue.shift(), queue.shift()], [4, undefined]);
});

test("events that have been taken are not held: some carry keys and packets", async () => {
  setFlagsFromString("--expose-gc");
  const collectGarbage: () => void = runInNewContext("gc");
  const queue = new EventQueue<object>();
  const taken = (() => {
    const event = {};
    queue.push(event);
    while (queue.shift() !== undefined);
    return new WeakRef(event);
  })();
  // What has been seen through a WeakRef lives until the end of the turn.
  await setImmediate();
  collectGarbage();
  assert.equal(taken.deref(), undefined);
});
