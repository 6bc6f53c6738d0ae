// What counts as a change of the network, and when it is told (spec 05, section 5): without a kernel, in simulated time.

import assert from "node:assert/strict";
import { test } from "node:test";
import { IpAddress, IpPrefix } from "../../src/base/address.js";
import {
  CALM,
  type Finding,
  MAX_WAIT,
  MIN_SUSPENSION,
  NetworkChangeDetector,
} from "../../src/system/linux/network/change-detector.js";
import {
  describeNetwork,
  hasOnlyGrown,
  mayConcern,
  type NetworkSnapshot,
} from "../../src/system/linux/network/state.js";
import type { InterfaceAddress } from "../../src/system/linux/rtnetlink/addresses.js";
import type { Link } from "../../src/system/linux/rtnetlink/links.js";
import type { Route } from "../../src/system/linux/rtnetlink/routes.js";
import { TUNNEL_TABLE } from "../../src/system/linux/tunnel-interface.js";

const TUNNEL = "tun-firezone";
const LO = 1;
const ETH = 2;
const WIFI = 3;
const BRIDGE = 4;
const TUN = 9;

function link(index: number, name: string, changes: Partial<Link> = {}): Link {
  return {
    index,
    name,
    up: true,
    running: true,
    loopback: false,
    mtu: 1500,
    transmitQueueLength: 1000,
    hardwareAddress: new Uint8Array(6),
    ...changes,
  };
}

function address(on: number, text: string, changes: Partial<InterfaceAddress> = {}): InterfaceAddress {
  const parsed = IpAddress.parse(text);
  assert.ok(parsed);
  return {
    link: on,
    address: parsed,
    prefixLength: 24,
    tentative: false,
    temporary: false,
    deprecated: false,
    permanent: true,
    ...changes,
  };
}

function route(to: string, on: number | undefined, changes: Partial<Route> = {}): Route {
  const destination = IpPrefix.parse(to);
  assert.ok(destination);
  return {
    destination,
    table: 254,
    type: "unicast",
    protocol: 4,
    scope: 0,
    priority: 0,
    ...(on === undefined ? {} : { link: on }),
    ...changes,
  };
}

const LINKS = [link(LO, "lo", { loopback: true }), link(ETH, "eth0"), link(BRIDGE, "docker0"), link(TUN, TUNNEL)];
const ADDRESSES = [
  address(LO, "127.0.0.1"),
  address(ETH, "192.0.2.2"),
  address(ETH, "fe80::1"),
  address(BRIDGE, "172.17.0.1"),
  address(TUN, "100.64.0.1"),
];
const HOME: NetworkSnapshot = { links: LINKS, addresses: ADDRESSES, routes: [route("0.0.0.0/0", ETH)] };

function describe(snapshot: NetworkSnapshot): string[] {
  return [...describeNetwork(snapshot, TUNNEL)].sort();
}

test("default routes count, and the addresses of their links", () => {
  assert.deepEqual(describe(HOME), [
    "address 192.0.2.2/24 on eth0#2",
    "default 0.0.0.0/0 on eth0#2 metric 0 table 254",
  ]);
});

test("without default route the addresses of all links count", () => {
  const lines = describe({ ...HOME, routes: [route("10.0.0.0/8", ETH)] });
  assert.deepEqual(lines, ["address 172.17.0.1/24 on docker0#4", "address 192.0.2.2/24 on eth0#2"]);
});

test("a network has only grown when addresses have come and nothing else has happened", () => {
  const [addressLine = "", routeLine = ""] = describe(HOME);
  const change = { come: [addressLine, addressLine], gone: [], interrupted: false, slept: 0 };
  assert.equal(hasOnlyGrown(change), true);
  assert.equal(hasOnlyGrown({ ...change, come: [addressLine, routeLine] }), false);
  assert.equal(hasOnlyGrown({ ...change, gone: [addressLine] }), false);
  assert.equal(hasOnlyGrown({ ...change, interrupted: true }), false);
  assert.equal(hasOnlyGrown({ ...change, slept: 6000 }), false);
});

