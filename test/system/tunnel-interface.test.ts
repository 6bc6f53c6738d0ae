import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { afterEach, beforeEach, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { type AddressFamily, IpAddress, IpPrefix } from "../../src/base/address.js";
import { toHex } from "../../src/base/bytes.js";
import { Errno, SystemCallError } from "../../src/system/linux/errno.js";
import { addressOf, allocate, check, close, read, sendto, setsockopt, socket } from "../../src/system/linux/libc.js";
import { NetworkNamespace } from "../../src/system/linux/namespace.js";
import { addAddress, listAddresses } from "../../src/system/linux/rtnetlink/addresses.js";
import { NetworkChanges } from "../../src/system/linux/rtnetlink/changes.js";
import { changeLink, findLink, getLink } from "../../src/system/linux/rtnetlink/links.js";
import type { Netlink, NetlinkSocket } from "../../src/system/linux/rtnetlink/netlink.js";
import { addRoute, listRoutes } from "../../src/system/linux/rtnetlink/routes.js";
import { addRule, listRules } from "../../src/system/linux/rtnetlink/rules.js";
import { Sysctls } from "../../src/system/linux/sysctl.js";
import { openTun, type TunDevice, VIRTIO_HEADER_LENGTH } from "../../src/system/linux/tun.js";
import {
  TUNNEL_MARK,
  TUNNEL_RULE_PRIORITY,
  TUNNEL_TABLE,
  TunnelInterface,
} from "../../src/system/linux/tunnel-interface.js";
import { labSkip } from "../support/lab-skip.js";

const NAME = "tun-test";
const MTU = 1280;

function ip(text: string): IpAddress {
  const parsed = IpAddress.parse(text);
  assert.ok(parsed);
  return parsed;
}

function prefixes(...texts: string[]): IpPrefix[] {
  return texts.map((text) => {
    const parsed = IpPrefix.parse(text);
    assert.ok(parsed);
    return parsed;
  });
}

const IPV4 = ip("100.64.0.1");
const IPV6 = ip("fd00:2021:1111::1");
const skip = labSkip || (existsSync("/dev/net/tun") ? false : "needs /dev/net/tun");

describe("tunnel interface", { skip }, () => {
  let namespace: NetworkNamespace;
  let netlink: NetlinkSocket;
  let device: TunDevice;
  let tunnel: TunnelInterface;

  beforeEach(() => {
    namespace = NetworkNamespace.create();
    netlink = namespace.netlink();
    device = namespace.enter(() => openTun({ name: NAME }));
    tunnel = new TunnelInterface(netlink, NAME);
  });
  afterEach(() => {
    device.close();
    netlink.close();
    namespace.close();
  });

  const addresses = () =>
    listAddresses(netlink, { link: getLink(netlink, NAME).index }).map(
      (entry) => `${entry.address}/${entry.prefixLength}`,
    );
  const routes = () => listRoutes(netlink, { table: TUNNEL_TABLE }).map((route) => `${route.destination}`);
  const tunnelRules = (family: AddressFamily, from: Netlink = netlink) =>
    listRules(from, family).filter((rule) => rule.table === TUNNEL_TABLE);

  test("spec 05, 15.24: set_ips replaces addresses; repeated calls leave exactly one rule per family; MTU is 1280", () => {
    for (let i = 0; i < 5; i++)
      assert.deepEqual(tunnel.setAddresses(IPV4, IPV6, MTU), { families: [4, 6], warnings: [] });
    assert.deepEqual(addresses(), ["100.64.0.1/32", "fd00:2021:1111::1/128"]);
    tunnel.setAddresses(ip("100.64.0.2"), ip("fd00:2021:1111::2"), MTU);
    assert.deepEqual(addresses(), ["100.64.0.2/32", "fd00:2021:1111::2/128"]);

    for (const family of [4, 6] as const) {
      assert.deepEqual(tunnelRules(family), [
        {
          family,
          priority: TUNNEL_RULE_PRIORITY,
          table: TUNNEL_TABLE,
          mark: TUNNEL_MARK,
          markMask: 0xffffffff,
          invert: true,
          protocol: 2,
        },
      ]);
    }
    const link = getLink(netlink, NAME);
    assert.deepEqual([link.mtu, link.up, link.transmitQueueLength], [MTU, true, 10_000]);
  });

  test("spec 05, 3.2: addresses that were there are replaced, also an automatic link-local one", async () => {
    const { index } = getLink(netlink, NAME);
    addAddress(netlink, index, { address: ip("192.0.2.1"), prefixLength: 24 });
    addAddress(netlink, index, { address: ip("fe80::1"), prefixLength: 64 });
    addAddress(netlink, index, { address: IPV4, prefixLength: 24 });
    changeLink(netlink, index, { up: true });
    await sleep(50);
    assert.deepEqual(tunnel.setAddresses(IPV4, IPV6, MTU).warnings, []);
    assert.deepEqual(addresses(), ["100.64.0.1/32", "fd00:2021:1111::1/128"]);
  });

  test("spec 05, 3.4: duplicate rules of an earlier program give way to one with an explicit priority", () => {
    for (const priority of [32765, 32764, TUNNEL_RULE_PRIORITY])
      addRule(netlink, { family: 4, priority, table: TUNNEL_TABLE, mark: TUNNEL_MARK, invert: true });
    addRule(netlink, { family: 4, priority: TUNNEL_RULE_PRIORITY, table: TUNNEL_TABLE, mark: 7 });
    addRule(netlink, { family: 4, priority: 90, table: 77 });
    tunnel.setAddresses(IPV4, IPV6, MTU);
    assert.deepEqual(
      tunnelRules(4).map((rule) => [rule.priority, rule.mark]),
      [[TUNNEL_RULE_PRIORITY, TUNNEL_MARK]],
    );
    assert.equal(listRules(netlink, 4).filter((rule) => rule.table === 77).length, 1, "rules of others stay");
  });

  test("spec 05, 15.25: set_routes removes vanished routes only, and the same set again is no error", () => {
    tunnel.setAddresses(IPV4, IPV6, MTU);
    const set = prefixes("10.0.0.0/8", "172.20.0.0/16", "0.0.0.0/0", "fd00:2021:1111:8000::/107", "::/0");
    for (let i = 0; i < 3; i++) assert.deepEqual(tunnel.setRoutes(set), { families: [4, 6], warnings: [] });
    assert.deepEqual(routes().sort(), set.map(String).sort());
    const [route] = listRoutes(netlink, { table: TUNNEL_TABLE, family: 4 }).slice(-1);
    assert.deepEqual([route?.protocol, route?.scope, route?.gateway], [4, 0, undefined]);

    tunnel.setRoutes(prefixes("10.0.0.0/8", "192.168.0.0/16", "::/0"));
    assert.deepEqual(routes().sort(), ["10.0.0.0/8", "192.168.0.0/16", "::/0"]);
    tunnel.setRoutes(new Set<IpPrefix>());
    assert.deepEqual(routes(), []);
  });

  test("new addresses keep the routes, although the kernel drops those of a link that loses its last address", () => {
    tunnel.setAddresses(IPV4, IPV6, MTU);
    const set = prefixes("10.0.0.0/8", "fd00:2021:1111:8000::/107");
    tunnel.setRoutes(set);
    const changes = namespace.enter(() => NetworkChanges.subscribe({ links: false, addresses: false }));
    tunnel.setAddresses(ip("100.64.0.2"), ip("fd00:2021:1111::2"), MTU);
    assert.deepEqual(routes(), set.map(String));
    const touched = changes.read().filter((change) => change.type === "route" && change.route.table === TUNNEL_TABLE);
    assert.deepEqual(touched, [], "not even for a moment were they gone");
    changes.close();
    tunnel.setAddresses(undefined, IPV6, MTU);
    assert.deepEqual(routes(), ["fd00:2021:1111:8000::/107"]);
    assert.deepEqual(tunnelRules(4), []);
    tunnel.setAddresses(IPV4, IPV6, MTU);
    assert.deepEqual(routes(), set.map(String));
  });

  test("routes set before the addresses wait for them", () => {
    assert.deepEqual(tunnel.setRoutes(prefixes("10.0.0.0/8")), { families: [], warnings: [] });
    assert.deepEqual(routes(), []);
    tunnel.setAddresses(IPV4, undefined, MTU);
    assert.deepEqual(routes(), ["10.0.0.0/8"]);
  });

  test("routes of others in the same table are left alone", () => {
    tunnel.setAddresses(IPV4, undefined, MTU);
    const [destination] = prefixes("203.0.113.0/24");
    assert.ok(destination);
    addRoute(netlink, { destination, table: TUNNEL_TABLE, type: "blackhole" });
    tunnel.setRoutes(prefixes("10.0.0.0/8"));
    tunnel.setRoutes([]);
    tunnel.remove();
    assert.deepEqual(routes(), ["203.0.113.0/24"]);
  });

  test("spec 05, 15.25: after the end no route, no rule and no interface remains", () => {
    const before = [listRules(netlink, 4), listRules(netlink, 6)];
    tunnel.setAddresses(IPV4, IPV6, MTU);
    tunnel.setRoutes(prefixes("10.0.0.0/8", "::/0"));
    assert.deepEqual(tunnel.remove(), { families: [], warnings: [] });
    assert.deepEqual(routes(), []);
    assert.deepEqual([listRules(netlink, 4), listRules(netlink, 6)], before);
    device.close();
    assert.equal(findLink(netlink, NAME), undefined);
    assert.deepEqual(tunnel.remove(), { families: [], warnings: [] }, "once more, without the interface");
  });

  test("the rules go also when the device was closed first, as after a crash", () => {
    tunnel.setAddresses(IPV4, IPV6, MTU);
    tunnel.setRoutes(prefixes("10.0.0.0/8"));
    device.close();
    assert.deepEqual(tunnel.remove().warnings, []);
    assert.deepEqual([...tunnelRules(4), ...tunnelRules(6), ...routes()], []);
  });

  test("spec 05, 15.26: on a host with IPv6 disabled the tunnel comes up on IPv4, without IPv6 rules and routes", () => {
    namespace.enter(() => {
      const sysctls = new Sysctls();
      for (const name of ["all", "default", NAME]) sysctls.set(`net/ipv6/conf/${name}/disable_ipv6`, "1");
    });
    const { families, warnings } = tunnel.setAddresses(IPV4, IPV6, MTU);
    assert.deepEqual(families, [4]);
    assert.match(warnings.map(String).join(), /adding address fd00:2021:1111::1\/128 to interface \d+: EACCES/);
    assert.deepEqual(tunnel.setRoutes(prefixes("10.0.0.0/8", "::/0")), { families: [4], warnings: [] });
    assert.deepEqual([...addresses(), ...routes()], ["100.64.0.1/32", "10.0.0.0/8"]);
    assert.deepEqual(tunnelRules(6), []);
    assert.throws(() => tunnel.setAddresses(undefined, IPV6, MTU), { code: "EACCES" });
  });

  test("spec 05, 15.26: likewise on a kernel that was built or started without IPv6", () => {
    const ipv4Only = withoutIpv6(netlink);
    const alone = new TunnelInterface(ipv4Only, NAME);
    const { families, warnings } = alone.setAddresses(IPV4, IPV6, MTU);
    assert.deepEqual(families, [4]);
    assert.deepEqual(
      warnings.map(({ code }) => code),
      ["EOPNOTSUPP"],
    );
    assert.deepEqual(alone.setRoutes(prefixes("10.0.0.0/8", "::/0")), { families: [4], warnings: [] });
    assert.deepEqual(routes(), ["10.0.0.0/8"]);
    assert.deepEqual(alone.remove().warnings, []);
    assert.deepEqual([...routes(), ...tunnelRules(4)], []);
  });

  test("without the interface, or without any address, nothing can be set", () => {
    assert.throws(() => tunnel.setAddresses(undefined, undefined, MTU), { name: "RangeError" });
    device.close();
    assert.throws(() => tunnel.setAddresses(IPV4, IPV6, MTU), { code: "ENODEV", message: /tun-test/ });
    assert.deepEqual([...tunnelRules(4), ...tunnelRules(6)], []);
  });

  test("spec 05, 15.23: with everything routed into the tunnel, what carries the mark still leaves by the host's own route", () => {
    tunnel.setAddresses(IPV4, IPV6, MTU);
    tunnel.setRoutes(prefixes("0.0.0.0/0", "::/0"));
    const destination = ip("203.0.113.1");
    // The loopback interface stands in for the way to the outside.
    addRoute(netlink, { destination: IpPrefix.host(destination), link: getLink(netlink, "lo").index });
    const before = namespace.enter(loopbackPackets);

    namespace.enter(() => sendDatagram(destination, TUNNEL_MARK));
    assert.equal(framesTo(device, destination), 0);
    assert.equal(namespace.enter(loopbackPackets), before + 1);

    namespace.enter(() => sendDatagram(destination, undefined));
    assert.equal(framesTo(device, destination), 1);
    assert.equal(namespace.enter(loopbackPackets), before + 1);
  });
});

/** Packets sent by the loopback interface of this thread's namespace so far. */
function loopbackPackets(): number {
  const line = readFileSync("/proc/thread-self/net/dev", "utf8").match(/^ *lo:(.*)$/m)?.[1] ?? "";
  return Number(line.trim().split(/ +/)[9]);
}

/** Takes all frames that wait in the tunnel's device; counts those to an IPv4 address. */
function framesTo(device: TunDevice, address: IpAddress): number {
  const frame = allocate(65536);
  const header = device.offloads.virtioHeader ? VIRTIO_HEADER_LENGTH : 0;
  let count = 0;
  while (read(device.queues[0] ?? -1, frame.address, 65536) > 0)
    if (toHex(frame.bytes.subarray(header + 16, header + 20)) === address.key) count++;
  return count;
}

/** A connection as to a kernel without IPv6: it has no handler for the family, and does not know the family of an attribute. */
function withoutIpv6(netlink: Netlink): Netlink {
  const isIpv6 = (what: string) => /IPv6|[0-9a-f]:[0-9a-f]*:/.test(what);
  return {
    request: (message, what) => {
      if (what.includes("addressGeneration")) throw new SystemCallError(what, Errno.EAFNOSUPPORT);
      if (isIpv6(what)) throw new SystemCallError(what, Errno.EOPNOTSUPP);
      return netlink.request(message, what);
    },
    // Such a kernel lists what it has of other families.
    dump: (message, what) => (isIpv6(what) ? [] : netlink.dump(message, what)),
  };
}

/** Sends one datagram to port 9 by a socket of its own. */
function sendDatagram(address: IpAddress, mark: number | undefined): void {
  const [AF_INET, SOCK_DGRAM, SOL_SOCKET, SO_MARK] = [2, 2, 1, 36];
  const fd = check(socket(AF_INET, SOCK_DGRAM, 0), "socket");
  const word = allocate(4);
  word.view.setUint32(0, mark ?? 0, true);
  if (mark !== undefined) check(setsockopt(fd, SOL_SOCKET, SO_MARK, word.address, 4), "SO_MARK");
  const to = allocate(16);
  to.view.setUint16(0, AF_INET, true);
  to.view.setUint16(2, 9);
  to.bytes.set(address.bytes, 4);
  const payload = Uint8Array.of(1, 2, 3);
  check(sendto(fd, addressOf(payload), payload.length, 0, to.address, 16), "sendto");
  close(fd);
}
