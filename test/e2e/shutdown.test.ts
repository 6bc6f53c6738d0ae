// Nothing is left behind (issue 3, item 9; spec 05, section 15, scenarios 25 and 27): what a host looks like before a program starts,
// and after it has ended.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import type { LabHost } from "../../scripts/lab/host.js";
import { RESOURCES, TUNNEL_INTERFACE, type World } from "../../scripts/lab/world.js";
import { listLinks } from "../../src/system/linux/rtnetlink/links.js";
import { listRoutes } from "../../src/system/linux/rtnetlink/routes.js";
import { listRules } from "../../src/system/linux/rtnetlink/rules.js";
import { defaultToolPath, runTool } from "../../src/system/linux/tool.js";
import { describeWorld, eventually, pingable, ready, startPrograms } from "../support/world.js";

const FORWARDING = ["ipv4/ip_forward", "ipv4/conf/all/src_valid_mark", "ipv6/conf/all/forwarding"];

/** Everything that client and gateway may change on a host. */
function portrait(world: World, host: LabHost) {
  const { netlink } = host;
  const families = world.ipv6 ? ([4, 6] as const) : ([4] as const);
  return {
    links: listLinks(netlink).map(({ name }) => name),
    routes: listRoutes(netlink)
      .map(({ destination, link, table }) => `${destination} link ${link} table ${table}`)
      .sort(),
    rules: families.map((family) => listRules(netlink, family).map((rule) => JSON.stringify(rule))),
    firewall: host.enter(() => {
      const nft = runTool("nft", ["list", "ruleset"], defaultToolPath());
      return nft.type === "ok" ? nft.output : nft.type;
    }),
    parameters: host.enter(() =>
      FORWARDING.filter((name) => world.ipv6 || !name.startsWith("ipv6")).map(
        (name) => `${name}=${readFileSync(`/proc/sys/net/${name}`, "utf8").trim()}`,
      ),
    ),
    interfaces: host.enter(() => readdirSync("/proc/sys/net/ipv4/conf").sort()),
  };
}

describeWorld("shutdown", (scenario) => {
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    scenario(`${signal}: exit 0; no interface, route, rule, firewall table or parameter stays`, async (world) => {
      const before = [portrait(world, world.client), portrait(world, world.gateway)];
      const { gateway, client, portal } = await startPrograms(world);
      await pingable(world, RESOURCES.intranet.ipv4);
      assert.ok(portrait(world, world.client).links.includes(TUNNEL_INTERFACE));
      assert.notDeepEqual(portrait(world, world.gateway).parameters, before[1]?.parameters, "the gateway forwards");
      if (world.routeBackReason === undefined)
        assert.notEqual(portrait(world, world.gateway).firewall, before[1]?.firewall, "the gateway masquerades");
      for (const program of [client, gateway, portal])
        assert.deepEqual(await program.stop(signal), { status: 0, signal: null }, program.tail);
      assert.deepEqual([portrait(world, world.client), portrait(world, world.gateway)], before);
    });
  }

  scenario("kill -9: the kernel removes the interface, the next start and SIGTERM remove the rest", async (world) => {
    const before = [portrait(world, world.client), portrait(world, world.gateway)];
    const { gateway, client } = await startPrograms(world);
    await pingable(world, RESOURCES.intranet.ipv4);
    await Promise.all([client.stop("SIGKILL"), gateway.stop("SIGKILL")]);
    for (const host of [world.client, world.gateway])
      await eventually(() => !portrait(world, host).links.includes(TUNNEL_INTERFACE), "interface removed");
    const [nextGateway, nextClient] = [world.startGateway(), world.startClient()];
    await Promise.all([ready(nextGateway), ready(nextClient)]);
    await pingable(world, RESOURCES.intranet.ipv4);
    for (const program of [nextClient, nextGateway]) assert.equal((await program.stop()).status, 0, program.tail);
    const after = [portrait(world, world.client), portrait(world, world.gateway)];
    // What forwarding was before the crash, nobody knows any more; routers have anycast addresses (in the local table, 255).
    const comparable = (portraits: typeof before) =>
      portraits.map(({ routes, ...portrait }) => ({
        ...portrait,
        parameters: [],
        routes: routes.filter((route) => !route.endsWith("table 255")),
      }));
    assert.deepEqual(comparable(after), comparable(before));
  });

  scenario(
    "spec 05, 15.28: --exit ends the client with 0 after the first configuration, and leaves nothing",
    async (world) => {
      const before = portrait(world, world.client);
      const { client } = await startPrograms(world);
      assert.equal((await client.stop()).status, 0);
      const short = world.startClient({ args: ["--exit"] });
      assert.deepEqual(await short.ended, { status: 0, signal: null }, short.tail);
      assert.ok(short.find("Tunnel ready") !== undefined);
      assert.deepEqual(portrait(world, world.client), before);
    },
  );

  scenario(
    "spec 05, 15.40: every line of the JSON logs has time, target and severity, and a time that jq can print",
    async (world) => {
      const { gateway, client, portal } = await startPrograms(world);
      await pingable(world, RESOURCES.intranet.ipv4);
      for (const program of [client, gateway, portal]) {
        assert.ok(program.records.length > 0);
        for (const line of readFileSync(program.logFile, "utf8").trimEnd().split("\n").slice(-50)) {
          const record = JSON.parse(line) as Readonly<Record<string, unknown>>;
          assert.match(String(record["time"]), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/, line);
          assert.equal(typeof record["target"], "string", line);
          assert.match(String(record["severity"]), /^(DEBUG|INFO|WARNING|ERROR)$/, line);
        }
      }
    },
  );
});