test("a default route with several next hops may lead over any link", () => {
  assert.equal(describe({ ...HOME, routes: [route("::/0", undefined)] }).length, 3);
});

for (const [what, snapshot] of Object.entries<NetworkSnapshot>({
  "our own interface": {
    links: LINKS.map((other) => (other.index === TUN ? { ...other, running: false } : other)),
    addresses: [...ADDRESSES, address(TUN, "fd00:2021:1111::1")],
    routes: [...HOME.routes, route("0.0.0.0/0", TUN), route("0.0.0.0/0", TUN, { table: TUNNEL_TABLE })],
  },
  "our own table": { ...HOME, routes: [...HOME.routes, route("::/0", ETH, { table: TUNNEL_TABLE })] },
  "link-local addresses": { ...HOME, addresses: [...ADDRESSES, address(ETH, "fe80::2"), address(ETH, "169.254.1.1")] },
  "tentative addresses": { ...HOME, addresses: [...ADDRESSES, address(ETH, "2001:db8::1", { tentative: true })] },
  "temporary addresses": { ...HOME, addresses: [...ADDRESSES, address(ETH, "2001:db8::1", { temporary: true })] },
  "lifetimes that are refreshed or run out": {
    ...HOME,
    addresses: ADDRESSES.map((other) => ({ ...other, deprecated: true, permanent: false })),
  },
  "bridges of containers": {
    links: LINKS.map((other) => (other.index === BRIDGE ? { ...other, running: false } : other)),
    addresses: [...ADDRESSES, address(BRIDGE, "172.18.0.1")],
    routes: [...HOME.routes, route("172.17.0.0/16", BRIDGE)],
  },
  "routes that discard": { ...HOME, routes: [...HOME.routes, route("::/0", LO, { type: "unreachable" })] },
  "what hangs on a link that is down": {
    links: [...LINKS, link(WIFI, "wlan0", { running: false })],
    addresses: [...ADDRESSES, address(WIFI, "198.51.100.2")],
    routes: [...HOME.routes, route("0.0.0.0/0", WIFI, { priority: 600 })],
  },
  "size and queue of a link": {
    ...HOME,
    links: LINKS.map((other) => ({ ...other, mtu: 1400, transmitQueueLength: 1 })),
  },
}))
  test(`not a change: ${what}`, () => assert.deepEqual(describe(snapshot), describe(HOME)));

for (const [what, snapshot] of Object.entries<NetworkSnapshot>({
  "a link that stops running": {
    ...HOME,
    links: LINKS.map((other) => (other.index === ETH ? { ...other, running: false } : other)),
  },
  "a link that is switched off": {
    ...HOME,
    links: LINKS.map((other) => (other.index === ETH ? { ...other, up: false } : other)),
  },
  "a link of the same name that was made anew": {
    links: LINKS.map((other) => (other.index === ETH ? { ...other, index: 12 } : other)),
    addresses: ADDRESSES.map((other) => (other.link === ETH ? { ...other, link: 12 } : other)),
    routes: [route("0.0.0.0/0", 12)],
  },
  "another address": { ...HOME, addresses: [...ADDRESSES, address(ETH, "2001:db8::1")] },
  "an address that is gone": { ...HOME, addresses: ADDRESSES.filter((other) => other.link !== ETH) },
  "another next hop": { ...HOME, routes: [route("0.0.0.0/0", ETH, { gateway: address(ETH, "192.0.2.1").address })] },
  "a better default route": { ...HOME, routes: [route("0.0.0.0/0", ETH, { priority: 100 })] },
  "halves of everything, as VPNs set them": { ...HOME, routes: [...HOME.routes, route("0.0.0.0/1", BRIDGE)] },
  "no default route any more": { ...HOME, routes: [] },
}))
  test(`a change: ${what}`, () => assert.notDeepEqual(describe(snapshot), describe(HOME)));

