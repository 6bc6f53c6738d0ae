import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readdirSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { setTimeout } from "node:timers/promises";
import { Statistic } from "../../src/datapath/control-block.js";
import type { Datapath } from "../../src/datapath/datapath.js";
import { Drop, Exception, RouteTarget } from "../../src/engine/index.js";
import { openTun } from "../../src/system/linux/tun.js";
import { bindUdp } from "../../src/system/linux/udp.js";
import { UdpSender } from "../../src/system/linux/udp-message.js";
import {
  configureTun,
  join,
  type Pair,
  PairNetwork,
  type PairOptions,
  prefix,
  socketAddress,
  startPair,
} from "../support/datapath-pair.js";
import { echoRequest } from "../support/icmp.js";
import { namespaceSkip } from "../support/network-namespace.js";
import { receiveMessage } from "../support/udp-socket.js";

const openFiles = () => readdirSync("/proc/self/fd").length;

/** An exception, copied. */
interface Seen {
  readonly reason: Exception;
  readonly local: string;
  readonly remote: string;
  readonly payload: Uint8Array;
}

/** Collects exceptions of a datapath. */
function collectExceptions(datapath: Datapath): Seen[] {
  const seen: Seen[] = [];
  datapath.onExceptions({
    handle: (record) =>
      seen.push({
        reason: record.reason,
        local: `${record.localAddress.join(".")}:${record.localPort}`,
        remote: `${record.remoteAddress.join(".")}:${record.remotePort}`,
        payload: record.payload.slice(),
      }),
    endOfBatch: () => undefined,
  });
  return seen;
}

/** Waits until `condition` holds. */
async function until(condition: () => boolean, what: string): Promise<void> {
  for (let i = 0; i < 200; i++) {
    if (condition()) return;
    await setTimeout(10);
  }
  assert.fail(`did not happen: ${what}`);
}

