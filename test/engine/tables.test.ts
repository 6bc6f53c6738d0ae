// The tables: capacities, longest prefix, removal and reuse, and what workers may still be using.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { IpAddress, IpPrefix } from "../../src/base/address.js";
import {
  createLayout,
  createMemory,
  DEFAULT_ENGINE_CONFIG,
  Engine,
  type Filter,
  type FilterRule,
  Tables,
} from "../../src/engine/index.js";
import { instantiate } from "../../src/engine/module.js";
import { compileFilters, UnitPool } from "../../src/engine/rules.js";
import {
  connect,
  EnginePeer,
  INDEX_A,
  INDEX_B,
  ip,
  KEY_A_TO_B,
  SIDE_B,
  SMALL_CONFIG,
  SOCKET_A,
  SOCKET_B,
  sealMessage,
  socket,
} from "../support/engine-peer.js";
import { frameOf, tcpPacket, udpPacket } from "../support/ip-packets.js";

function prefix(text: string): IpPrefix {
  const parsed = IpPrefix.parse(text);
  if (parsed === undefined) throw new Error(`${text} is no prefix`);
  return parsed;
}

/** A function that asks the engine where an address is routed; `undefined`: nowhere. */
async function router(peer: EnginePeer): Promise<(address: IpAddress) => number | undefined> {
  const exports = await instantiate(peer.memory);
  const region = peer.layout.regions[1] ?? 0;
  // Anywhere that the lookup does not use.
  const argument = peer.engine.tunReadAddress;
  return (address) => {
    peer.bytes.set(address.bytes, argument);
    const target = exports.lookupRoute(region, address.family, argument) >>> 0;
    return target === 0xffffffff ? undefined : target;
  };
}

// ---- Layout

test("the layout of the default capacities fits and survives structured cloning", () => {
  const layout = createLayout({ workers: 8 });
  assert.deepEqual(structuredClone(layout), layout);
  assert.equal(layout.regions.length, 9);
  assert.ok(layout.memoryBytes < 256 * 1024 * 1024, `${layout.memoryBytes} bytes`);
  assert.equal(createLayout().config.connections, DEFAULT_ENGINE_CONFIG.connections);
});

test("capacities that make no sense are refused", () => {
  for (const config of [
    { workers: 0 },
    { workers: 9 },
    { connections: 1.5 },
    { sessions: -1 },
    { ringBytes: 1000 },
    { ringBytes: 300_000 },
    { routes: 2 ** 24, sessions: 2 ** 24 },
  ])
    assert.throws(() => createLayout(config), RangeError, JSON.stringify(config));
});

test("an engine of a slot that the layout does not have is refused", async () => {
  const layout = createLayout(SMALL_CONFIG);
  await assert.rejects(Engine.create({ memory: createMemory(layout), layout, slot: 2 }), RangeError);
});

// ---- Routes

test("routes: insertions and removals agree with a naive longest-prefix match", async () => {
  const peer = await EnginePeer.create({ ...SMALL_CONFIG, routes: 128, connections: 4 });
  const route = await router(peer);
  const targets = [0, 1, 2].map(() => peer.tables.allocateConnection({ filtered: false, learnEndpoint: false }) ?? 0);
  // Few distinct bits, so that prefixes nest and collide.
  const address = fc.tuple(fc.boolean(), fc.array(fc.constantFrom(0, 1, 128, 255), { minLength: 16, maxLength: 16 }));
  const toAddress = ([v4, bytes]: [boolean, number[]]) =>
    IpAddress.fromBytes(Uint8Array.from(bytes.slice(0, v4 ? 4 : 16)));
  const change = fc.record({ address, length: fc.nat(128), target: fc.option(fc.constantFrom(...targets)) });
  const model = new Map<string, { prefix: IpPrefix; target: number }>();
  fc.assert(
    fc.property(fc.array(change, { maxLength: 30 }), fc.array(address, { maxLength: 30 }), (changes, addresses) => {
      for (const { address, length, target } of changes) {
        const ip = toAddress(address);
        const prefix = IpPrefix.of(ip, length % (ip.bytes.length * 8 + 1));
        if (target === null) {
          model.delete(prefix.key);
          peer.tables.removeRoute(prefix);
        } else {
          const fits = model.has(prefix.key) || model.size < 128;
          if (fits) model.set(prefix.key, { prefix, target });
          assert.equal(peer.tables.setRoute(prefix, target), fits);
        }
      }
      const tried = [...addresses.map(toAddress), ...Array.from(model.values(), (entry) => entry.prefix.address)];
      for (const address of tried) {
        let best: { prefix: IpPrefix; target: number } | undefined;
        for (const entry of model.values())
          if (entry.prefix.contains(address) && entry.prefix.length >= (best?.prefix.length ?? 0)) best = entry;
        assert.equal(route(address), best?.target, address.toString());
      }
    }),
    { numRuns: 300, seed: 5 },
  );
});

