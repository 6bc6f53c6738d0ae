// What a connection waits for, by itself.

import assert from "node:assert/strict";
import { test } from "node:test";
import { SECOND } from "../../src/base/time.js";
import { Patience } from "../../src/connection/patience.js";

test("what is waited for is overdue after its time, counted from when the waiting began", () => {
  const patience = new Patience();
  assert.equal(patience.deadline(), undefined);
  patience.await("no-handshake", 5 * SECOND);
  patience.await("no-handshake", 15 * SECOND);
  assert.equal(patience.deadline(), 25 * SECOND);
  assert.equal(patience.overdue(25 * SECOND - 1), undefined);
  assert.equal(patience.overdue(25 * SECOND), "no-handshake");
  patience.settle("no-handshake");
  assert.deepEqual([patience.overdue(60 * SECOND), patience.deadline()], [undefined, undefined]);
  patience.await("no-handshake", 60 * SECOND);
  assert.equal(patience.deadline(), 80 * SECOND, "another one has its own time");
});

test("spec 02, 2.5, 6.8 and 14: 20 s for an answer and for handshakes, 10 s for a candidate, 2 s for another path", () => {
  for (const [what, limit] of [
    ["no-answer", 20],
    ["no-candidates", 10],
    ["no-path", 2],
    ["no-handshake", 20],
  ] as const) {
    const patience = new Patience();
    patience.await(what, 0);
    assert.equal(patience.deadline(), limit * SECOND, what);
    assert.equal(patience.overdue(limit * SECOND), what);
  }
});

test("the deadline is that of whatever is overdue first; of several that are, the signalling is to blame before the path, and the path before WireGuard", () => {
  const patience = new Patience();
  patience.await("no-handshake", 0);
  patience.await("no-path", 30 * SECOND);
  assert.equal(patience.deadline(), 20 * SECOND);
  patience.await("no-candidates", 0);
  assert.equal(patience.deadline(), 10 * SECOND);
  assert.equal(patience.overdue(40 * SECOND), "no-candidates");
  patience.settle("no-candidates");
  assert.equal(patience.overdue(40 * SECOND), "no-path");
  assert.equal(patience.overdue(31 * SECOND), "no-handshake", "the path has time left");
});