describe("datapath", { skip: namespaceSkip }, () => {
  let network: PairNetwork;
  before(() => {
    network = new PairNetwork();
  });
  after(() => network.delete());

  async function withPair(options: PairOptions, action: (pair: Pair) => Promise<void>): Promise<void> {
    const pair = await startPair(network, options);
    try {
      await action(pair);
      assert.deepEqual([...pair.left.failures, ...pair.right.failures], []);
    } finally {
      await pair.stop();
    }
  }

  const ping = (from: Pair["left"], address: string, ...more: string[]) =>
    from.namespace.start("ping", "-n", "-i", "0.02", "-W", "2", "-c", "5", ...more, address);

  for (const options of [{}, { offloads: false }, { workers: 2 }, { underlay: 6 }] satisfies PairOptions[]) {
    test(`ping both ways, IPv4 and IPv6 (${JSON.stringify(options)})`, async () => {
      await withPair(options, async (pair) => {
        assert.match(await ping(pair.left, "198.51.100.2"), /5 received/);
        assert.match(await ping(pair.right, "198.51.100.1", "-s", "1200"), /5 received/);
        assert.match(await ping(pair.left, "2001:db8:2::2"), /5 received/);
        const { tun, sockets } = pair.left.datapath.statistics();
        assert.equal(tun?.name, "wl0");
        assert.equal(tun?.offloads.virtioHeader, options.offloads ?? true);
        assert.equal(sockets.length, 2);
        const written = () =>
          pair.left.datapath.statistics().workers.reduce((sum, worker) => sum + (worker[Statistic.TunWrites] ?? 0), 0);
        // A worker counts after the system call: on a busy machine ping may see the last reply before that.
        await until(() => written() >= 15, "the count of 15 packets");
        assert.equal(pair.left.tables.activity(pair.left.connection).rxPackets >= 15, true);
      });
    });
  }

  for (const options of [{}, { offloads: false }, { workers: 2 }, { underlay: 6 }] satisfies PairOptions[]) {
    test(`TCP arrives unharmed, both ways at once (${JSON.stringify(options)})`, async () => {
      await withPair(options, async (pair) => {
        const length = 8_000_000;
        const expected = createHash("sha256").update(testBytes(length)).digest("hex");
        for (const address of ["198.51.100.2", "2001:db8:2::2"]) {
          const server = pair.right.namespace.start(process.execPath, "-e", echoServer(length));
          const client = await pair.left.namespace.start(process.execPath, "-e", echoClient(address, length));
          assert.deepEqual([client.trim(), (await server).trim()], [expected, expected]);
        }
        const left = pair.left.tables.counters();
        assert.equal(left[Drop.BadTag], 0);
        assert.equal(left[Drop.Replayed], 0);
        const sum = (statistic: Statistic) =>
          pair.left.datapath.statistics().workers.reduce((total, worker) => total + (worker[statistic] ?? 0), 0);
        if (options.offloads !== false) {
          assert.ok(sum(Statistic.TunReads) < 20_000, "frames of many segments");
          assert.equal(sum(Statistic.CoalescingRefused), 0);
          assert.equal(sum(Statistic.SegmentationRefused), 0);
        }
      });
    });
  }

  test("an idle datapath sleeps", async () => {
    await withPair({ workers: 2 }, async ({ left, right }) => {
      await ping(left, "198.51.100.2");
      const sleeps = () =>
        [left, right]
          .flatMap((end) => end.datapath.statistics().workers)
          .reduce((sum, worker) => sum + (worker[Statistic.Sleeps] ?? 0), 0);
      const before = sleeps();
      const cpu = process.cpuUsage();
      await setTimeout(500);
      const { user, system } = process.cpuUsage(cpu);
      // The kernels of the namespaces send a router solicitation or a multicast report now and then.
      assert.ok(sleeps() - before < 20, `${sleeps() - before} wake-ups in half a second`);
      assert.ok(user + system < 200_000, `${user + system} µs of CPU in half a second`);
    });
  });

  test("an exception reaches the main thread, and its answer leaves from the address that was asked", async () => {
    await withPair({}, async ({ left }) => {
      const seen = collectExceptions(left.datapath);
      network.left.ip("addr", "add", "192.0.2.77/24", "dev", "net0");
      const asker = network.right.enter(() => bindUdp({ port: 0, families: [4] }));
      const fd = asker.ipv4?.fds[0] ?? -1;
      const stun = new Uint8Array(20);
      stun.set([0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42]);
      const port = left.datapath.localPorts.ipv4 ?? 0;
      const asked = socketAddress(`192.0.2.77:${port}`);
      assert.equal(new UdpSender().send(fd, { destination: asked, payload: stun }), 0);
      await until(() => seen.length > 0, "an exception");
      const remote = `192.0.2.2:${asker.ipv4?.port}`;
      assert.deepEqual(seen, [{ reason: Exception.Stun, local: String(asked), remote, payload: stun }]);

      left.datapath.sendControl({ source: asked, destination: socketAddress(remote), payload: Uint8Array.of(42) });
      const answer = receiveMessage(fd);
      assert.equal(String(answer?.source), String(asked));
      assert.deepEqual(answer?.payload, Uint8Array.of(42));
      const { main } = left.datapath.statistics();
      assert.equal(main.controlSent, 1);

      const wrongPort = socketAddress(`192.0.2.77:${port ^ 1}`);
      left.datapath.sendControl({ source: wrongPort, destination: socketAddress(remote), payload: stun });
      const wrongSource = socketAddress(`203.0.113.1:${port}`);
      left.datapath.sendControl({ source: wrongSource, destination: socketAddress(remote), payload: stun });
      assert.equal(left.datapath.statistics().main.controlUnsendable, 1);
      assert.equal(left.datapath.statistics().main.controlRefused, 1);
      network.left.ip("addr", "del", "192.0.2.77/24", "dev", "net0");
      asker.close();
    });
  });

  test("the main thread's packets: injected into the tunnel, delivered to the device, keepalives", async () => {
    await withPair({}, async ({ left, right }) => {
      const seen = collectExceptions(left.datapath);
      // The echo reply of the other end's kernel comes back through the tunnel.
      left.datapath.injectPacket(echoRequest("198.51.100.1", "198.51.100.2"));
      await until(() => left.tables.activity(left.connection).rxPackets === 1, "an answer to the injected packet");
      assert.equal(right.tables.activity(right.connection).rxPackets, 1);

      // Our kernel answers what is delivered to it, to a destination that the control plane wants to see.
      left.tables.setRoute(prefix("198.51.100.99/32"), RouteTarget.Exception);
      assert.equal(left.datapath.deliverToTun(echoRequest("198.51.100.99", "198.51.100.1")), true);
      await until(() => seen.length > 0, "an exception");
      assert.equal(seen[0]?.reason, Exception.RouteException);
      assert.deepEqual([...(seen[0]?.payload.subarray(12, 21) ?? [])], [198, 51, 100, 1, 198, 51, 100, 99, 0]);

      // A packet that the main thread sends itself can be an exception too.
      left.datapath.injectPacket(echoRequest("198.51.100.1", "198.51.100.99"));
      await until(() => seen.length > 1, "an exception of the main thread's own packet");

      assert.equal(left.datapath.sendKeepalive(left.connection), true);
      await until(() => right.tables.activity(right.connection).rxPackets === 2, "a keepalive");
      const activity = right.tables.activity(right.connection);
      assert.ok(activity.receivedAt >= activity.receivedDataAt);
      left.tables.setPath(left.connection, undefined);
      assert.equal(left.datapath.sendKeepalive(left.connection), false);
      network.left.ip("link", "set", "wl0", "down");
      assert.equal(left.datapath.deliverToTun(echoRequest("198.51.100.99", "198.51.100.1")), false);
    });
  });

  test("sockets are replaced under traffic: fresh ports, a chosen port, the same port again", async () => {
    await withPair({ workers: 2 }, async (pair) => {
      const { left, right } = pair;
      await ping(left, "198.51.100.2");
      const files = openFiles();
      const flood = ping(left, "198.51.100.2", "-c", "100");
      const before = left.datapath.localPorts;
      for (const port of [0, 0, 51820, 51820, 51821]) {
        await network.left.enterAsync(() => left.datapath.rebind({ port }));
        if (port !== 0) assert.deepEqual(left.datapath.localPorts, { ipv4: port, ipv6: port });
        join(left, right, 4);
        await setTimeout(100);
      }
      assert.notDeepEqual(left.datapath.localPorts, before);
      const received = Number(/(\d+) received/.exec(await flood)?.[1]);
      assert.ok(received >= 95, `${received} of 100 pings survived`);
      assert.match(await ping(right, "198.51.100.1"), /5 received/);
      assert.equal(openFiles(), files, "old sockets are closed");
    });
  });

  test("a port that is taken fails the change and leaves the old sockets at work", async () => {
    await withPair({}, async ({ left, right }) => {
      const taken = network.left.enter(() => bindUdp({ port: 51899 }));
      const before = left.datapath.localPorts;
      await network.left.enterAsync(() =>
        assert.rejects(left.datapath.rebind({ port: 51899 }), { code: "EADDRINUSE" }),
      );
      taken.close();
      assert.deepEqual(left.datapath.localPorts, before);
      assert.match(await ping(left, "198.51.100.2"), /5 received/);
      // The port that failed is forgotten.
      await network.left.enterAsync(() => left.datapath.rebind());
      assert.notEqual(left.datapath.localPorts.ipv4, 51899);
      join(left, right, 4);
      assert.match(await ping(left, "198.51.100.2"), /5 received/);
    });
  });

  test("the device is taken away and replaced", async () => {
    await withPair({}, async ({ left }) => {
      await left.datapath.replaceTun(undefined);
      assert.equal(left.datapath.tun, undefined);
      assert.doesNotMatch(network.left.ip("-o", "link"), /wl0/);
      await network.left.enterAsync(() => left.datapath.replaceTun({ name: "wl0", offloads: false }));
      configureTun(network.left, 1);
      assert.equal(left.datapath.statistics().tun?.offloads.virtioHeader, false);
      assert.match(await ping(left, "198.51.100.2"), /5 received/);
    });
  });

  test("an interface that somebody deletes ends the datapath with a clear error", async () => {
    const pair = await startPair(network, { workers: 2 });
    network.left.ip("link", "delete", "wl0");
    await until(() => pair.left.failures.length > 0, "a failure");
    assert.match(pair.left.failures[0]?.message ?? "", /datapath worker \d died: .*TUN device.*interface was removed/);
    await pair.stop();
    assert.equal(pair.left.failures.length, 1);
    assert.deepEqual(pair.right.failures, []);
  });

  test("an exception handler that throws ends the datapath with its error", async () => {
    const pair = await startPair(network);
    const bug = new Error("bug in the control plane");
    pair.left.datapath.onExceptions({
      handle: () => {
        throw bug;
      },
      endOfBatch: () => undefined,
    });
    pair.left.tables.setRoute(prefix("198.51.100.99/32"), RouteTarget.Exception);
    pair.left.datapath.injectPacket(echoRequest("198.51.100.1", "198.51.100.99"));
    await until(() => pair.left.failures.length > 0, "a failure");
    assert.deepEqual(pair.left.failures, [bug]);
    await pair.stop();
  });

  test("stop leaves no file descriptor and no interface, and a failed start neither", async () => {
    await (await startPair(network)).stop();
    const files = openFiles();
    const pair = await startPair(network, { workers: 2 });
    await pair.stop();
    await pair.stop();
    assert.equal(openFiles(), files);
    assert.doesNotMatch(network.left.ip("-o", "link"), /wl0/);
    await assert.rejects(pair.left.datapath.rebind(), /was stopped/);
    pair.left.datapath.sendControl({ destination: socketAddress("192.0.2.2:1"), payload: Uint8Array.of(1) });
    assert.equal(pair.left.datapath.statistics().main.controlUnsendable, 1);

    const taken = network.left.enter(() => openTun({ name: "wl0" }));
    await assert.rejects(startPair(network), /TUNSETIFF wl0: EBUSY/);
    taken.close();
    assert.equal(openFiles(), files);
  });
});

