// Hosts that move to another network (spec 05, section 13.6, "direct-download-roaming-network", and section 5: without a signal too).

import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import type { LabHost } from "../../scripts/lab/host.js";
import type { LabProgram } from "../../scripts/lab/program.js";
import { RESOURCES, type World } from "../../scripts/lab/world.js";
import { deleteLink, getLink } from "../../src/system/linux/rtnetlink/links.js";
import { describeWorld, pingable, startPrograms } from "../support/world.js";

const { ipv4: ADDRESS } = RESOURCES.intranet;

/** The whole download, the outage in it, and when it begins: seconds. */
const DOWNLOAD = 12;
const OUTAGE = 3;
const BEGIN = 3;

/** Time limit for a change to be noticed, and from there to the first reply, in milliseconds. */
const NOTICED = 1000;
const BACK = 2000;
/** The same for a client whose request for a connection got lost: it asks every two seconds at most. */
const AGAIN = 6000;
/** Time in which a change that was told already would be told again. */
const QUIET = 2500;

/** Pulls a host's plug and puts it into another network, at once. */
function moveTo(world: World, host: LabHost, network: "client" | "gateway"): void {
  const { netlink } = host;
  deleteLink(netlink, getLink(netlink, "eth0").index);
  const [ipv4, ipv6] = network === "client" ? ["198.18.1", "2001:db8:3:"] : ["198.18.2", "2001:db8:4:"];
  world.lab.connect(world.internet, host, {
    ipv4: [`${ipv4}.1/24`, `${ipv4}.2/24`],
    ...(world.ipv6 ? { ipv6: [`${ipv6}:1/64`, `${ipv6}:2/64`] as const } : {}),
    names: [world.internet.nextInterfaceName(), "eth0"],
  });
  host.route("default", { via: `${ipv4}.1`, dev: "eth0" });
  if (world.ipv6) host.route("default6", { via: `${ipv6}:1`, dev: "eth0" });
}

/** How often a program has said something. */
function count(program: LabProgram, message: string, from: number): number {
  return program.records.slice(from).filter((record) => record.message === message).length;
}

describeWorld("roaming", (scenario) => {
  for (const [number, signal] of [
    [200, "SIGHUP"],
    [201, undefined],
  ] as const) {
    const how = signal === undefined ? "without a signal" : `with ${signal}`;
    scenario(
      `the same TCP connection survives 3 s without network, and a new address, ${how}`,
      async (world, context) => {
        await world.startResources(["intranet"]);
        const { client } = await startPrograms(world);
        await pingable(world, ADDRESS);
        const { mark } = client;
        const start = Date.now();
        const arrivals: { readonly after: number; readonly bytes: number }[] = [];
        const download = world.probe(["drain", `http://${ADDRESS}/file?bytes=${1e13}`, String(DOWNLOAD)], {
          onProgress: (bytes) => arrivals.push({ after: Date.now() - start, bytes }),
        });
        await sleep(BEGIN * 1000);
        world.detachClient();
        await sleep(OUTAGE * 1000);
        const before = arrivals.at(-1)?.bytes ?? 0;
        world.attachClient(number);
        const attached = Date.now() - start;
        if (signal !== undefined) client.signal(signal);
        const { bytes } = await download;
        const resumed = arrivals.find((arrival) => arrival.bytes > before)?.after;
        assert.ok(before > 0, "the download was going on");
        assert.ok(resumed !== undefined && Number(bytes) > before, "the download went on");
        context.diagnostic(`data flows ${resumed - attached} ms after the new network was there`);
        assert.ok(resumed - attached <= BACK, `data flows within ${BACK} ms`);
        assert.equal(count(client, "Resetting all connections", mark), 1);
        assert.ok(client.running);
      },
    );
  }

  scenario(
    "a client that moves to another network notices within a second, resets once, and pings go on",
    async (world, context) => {
      const { client } = await startPrograms(world);
      await pingable(world, ADDRESS);
      const { mark } = client;
      moveTo(world, world.client, "client");
      const settled = Date.now();
      const { time } = await client.waitFor("Resetting all connections", { from: mark, timeout: 5000 });
      const back = await pingable(world, ADDRESS);
      context.diagnostic(`reset ${Math.round(time - settled)} ms after the move, replies after ${back} ms more`);
      assert.ok(time - settled <= NOTICED, `noticed within ${NOTICED} ms`);
      assert.ok(back <= BACK, `replies within ${BACK} ms`);
      await sleep(QUIET);
      assert.equal(count(client, "Resetting all connections", mark), 1);
      world.detachClient();
      world.attachClient(2);
    },
  );

  scenario("spec 05, 15.27: SIGHUP to a gateway, any number of times: its clients' connections stay", async (world) => {
    const { client, gateway } = await startPrograms(world);
    await pingable(world, ADDRESS);
    const { mark } = client;
    for (let times = 1; times <= 3; times++) {
      const from = gateway.mark;
      gateway.signal("SIGHUP");
      await gateway.waitFor("Asking relays and portal anew", { from, timeout: 5000 });
      await gateway.waitFor("Connected to portal", { from, timeout: 5000 });
      assert.ok(world.ping(ADDRESS, 1000) !== undefined, `a reply after ${times} times`);
    }
    assert.equal(count(client, "Connection ended", mark), 0);
  });

  scenario("a gateway that gets a further address keeps its connection to the portal", async (world) => {
    const { gateway } = await startPrograms(world);
    await pingable(world, ADDRESS);
    const { mark } = gateway;
    await world.gateway.run("ip", ["address", "add", "203.0.113.99/32", "dev", "eth0"]);
    await gateway.waitFor("Asking relays anew", { from: mark, timeout: 5000 });
    await sleep(QUIET);
    assert.equal(count(gateway, "Connected to portal", mark), 0);
    assert.ok(world.ping(ADDRESS, 1000) !== undefined, "a reply");
    const from = gateway.mark;
    await world.gateway.run("ip", ["address", "delete", "203.0.113.99/32", "dev", "eth0"]);
    await gateway.waitFor("Connected to portal", { from, timeout: 5000 });
  });

  scenario(
    "a client that asks for a gateway while that moves is told to ask again, and need not wait for 20 s",
    async (world, context) => {
      const { client } = await startPrograms(world);
      const { mark } = client;
      // What is pushed to the gateway from now on, until it has noticed, goes to where it is no more.
      const move = [
        "address delete 198.51.100.2/24 dev eth0",
        "address add 198.51.100.3/24 dev eth0",
        "route add default via 198.51.100.1 dev eth0",
      ];
      for (const command of move) await world.gateway.run("ip", command.split(" "));
      const back = await pingable(world, ADDRESS);
      await sleep(100);
      const refused = count(client, "The portal refused a request", mark);
      context.diagnostic(`replies after ${back} ms, refused ${refused} times`);
      assert.ok(back <= AGAIN, `replies within ${AGAIN} ms`);
    },
  );

  scenario("a gateway that moves to another network is found there by its clients", async (world, context) => {
    const { gateway } = await startPrograms(world);
    await pingable(world, ADDRESS);
    const { mark } = gateway;
    const settled = Date.now();
    moveTo(world, world.gateway, "gateway");
    const { time } = await gateway.waitFor("Network changed", { from: mark, timeout: 5000 });
    assert.ok(time - settled <= NOTICED, `noticed within ${NOTICED} ms`);
    const back = await pingable(world, ADDRESS);
    context.diagnostic(`noticed ${Math.round(time - settled)} ms after the move, replies ${back} ms later`);
    await sleep(QUIET);
    assert.equal(count(gateway, "Network changed", mark), 1);
  });
});
