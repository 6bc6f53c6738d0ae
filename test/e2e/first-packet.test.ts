// The first packet is not lost (issue 3, "What must hold"): on a cold tunnel, the reply to the very first ping arrives, soon.

import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { RESOURCES } from "../../scripts/lab/world.js";
import { describeWorld, ready, SOON, startPrograms } from "../support/world.js";

const COLD_STARTS = 10;

/** How long the programs are up, without a connection, before the first packet: milliseconds. */
const SETTLE_TIME = 2000;

/** Round trip of the first ping, at most, in milliseconds: the median. */
const MEDIAN_LIMIT = 50;

describeWorld("first packet", (scenario) => {
  scenario(
    "10 cold starts: the first ping is answered within 50 ms (median), and the first to another resource too",
    async (world, context) => {
      const portal = world.startPortal();
      await portal.waitFor("Portal is listening", { timeout: SOON });
      await ready(world.startGateway());
      const first: number[] = [];
      const second: number[] = [];
      for (let start = 1; start <= COLD_STARTS; start++) {
        const client = world.startClient();
        await ready(client);
        await sleep(SETTLE_TIME);
        assert.equal(client.find("Sent connection intent"), undefined, "no connection yet");
        const roundTrip = world.ping(RESOURCES.intranet.ipv4, 3000);
        assert.ok(roundTrip !== undefined, `start ${start}: no reply to the first ping`);
        first.push(roundTrip);
        const other = world.ping(RESOURCES.second.ipv4, 3000);
        assert.ok(other !== undefined, `start ${start}: no reply to the first ping to the second resource`);
        second.push(other);
        await client.waitFor("Connection established", { timeout: SOON });
        const established = client.records.filter(({ message }) => message === "Connection established");
        assert.equal(established.length, 1, "both over one connection");
        const { status } = await client.stop();
        assert.equal(status, 0);
      }
      context.diagnostic(`first ping: ${describeTimes(first)}`);
      context.diagnostic(`first ping to the second resource: ${describeTimes(second)}`);
      assert.ok(median(first) <= MEDIAN_LIMIT, `median of the first pings: ${describeTimes(first)}`);
      assert.ok(
        median(second) <= MEDIAN_LIMIT,
        `median of the first pings to the second resource: ${describeTimes(second)}`,
      );
    },
  );

  scenario("the first packet may be IPv6", async (world, context) => {
    if (!world.ipv6) {
      context.skip("the kernel has no IPv6");
      return;
    }
    await startPrograms(world);
    await sleep(SETTLE_TIME);
    const roundTrip = world.ping(RESOURCES.intranet.ipv6, 3000);
    assert.ok(roundTrip !== undefined, "no reply to the first ping");
    context.diagnostic(`first ping: ${roundTrip.toFixed(1)} ms`);
  });

  for (const family of ["ipv4", "ipv6"] as const) {
    scenario(`"Tunnel ready" means it: a ping sent at that moment is answered, ${family}`, async (world, context) => {
      if (family === "ipv6" && !world.ipv6) {
        context.skip("the kernel has no IPv6");
        return;
      }
      await startPrograms(world);
      const roundTrip = world.ping(RESOURCES.intranet[family], 3000);
      assert.ok(roundTrip !== undefined, "no reply to the first ping");
      context.diagnostic(`directly after start-up: ${roundTrip.toFixed(1)} ms`);
    });
  }

  scenario("a burst at the first packet: nothing of 20 pings in a row is lost", async (world) => {
    await startPrograms(world);
    const { roundTrips } = (await world.probe(["ping", RESOURCES.intranet.ipv4, "2000", "20"])) as {
      roundTrips: (number | null)[];
    };
    assert.equal(roundTrips.length, 20);
    assert.ok(!roundTrips.includes(null), JSON.stringify(roundTrips));
  });
});

function median(times: readonly number[]): number {
  const sorted = [...times].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const [upper = Number.NaN, lower = Number.NaN] = [sorted[middle], sorted[middle - 1]];
  return sorted.length % 2 === 1 ? upper : (lower + upper) / 2;
}

function describeTimes(times: readonly number[]): string {
  const sorted = [...times].sort((a, b) => a - b).map((time) => time.toFixed(1));
  return `median ${median(times).toFixed(1)} ms, all ${sorted.join(" ")}`;
}
