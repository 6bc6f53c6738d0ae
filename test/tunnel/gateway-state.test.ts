// The gateway's state over a node without network: grants, filters, expiry, revocation, allowed sources.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { IpPrefix } from "../../src/base/address.js";
import { parseIpPacket } from "../../src/packet/ip.js";
import { EARLY_GRANT_TIME, MAX_EARLY_GRANTS } from "../../src/tunnel/early-grants.js";
import type { FilterRule, GatewayEvent } from "../../src/tunnel/events.js";
import { isAllowed } from "../../src/tunnel/filters.js";
import {
  EARLY_PACKET_TIME,
  GatewayState,
  HOUSEKEEPING_INTERVAL,
  MAX_CLIENTS,
  MAX_EARLY_PACKETS,
} from "../../src/tunnel/gateway-state.js";
import { type GatewayResource, MAX_GRANTS } from "../../src/tunnel/grants.js";
import { encodePeerMessage } from "../../src/tunnel/peer-message.js";
import { echoPacket, ipPacket, tcpPacket, udpPacket } from "../support/ip-packets.js";
import { assertProperty } from "../support/property.js";
import { ipAddress, START, UNIX_TIME } from "../support/simulated-host.js";
import { drain, prefix, StubGatewayNode, TUNNEL_IPV4, TUNNEL_IPV6 } from "../support/tunnel-network.js";

const OFFER = { sessionKey: new Uint8Array(32), credentials: { username: "user", password: "password" } };
const EMPTY = new Uint8Array(0);

function resource(id: string, address: string, ...filters: readonly FilterRule[]): GatewayResource {
  return { type: "cidr", id, address: prefix(address), filters };
}

const NET = resource("net", "10.1.0.0/16");

function udpTo(destination: string, destinationPort = 53): Uint8Array {
  const to = ipAddress(destination);
  const source = to.family === 4 ? TUNNEL_IPV4 : TUNNEL_IPV6;
  return udpPacket({ source, destination: to, sourcePort: 4000, destinationPort, payload: EMPTY });
}

function tcpTo(destination: string, destinationPort: number): Uint8Array {
  const to = ipAddress(destination);
  const ports = { sourcePort: 4000, destinationPort, sequence: 1 };
  return tcpPacket({ source: TUNNEL_IPV4, destination: to, ...ports, payload: EMPTY });
}

class Gateway {
  readonly node = new StubGatewayNode();
  readonly state = new GatewayState(this.node);
  now = START;
  #events: GatewayEvent[] = [];
  readonly #filters = new Map<string, Extract<GatewayEvent, { type: "filters-set" }>["filters"]>();
  /** Prefix to connection. */
  readonly routes = new Map<string, string>();

  look(): GatewayEvent[] {
    this.#events = drain(this.state);
    for (const event of this.#events) {
      if (event.type === "filters-set") this.#filters.set(event.connection, event.filters);
      if (event.type === "connection-removed") {
        this.#filters.delete(event.connection);
        for (const [key, connection] of this.routes) if (connection === event.connection) this.routes.delete(key);
      }
      if (event.type === "route-removed") this.routes.delete(String(event.prefix));
      if (event.type === "route-set" && event.target.type === "connection")
        this.routes.set(String(event.prefix), event.target.connection);
    }
    return this.#events;
  }

  of<T extends GatewayEvent["type"]>(type: T): Extract<GatewayEvent, { readonly type: T }>[] {
    return this.#events.filter((event): event is Extract<GatewayEvent, { type: T }> => event.type === type);
  }

  connect(granted: GatewayResource, expiresIn?: number, clientId = "c", host = 7): boolean {
    const answer = this.state.handleConnectionRequest(
      {
        clientId,
        publicKey: new Uint8Array(32),
        offer: OFFER,
        ipv4: ipAddress(`100.64.${host >> 8}.${host & 255}`),
        ipv6: ipAddress(`fd00:2021:1111::${host.toString(16)}`),
        resource: granted,
        expiresAt: this.#expiry(expiresIn),
      },
      this.now,
      UNIX_TIME + this.now,
    );
    this.look();
    return answer !== undefined;
  }

