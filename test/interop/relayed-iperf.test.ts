// Real load over a relay: iperf3 in both directions, TCP and UDP at a rate, between a client and a gateway that have no other way. Control messages
// survive it: the portal's heartbeats, connectivity checks and refreshes of allocation and channels go on, and nobody falls.

import assert from "node:assert/strict";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { test } from "node:test";
import { NatWorld } from "../../scripts/lab/nat-world.js";
import { RESOURCE } from "../../scripts/lab/resource-traffic.js";
import { routerSkip } from "../lab/router-skip.js";
import { temporaryDirectory } from "../support/temporary-directory.js";

const skip = routerSkip || (!existsSync("/usr/bin/iperf3") && "needs iperf3");

/** Rate of UDP that the busiest of machines carries over a relay; client, relay, gateway and iperf3 share its cores. */
const RATE = "50M";
const SECONDS = 3;

/** Results of iperf3 as far as the test needs them. */
interface Report {
  readonly end: {
    readonly sum_received?: { readonly bytes: number };
    readonly sum?: { readonly packets: number; readonly lost_packets: number };
  };
}

/** Some seconds of iperf3 between the client and the resource. */
async function iperf(world: NatWorld, ...options: string[]): Promise<Report["end"]> {
  const server = world.resourceHost.spawn("iperf3", ["-s", "-1", "--forceflush"], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const ended = once(server, "exit");
  await new Promise((resolve) => server.stdout?.once("data", resolve));
  const args = ["-c", RESOURCE.ipv4, "-t", String(SECONDS), "-J", ...options];
  const { stdout } = await world.clientHost.run("iperf3", args, { timeout: 30_000 });
  await ended;
  return (JSON.parse(stdout) as Report).end;
}

test("spec 03, 8.3.39: relayed iperf, TCP and UDP at a rate, both directions: nobody crashes, control messages survive", {
  skip,
  timeout: 120_000,
}, async (t) => {
  const world = await NatWorld.create({ directory: temporaryDirectory(t), relays: 1 });
  t.after(() => world.destroy());
  world.blockDirect();
  await world.start();
  await world.traffic.curl();
  await world.waitForPath("relayed", 10_000);
  for (const direction of [[], ["-R"]]) {
    const tcp = await iperf(world, ...direction);
    const bytes = tcp.sum_received?.bytes ?? 0;
    t.diagnostic(`TCP${direction}: ${((bytes * 8) / SECONDS / 1e6).toFixed(0)} Mbit/s`);
    assert.ok(bytes > 1_000_000, `${bytes} bytes`);
    const { sum } = await iperf(world, "-u", "-b", RATE, "-l", "1200", ...direction);
    t.diagnostic(`UDP${direction}: ${sum?.lost_packets} of ${sum?.packets} lost`);
    assert.ok(
      (sum?.packets ?? 0) > 10_000 && (sum?.lost_packets ?? Number.POSITIVE_INFINITY) < (sum?.packets ?? 0) / 20,
    );
  }
  await world.traffic.curl();
  assert.equal(world.path(), "relayed");
  assert.equal(world.relay(1).program?.running, true, "the relay");
  for (const program of [world.client, world.gateway, world.portal]) {
    assert.equal(program?.running, true, program?.name);
    const bad = program?.records.filter(({ message }) => /Lost the portal|Connection ended/.test(message));
    assert.deepEqual(bad, []);
  }
});