test("all prefix lengths of both families", async () => {
  const peer = await EnginePeer.create({ ...SMALL_CONFIG, routes: 256 });
  const route = await router(peer);
  const connections = Array.from(
    { length: 2 },
    () => peer.tables.allocateConnection({ filtered: false, learnEndpoint: false }) ?? 0,
  );
  for (const [bits, host] of [
    [32, ip("255.255.255.255")],
    [128, ip("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")],
  ] as const) {
    assert.equal(route(host), undefined);
    for (let length = 0; length <= bits; length++) {
      peer.tables.setRoute(IpPrefix.of(host, length), connections[length % 2] ?? 0);
      assert.equal(route(host), connections[length % 2], `/${length}`);
    }
    for (let length: number = bits; length >= 0; length--) {
      peer.tables.removeRoute(IpPrefix.of(host, length));
      assert.equal(route(host), length === 0 ? undefined : connections[(length - 1) % 2], `without /${length}`);
    }
  }
});

test("a full route table refuses new prefixes, takes new targets, and has room again after a removal", async () => {
  const peer = await EnginePeer.create({ ...SMALL_CONFIG, routes: 3 });
  const route = await router(peer);
  const slots = [0, 1].map(() => peer.tables.allocateConnection({ filtered: false, learnEndpoint: false }) ?? 0);
  const set = (text: string, target: number | undefined) => peer.tables.setRoute(prefix(text), target ?? 0);
  assert.deepEqual(
    ["10.0.0.0/24", "10.0.1.0/24", "2001:db8::/32", "10.0.2.0/24"].map((text) => set(text, slots[0])),
    [true, true, true, false],
  );
  assert.equal(route(ip("10.0.2.1")), undefined);
  assert.equal(set("10.0.1.0/24", slots[1]), true);
  assert.equal(route(ip("10.0.1.1")), slots[1]);
  peer.tables.removeRoute(prefix("10.0.0.0/24"));
  peer.tables.removeRoute(prefix("10.0.0.0/24"));
  assert.equal(set("10.0.2.0/24", slots[1]), true);
  assert.equal(route(ip("10.0.0.1")), undefined);
});

// ---- Capacities and reuse

test("connections: full is a return value; a released slot comes back when workers have moved on", async () => {
  const peer = await EnginePeer.create({ ...SMALL_CONFIG, connections: 2 });
  const { tables, engine } = peer;
  const allocate = () => tables.allocateConnection({ filtered: false, learnEndpoint: false });
  const slots = [allocate(), allocate()];
  assert.equal(allocate(), undefined);

  engine.leaveQuiescent();
  tables.releaseConnection(slots[0] ?? 0);
  assert.equal(allocate(), undefined);
  engine.leaveQuiescent();
  assert.equal(allocate(), undefined, "the same epoch");
  engine.enterQuiescent();
  engine.leaveQuiescent();
  assert.equal(allocate(), slots[0]);

  // A worker that sleeps holds nothing.
  engine.enterQuiescent();
  tables.releaseConnection(slots[1] ?? 0);
  assert.equal(allocate(), slots[1]);
});

test("what was retired after a snapshot waits for the next one", async () => {
  const peer = await EnginePeer.create({ ...SMALL_CONFIG, connections: 2 });
  const { tables, engine } = peer;
  const allocate = () => tables.allocateConnection({ filtered: false, learnEndpoint: false });
  const slots = [allocate() ?? 0, allocate() ?? 0];
  engine.leaveQuiescent();
  tables.releaseConnection(slots[0] ?? 0);
  tables.reclaim();
  engine.enterQuiescent();
  engine.leaveQuiescent();
  // The worker may have seen the second connection in its new round.
  tables.releaseConnection(slots[1] ?? 0);
  assert.equal(allocate(), slots[0]);
  assert.equal(allocate(), undefined);
  engine.enterQuiescent();
  assert.equal(allocate(), slots[1]);
});

