// Instants (src/base/time.ts).

import assert from "node:assert/strict";
import { test } from "node:test";
import { nextTurn, SECOND } from "../../src/base/time.js";

test("turns are at multiples of their interval, between half of it and one and a half away", () => {
  for (const [now, next] of [
    [0, 1000],
    [1, 1000],
    [499.9, 1000],
    [500, 2000],
    [999.6, 2000],
    [1000, 2000],
    [1000.4, 2000],
    [86_400_000.25, 86_401_000],
  ] as const)
    assert.equal(nextTurn(now, SECOND), next);
});
