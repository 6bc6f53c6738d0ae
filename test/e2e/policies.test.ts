// Who may reach what, and changes of it while traffic flows: the portal's file is edited, the programs follow (issue 3, item 8).

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { RESOURCE_PORT, RESOURCES, TUNNEL_INTERFACE, type World } from "../../scripts/lab/world.js";
import { ACTOR, SITE } from "../../scripts/lab/world-configuration.js";
import { listRoutes } from "../../src/system/linux/rtnetlink/routes.js";
import { defaultToolPath, runTool } from "../../src/system/linux/tool.js";
import { describeWorld, eventually, pingable, startPrograms, unreachable } from "../support/world.js";

const { intranet, forbidden, second } = RESOURCES;

/** Echo requests that a resource host has received. */
async function echoRequests(world: World, name: keyof typeof RESOURCES): Promise<number> {
  const { stdout } = await world.resources[name].run("cat", ["/proc/net/snmp"]);
  const [names = "", values = ""] = stdout.split("\n").filter((line) => line.startsWith("Icmp:"));
  return Number(values.split(" ")[names.split(" ").indexOf("InEchos")]);
}

describeWorld("policies", (scenario) => {
  scenario(
    "a resource without policy is not reached, even when the client's kernel sends into the tunnel",
    async (world) => {
      const { client } = await startPrograms(world);
      await pingable(world, intranet.ipv4);
      world.client.route("172.21.0.0/24", { dev: TUNNEL_INTERFACE });
      assert.equal(world.ping(forbidden.ipv4, 500), undefined);
      assert.equal(await echoRequests(world, "forbidden"), 0, "the host has seen nothing");
      const attempt = await world.probe(["connect", forbidden.ipv4, String(RESOURCE_PORT), "500"]);
      assert.equal(attempt["connected"], false);
      assert.ok(client.running);
      assert.ok(world.ping(intranet.ipv4, 1000) !== undefined, "what is allowed still works");
    },
  );

  scenario("a resource that is added, with a policy, is reachable at once", async (world, context) => {
    await startPrograms(world);
    await pingable(world, intranet.ipv4);
    assert.equal(world.ping(forbidden.ipv4, 300), undefined);
    world.configure((configuration) => {
      configuration.resources.push({ name: "one host", type: "cidr", address: "172.21.0.10/32", sites: [SITE] });
      configuration.policies.push({ actor: ACTOR, resource: "one host" });
    });
    const took = await pingable(world, forbidden.ipv4, 5000);
    context.diagnostic(`reachable ${took} ms after the file was written`);
  });

  scenario(
    "a policy that is revoked ends access while traffic flows; given again, access works again",
    async (world, context) => {
      await startPrograms(world);
      await pingable(world, second.ipv4);
      await pingable(world, intranet.ipv4);
      world.configure((configuration) => {
        configuration.policies = configuration.policies.filter(({ resource }) => resource !== "second");
      });
      const took = await unreachable(world, second.ipv4, 5000);
      context.diagnostic(`not reachable ${took} ms after the file was written`);
      await sleep(300);
      assert.equal(world.ping(second.ipv4, 300), undefined, "and it stays so");
      assert.ok(world.ping(intranet.ipv4, 1000) !== undefined, "other resources are not touched");
      world.configure((configuration) => {
        configuration.policies.push({ actor: ACTOR, resource: "second" });
      });
      await pingable(world, second.ipv4, 5000);
    },
  );

  scenario(
    "the gateway enforces a revocation by itself: a client that has not heard of it reaches nothing",
    async (world, context) => {
      await startPrograms(world);
      await pingable(world, second.ipv4);
      await pingable(world, intranet.ipv4);
      const deaf = "table inet deaf { chain input { type filter hook input priority 0; tcp sport 8080 drop; }; }";
      if (world.client.enter(() => runTool("nft", ["-f", "-"], defaultToolPath(), deaf)).type !== "ok") {
        context.skip("needs nft to keep the portal's pushes from the client");
        return;
      }
      try {
        world.configure((configuration) => {
          configuration.policies = configuration.policies.filter(({ resource }) => resource !== "second");
        });
        await unreachable(world, second.ipv4, 5000);
        const seen = await echoRequests(world, "second");
        const routed = listRoutes(world.client.netlink).some(({ destination }) => `${destination}` === "172.22.0.0/24");
        assert.ok(routed, "the client still sends into the tunnel");
        assert.equal(world.ping(second.ipv4, 500), undefined);
        assert.equal(await echoRequests(world, "second"), seen, "the host has seen nothing");
        assert.ok(world.ping(intranet.ipv4, 1000) !== undefined, "the connection still carries what is allowed");
      } finally {
        world.client.enter(() => runTool("nft", ["delete", "table", "inet", "deaf"], defaultToolPath()));
      }
    },
  );

  scenario("a resource that is removed is not reachable any more", async (world) => {
    await startPrograms(world);
    await pingable(world, second.ipv4);
    world.configure((configuration) => {
      configuration.resources = configuration.resources.filter(({ name }) => name !== "second");
      configuration.policies = configuration.policies.filter(({ resource }) => resource !== "second");
    });
    await unreachable(world, second.ipv4, 5000);
  });

  scenario("a resource whose address changes is reached at the new one only", async (world) => {
    await startPrograms(world);
    await pingable(world, second.ipv4);
    world.configure((configuration) => {
      for (const resource of configuration.resources)
        if (resource.name === "second") resource.address = "172.21.0.0/24";
      configuration.resources = configuration.resources.filter(({ name }) => name !== "forbidden");
    });
    await pingable(world, forbidden.ipv4, 5000);
    await unreachable(world, second.ipv4, 2000);
  });

  scenario("a filter lets its protocol and ports through and nothing else", async (world) => {
    world.configure((configuration) => {
      for (const resource of configuration.resources)
        if (resource.name === "second") resource.filters = [{ protocol: "tcp", ports: [RESOURCE_PORT] }];
    });
    await world.startResources(["second"]);
    await startPrograms(world);
    const connect = (port: number) => world.probe(["connect", second.ipv4, String(port), "1500"]);
    assert.deepEqual(await connect(RESOURCE_PORT), { connected: true });
    const other = await connect(RESOURCE_PORT + 1);
    assert.equal(other["connected"], false);
    assert.doesNotMatch(String(other["error"]), /ECONNREFUSED/, "the host was not reached");
    assert.equal(world.ping(second.ipv4, 500), undefined, "no ICMP");
  });

  scenario(
    "a broken file changes nothing: the portal says where the mistake is, access goes on, and a good file counts again",
    async (world) => {
      const { portal } = await startPrograms(world);
      await pingable(world, intranet.ipv4);
      const mark = portal.mark;
      writeFileSync(world.configurationFile, "sites: [{name: office, tokens: [a]}]\nresources: 7\n");
      await portal.waitFor((record) => /portal\.yaml:2:/.test(JSON.stringify(record.fields)), {
        timeout: 5000,
        from: mark,
      });
      assert.ok(world.ping(intranet.ipv4, 1000) !== undefined);
      world.configure((configuration) => {
        configuration.policies = configuration.policies.filter(({ resource }) => resource !== "second");
      });
      await eventually(() => world.ping(second.ipv4, 200) === undefined, "the good file is in force", 5000);
      assert.ok(world.ping(intranet.ipv4, 1000) !== undefined);
    },
  );
});
