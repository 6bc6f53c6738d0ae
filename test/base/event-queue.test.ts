// Events are taken in order, all of them, also those that come while others are taken.

import assert from "node:assert/strict";
import { test } from "node:test";
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