test("releasing a connection takes everything with it, and its slot starts anew", async () => {
  const peer = await EnginePeer.create({ ...SMALL_CONFIG, connections: 1 });
  const { tables } = peer;
  const route = await router(peer);
  const A = ip("100.64.0.1");
  const packet = udpPacket({
    source: A,
    destination: ip("100.96.0.1"),
    sourcePort: 1,
    destinationPort: 2,
    payload: A.bytes,
  });
  const bytes = sealMessage(KEY_A_TO_B, INDEX_B, 1n, packet);
  const first = connect(peer, [IpPrefix.host(A)], { ...SIDE_B, filtered: true });
  tables.setFilters(first, [{ prefix: prefix("100.96.0.0/16"), rules: "allow-all" }]);
  assert.equal(peer.receive(4, [{ from: SOCKET_A, bytes }], 5).length, 1);
  assert.equal(tables.activity(first).rxPackets, 1);

  tables.releaseConnection(first);
  assert.equal(route(A), undefined);
  assert.throws(() => tables.setPath(first, undefined), /not allocated/);
  assert.throws(() => tables.setRoute(IpPrefix.host(A), first), /not allocated/);
  assert.throws(() => tables.releaseConnection(first), /not allocated/);
  peer.receive(4, [{ from: SOCKET_A, bytes }]);
  assert.equal(peer.exceptions().length, 1, "an unknown index");

  const second = connect(peer, [IpPrefix.host(A)], { ...SIDE_B, filtered: true });
  assert.equal(second, first);
  assert.deepEqual(new Set(Object.values(tables.activity(second))), new Set([0]));
  assert.equal(peer.receive(4, [{ from: SOCKET_A, bytes }]).length, 0, "no filters yet");
  assert.deepEqual(peer.drops(), { DestinationNotAllowed: 1 });
  // The replay window is a new one.
  assert.equal(tables.activity(second).rxPackets, 1);
});

test("issue 4: of many connections those are told that have carried something since the last time, each once", async () => {
  const peer = await EnginePeer.create({
    ...SMALL_CONFIG,
    connections: 1000,
    sessions: 1000,
    routes: 1000,
    paths: 1000,
  });
  const { tables, engine } = peer;
  const touched = () => {
    const slots: number[] = [];
    tables.forEachTouched((slot) => slots.push(slot));
    return slots.sort((a, b) => a - b);
  };
  const slots = Array.from({ length: 1000 }, (_, i) => connect(peer, [], { ...SIDE_B, localIndex: INDEX_B + i }));
  assert.deepEqual(touched(), []);

  // The first and last bits of words, by each of the ways in which a connection carries something.
  for (const slot of [31, 32, 999]) assert.equal(engine.sealKeepalive(slots[slot] ?? 0, 5), true);
  const bytes = sealMessage(KEY_A_TO_B, INDEX_B, 1n, new Uint8Array());
  peer.receive(4, [{ from: SOCKET_A, bytes }], 6);
  assert.deepEqual(touched(), [0, 31, 32, 999]);
  assert.deepEqual(touched(), [], "told once");

  assert.equal(engine.sealKeepalive(slots[31] ?? 0, 7), true);
  assert.equal(engine.sealKeepalive(slots[32] ?? 0, 7), true);
  tables.releaseConnection(slots[32] ?? 0);
  assert.deepEqual(touched(), [31], "and not of a connection that has gone");
  assert.equal(tables.activity(slots[31] ?? 0).sentAt, 7);
});

test("sessions: full is a return value; indices collide, move and are found", async () => {
  const peer = await EnginePeer.create({ ...SMALL_CONFIG, sessions: 64, routes: 64 });
  const connection = connect(peer, []);
  const install = (localIndex: number) =>
    peer.tables.installSession({
      connection,
      localIndex,
      remoteIndex: 1,
      sendKey: KEY_A_TO_B,
      receiveKey: KEY_A_TO_B,
      confirmed: true,
      createdAt: 0,
    });
  const exports = (await instantiate(peer.memory)) as unknown as {
    lookupSession(table: number, index: number): number;
  };
  const found = (localIndex: number) => exports.lookupSession(peer.layout.sessionIndex, localIndex) !== -1;
  const indices = Array.from({ length: 63 }, (_, i) => (i * 0x01000000 + 0x80 * i) >>> 0);
  for (const index of indices) assert.equal(install(index), true);
  assert.equal(install(0x12345678), false);
  // In the place of one that is there already.
  assert.equal(install(indices[5] ?? 0), true);
  const present = new Set([INDEX_A, ...indices]);
  let state = 1;
  for (let i = 0; i < 2000; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const index = indices[state % indices.length] ?? 0;
    if (present.has(index)) {
      peer.tables.removeSession(index);
      present.delete(index);
    } else {
      assert.equal(install(index), true);
      present.add(index);
    }
    for (const each of indices) assert.equal(found(each), present.has(each), `${each}`);
  }
});