test("notifications about the tunnel, loopback and ordinary routes are no reason to look", () => {
  const present = true;
  const about = (change: Parameters<typeof mayConcern>[0]) => mayConcern(change, TUN);
  assert.ok(!about({ type: "link", present, link: link(TUN, TUNNEL) }));
  assert.ok(!about({ type: "link", present, link: link(LO, "lo", { loopback: true }) }));
  assert.ok(!about({ type: "address", present, address: address(TUN, "100.64.0.1") }));
  assert.ok(!about({ type: "address", present, address: address(ETH, "fe80::1") }));
  assert.ok(!about({ type: "route", present, route: route("10.0.0.0/8", ETH) }));
  assert.ok(!about({ type: "route", present, route: route("0.0.0.0/0", TUN) }));
  assert.ok(!about({ type: "route", present, route: route("0.0.0.0/0", ETH, { table: TUNNEL_TABLE }) }));
  assert.ok(about({ type: "overrun" }));
  assert.ok(about({ type: "link", present, link: link(ETH, "eth0") }));
  assert.ok(about({ type: "address", present, address: address(ETH, "192.0.2.2") }));
  assert.ok(about({ type: "route", present: false, route: route("0.0.0.0/0", ETH) }));
  // A route with several next hops names no link.
  assert.ok(mayConcern({ type: "route", present, route: route("::/0", undefined) }, undefined));
});

// ---- The detector

const A = new Set(["address 192.0.2.2/24 on eth0#2"]);
const B = new Set(["address 198.51.100.2/24 on eth0#2"]);
const NOTHING = new Set<string>();

function changed(finding: Finding): Extract<Finding, { type: "changed" }> {
  if (finding.type !== "changed") assert.fail(finding.type);
  return finding;
}

test("a burst of hints is one change, looked at when it has been calm for 300 ms", () => {
  const detector = new NetworkChangeDetector(A);
  assert.equal(detector.pollTimeout(), undefined);
  for (const now of [1000, 1100, 1250]) detector.handleHint(now);
  assert.equal(detector.pollTimeout(), 1250 + CALM);
  const finding = changed(detector.handleState(B));
  assert.deepEqual([finding.come, finding.gone], [[...B], [...A]]);
  assert.equal(detector.pollTimeout(), undefined);
  detector.handleHint(2000);
  assert.equal(detector.handleState(B).type, "unchanged", "and never twice");
});

test("a network that never comes to rest is looked at after a second", () => {
  const detector = new NetworkChangeDetector(A);
  for (let now = 1000; now <= 1900; now += 100) detector.handleHint(now);
  assert.equal(detector.pollTimeout(), 1000 + MAX_WAIT);
});

test("a change that is taken back before it was told is none", () => {
  const detector = new NetworkChangeDetector(A);
  detector.handleHint(1000);
  detector.handleHint(1200);
  assert.equal(detector.handleState(new Set(A)).type, "unchanged");
});

test("without network there is nothing to do: the next one is the change, even if it is the same", () => {
  const detector = new NetworkChangeDetector(A);
  assert.equal(detector.handleState(NOTHING).type, "lost");
  assert.equal(detector.handleState(NOTHING).type, "unchanged", "told once");
  const finding = changed(detector.handleState(A));
  assert.deepEqual([finding.come, finding.gone, finding.interrupted], [[], [], true]);
  assert.equal(detector.handleState(A).type, "unchanged");
});

test("a host that starts without network has a change when the first one comes", () => {
  const detector = new NetworkChangeDetector(NOTHING);
  assert.equal(detector.handleState(NOTHING).type, "unchanged");
  assert.equal(changed(detector.handleState(A)).interrupted, true);
});

test("after a sleep everything is new, also in the same network", () => {
  const detector = new NetworkChangeDetector(A);
  detector.handleSleep(MIN_SUSPENSION - 1, 1000);
  assert.equal(detector.pollTimeout(), undefined, "a short one does not matter");
  detector.handleSleep(60_000, 1000);
  assert.equal(detector.pollTimeout(), 1000 + CALM);
  assert.equal(changed(detector.handleState(A)).slept, 60_000);
  assert.equal(detector.handleState(A).type, "unchanged");
});

test("a sleep is remembered until there is a network again", () => {
  const detector = new NetworkChangeDetector(A);
  detector.handleSleep(60_000, 1000);
  assert.equal(detector.handleState(NOTHING).type, "lost");
  assert.equal(changed(detector.handleState(A)).slept, 60_000);
});
