// The network monitor against the kernel, in namespaces of the test's own.

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { IpPrefix } from "../../src/base/address.js";
import { monotonicNow } from "../../src/system/clock.js";
import { NetworkNamespace } from "../../src/system/linux/namespace.js";
import type { Finding } from "../../src/system/linux/network/change-detector.js";
import { NetworkMonitor } from "../../src/system/linux/network/monitor.js";
import {
  addAddress,
  deleteAddress,
  listAddresses,
  parseAddressWithPrefix,
} from "../../src/system/linux/rtnetlink/addresses.js";
import { changeLink, createVeth, deleteLink, findLink, getLink } from "../../src/system/linux/rtnetlink/links.js";
import type { NetlinkSocket } from "../../src/system/linux/rtnetlink/netlink.js";
import { addRoute, deleteRoute } from "../../src/system/linux/rtnetlink/routes.js";
import { suspendedTime } from "../../src/system/linux/suspension.js";
import { TUNNEL_TABLE } from "../../src/system/linux/tunnel-interface.js";
import { labSkip } from "../support/lab-skip.js";

/** An interface that plays our own, and one that plays the network's. */
const TUNNEL = "tun-test";
const NETWORK = "eth0";

/** Longest time from a change to its report: a poll, the calm, and what two busy cores add. */
const SOON = 1000;
/** Time in which something would have been reported. */
const QUIET = 700;

function address(text: string) {
  const parsed = parseAddressWithPrefix(text);
  assert.ok(parsed);
  return parsed;
}

function prefix(text: string): IpPrefix {
  const parsed = IpPrefix.parse(text);
  assert.ok(parsed);
  return parsed;
}

