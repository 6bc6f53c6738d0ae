// A resource's access to its gateway: when its packets may go, and which resources are asked for again.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Access } from "../../src/tunnel/access.js";
import { type Gateway, Gateways } from "../../src/tunnel/gateways.js";
import { PacketBuffer } from "../../src/tunnel/packet-buffer.js";
import { Renewals } from "../../src/tunnel/renewals.js";

const NOW = 1_000_000;

function queued(roundTrip: number): Access {
  return new Access({ packets: new PacketBuffer(), roundTrip }, "queued");
}

test("spec 04, 4.9: an access settles for as long as the portal took to answer, within bounds", () => {
  for (const [roundTrip, settleTime] of [
    [0, 5],
    [60, 60],
    [1900, 500],
  ] as const) {
    const access = queued(roundTrip);
    assert.equal(access.settle(NOW), false, "not requested yet");
    access.handleRequested(NOW);
    assert.equal(access.settledAt, NOW + settleTime);
    assert.equal(access.settle(NOW + settleTime - 1), false);
    assert.equal(access.settle(NOW + settleTime), true);
    assert.equal(access.settledAt, undefined);
  }
});

test("an access is to be released once, and packets without route are taken for late ones for a second", () => {
  const access = new Access({ packets: new PacketBuffer(), roundTrip: 0 }, "granted");
  assert.equal(access.settle(NOW), true);
  access.handleReleased(NOW);
  assert.equal(access.settle(NOW), false);
  assert.equal(access.isReleasing(NOW + 999), true);
  assert.equal(access.isReleasing(NOW + 1000), false);
});

test("a route leads to the connection when that is established and the access granted, and not before", () => {
  const gateways = new Gateways();
  gateways.attach("g", "s", "a", queued(10));
  const gateway = gateways.get("g");
  assert.ok(gateway);
  const access = gateways.serviceOf("a")?.access;
  assert.ok(access);
  assert.deepEqual(gateways.destinationOf("a"), { type: "exception" });
  access.handleRequested(NOW);
  assert.equal(gateways.settledAt(), undefined, "nothing settles on a connection that is not established");
  gateway.phase = "established";
  assert.equal(gateways.settledAt(), NOW + 10);
  assert.deepEqual(gateways.destinationOf("a"), { type: "exception" });
  assert.deepEqual(gateways.settle(NOW + 10), [{ gatewayId: "g", access }]);
  assert.deepEqual(gateways.destinationOf("a"), { type: "connection", connection: "g" });
  assert.equal(gateways.isSiteConnected("s"), true);
  gateways.remove("g");
  assert.deepEqual(gateways.destinationOf("a"), { type: "exception" });
  assert.equal(gateways.serviceOf("a"), undefined);
  assert.equal(gateways.isSiteConnected("s"), false);
});

test("resources are asked for again when they were used in the last 30 s, 16 at most, also after a second end", () => {
  const renewals = new Renewals();
  const gateway = (ids: readonly string[], usedAt: number): Gateway => ({
    siteId: "s",
    phase: "established",
    resources: new Map(ids.map((id) => [id, queued(0)])),
    usedAt,
  });
  assert.deepEqual(renewals.of(gateway(["old"], NOW - 30_001), NOW), []);
  assert.deepEqual(renewals.of({ ...gateway(["young"], NOW), phase: "connecting" }, NOW), []);
  assert.deepEqual(renewals.of(gateway(["a", "b"], NOW - 30_000), NOW), ["a", "b"]);
  assert.equal(
    renewals.of(
      gateway(
        Array.from({ length: 20 }, (_, i) => `r${i}`),
        NOW - 60_000,
      ),
      NOW - 60_000,
    ).length,
    16,
  );
  // What ended before has not come back perhaps; what is gone, or was used long ago, is not asked for.
  renewals.forget("b");
  assert.deepEqual(renewals.ofAll([gateway(["c"], NOW)], NOW), ["c", "a"]);
  assert.deepEqual(renewals.ofAll([], NOW + 1), ["c"]);
});