test("only a session of the connection can become its current one", async () => {
  const peer = await EnginePeer.create();
  const first = connect(peer, []);
  const second = connect(peer, [], SIDE_B);
  assert.equal(peer.tables.setCurrentSession(first, INDEX_B), false);
  assert.equal(peer.tables.setCurrentSession(first, 0x999), false);
  assert.equal(peer.tables.setCurrentSession(second, INDEX_B), true);
  peer.tables.removeSession(INDEX_B);
  assert.equal(peer.engine.sealKeepalive(second, 0), false);
  assert.equal(peer.engine.sealKeepalive(first, 0), true);
});

test("paths: a full table leaves the path as it was", async () => {
  const peer = await EnginePeer.create({ ...SMALL_CONFIG, paths: 2 });
  const connection = connect(peer, []);
  peer.engine.leaveQuiescent();
  const set = (port: number) =>
    peer.tables.setPath(connection, { local: undefined, remote: socket(`203.0.113.1:${port}`) });
  assert.deepEqual([set(1), set(2)], [true, false]);
  peer.engine.sealKeepalive(connection, 0);
  assert.equal(peer.send(4)[0]?.to.port, 1);
  peer.engine.enterQuiescent();
  assert.equal(set(3), true);
});

// ---- Filters

const rule: fc.Arbitrary<FilterRule> = fc.oneof(
  fc
    .record({ protocol: fc.constantFrom("tcp" as const, "udp" as const), a: fc.nat(300), b: fc.nat(300) })
    .map(({ protocol, a, b }) => ({ protocol, first: Math.min(a, b), last: Math.max(a, b) })),
  fc.constant({ protocol: "icmp" as const }),
);
const grants: fc.Arbitrary<Filter[]> = fc.array(
  fc.record({
    prefix: fc
      .constantFrom("10.0.0.0/8", "10.1.0.0/16", "10.1.1.0/24", "10.1.1.1/32", "10.2.0.0/16", "0.0.0.0/0")
      .map(prefix),
    rules: fc.oneof(
      { weight: 9, arbitrary: fc.array(rule, { minLength: 1, maxLength: 20 }) },
      { weight: 1, arbitrary: fc.constant([]) },
    ),
  }),
  { maxLength: 6 },
);

test("spec 04, 10.3.24 to 27: a packet passes exactly when a granted rule matches", async () => {
  const peer = await EnginePeer.create({ ...SMALL_CONFIG, filters: 64, rules: 64 });
  const source = ip("100.64.0.1");
  const connection = connect(peer, [IpPrefix.host(source)], { ...SIDE_B, filtered: true });
  let counter = 0n;
  const destinations = ["10.0.0.1", "10.1.0.1", "10.1.1.1", "10.1.1.2", "10.2.0.1", "11.0.0.1"].map(ip);
  fc.assert(
    fc.property(grants, fc.constantFrom("tcp" as const, "udp" as const), fc.nat(301), (list, protocol, port) => {
      assert.equal(peer.tables.setFilters(connection, list), true);
      for (const destination of destinations) {
        const matching = list.filter((grant) => grant.prefix.contains(destination));
        const expected = matching.some(
          ({ rules }) =>
            rules.length === 0 ||
            rules === "allow-all" ||
            rules.some((r) => r.protocol !== "icmp" && r.protocol === protocol && r.first <= port && port <= r.last),
        );
        const fields = { source, destination, sourcePort: 7, destinationPort: port, payload: source.bytes };
        const packet = protocol === "tcp" ? tcpPacket({ ...fields, sequence: 1 }) : udpPacket(fields);
        const bytes = sealMessage(KEY_A_TO_B, INDEX_B, counter++, packet);
        const passed = peer.receive(4, [{ from: SOCKET_A, bytes }]).length === 1;
        assert.equal(passed, expected, `${protocol} ${destination}:${port}`);
      }
    }),
    { numRuns: 300, seed: 6 },
  );
});

