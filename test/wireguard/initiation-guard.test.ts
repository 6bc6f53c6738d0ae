// Replays and floods of a peer's initiations.

import assert from "node:assert/strict";
import { test } from "node:test";
import { InitiationGuard } from "../../src/wireguard/initiation-guard.js";
import { TAI64N_LENGTH } from "../../src/wireguard/tai64n.js";

const NOW = 1_000_000;

function timestamp(value: number): Uint8Array {
  const bytes = new Uint8Array(TAI64N_LENGTH);
  bytes[TAI64N_LENGTH - 1] = value;
  return bytes;
}

test("whitepaper, 5.1: an initiation is newer than the last that was answered, and 20 ms after it at least", () => {
  const guard = new InitiationGuard();
  assert.equal(guard.check(timestamp(5), NOW), undefined);
  // Only what is answered counts: an initiation may fail in other ways.
  assert.equal(guard.check(timestamp(4), NOW), undefined);
  guard.accept(timestamp(5), NOW);
  assert.equal(guard.acceptedAt, NOW);
  assert.equal(guard.check(timestamp(5), NOW + 1000), "WrongTai64nTimestamp");
  assert.equal(guard.check(timestamp(4), NOW + 1000), "WrongTai64nTimestamp");
  assert.equal(guard.check(timestamp(6), NOW + 19), "InitiationFlood");
  assert.equal(guard.check(timestamp(6), NOW + 20), undefined);
});
