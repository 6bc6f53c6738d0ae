// The client moves to another network while it downloads (spec 05, section 13.6, "direct-download-roaming-network").

import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { RESOURCES } from "../../scripts/lab/world.js";
import { describeWorld, pingable, startPrograms } from "../support/world.js";

const { ipv4: ADDRESS } = RESOURCES.intranet;

/** The whole download, the outage in it, and when it begins: seconds. */
const DOWNLOAD = 12;
const OUTAGE = 3;
const BEGIN = 3;

describeWorld("roaming", (scenario) => {
  scenario("the same TCP connection survives 3 s without network, a new address and SIGHUP", async (world, context) => {
    await world.startResources(["intranet"]);
    const { client } = await startPrograms(world);
    await pingable(world, ADDRESS);
    const start = Date.now();
    const arrivals: { readonly after: number; readonly bytes: number }[] = [];
    const download = world.probe(["drain", `http://${ADDRESS}/file?bytes=${1e13}`, String(DOWNLOAD)], {
      onProgress: (bytes) => arrivals.push({ after: Date.now() - start, bytes }),
    });
    await sleep(BEGIN * 1000);
    world.detachClient();
    await sleep(OUTAGE * 1000);
    const before = arrivals.at(-1)?.bytes ?? 0;
    world.attachClient(200);
    const attached = Date.now() - start;
    client.signal("SIGHUP");
    const { bytes } = await download;
    const resumed = arrivals.find((arrival) => arrival.bytes > before)?.after;
    assert.ok(before > 0, "the download was going on");
    assert.ok(resumed !== undefined && Number(bytes) > before, "the download went on");
    context.diagnostic(`data flows ${resumed - attached} ms after the new network was there`);
    assert.ok(client.running);
  });
});
