// Work that is done now and then (src/system/turns.ts), by the real clock: what it is for is that timers meet.

import assert from "node:assert/strict";
import { test } from "node:test";
import { monotonicNow } from "../../src/system/clock.js";
import { Turns } from "../../src/system/turns.js";

const INTERVAL = 40;

test("turns of several owners are one wake-up, no multiple of the interval has two, and none comes after the end", async () => {
  const turns: { readonly owner: string; readonly multiple: number }[] = [];
  const note = (owner: string) => turns.push({ owner, multiple: Math.round(monotonicNow() / INTERVAL) });
  const { a, b } = await new Promise<{ a: Turns; b: Turns }>((resolve) => {
    const owners = { a: new Turns(INTERVAL, () => note("a")), b: new Turns(INTERVAL, () => note("b")) };
    setTimeout(() => resolve(owners), 4.5 * INTERVAL);
  });
  a.stop();
  b.stop();
  const before = turns.length;
  await new Promise((resolve) => setTimeout(resolve, 2 * INTERVAL));
  assert.equal(turns.length, before);

  const multiplesOf = (wanted: string) => turns.filter(({ owner }) => owner === wanted).map(({ multiple }) => multiple);
  assert.deepEqual(multiplesOf("a"), multiplesOf("b"));
  assert.ok(multiplesOf("a").length >= 2);
  assert.equal(new Set(multiplesOf("a")).size, multiplesOf("a").length);
});
