// Ten thousand allocations on one relay, created at a thousand per second, without a missed refresh, and what each costs (issue on relays).
// Clients ask for a lifetime of 16 s, so that refreshes are part of a test.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { residentBytes } from "../../bench/tunnel/processes.js";
import type { LabHost } from "../../scripts/lab/host.js";
import { Lab } from "../../scripts/lab/lab.js";
import { startTurnServer, TURN_USER, type TurnServerProcess } from "../../scripts/lab/turn-programs.js";
import { labSkip } from "../support/lab-skip.js";
import type { ClientsReport } from "../support/turn-clients-main.js";

const CLIENTS = fileURLToPath(new URL("../support/turn-clients-main.js", import.meta.url));
const RELAY = "192.0.2.1";

/** Allocations, and new ones per second. */
const COUNT = 10_000;
const RATE = 1_000;
/** Lifetime, and for how long they are refreshed, in seconds: each is refreshed once at least before it would have ended. */
const LIFETIME = 16;
const DURATION = 10;
/** Resident bytes of each. */
const MEMORY_LIMIT = 4096;
/** Seconds that a machine that is not alone may be late. */
const GRACE = 5;

describe("wirelane relay, ten thousand allocations", { skip: labSkip, timeout: 90_000 }, () => {
  let lab: Lab;
  let host: LabHost;
  let relay: TurnServerProcess;

  before(async () => {
    lab = Lab.create();
    host = lab.host("one");
    host.configure("lo", { addresses: [`${RELAY}/32`] });
    relay = await startTurnServer("wirelane", host, { ipv4: RELAY });
  });

  after(async () => {
    await relay?.stop();
    await lab?.destroy();
  });

  /** Lets clients have allocations, and refresh them for some seconds. Returns what they said at their first end, and at their last. */
  async function clients(count: number, duration: number, lifetime: number): Promise<ClientsReport[]> {
    const { name, password } = TURN_USER;
    const numbers = [count, RATE, duration, lifetime].map(String);
    const { stdout } = await host.run(process.execPath, [CLIENTS, `${RELAY}:3478`, name, password, ...numbers]);
    return stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as ClientsReport);
  }

  test("created at 1000 per second, all refreshed in time, at most 4 KiB each", async (t) => {
    await sleep(1000);
    const memory = residentBytes(relay.pid);
    const [created, end] = await clients(COUNT, DURATION, LIFETIME);
    assert.ok(created !== undefined && end !== undefined);
    const each = (residentBytes(relay.pid) - memory) / COUNT;
    t.diagnostic(
      `all after ${created.seconds.toFixed(1)} s, ${end.refreshes} refreshes, ${each.toFixed(0)} bytes each`,
    );
    assert.equal(created.allocated, COUNT);
    assert.ok(created.seconds < COUNT / RATE + GRACE, `${created.seconds} s`);
    // An allocation that had ended would be 437.
    assert.deepEqual(end.errors, {});
    assert.ok(end.refreshes >= COUNT, `${end.refreshes} refreshes`);
    assert.ok(end.repeated < COUNT / 100, `${end.repeated} requests were repeated`);
    assert.ok(each <= MEMORY_LIMIT, `${each} bytes`);
  });
});