test("filters that do not fit: nothing is allowed, and nothing is lost", async () => {
  const peer = await EnginePeer.create({ ...SMALL_CONFIG, filters: 4, rules: 2 });
  const source = ip("100.64.0.1");
  const connection = connect(peer, [IpPrefix.host(source)], { ...SIDE_B, filtered: true });
  let counter = 0n;
  const passes = (destination: string) => {
    const packet = udpPacket({
      source,
      destination: ip(destination),
      sourcePort: 7,
      destinationPort: 9,
      payload: source.bytes,
    });
    return (
      peer.receive(4, [{ from: SOCKET_A, bytes: sealMessage(KEY_A_TO_B, INDEX_B, counter++, packet) }]).length === 1
    );
  };
  const prefixes = (count: number): Filter[] =>
    Array.from({ length: count }, (_, i) => ({ prefix: prefix(`10.${i}.0.0/16`), rules: "allow-all" }));
  const ranges = (count: number): Filter[] => [
    {
      prefix: prefix("10.0.0.0/16"),
      rules: Array.from({ length: count }, (_, i) => ({ protocol: "udp", first: 9 + 2 * i, last: 9 + 2 * i })),
    },
  ];
  for (let i = 0; i < 20; i++) {
    assert.equal(peer.tables.setFilters(connection, prefixes(4)), true);
    assert.equal(passes("10.3.0.1"), true);
    assert.equal(peer.tables.setFilters(connection, prefixes(5)), false);
    assert.equal(passes("10.3.0.1"), false);
    assert.equal(peer.tables.setFilters(connection, ranges(30)), true, "two units");
    assert.equal(passes("10.0.0.1"), true);
    assert.equal(peer.tables.setFilters(connection, ranges(31)), false);
    assert.equal(passes("10.0.0.1"), false);
  }
});

test("filters of a prefix are the union of all that contain it, in disjoint ascending ranges", () => {
  const tcp = (first: number, last: number) => ({ protocol: "tcp" as const, first, last });
  const compiled = compileFilters([
    { prefix: prefix("10.0.0.0/24"), rules: [tcp(80, 90), tcp(10, 20), tcp(85, 100), tcp(21, 22)] },
    { prefix: prefix("10.0.0.0/8"), rules: [{ protocol: "icmp" }, { protocol: "udp", first: 0, last: 65535 }] },
    { prefix: prefix("2001:db8::/32"), rules: [tcp(5, 4), tcp(70000, 70001)] },
    { prefix: prefix("192.0.2.0/24"), rules: "allow-all" },
  ]);
  assert.deepEqual(
    compiled.map(({ prefix, rules }) => [prefix.toString(), rules]),
    [
      [
        "10.0.0.0/24",
        {
          tcp: [
            [10, 22],
            [80, 100],
          ],
          udp: [[0, 65535]],
          icmp: true,
        },
      ],
      ["10.0.0.0/8", { tcp: [], udp: [[0, 65535]], icmp: true }],
      ["2001:db8::/32", { tcp: [], udp: [], icmp: false }],
      ["192.0.2.0/24", "allow-all"],
    ],
  );
});

test("the pool of rule units gives out what is free, merges what comes back, and never overlaps", () => {
  const pool = new UnitPool(100);
  const taken = new Map<number, number>();
  let state = 7;
  const random = (bound: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * bound);
  };
  for (let i = 0; i < 3000; i++) {
    if (random(2) === 0) {
      const units = 1 + random(20);
      const start = pool.take(units);
      if (start === undefined) continue;
      assert.ok(start + units <= 100);
      for (const [other, size] of taken) assert.ok(start + units <= other || other + size <= start);
      taken.set(start, units);
    } else {
      const [first] = taken;
      if (first === undefined) continue;
      taken.delete(first[0]);
      pool.give(...first);
    }
  }
  for (const [start, units] of taken) pool.give(start, units);
  assert.deepEqual([pool.take(64), pool.take(32), pool.take(4), pool.take(1)], [0, 64, 96, undefined]);
});

// ---- Writers of fresh memories

test("two peers in one process have nothing to do with each other", async () => {
  const layout = createLayout(SMALL_CONFIG);
  const memories = [createMemory(layout), createMemory(layout)] as const;
  const tables = await Promise.all(memories.map((memory) => Tables.create({ memory, layout })));
  tables[0]?.setRoute(prefix("10.0.0.0/8"), 0xffff0002);
  assert.notDeepEqual(
    new Uint8Array(memories[0].buffer, layout.routes, 64),
    new Uint8Array(memories[1].buffer, layout.routes, 64),
  );
  const peer = await EnginePeer.create();
  peer.outbound(
    frameOf(
      udpPacket({
        source: SOCKET_A.ip,
        destination: SOCKET_B.ip,
        sourcePort: 1,
        destinationPort: 1,
        payload: SOCKET_A.ip.bytes,
      }),
    ),
  );
  assert.deepEqual(peer.drops(), { NoRoute: 1 });
});
