// The ways to a relay by themselves: which one is used, what it says of us, and when each is asked again (spec 03, sections 5.5 and 6.4).

import assert from "node:assert/strict";
import { test } from "node:test";
import { type Instant, SECOND } from "../../src/base/time.js";
import { KEEP_ALIVE_INTERVAL, ServerPaths } from "../../src/turn/allocation/server-paths.js";
import { at } from "../support/turn.js";

const IPV4 = at("198.51.100.1:3478");
const IPV6 = at("[2001:db8:1::1]:3478");
const MAPPED = at("203.0.113.7:40000");
const BASE = at("192.168.0.2:52625");

test("one address is used at once, of two the first that answers, until it is abandoned", () => {
  const single = new ServerPaths({ ipv6: IPV6 });
  assert.deepEqual(single.begin(), [IPV6]);
  assert.equal(single.active, IPV6);

  const paths = new ServerPaths({ ipv4: IPV4, ipv6: IPV6 });
  assert.deepEqual(paths.begin(), [IPV4, IPV6]);
  assert.equal(paths.active, undefined);
  paths.handleAnswer(IPV6, undefined, BASE, 10);
  paths.handleAnswer(IPV4, undefined, BASE, 20);
  assert.equal(paths.active, IPV6);
  paths.abandonActive();
  assert.equal(paths.active, undefined);
  paths.handleAnswer(IPV4, undefined, BASE, 30);
  assert.equal(paths.active, IPV4);
  paths.begin();
  assert.equal(paths.active, undefined);
});

test("how the relay sees us is news when address or base are others, and of the address's own IP version", () => {
  const paths = new ServerPaths({ ipv4: IPV4, ipv6: IPV6 });
  paths.begin();
  assert.deepEqual(paths.handleAnswer(IPV4, MAPPED, BASE, 10), { mapped: MAPPED, base: BASE });
  assert.equal(paths.handleAnswer(IPV4, MAPPED, BASE, 20), undefined);
  assert.equal(paths.handleAnswer(IPV6, MAPPED, BASE, 20), undefined);
  const otherBase = at("192.168.0.3:52625");
  assert.deepEqual(paths.handleAnswer(IPV4, MAPPED, otherBase, 30), { mapped: MAPPED, base: otherBase });
  assert.deepEqual(paths.mapped, [{ mapped: MAPPED, base: otherBase }]);
  assert.deepEqual(paths.forgetMapped(), [{ mapped: MAPPED, base: otherBase }]);
  assert.deepEqual(paths.mapped, []);
  assert.deepEqual(paths.handleAnswer(IPV4, MAPPED, otherBase, 40), { mapped: MAPPED, base: otherBase });
});

test("what answers is asked every 25 s, unless the datapath uses it; what does not, more and more seldom up to 300 s", () => {
  const paths = new ServerPaths({ ipv4: IPV4, ipv6: IPV6 });
  paths.begin();
  assert.equal(paths.nextDue(), undefined, "both are being asked");
  paths.handleAnswer(IPV4, undefined, BASE, 0);
  assert.equal(paths.nextDue(), KEEP_ALIVE_INTERVAL);
  assert.deepEqual(paths.takeDue(KEEP_ALIVE_INTERVAL - 1), []);
  assert.deepEqual(paths.takeDue(KEEP_ALIVE_INTERVAL), [IPV4]);
  assert.deepEqual(paths.takeDue(KEEP_ALIVE_INTERVAL), [], "it is being asked");
  paths.handleSilence(IPV4, KEEP_ALIVE_INTERVAL);
  assert.equal(paths.nextDue(), undefined, "what follows from the silence of the active one is not decided here");

  const waits: number[] = [];
  let now: Instant = 0;
  for (let i = 0; i < 6; i++) {
    paths.handleSilence(IPV6, now);
    const due = paths.nextDue() ?? assert.fail();
    waits.push((due - now) / SECOND);
    now = due;
    assert.deepEqual(paths.takeDue(now), [IPV6]);
  }
  assert.deepEqual(waits, [50, 100, 200, 300, 300, 300]);

  paths.handleAnswer(IPV4, undefined, BASE, now);
  paths.handleAnswer(IPV6, undefined, BASE, now);
  paths.handleActivity(now + 10 * SECOND);
  assert.deepEqual(paths.takeDue(now + 25 * SECOND), [IPV6], "only the active one is used");
  assert.deepEqual(paths.takeDue(now + 35 * SECOND - 1), []);
  assert.deepEqual(paths.takeDue(now + 35 * SECOND), [IPV4]);
  paths.handleSilence(IPV6, now);
  assert.equal(paths.nextDue(), now + 50 * SECOND, "it has answered meanwhile");
  paths.stop();
  assert.equal(paths.nextDue(), undefined);
});
