// What a relay lends us by itself: how long, and which changes are told.

import assert from "node:assert/strict";
import { test } from "node:test";
import { SECOND } from "../../src/base/time.js";
import { Lease } from "../../src/turn/allocation/lease.js";
import { at } from "../support/turn.js";

const IPV4 = at("198.51.100.1:50000");
const OTHER_IPV4 = at("198.51.100.1:50001");
const IPV6 = at("[2001:db8:1::1]:50000");

function leaseWithEvents(): { lease: Lease; takeEvents: () => string[] } {
  const events: string[] = [];
  const lease = new Lease(({ type, address }) => events.push(`${type} ${address}`));
  return { lease, takeEvents: () => events.splice(0) };
}

test("a lease is renewed at half of its lifetime, and not before a refusal has had its time", () => {
  const { lease } = leaseWithEvents();
  assert.deepEqual([lease.isHeld, lease.renewAt, lease.endsAt], [false, undefined, undefined]);
  assert.equal(lease.begin([IPV4], 600, 1000), true);
  assert.deepEqual([lease.isHeld, lease.renewAt, lease.endsAt], [true, 301 * SECOND, 601 * SECOND]);
  lease.postponeRenewal(311 * SECOND);
  assert.equal(lease.renewAt, 311 * SECOND);
  assert.equal(lease.renew(600, 311 * SECOND), true);
  assert.deepEqual([lease.renewAt, lease.endsAt], [611 * SECOND, 911 * SECOND]);
  lease.postponeRenewal(1000 * SECOND);
  lease.end();
  assert.deepEqual([lease.isHeld, lease.renewAt, lease.endsAt], [false, undefined, undefined]);
  lease.begin([IPV4], 600, 611 * SECOND);
  assert.equal(lease.renewAt, 911 * SECOND, "the refusal is forgotten with what it was about");
});

test("an answer without addresses, without lifetime or with lifetime 0 lends nothing", () => {
  const { lease, takeEvents } = leaseWithEvents();
  assert.equal(lease.begin([], 600, 0), false);
  assert.equal(lease.begin([IPV4], undefined, 0), false);
  assert.equal(lease.begin([IPV4], 0, 0), false);
  assert.equal(lease.isHeld, false);
  assert.deepEqual(lease.addresses, []);
  assert.deepEqual(takeEvents(), []);
});

test("addresses that change are told, the lost one first; those that stay are not", () => {
  const { lease, takeEvents } = leaseWithEvents();
  lease.begin([IPV6, IPV4, OTHER_IPV4], 600, 0);
  assert.deepEqual(takeEvents(), [`relayed-address ${IPV4}`, `relayed-address ${IPV6}`]);
  assert.deepEqual(lease.addresses, [IPV4, IPV6]);
  lease.begin([OTHER_IPV4, IPV6], 600, 0);
  assert.deepEqual(takeEvents(), [`relayed-address-lost ${IPV4}`, `relayed-address ${OTHER_IPV4}`]);
  assert.equal(lease.address(4), OTHER_IPV4);
  lease.end();
  assert.deepEqual(takeEvents(), [`relayed-address-lost ${OTHER_IPV4}`, `relayed-address-lost ${IPV6}`]);
  lease.end();
  assert.deepEqual(takeEvents(), []);
});
