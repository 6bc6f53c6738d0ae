// Grants by themselves: bounds, and descriptions that change. What follows from them is in gateway-state.test.ts.

import assert from "node:assert/strict";
import { test } from "node:test";
import { EARLY_GRANT_TIME, EarlyGrants, MAX_EARLY_GRANTS } from "../../src/tunnel/early-grants.js";
import { type GatewayResource, type Grant, Grants } from "../../src/tunnel/grants.js";
import { ipAddress } from "../support/simulated-host.js";
import { prefix } from "../support/tunnel-network.js";

const NOW = 1_000_000;
const WEB: GatewayResource = {
  type: "cidr",
  id: "r",
  address: prefix("10.1.0.0/16"),
  filters: [{ protocol: "tcp", first: 80, last: 80 }],
};

function grant(resource: GatewayResource = WEB): Grant {
  return { resource, expiresAt: undefined };
}

test("spec 04, 4.10, rule 2: early grants are kept for so many clients, so many each, and for so long after the first", () => {
  const early = new EarlyGrants(2);
  assert.ok(early.add("a", grant(), NOW));
  assert.ok(early.add("b", grant(), NOW + 1));
  assert.ok(!early.add("c", grant(), NOW + 1), "a client too many");
  for (let i = 1; i < MAX_EARLY_GRANTS; i++) assert.ok(early.add("a", grant(), NOW + 1));
  assert.ok(!early.add("a", grant(), NOW + 1), "a grant too many");
  early.handleTimeout(NOW + EARLY_GRANT_TIME - 1);
  assert.equal(early.take("a").length, MAX_EARLY_GRANTS);
  assert.deepEqual(early.take("a"), []);
  early.handleTimeout(NOW + EARLY_GRANT_TIME);
  assert.ok(!early.isEmpty);
  early.handleTimeout(NOW + EARLY_GRANT_TIME + 1);
  assert.ok(early.isEmpty);
});

test("spec 04, 6.5: a newer description changes the filters, and neither the address nor a resource that is now of another type", () => {
  const grants = new Grants();
  grants.add(grant());
  assert.ok(grants.update({ ...WEB, address: prefix("10.9.0.0/16"), filters: [] }));
  assert.deepEqual(grants.filters(), [{ prefix: prefix("10.1.0.0/16"), rules: [] }]);
  assert.ok(grants.update({ type: "internet", id: "r" }));
  assert.deepEqual(grants.filters(), [{ prefix: prefix("10.1.0.0/16"), rules: [] }]);
  assert.ok(grants.covers(ipAddress("10.1.255.255")));
  assert.ok(!grants.covers(ipAddress("10.2.0.0")));
  assert.ok(!grants.update({ ...WEB, id: "other" }));
  grants.add(grant({ type: "internet", id: "i" }));
  assert.ok(grants.covers(ipAddress("10.2.0.0")));
});