/** The bytes of a transfer: not periodic in any power of two. */
function testBytes(length: number): Buffer {
  return Buffer.from(Uint8Array.from({ length }, (_, i) => (i * 31 + (i >> 8) * 17) & 0xff));
}

/** Program: accepts one connection, sends back what it gets, prints the digest of it. */
function echoServer(length: number): string {
  return `
    const hash = require("node:crypto").createHash("sha256");
    let received = 0;
    const server = require("node:net").createServer((socket) => {
      server.close();
      socket.on("data", (data) => { hash.update(data); received += data.length; if (received === ${length}) console.log(hash.digest("hex")); });
      socket.pipe(socket);
    }).listen(7000, "::");`;
}

/** Program: sends the test bytes and prints the digest of what comes back. */
function echoClient(address: string, length: number): string {
  return `
    const hash = require("node:crypto").createHash("sha256");
    const connect = (attempts) => {
      const socket = require("node:net").connect(7000, "${address}");
      socket.on("error", (error) => { if (attempts > 0) setTimeout(connect, 100, attempts - 1); else throw error; });
      socket.on("connect", () => {
        socket.end(Buffer.from(Uint8Array.from({ length: ${length} }, (_, i) => (i * 31 + (i >> 8) * 17) & 0xff)));
        socket.on("data", (data) => hash.update(data));
        socket.on("end", () => console.log(hash.digest("hex")));
      });
    };
    connect(50);`;
}