describe("network monitor", { skip: labSkip }, () => {
  let namespace: NetworkNamespace;
  let netlink: NetlinkSocket;
  let monitor: NetworkMonitor;
  const findings: { readonly finding: Finding; readonly at: number }[] = [];

  const link = (name: string) => getLink(netlink, name).index;
  const setAddress = (name: string, text: string) =>
    addAddress(netlink, link(name), address(text), { noDuplicateDetection: true });
  const changes = () => findings.filter(({ finding }) => finding.type === "changed");

  /** Makes an interface that runs. */
  const connect = (name: string) => {
    createVeth(netlink, { name }, { name: `${name}-peer` });
    for (const end of [`${name}-peer`, name]) changeLink(netlink, link(end), { addressGeneration: "none", up: true });
  };

  const watch = () => {
    monitor = namespace.enter(() =>
      NetworkMonitor.start({
        tunnelInterface: TUNNEL,
        onFinding: (finding) => findings.push({ finding, at: monotonicNow() }),
        onProblem: (error) => assert.fail(error),
      }),
    );
  };

  /** Waits for the report of a change made at `start`. */
  const reported = async (start: number, type: Finding["type"]) => {
    while (!findings.some(({ finding }) => finding.type === type)) {
      assert.ok(monotonicNow() - start < SOON, `${type} within ${SOON} ms`);
      await sleep(10);
    }
  };

  before(() => {
    namespace = NetworkNamespace.create();
    netlink = namespace.netlink();
    connect(TUNNEL);
  });

  beforeEach(async () => {
    connect(NETWORK);
    setAddress(NETWORK, "192.0.2.2/24");
    addRoute(netlink, { destination: prefix("0.0.0.0/0"), gateway: address("192.0.2.1/32").address });
    // The kernel says so up to a second later.
    while (!getLink(netlink, NETWORK).running) await sleep(20);
    findings.length = 0;
    watch();
  });

  afterEach(() => {
    monitor.stop();
    const left = findLink(netlink, NETWORK);
    if (left !== undefined) deleteLink(netlink, left.index);
  });

  after(() => {
    netlink.close();
    namespace.close();
  });

  test("a move to another network is one change, within a second", async (context) => {
    const start = monotonicNow();
    deleteAddress(netlink, link(NETWORK), address("192.0.2.2/24"));
    await sleep(50);
    setAddress(NETWORK, "198.51.100.2/24");
    addRoute(netlink, { destination: prefix("0.0.0.0/0"), gateway: address("198.51.100.1/32").address });
    await reported(start, "changed");
    context.diagnostic(`reported after ${Math.round((changes()[0]?.at ?? 0) - start)} ms`);
    await sleep(QUIET);
    assert.equal(changes().length, 1);
  });

  test("an IPv6 address counts when it is no longer tentative", async () => {
    addAddress(netlink, link(NETWORK), address("2001:db8::2/64"));
    const isTentative = () => listAddresses(netlink, { family: 6 }).some(({ tentative }) => tentative);
    assert.ok(isTentative());
    while (isTentative()) {
      assert.deepEqual(changes(), []);
      await sleep(10);
    }
    await reported(monotonicNow(), "changed");
    await sleep(QUIET);
    assert.equal(changes().length, 1);
  });

  test("what concerns the tunnel, other links and other routes is no change", async () => {
    setAddress(TUNNEL, "100.64.0.1/32");
    addRoute(netlink, { destination: prefix("0.0.0.0/0"), link: link(TUNNEL), table: TUNNEL_TABLE });
    addRoute(netlink, { destination: prefix("10.0.0.0/8"), link: link(TUNNEL), table: TUNNEL_TABLE });
    addRoute(netlink, { destination: prefix("10.0.0.0/8"), gateway: address("192.0.2.1/32").address });
    changeLink(netlink, link(NETWORK), { mtu: 1400 });
    setAddress(NETWORK, "fe80::5/64");
    await sleep(2 * QUIET);
    assert.deepEqual(changes(), []);
    deleteRoute(netlink, { destination: prefix("0.0.0.0/0"), table: TUNNEL_TABLE });
    deleteRoute(netlink, { destination: prefix("10.0.0.0/8"), table: TUNNEL_TABLE });
    deleteAddress(netlink, link(TUNNEL), address("100.64.0.1/32"));
  });

  test("the loss of the network is told apart from the change that follows", async () => {
    let start = monotonicNow();
    changeLink(netlink, link(NETWORK), { up: false });
    await reported(start, "lost");
    assert.deepEqual(changes(), []);
    start = monotonicNow();
    changeLink(netlink, link(NETWORK), { up: true });
    // The route went with the link, without a notification.
    addRoute(netlink, { destination: prefix("0.0.0.0/0"), gateway: address("192.0.2.1/32").address });
    await reported(start, "changed");
    await sleep(QUIET);
    assert.equal(changes().length, 1);
  });

  test("a default route that is gone is a change", async () => {
    const start = monotonicNow();
    deleteRoute(netlink, { destination: prefix("0.0.0.0/0") });
    await reported(start, "changed");
  });

  test("more notifications than the kernel remembers do not hide a change", async () => {
    setAddress(NETWORK, "198.51.100.9/24");
    for (let i = 0; i < 1000; i++) changeLink(netlink, link(TUNNEL), { mtu: 1400 + (i & 1) });
    await reported(monotonicNow(), "changed");
  });

  test("whoever acts already acknowledges, and is not told again", async () => {
    deleteRoute(netlink, { destination: prefix("0.0.0.0/0") });
    monitor.acknowledge();
    await sleep(QUIET);
    assert.deepEqual(changes(), []);
  });

  test("after its end nothing is told", async () => {
    monitor.stop();
    monitor.stop();
    monitor.acknowledge();
    deleteLink(netlink, link(NETWORK));
    await sleep(QUIET);
    assert.deepEqual(findings, []);
  });
});

test("the time asleep stands still while the host is awake", async () => {
  const before = suspendedTime();
  await sleep(50);
  assert.ok(before > -1 && Math.abs(suspendedTime() - before) < 1);
});
