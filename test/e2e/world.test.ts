// The world itself, without wirelane's programs: what the other end-to-end tests show means something only if this holds.

import assert from "node:assert/strict";
import { RESOURCES } from "../../scripts/lab/world.js";
import { describeWorld } from "../support/world.js";

describeWorld("world", (scenario) => {
  scenario(
    "client, gateway and portal reach each other; resources answer their gateway, and nobody else",
    async (world) => {
      assert.ok(world.ping("203.0.113.10", 1000) !== undefined, "client to portal");
      assert.ok(world.ping("198.51.100.2", 1000) !== undefined, "client to gateway");
      assert.ok(world.ping("203.0.113.10", 1000, world.gateway) !== undefined, "gateway to portal");
      if (world.ipv6) assert.ok(world.ping("2001:db8:2::2", 1000) !== undefined, "client to gateway, IPv6");
      for (const { ipv4, ipv6 } of Object.values(RESOURCES)) {
        assert.ok(world.ping(ipv4, 1000, world.gateway) !== undefined, `gateway to ${ipv4}`);
        assert.equal(world.ping(ipv4, 200), undefined, `client to ${ipv4} without a tunnel`);
        if (!world.ipv6) continue;
        assert.ok(world.ping(ipv6, 1000, world.gateway) !== undefined, `gateway to ${ipv6}`);
        assert.equal(world.ping(ipv6, 200), undefined, `client to ${ipv6} without a tunnel`);
      }
    },
  );

  scenario("the probe downloads, drains, uploads and connects", async (world) => {
    const file = await world.startResources(["intranet"]);
    const url = `http://${RESOURCES.intranet.ipv4}`;
    const from = world.gateway;
    const download = await world.probe(["download", `${url}/file`], { from });
    assert.deepEqual([download["bytes"], download["sha256"]], [file.bytes, file.sha256]);
    let progress = 0;
    const onProgress = (bytes: number) => {
      progress = bytes;
    };
    const drain = await world.probe(["drain", `${url}/file?bytes=${1e12}`, "0.6"], { from, onProgress });
    assert.ok(Number(drain["bytes"]) > 0 && Number(drain["seconds"]) >= 0.6);
    assert.ok(progress > 0, "progress was reported");
    const upload = await world.probe(["upload", `${url}/sink`, "0.3"], { from });
    assert.ok(Number(upload["bytes"]) > 0 && Number(upload["seconds"]) >= 0.3);
    const connected = await world.probe(["connect", RESOURCES.intranet.ipv4, "80", "1000"], { from });
    assert.deepEqual(connected, { connected: true });
    const refused = await world.probe(["connect", RESOURCES.intranet.ipv4, "81", "1000"], { from });
    assert.match(String(refused["error"]), /ECONNREFUSED/);
    await assert.rejects(world.probe(["download", `${url}/nothing`], { from }), /HTTP 404/);
  });
});
