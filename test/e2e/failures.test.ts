// What goes wrong in ordinary life, and the stated behaviour (spec 01, section 5; spec 05, sections 6.5 and 9.2).

import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import type { ProgramEnd } from "../../scripts/lab/program.js";
import { RESOURCES, type World } from "../../scripts/lab/world.js";
import { describeWorld, pingable, ready, SOON, startPrograms } from "../support/world.js";

const { ipv4: ADDRESS } = RESOURCES.intranet;

/** Time for a client to notice that its gateway has gone and come back, at most, in milliseconds. */
const GATEWAY_RECOVERY = 40_000;

/** The end of a program that ends by itself. */
function endOf(program: { readonly ended: Promise<ProgramEnd> }): Promise<ProgramEnd> {
  return Promise.race([
    program.ended,
    sleep(SOON, undefined, { ref: false }).then(() => assert.fail(`still running after ${SOON} ms`)),
  ]);
}

/** Pings every 100 ms while `action` runs. @returns how many pings had no reply, of how many. */
async function pingWhile(world: World, action: () => Promise<void>): Promise<{ lost: number; sent: number }> {
  let done = false;
  const result = { lost: 0, sent: 0 };
  const work = action().finally(() => {
    done = true;
  });
  while (!done) {
    result.sent++;
    if (world.ping(ADDRESS, 500) === undefined) result.lost++;
    await sleep(100);
  }
  await work;
  return result;
}

describeWorld("failures", (scenario) => {
  scenario("spec 05, 6.5: a wrong token ends client and gateway with exit code 1 and the reason", async (world) => {
    await world.startPortal().waitFor("Portal is listening", { timeout: SOON });
    const wrong = { env: { FIREZONE_TOKEN: "not-a-token" } };
    for (const program of [world.startClient(wrong), world.startGateway(wrong)]) {
      assert.deepEqual(await endOf(program), { status: 1, signal: null }, program.tail);
      assert.match(program.tail, /401/, `${program.name} names the cause`);
      assert.ok(!program.tail.includes("not-a-token"), "the token is not printed");
    }
  });

  scenario(
    "spec 05, 6.2: no token at all ends the client with exit code 1 and says where it was looked for",
    async (world) => {
      const client = world.startClient({
        env: { FIREZONE_TOKEN: undefined },
        args: ["--token-path", "/nonexistent/token"],
      });
      assert.deepEqual(await endOf(client), { status: 1, signal: null });
      assert.match(client.tail, /FIREZONE_TOKEN/);
      assert.match(client.tail, /\/nonexistent\/token/);
    },
  );

  scenario("spec 01, 5.6: an unreachable portal is tried again and again, until it is there", async (world) => {
    const client = world.startClient();
    const gateway = world.startGateway();
    await sleep(3000);
    assert.ok(client.running, client.tail);
    assert.ok(gateway.running, gateway.tail);
    await world.startPortal().waitFor("Portal is listening", { timeout: SOON });
    await Promise.all([ready(client), ready(gateway)]);
    await pingable(world, ADDRESS);
  });

  scenario(
    "spec 05, 15.30: with --max-partition-time an unreachable portal ends the client with exit code 1",
    async (world) => {
      const start = Date.now();
      const client = world.startClient({ args: ["--max-partition-time", "2s"] });
      assert.deepEqual(await endOf(client), { status: 1, signal: null }, client.tail);
      assert.ok(Date.now() - start < 8000, "not long after the time was up");
      assert.match(client.tail, /max retries reached/i);
    },
  );

  scenario("portal restart: traffic keeps flowing meanwhile, and the programs join again", async (world, context) => {
    const { portal, gateway, client } = await startPrograms(world);
    await pingable(world, ADDRESS);
    const marks = [client.mark, gateway.mark] as const;
    const { lost, sent } = await pingWhile(world, async () => {
      await portal.stop();
      await sleep(1500);
      await world.startPortal().waitFor("Portal is listening", { timeout: SOON });
      await client.waitFor("Connected to portal", { timeout: SOON, from: marks[0] });
      await gateway.waitFor("Connected to portal", { timeout: SOON, from: marks[1] });
      await sleep(500);
    });
    context.diagnostic(`${sent} pings, ${lost} lost`);
    assert.ok(sent >= 15);
    assert.equal(lost, 0);
    assert.ok(world.ping(RESOURCES.second.ipv4, 2000) !== undefined, "another resource, asked of the new portal");
  });

  scenario("gateway restart: the client recovers", async (world, context) => {
    const { gateway } = await startPrograms(world);
    await pingable(world, ADDRESS);
    await gateway.stop();
    assert.equal(world.ping(ADDRESS, 300), undefined, "without a gateway there is no reply");
    await ready(world.startGateway());
    const took = await pingable(world, ADDRESS, GATEWAY_RECOVERY);
    context.diagnostic(`after SIGTERM: a ping is answered ${took} ms after the new gateway is ready`);
  });

  scenario("gateway crash (kill -9) and restart: the client recovers", async (world, context) => {
    const { gateway } = await startPrograms(world);
    await pingable(world, ADDRESS);
    await gateway.stop("SIGKILL");
    await ready(world.startGateway());
    const took = await pingable(world, ADDRESS, GATEWAY_RECOVERY);
    context.diagnostic(`after SIGKILL: a ping is answered ${took} ms after the new gateway is ready`);
  });

  scenario("killed client (kill -9): it can be started again at once and works", async (world, context) => {
    const { client } = await startPrograms(world);
    await pingable(world, ADDRESS);
    await client.stop("SIGKILL");
    const again = world.startClient();
    await ready(again);
    const took = await pingable(world, ADDRESS, 5000);
    context.diagnostic(`a ping is answered ${took} ms after the new client is ready`);
    assert.equal((await again.stop()).status, 0);
  });

  scenario(
    "spec 05, 15.27: SIGHUP, twice, during a download: the process stays and the transfer survives",
    async (world) => {
      const file = await world.startResources(["intranet"]);
      const { client } = await startPrograms(world);
      await pingable(world, ADDRESS);
      let hangUps = 0;
      const download = world.probe(["download", `http://${ADDRESS}/file?bytes=${file.bytes * 6}`], {
        onProgress: () => {
          if (hangUps++ < 2) client.signal("SIGHUP");
        },
      });
      const { bytes } = await download;
      assert.equal(bytes, file.bytes * 6);
      assert.ok(hangUps >= 2, "the download took long enough");
      assert.ok(client.running);
    },
  );

  scenario("two clients of one machine: the second is told that the interface is taken", async (world) => {
    const { client } = await startPrograms(world);
    const second = world.startClient();
    assert.equal((await endOf(second)).status, 1, second.tail);
    assert.ok(client.running);
    await pingable(world, ADDRESS);
  });
});