  allow(granted: GatewayResource, expiresIn?: number, withAddresses = true, clientId = "c"): void {
    const addresses = withAddresses ? { ipv4: TUNNEL_IPV4, ipv6: TUNNEL_IPV6 } : {};
    const request = { clientId, ...addresses, resource: granted, expiresAt: this.#expiry(expiresIn) };
    this.state.handleAccess(request, this.now, UNIX_TIME + this.now);
    this.look();
  }

  timeout(): void {
    this.state.handleTimeoutAt(this.now, UNIX_TIME + this.now);
    this.look();
  }

  /** What the datapath's filters say to a packet. */
  allows(packet: Uint8Array, clientId = "c"): boolean {
    const parsed = parseIpPacket(packet);
    assert.ok(parsed);
    return isAllowed(this.#filters.get(clientId) ?? [], parsed);
  }

  #expiry(expiresIn: number | undefined): number | undefined {
    return expiresIn === undefined ? undefined : UNIX_TIME + this.now + expiresIn;
  }
}

// ---- Connections

test("spec 05, 5: when the gateway's network changes its relays are asked anew, and clients keep their connections", () => {
  const gateway = new Gateway();
  gateway.connect(NET);
  gateway.node.calls.length = 0;
  gateway.state.handleNetworkChange(gateway.now);
  gateway.look();
  assert.deepEqual(gateway.node.calls, ["restart relays"]);
  assert.deepEqual(gateway.look(), []);
  assert.deepEqual(gateway.state.clients, ["c"]);
});

test("spec 04, 6.2: a connection has the client's two tunnel addresses as its sources, and its grant as its filter", () => {
  const gateway = new Gateway();
  assert.ok(gateway.connect(NET));
  assert.deepEqual(
    [...gateway.routes],
    [
      ["100.64.0.7/32", "c"],
      ["fd00:2021:1111::7/128", "c"],
    ],
  );
  assert.ok(gateway.allows(udpTo("10.1.0.1")));
  assert.ok(!gateway.allows(udpTo("10.2.0.1")));
  gateway.node.emit({ type: "connection-established", connection: "c" });
  gateway.timeout();
  assert.deepEqual(gateway.of("client-connected"), [{ type: "client-connected", clientId: "c" }]);
});

test("issue 4: what a client that comes and goes costs does not depend on how many others there are", (t) => {
  /** How many prefixes are made for one client, and how many routes told. */
  const work = (others: number) => {
    const gateway = new Gateway();
    for (let i = 0; i < others; i++) assert.ok(gateway.connect(NET, undefined, `c${i}`, i));
    const { mock } = t.mock.method(IpPrefix, "host");
    assert.ok(gateway.connect(NET, undefined, "last", others));
    const told = gateway.of("route-set").length;
    assert.equal(gateway.routes.size, 2 * others + 2);
    gateway.node.emit({ type: "connection-removed", connection: "last" });
    gateway.node.emit({ type: "connection-failed", connection: "last", reason: "no-path" });
    gateway.timeout();
    assert.equal(gateway.routes.size, 2 * others, "the others keep their routes");
    const made = mock.callCount();
    mock.restore();
    return { made, told };
  };
  assert.deepEqual(work(1000), work(2));
});

test("spec 04, 10.3.31 and 6.2: addresses outside the tunnel's, names, expired grants, unusable offers: no answer, no trace", () => {
  const gateway = new Gateway();
  const ask = (ipv4: string, ipv6: string) =>
    gateway.state.handleConnectionRequest(
      {
        clientId: "c",
        publicKey: new Uint8Array(32),
        offer: OFFER,
        ipv4: ipAddress(ipv4),
        ipv6: ipAddress(ipv6),
        resource: NET,
        expiresAt: undefined,
      },
      gateway.now,
      UNIX_TIME,
    );
  assert.equal(ask("10.0.0.1", "fd00:2021:1111::7"), undefined);
  assert.equal(ask("100.64.0.7", "ff02::16"), undefined);
  assert.equal(ask("100.96.0.7", "fd00:2021:1111::7"), undefined);
  assert.ok(!gateway.connect({ type: "dns", id: "d", address: "example.com", filters: [] }));
  assert.ok(!gateway.connect(NET, 0));
  gateway.node.accepts = false;
  assert.ok(!gateway.connect(NET));
  assert.deepEqual([gateway.state.clients, gateway.routes.size, gateway.look()], [[], 0, []]);
  assert.equal(gateway.state.counters.clientsRefused, 4);
});

test("spec 04, 4.10, rule 5 and 6.13: grants survive a connection that fails, and a new one keeps them", () => {
  const gateway = new Gateway();
  gateway.connect(NET);
  gateway.allow(resource("other", "10.2.0.0/16"));
  gateway.node.emit(
    { type: "connection-removed", connection: "c" },
    { type: "connection-failed", connection: "c", reason: "no-path" },
  );
  gateway.timeout();
  assert.equal(gateway.of("client-disconnected").length, 1);
  assert.equal(gateway.routes.size, 0);
  assert.deepEqual(gateway.state.clients, ["c"]);
  gateway.connect(NET);
  assert.ok(gateway.allows(udpTo("10.2.0.1")));
  assert.equal(gateway.routes.size, 2);
});

test("a client that connects anew with other addresses has those, and not the old ones", () => {
  const gateway = new Gateway();
  gateway.connect(NET);
  gateway.node.emit({ type: "connection-removed", connection: "c" });
  gateway.connect(NET, undefined, "c", 8);
  assert.deepEqual([...gateway.routes.keys()], ["100.64.0.8/32", "fd00:2021:1111::8/128"]);
});

// ---- Grants

test("spec 04, 10.6.42: access 5 ms before the connection, with and without the client's addresses", () => {
  for (const withAddresses of [true, false]) {
    const gateway = new Gateway();
    gateway.allow(resource("other", "10.2.0.0/16"), undefined, withAddresses);
    gateway.now += 5;
    gateway.connect(NET);
    assert.ok(gateway.allows(udpTo("10.1.0.1")) && gateway.allows(udpTo("10.2.0.1")), `${withAddresses}`);
  }
});

test("spec 04, 4.10, rule 2: grants without addresses wait for 20 s, 100 a client; they change and end like others", () => {
  const gateway = new Gateway();
  gateway.allow(resource("late", "10.2.0.0/16"), undefined, false);
  gateway.now += EARLY_GRANT_TIME;
  gateway.timeout();
  gateway.connect(NET);
  assert.ok(!gateway.allows(udpTo("10.2.0.1")));

  const full = new Gateway();
  for (let i = 0; i <= MAX_EARLY_GRANTS; i++) full.allow(resource(`r${i}`, `10.${i}.0.0/16`), undefined, false);
  assert.equal(full.state.counters.clientsRefused, 1);
  full.allow(resource("short", "192.0.2.0/24"), 1000, false, "d");
  full.state.handleRejection("c", "r5", full.now);
  full.state.handleResourceUpdate(resource("r6", "10.6.0.0/16", { protocol: "icmp" }));
  full.connect(resource("first", "192.0.2.0/24"));
  assert.ok(full.allows(udpTo(`10.${MAX_EARLY_GRANTS - 1}.0.1`)));
  for (const refused of [`10.${MAX_EARLY_GRANTS}.0.1`, "10.5.0.1", "10.6.0.1"]) assert.ok(!full.allows(udpTo(refused)));
  full.now += 1000;
  full.connect(NET, undefined, "d", 9);
  assert.ok(!full.allows(udpTo("192.0.2.1"), "d"));
});

test("spec 04, 4.10, rule 4: granting again replaces", () => {
  const gateway = new Gateway();
  gateway.connect(NET, 1000);
  gateway.allow(resource("net", "10.1.0.0/16", { protocol: "tcp", first: 80, last: 80 }), 5000);
  assert.ok(!gateway.allows(udpTo("10.1.0.1")) && gateway.allows(tcpTo("10.1.0.1", 80)));
  gateway.now += 2000;
  gateway.timeout();
  assert.ok(gateway.allows(tcpTo("10.1.0.1", 80)));
});

test("spec 04, 10.3.23: grants expire one by one, inclusively; the last one ends the connection", () => {
  const gateway = new Gateway();
  gateway.connect(resource("tcp", "10.0.0.0/24", { protocol: "tcp", first: 20, last: 100 }), 10_000);
  gateway.allow(resource("udp", "10.0.0.0/24", { protocol: "udp", first: 20, last: 100 }), 20_000);
  const both = () => [gateway.allows(tcpTo("10.0.0.1", 80)), gateway.allows(udpTo("10.0.0.1", 80))];
  const start = gateway.now;
  const seen: [number, string][] = [];
  for (; gateway.now <= start + 21_000; gateway.now += HOUSEKEEPING_INTERVAL) {
    assert.ok((gateway.state.pollTimeout() ?? 0) <= gateway.now);
    gateway.timeout();
    const now = both().join();
    if (seen.at(-1)?.[1] !== now) seen.push([gateway.now - start, now]);
  }
  assert.deepEqual(seen, [
    [0, "true,true"],
    [10_000, "false,true"],
    [20_000, "false,false"],
  ]);
  assert.ok(gateway.node.calls.includes("remove c"));
  assert.deepEqual([gateway.state.clients, gateway.routes.size], [[], 0]);
  assert.equal(gateway.state.pollTimeout(), undefined);
});

test("spec 04, 6.4: a withdrawn grant ends at once; the last one with the connection", () => {
  const gateway = new Gateway();
  gateway.connect(NET);
  gateway.allow(resource("other", "10.2.0.0/16"));
  gateway.state.handleRejection("c", "net", gateway.now);
  gateway.state.handleRejection("c", "nothing", gateway.now);
  gateway.state.handleRejection("nobody", "net", gateway.now);
  gateway.look();
  assert.ok(!gateway.allows(udpTo("10.1.0.1")) && gateway.allows(udpTo("10.2.0.1")));
  assert.ok(!gateway.node.calls.includes("remove c"));
  gateway.state.handleRejection("c", "other", gateway.now);
  gateway.look();
  assert.ok(gateway.node.calls.includes("remove c"));
  assert.equal(gateway.of("client-disconnected").length, 1);
  assert.equal(gateway.routes.size, 0);
});

test("spec 04, 6.5: new filters of a resource are for all who hold it; its address stays", () => {
  const gateway = new Gateway();
  gateway.connect(NET);
  gateway.connect(NET, undefined, "d", 8);
  gateway.connect(resource("else", "10.1.0.0/16"), undefined, "e", 9);
  gateway.state.handleResourceUpdate(resource("net", "10.99.0.0/16", { protocol: "icmp" }));
  gateway.look();
  assert.deepEqual(
    ["c", "d", "e"].map((id) => gateway.allows(udpTo("10.1.0.1"), id)),
    [false, false, true],
  );
  assert.ok(!gateway.allows(udpTo("10.99.0.1")));
});

test("clients and grants are bounded: the disconnected go first, and who is connected stays", () => {
  const gateway = new Gateway();
  for (let i = 0; i <= MAX_GRANTS; i++) gateway.allow(resource(`r${i}`, `10.${i >> 8}.${i & 255}.0/24`));
  assert.equal(gateway.state.counters.grantsPushedOut, 1);
  gateway.connect(NET, undefined, "connected", 1);
  for (let i = 0; gateway.state.clients.length < MAX_CLIENTS; i++) gateway.allow(NET, undefined, true, `x${i}`);
  gateway.allow(NET, undefined, true, "one more");
  gateway.allow(NET, undefined, true, "and another");
  assert.equal(gateway.state.clients.length, MAX_CLIENTS);
  assert.ok(gateway.state.clients.includes("connected") && gateway.state.clients.includes("one more"));
  assert.ok(!gateway.state.clients.includes("c"));
});

// ---- Filters

const rule: fc.Arbitrary<FilterRule> = fc.oneof(
  fc.constant({ protocol: "icmp" } as const),
  fc
    .tuple(fc.constantFrom("tcp", "udp"), fc.nat(65535), fc.nat(65535))
    .map(([protocol, a, b]) => ({ protocol, first: Math.min(a, b), last: Math.max(a, b) }) as FilterRule),
);

const traffic = fc.record({ protocol: fc.constantFrom("tcp", "udp", "icmp", "other"), port: fc.nat(65535) });

function packetOf({ protocol, port }: { readonly protocol: string; readonly port: number }): Uint8Array {
  const to = { source: TUNNEL_IPV4, destination: ipAddress("10.1.2.3") };
  if (protocol === "tcp") return tcpTo("10.1.2.3", port);
  if (protocol === "udp") return udpTo("10.1.2.3", port);
  return protocol === "icmp" ? echoPacket({ ...to, payload: EMPTY }) : ipPacket(to, 47, new Uint8Array(8));
}

test("spec 04, 10.3.24 to 10.3.27: what a client may reach is the union of its grants' rules; none in a grant is all", () => {
  const nested = fc.record({ length: fc.integer({ min: 8, max: 32 }), rules: fc.array(rule, { maxLength: 4 }) });
  assertProperty(
    fc.property(fc.array(nested, { minLength: 1, maxLength: 10 }), fc.array(traffic), fc.nat(), (grants, all, gone) => {
      const gateway = new Gateway();
      gateway.connect(resource("elsewhere", "192.0.2.0/24"));
      for (const [i, { length, rules }] of grants.entries())
        for (let twice = 0; twice < 2; twice++)
          gateway.allow(resource(`r${i}`, String(IpPrefix.of(ipAddress("10.1.2.3"), length)), ...rules));
      const check = (held: readonly (typeof grants)[number][]) => {
        for (const one of all) {
          const expected = held.some(
            ({ rules }) =>
              rules.length === 0 ||
              rules.some((r) =>
                r.protocol === "icmp"
                  ? one.protocol === "icmp"
                  : r.protocol === one.protocol && r.first <= one.port && one.port <= r.last,
              ),
          );
          assert.equal(gateway.allows(packetOf(one)), expected);
        }
      };
      check(grants);
      const index = gone % grants.length;
      gateway.state.handleRejection("c", `r${index}`, gateway.now);
      gateway.look();
      check(grants.filter((_, i) => i !== index));
    }),
    { seed: 24, numRuns: 300 },
  );
});

test("spec 04, 6.6: the internet resource disables filtering", () => {
  const gateway = new Gateway();
  gateway.connect(resource("net", "10.1.0.0/16", { protocol: "icmp" }));
  assert.ok(!gateway.allows(udpTo("10.1.0.1")));
  gateway.allow({ type: "internet", id: "i" });
  for (const to of ["10.1.0.1", "203.0.113.1", "2001:db8::1"]) assert.ok(gateway.allows(udpTo(to)), to);
});

// ---- Packets

test("spec 04, 6.11: packets to a client come from what it was granted, ICMP errors from anywhere", () => {
  const gateway = new Gateway();
  gateway.connect(NET);
  const from = (source: string) =>
    udpPacket({
      source: ipAddress(source),
      destination: TUNNEL_IPV4,
      sourcePort: 53,
      destinationPort: 4000,
      payload: EMPTY,
    });
  const icmp = (type: number) =>
    ipPacket(
      { source: ipAddress("203.0.113.1"), destination: TUNNEL_IPV4 },
      1,
      Uint8Array.of(type, 0, 0, 0, 0, 0, 0, 0),
    );
  for (const [packet, passes] of [
    [from("10.1.0.1"), true],
    [from("10.2.0.1"), false],
    [icmp(11), true],
    [icmp(8), false],
  ] as const) {
    const before = gateway.node.packets.length;
    gateway.state.handlePacket("c", packet, gateway.now);
    assert.equal(gateway.node.packets.length - before, passes ? 1 : 0);
  }
  assert.equal(gateway.state.counters.notGranted, 2);
  gateway.state.handlePacket("nobody", from("10.1.0.1"), gateway.now);
  gateway.state.handlePacket(undefined, from("10.1.0.1"), gateway.now);
  gateway.state.handlePacket("c", EMPTY, gateway.now);
  assert.equal(gateway.state.counters.unroutable, 3);
});

test("spec 04, 11.1: a client's goodbye ends its connection, its grants stay; the gateway says goodbye to all", () => {
  const gateway = new Gateway();
  gateway.connect(NET);
  const goodbye = encodePeerMessage({ type: "goodbye" });
  gateway.state.handlePeerMessage("nobody", goodbye, gateway.now);
  gateway.look();
  assert.deepEqual(gateway.of("client-disconnected"), []);
  gateway.state.close(gateway.now);
  gateway.look();
  assert.deepEqual(
    gateway.of("send-peer-message").map(({ connection }) => connection),
    ["c"],
  );
  gateway.state.handlePeerMessage("c", goodbye, gateway.now);
  gateway.state.handlePeerMessage("c", goodbye, gateway.now);
  gateway.look();
  assert.equal(gateway.of("client-disconnected").length, 1);
  assert.ok(gateway.node.calls.includes("remove c"));
});

test("spec 04, 4.8: a packet that overtakes its grant waits for it, a second at most, and few of them", () => {
  const gateway = new Gateway();
  gateway.connect(NET);
  const packets = Array.from({ length: MAX_EARLY_PACKETS + 2 }, (_, i) => udpTo("10.2.0.1", 1000 + i));
  for (const packet of packets) gateway.state.handleDeniedPacket("c", packet, gateway.now);
  assert.equal(gateway.state.counters.notGranted, 2);
  gateway.allow(resource("other", "10.2.0.0/16"));
  assert.deepEqual(
    gateway.of("deliver-packet").map(({ packet }) => packet),
    packets.slice(2),
  );
  // What comes while the filters are being written.
  gateway.state.handleDeniedPacket("c", packets[0] ?? EMPTY, gateway.now);
  gateway.look();
  assert.equal(gateway.of("deliver-packet").length, 1);

  gateway.state.handleDeniedPacket("c", udpTo("10.3.0.1"), gateway.now);
  gateway.now += EARLY_PACKET_TIME;
  gateway.timeout();
  gateway.allow(resource("third", "10.3.0.0/16"));
  assert.deepEqual(gateway.of("deliver-packet"), []);
  assert.equal(gateway.state.counters.notGranted, 3);
});
