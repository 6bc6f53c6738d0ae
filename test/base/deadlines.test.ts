// The order of deadlines, against a plain list.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Deadlines } from "../../src/base/deadlines.js";
import { assertProperty } from "../support/property.js";

test("the next deadline is the earliest, whatever is set, moved and taken away", () => {
  const command = fc.record({
    item: fc.nat(30),
    deadline: fc.option(fc.nat(100), { nil: undefined }),
    take: fc.option(fc.nat(100), { nil: undefined, freq: 4 }),
  });
  assertProperty(
    fc.property(fc.array(command, { maxLength: 200 }), (commands) => {
      const deadlines = new Deadlines<number>();
      const model = new Map<number, number>();
      for (const { item, deadline, take } of commands) {
        deadlines.set(item, deadline);
        if (deadline === undefined) model.delete(item);
        else model.set(item, deadline);
        if (take !== undefined) {
          const due = deadlines.takeDue(take);
          const times = due.map((taken) => model.get(taken) ?? assert.fail("taken without a deadline"));
          assert.deepEqual(
            times,
            [...times].sort((a, b) => a - b),
          );
          assert.equal(due.length, [...model.values()].filter((time) => time <= take).length);
          for (const taken of due) model.delete(taken);
        }
        assert.equal(deadlines.size, model.size);
        assert.equal(deadlines.next(), model.size === 0 ? undefined : Math.min(...model.values()));
      }
    }),
    { seed: 8, numRuns: 500 },
  );
});

test("10 000 objects: changing and taking one takes no longer than with a few", () => {
  const deadlines = new Deadlines<number>();
  for (let item = 0; item < 10_000; item++) deadlines.set(item, item);
  const start = performance.now();
  for (let round = 0; round < 100_000; round++) {
    const [item = assert.fail("nothing is due")] = deadlines.takeDue(round);
    deadlines.set(item, round + 10_000);
  }
  // A list of 10 000 would be looked through 100 000 times: many seconds.
  assert.ok(performance.now() - start < 2000);
});
