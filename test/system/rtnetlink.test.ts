// rtnetlink against the kernel, in namespaces of the test's own.

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { readdirSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { IpAddress, IpPrefix } from "../../src/base/address.js";
import { NetworkNamespace } from "../../src/system/linux/namespace.js";
import {
  type AddressWithPrefix,
  addAddress,
  deleteAddress,
  listAddresses,
  parseAddressWithPrefix,
} from "../../src/system/linux/rtnetlink/addresses.js";
import { type NetworkChange, NetworkChanges } from "../../src/system/linux/rtnetlink/changes.js";
import {
  changeLink,
  createBridge,
  createVeth,
  deleteLink,
  findLink,
  getLink,
  listLinks,
} from "../../src/system/linux/rtnetlink/links.js";
import type { MessageBuilder } from "../../src/system/linux/rtnetlink/message.js";
import type { Netlink, NetlinkSocket } from "../../src/system/linux/rtnetlink/netlink.js";
import {
  addRoute,
  deleteRoute,
  listRoutes,
  RouteScope,
  replaceRoute,
} from "../../src/system/linux/rtnetlink/routes.js";
import { addRule, deleteRule, listRules, type Rule } from "../../src/system/linux/rtnetlink/rules.js";
import { labSkip } from "../support/lab-skip.js";

const TABLE = 0x2021fd00;

function address(text: string): AddressWithPrefix {
  const parsed = parseAddressWithPrefix(text);
  assert.ok(parsed);
  return parsed;
}

function prefix(text: string): IpPrefix {
  const parsed = IpPrefix.parse(text);
  assert.ok(parsed);
  return parsed;
}

function ip(text: string): IpAddress {
  const parsed = IpAddress.parse(text);
  assert.ok(parsed);
  return parsed;
}

test("addresses with prefix lengths are parsed, and nothing else", () => {
  const { address: parsed, prefixLength } = address("192.0.2.1/24");
  assert.deepEqual([parsed.toString(), prefixLength], ["192.0.2.1", 24]);
  for (const text of [
    "192.0.2.1",
    "192.0.2.1/33",
    "2001:db8::1/129",
    "192.0.2.1/24/3",
    "192.0.2.1/",
    "x/24",
    "192.0.2.1/-1",
  ])
    assert.equal(parseAddressWithPrefix(text), undefined, text);
});

describe("rtnetlink", { skip: labSkip }, () => {
  let namespace: NetworkNamespace;
  let netlink: NetlinkSocket;
  /** Index of an interface that is up, has 192.0.2.1/24 and 2001:db8::1/64, and whose other end is "other". */
  let link: number;

  before(() => {
    namespace = NetworkNamespace.create();
    netlink = namespace.netlink();
    createVeth(netlink, { name: "veth" }, { name: "other" });
    link = getLink(netlink, "veth").index;
    for (const name of ["veth", "other"])
      changeLink(netlink, getLink(netlink, name).index, { addressGeneration: "none", up: true });
    addAddress(netlink, link, address("192.0.2.1/24"));
    addAddress(netlink, link, address("2001:db8::1/64"), { noDuplicateDetection: true });
  });
  after(() => {
    netlink?.close();
    namespace?.close();
  });

  describe("links", () => {
    test("are looked up by name and by index; a name that nobody has is undefined", () => {
      const loopback = findLink(netlink, "lo");
      assert.ok(loopback?.loopback && loopback.up && loopback.running);
      assert.equal(loopback.mtu, 65536);
      assert.deepEqual(findLink(netlink, loopback.index), loopback);
      assert.equal(findLink(netlink, "nobody"), undefined);
      assert.equal(findLink(netlink, 4711), undefined);
      assert.throws(() => getLink(netlink, "nobody"), {
        code: "ENODEV",
        message: /looking up interface nobody: ENODEV/,
      });
    });

    test("are listed", () => {
      const links = listLinks(netlink);
      assert.deepEqual(
        links.map(({ name, kind }) => [name, kind]),
        [
          ["lo", undefined],
          ["other", "veth"],
          ["veth", "veth"],
        ],
      );
      assert.equal(links[1]?.hardwareAddress.length, 6);
    });

    test("change: up, down, MTU, queue length, segmentation limits, name", () => {
      createVeth(netlink, { name: "one" }, { name: "two" });
      const { index } = getLink(netlink, "one");
      assert.equal(getLink(netlink, index).up, false);
      changeLink(netlink, index, {
        name: "renamed",
        mtu: 1280,
        transmitQueueLength: 10_000,
        gsoMaxSegments: 33,
        gsoMaxSize: 40_000,
        up: true,
      });
      const changed = getLink(netlink, "renamed");
      assert.equal(changed.index, index);
      assert.deepEqual(
        [changed.up, changed.mtu, changed.transmitQueueLength, changed.gsoMaxSegments, changed.gsoMaxSize],
        [true, 1280, 10_000, 33, 40_000],
      );
      changeLink(netlink, index, { up: false });
      assert.equal(getLink(netlink, index).up, false);
      deleteLink(netlink, index);
      assert.equal(findLink(netlink, "two"), undefined, "the other end goes too");
      assert.throws(() => deleteLink(netlink, index), { code: "ENODEV" });
    });

    test("with address generation off come up without a link-local address", async () => {
      createVeth(netlink, { name: "one" }, { name: "two" });
      const [one, two] = [getLink(netlink, "one").index, getLink(netlink, "two").index];
      changeLink(netlink, one, { addressGeneration: "none", up: true });
      changeLink(netlink, two, { up: true });
      // The kernel gives addresses when it has noticed that the other end is up too.
      for (let i = 0; i < 100 && listAddresses(netlink, { link: two }).length === 0; i++) await sleep(20);
      const lengths = [one, two].map((index) => listAddresses(netlink, { link: index }).length);
      deleteLink(netlink, one);
      assert.deepEqual(lengths, [0, 1]);
    });

    test("an impossible change says what was wrong, in the kernel's words too", () => {
      assert.throws(() => changeLink(netlink, link, { mtu: 1 }), {
        code: "EINVAL",
        message: /changing interface \d+ \(mtu 1\): EINVAL, .*\(mtu less than device minimum\)/,
      });
    });

    test("move to another namespace, by file descriptor and by process; a bridge takes members", async () => {
      const other = NetworkNamespace.create();
      const there = other.netlink();
      createVeth(netlink, { name: "here" }, { name: "there", namespace: { fd: other.fd } });
      assert.ok(findLink(there, "there"));
      assert.equal(findLink(netlink, "there"), undefined);
      const here = getLink(netlink, "here").index;

      const inhabitant = other.enter(() => spawn("sleep", ["60"]));
      assert.ok(inhabitant.pid !== undefined);
      changeLink(netlink, here, { namespace: { pid: inhabitant.pid }, name: "moved" });
      assert.equal(findLink(netlink, "here"), undefined);
      const moved = getLink(there, "moved").index;
      const gone = once(inhabitant, "exit");
      inhabitant.kill("SIGKILL");
      await gone;

      createBridge(there, "br");
      const bridge = getLink(there, "br");
      assert.equal(bridge.kind, "bridge");
      changeLink(there, moved, { master: bridge.index });
      assert.equal(getLink(there, moved).master, bridge.index);
      changeLink(there, moved, { master: 0 });
      assert.equal(getLink(there, moved).master, undefined);
      there.close();
      other.close();
    });
  });

  describe("addresses", () => {
    test("are added, listed and deleted", () => {
      const added = [address("198.51.100.1/24"), address("2001:db8:1::1/64")];
      for (const entry of added) addAddress(netlink, link, entry, { noDuplicateDetection: true });
      const listed = listAddresses(netlink, { link });
      assert.deepEqual(listed.map((entry) => `${entry.address}/${entry.prefixLength}`).sort(), [
        "192.0.2.1/24",
        "198.51.100.1/24",
        "2001:db8:1::1/64",
        "2001:db8::1/64",
      ]);
      assert.ok(
        listed.every((entry) => entry.permanent && !entry.tentative && !entry.deprecated && entry.link === link),
      );
      for (const entry of added) deleteAddress(netlink, link, entry);
      assert.equal(listAddresses(netlink, { link }).length, 2);
      assert.deepEqual(
        listAddresses(netlink, { family: 6 }).map((entry) => entry.address.toString()),
        ["::1", "2001:db8::1"],
      );
    });

    test("errors name the attempt", () => {
      assert.throws(() => addAddress(netlink, link, address("192.0.2.1/24")), {
        code: "EEXIST",
        message: /^adding address 192\.0\.2\.1\/24 to interface \d+: EEXIST/,
      });
      assert.throws(() => deleteAddress(netlink, link, address("192.0.2.9/24")), { code: "EADDRNOTAVAIL" });
      assert.throws(() => addAddress(netlink, 4711, address("192.0.2.1/24")), { code: "ENODEV" });
    });
  });

  describe("routes", () => {
    const inTable = () => listRoutes(netlink, { table: TABLE }).map((route) => route.destination.toString());

    test("are added, listed and deleted, in a table of a large number", () => {
      assert.deepEqual(inTable(), [], "a table without routes does not exist, which is no error");
      const specifications = [
        { destination: prefix("10.0.0.0/8"), table: TABLE, link },
        {
          destination: prefix("0.0.0.0/0"),
          table: TABLE,
          gateway: ip("192.0.2.2"),
          priority: 7,
          preferredSource: ip("192.0.2.1"),
        },
        { destination: prefix("::/0"), table: TABLE, gateway: ip("2001:db8::2"), link },
        { destination: prefix("203.0.113.0/24"), table: TABLE, type: "blackhole" },
        { destination: prefix("2001:db8:2::/48"), table: TABLE, type: "unreachable" },
        { destination: prefix("198.51.100.0/24"), table: TABLE, gateway: ip("203.0.113.1"), link, onLink: true },
      ] as const;
      for (const route of specifications) addRoute(netlink, route);

      const routes = new Map(
        listRoutes(netlink, { table: TABLE }).map((route) => [route.destination.toString(), route]),
      );
      assert.equal(routes.size, specifications.length);
      const plain = routes.get("10.0.0.0/8");
      assert.deepEqual(
        { ...plain, destination: plain?.destination.toString() },
        {
          destination: "10.0.0.0/8",
          table: TABLE,
          type: "unicast",
          protocol: 4,
          scope: RouteScope.universe,
          priority: 0,
          link,
        },
      );
      const byGateway = routes.get("0.0.0.0/0");
      assert.deepEqual(
        [byGateway?.gateway?.toString(), byGateway?.link, byGateway?.priority, byGateway?.preferredSource?.toString()],
        ["192.0.2.2", link, 7, "192.0.2.1"],
      );
      assert.equal(routes.get("::/0")?.gateway?.toString(), "2001:db8::2");
      assert.equal(routes.get("::/0")?.priority, 1024);
      assert.equal(routes.get("203.0.113.0/24")?.type, "blackhole");
      assert.equal(routes.get("2001:db8:2::/48")?.type, "unreachable");
      assert.equal(listRoutes(netlink, { table: TABLE, link, family: 4 }).length, 3, "the blackhole has no link");

      for (const route of specifications) deleteRoute(netlink, route);
      assert.deepEqual(inTable(), []);
    });

    test("that exist or do not: EEXIST, replaced, ESRCH", () => {
      for (const destination of [prefix("10.0.0.0/8"), prefix("2001:db8:3::/48")]) {
        const route = { destination, table: TABLE, link };
        addRoute(netlink, route);
        assert.throws(() => addRoute(netlink, route), {
          code: "EEXIST",
          message: new RegExp(`^adding route ${destination} to table 0x2021fd00: EEXIST`),
        });
        replaceRoute(netlink, { ...route, link: getLink(netlink, "other").index });
        assert.equal(listRoutes(netlink, { table: TABLE })[0]?.link, getLink(netlink, "other").index);
        deleteRoute(netlink, { destination, table: TABLE });
        assert.throws(() => deleteRoute(netlink, route), { code: "ESRCH", message: /^deleting route .* from table/ });
      }
    });

    test("an unreachable gateway is explained in the kernel's words", () => {
      assert.throws(() => addRoute(netlink, { destination: prefix("10.0.0.0/8"), gateway: ip("203.0.113.1") }), {
        code: "ENETUNREACH",
        message:
          /adding route 10\.0\.0\.0\/8 via 203\.0\.113\.1 to table 254: ENETUNREACH.*\(Nexthop has invalid gateway\)/,
      });
    });

    test("long lists come in many datagrams and complete", () => {
      const count = 3000;
      for (let i = 0; i < count; i++) {
        const destination = IpPrefix.of(IpAddress.fromBytes(Uint8Array.of(10, i >> 8, i & 255, 0)), 24);
        addRoute(netlink, { destination, table: TABLE, link });
      }
      assert.equal(new Set(inTable()).size, count);
      for (const { destination } of listRoutes(netlink, { table: TABLE }))
        deleteRoute(netlink, { destination, table: TABLE });
      assert.deepEqual(inTable(), []);
    });
  });

  describe("rules", () => {
    const rule: Rule = { family: 4, priority: 100, table: TABLE, mark: 0xfd002021, invert: true };

    test("are added once however often, listed by priority and deleted once", () => {
      for (const family of [4, 6] as const) {
        const before = listRules(netlink, family);
        assert.equal(addRule(netlink, { ...rule, family }), true);
        assert.equal(addRule(netlink, { ...rule, family }), false);
        assert.equal(addRule(netlink, { family, priority: 90, table: 77 }), true);
        const [, second, third] = listRules(netlink, family);
        assert.deepEqual(second, { family, priority: 90, table: 77, invert: false, protocol: 2 });
        assert.deepEqual(third, { ...rule, family, markMask: 0xffffffff, protocol: 2 });
        assert.equal(deleteRule(netlink, { ...rule, family }), true);
        assert.equal(deleteRule(netlink, { ...rule, family }), false);
        assert.equal(deleteRule(netlink, { family, priority: 90, table: 77 }), true);
        assert.deepEqual(listRules(netlink, family), before);
      }
    });

    test("errors name the attempt", () => {
      const attempts: string[] = [];
      const request = (_message: MessageBuilder, what: string) => {
        attempts.push(what);
        return [];
      };
      const recorder: Netlink = { request, dump: () => [] };
      addRule(recorder, rule);
      deleteRule(recorder, { family: 6, priority: 90, table: 77 });
      assert.deepEqual(attempts, [
        "adding IPv4 rule 100: not mark 0xfd002021 to table 0x2021fd00",
        "deleting IPv6 rule 90: to table 77",
      ]);
    });

    test("read in iproute2's words as the specification wants them", (context) => {
      if (spawnSync("ip", ["-V"]).error !== undefined) return context.skip("needs iproute2");
      addRule(netlink, rule);
      const { stdout } = namespace.enter(() => spawnSync("ip", ["rule"], { encoding: "utf8" }));
      assert.match(stdout, /^100:\tnot from all fwmark 0xfd002021 lookup 539098368/m);
      deleteRule(netlink, rule);
    });
  });

  describe("changes", () => {
    const describeChange = (change: NetworkChange): string => {
      const sign = change.type === "overrun" || change.present ? "+" : "-";
      switch (change.type) {
        case "link":
          return `${sign}${change.link.name}`;
        case "address":
          return `${sign}${change.address.address}`;
        case "route":
          return `${sign}${change.route.destination} ${change.route.table}`;
        case "overrun":
          return "overrun";
      }
    };
    const described = (changes: readonly NetworkChange[]) => changes.map(describeChange);

    test("of links, addresses and routes are reported", () => {
      const changes = namespace.enter(() => NetworkChanges.subscribe());
      assert.deepEqual(changes.read(), []);
      addAddress(netlink, link, address("198.51.100.1/32"));
      addRoute(netlink, { destination: prefix("10.0.0.0/8"), table: 77, link });
      deleteRoute(netlink, { destination: prefix("10.0.0.0/8"), table: 77 });
      deleteAddress(netlink, link, address("198.51.100.1/32"));
      createVeth(netlink, { name: "one" }, { name: "two" });
      deleteLink(netlink, getLink(netlink, "one").index);
      const seen = described(changes.read());
      const order = ["+198.51.100.1", "+10.0.0.0/8 77", "-10.0.0.0/8 77", "-198.51.100.1", "+one", "-one"];
      assert.deepEqual(
        seen.filter((entry, index) => order.includes(entry) && seen.indexOf(entry) === index),
        order,
      );
      assert.deepEqual(changes.read(), []);
      changes.close();
      changes.close();
      assert.deepEqual(changes.read(), []);
    });

    test("only those subscribed to", () => {
      const changes = namespace.enter(() => NetworkChanges.subscribe({ links: false, routes: false }));
      addAddress(netlink, link, address("198.51.100.1/32"));
      deleteAddress(netlink, link, address("198.51.100.1/32"));
      assert.deepEqual(described(changes.read()), ["+198.51.100.1", "-198.51.100.1"]);
      changes.close();
    });

    test("more than the kernel remembers are an overrun", () => {
      const changes = namespace.enter(() => NetworkChanges.subscribe());
      for (let i = 0; i < 1000; i++) changeLink(netlink, link, { mtu: 1400 + (i & 1) });
      const seen: string[] = [];
      for (let batch = described(changes.read()); batch.length > 0; batch = described(changes.read()))
        seen.push(...batch);
      assert.ok(seen.includes("overrun"));
      assert.equal(seen.filter((entry) => entry === "overrun").length, 1);
      changes.close();
    });
  });

  test("nothing leaks: sockets and namespaces are file descriptors that are closed", () => {
    const openFiles = () => readdirSync("/proc/self/fd").length;
    const files = openFiles();
    for (let i = 0; i < 20; i++) {
      const other = NetworkNamespace.create();
      other.netlink().close();
      other.enter(() => NetworkChanges.subscribe()).close();
      other.close();
      other.close();
    }
    assert.equal(openFiles(), files);
  });
});
