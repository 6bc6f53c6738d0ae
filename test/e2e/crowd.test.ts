// All clients of a company come at once, as when its line comes back: each has its answer soon, and who has been there keeps its own.

import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { PORTAL_URL, RESOURCES } from "../../scripts/lab/world.js";
import { TOKENS } from "../../scripts/lab/world-configuration.js";
import { describeWorld, pingable, startPrograms } from "../support/world.js";

const CROWD = fileURLToPath(new URL("../support/crowd-main.js", import.meta.url));
/** More than a node without connectivity checks would answer in a second from one address. */
const CLIENTS = 200;
/** Milliseconds until the last of them has its reply; they are one process, which does most of the work. */
const LIMIT = 5000;
/** Longest time without a reply for a client that was there before; the workers' cores are shared with the crowd's. */
const GAP_LIMIT = 500;

describeWorld("crowd", (scenario) => {
  scenario(
    `issue 4: ${CLIENTS} clients that come at once all reach their resource; another one's traffic goes on`,
    async (world, context) => {
      await startPrograms(world);
      await pingable(world, RESOURCES.intranet.ipv4);
      const stream = await world.pingStream(RESOURCES.intranet.ipv4);
      const args = ["192.0.2.2", PORTAL_URL, TOKENS.client, String(CLIENTS), RESOURCES.intranet.ipv4];
      const { stdout } = await world.client.run(process.execPath, [CROWD, ...args]);
      const { longestGapMs } = await stream();
      context.diagnostic(`${stdout.trim()}, another client's longest gap ${longestGapMs} ms`);
      const { replies, last } = JSON.parse(stdout) as { readonly replies: number; readonly last: number };
      assert.equal(replies, CLIENTS);
      assert.ok(last < LIMIT, `the last reply came after ${last} ms`);
      assert.ok(longestGapMs < GAP_LIMIT, `another client was cut off for ${longestGapMs} ms`);
    },
  );
});
