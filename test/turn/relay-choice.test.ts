// Which relay connections use: spec 03, sections 6.4 and 8.6.90.

import assert from "node:assert/strict";
import { test } from "node:test";
import { chooseRelay } from "../../src/turn/allocation/relay-choice.js";
import { seededRandom } from "../support/random.js";

const DRAWS = 3000;

/** How often each relay is chosen, by round-trip time. */
function choices(...roundTripTimes: readonly (number | undefined)[]): number[] {
  const random = seededRandom(90);
  const offers = roundTripTimes.map((roundTripTime, i) => ({ id: `${i}`, roundTripTime }));
  const counts = offers.map(() => 0);
  for (let i = 0; i < DRAWS; i++) {
    const chosen = chooseRelay(offers, random);
    if (chosen !== undefined) counts[Number(chosen)] = (counts[Number(chosen)] ?? 0) + 1;
  }
  return counts;
}

/** About as often as the others of so many. */
function isFair(count: number | undefined, of: number): boolean {
  return Math.abs((count ?? 0) - DRAWS / of) < 0.2 * (DRAWS / of);
}

test("spec 03, 8.6.90: of relays at 30, 32, 35, 40 and 200 ms the last is never chosen", () => {
  const counts = choices(30, 32, 35, 40, 200);
  assert.equal(counts[4], 0);
  assert.ok(
    counts.slice(0, 4).every((count) => isFair(count, 4)),
    `${counts}`,
  );
});

test("spec 03, 8.6.90: 30 and 31 ms are chosen evenly, of 30 and 200 ms only the first", () => {
  const even = choices(30, 31);
  assert.ok(
    even.every((count) => isFair(count, 2)),
    `${even}`,
  );
  assert.deepEqual(choices(30, 200), [DRAWS, 0]);
});

test("spec 03, 8.6.90: a single slow relay is chosen, one that was never measured is not", () => {
  assert.deepEqual(choices(2000), [DRAWS]);
  assert.deepEqual(choices(undefined, 2000), [0, DRAWS]);
  assert.deepEqual(choices(undefined), [0]);
  assert.deepEqual(choices(), []);
});
