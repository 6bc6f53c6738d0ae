// The emulated cable: what impairment.ts decides, and that frames between two hosts fare accordingly.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { ping } from "../../scripts/demo/ping.js";
import { Agenda } from "../../scripts/lab/agenda.js";
import type { LabHost } from "../../scripts/lab/host.js";
import { fateOf, type Impairment, Transmitter } from "../../scripts/lab/impairment.js";
import { Lab } from "../../scripts/lab/lab.js";
import { LinkEmulator, type LinkProperties } from "../../scripts/lab/link-emulator.js";
import { IpAddress } from "../../src/base/address.js";
import { labSkip } from "../support/lab-skip.js";
import { UdpEndpoint } from "./udp-endpoint.js";

const [ONE, OTHER] = ["192.0.2.1", "192.0.2.2"] as const;
const PORT = 40_000;

/** Two hosts on an emulated cable. */
async function withCable(
  link: LinkProperties,
  seed: number,
  action: (one: LabHost, other: LabHost, cable: LinkEmulator) => Promise<void>,
): Promise<void> {
  const lab = Lab.create();
  try {
    const [one, other] = [lab.host("one"), lab.host("other")];
    const cable = await LinkEmulator.connect(lab, one, other, { ipv4: [`${ONE}/24`, `${OTHER}/24`], link, seed });
    // The neighbours know each other's addresses before anything is counted.
    roundTrip(one);
    await action(one, other, cable);
  } finally {
    await lab.destroy();
  }
}

function roundTrip(from: LabHost, timeout = 3000): number | undefined {
  const address = IpAddress.parse(OTHER);
  assert.ok(address !== undefined);
  return from.enter(() => ping(address, timeout));
}

/** Sends numbered datagrams. @returns what arrived, in order of arrival. */
async function transfer(one: LabHost, other: LabHost, count: number, wait: number): Promise<number[]> {
  const [from, to] = [new UdpEndpoint(one, PORT), new UdpEndpoint(other, PORT)];
  for (let i = 0; i < count; i++) {
    from.send(`${OTHER}:${PORT}`, String(i));
    if (i % 50 === 49) await sleep(1);
  }
  const arrived: number[] = [];
  // Quiet for `wait` milliseconds: nothing is under way any more.
  for (let got = to.receive(3000); got !== undefined; got = to.receive(wait)) arrived.push(Number(got.text));
  from.close();
  to.close();
  return arrived;
}

function share(count: number, of: number): number {
  return count / of;
}

describe("impairment", () => {
  const fates = (seed: number, impairment: Impairment, direction = 0) =>
    Array.from({ length: 20_000 }, (_, number) => fateOf(seed, direction, number, impairment));

  test("the same seed decides the same, another seed or direction otherwise", () => {
    const impairment = { loss: 0.3, delay: 10, jitter: 5, duplicate: 0.1, reorder: 0.1 };
    assert.deepEqual(fates(7, impairment), fates(7, impairment));
    assert.notDeepEqual(fates(7, impairment), fates(8, impairment));
    assert.notDeepEqual(fates(7, impairment), fates(7, impairment, 1));
  });

  test("shares are met, and decisions on one packet do not depend on each other", () => {
    const all = fates(1, { loss: 0.1, duplicate: 0.2, delay: 20, jitter: 10, reorder: 0.05 });
    const delivered = all.flatMap((fate) => (fate.type === "delivered" ? [fate.delays] : []));
    const near = (value: number, expected: number) => assert.ok(Math.abs(value - expected) < 0.01, `${value}`);
    near(share(all.length - delivered.length, all.length), 0.1);
    near(share(delivered.filter((delays) => delays.length === 2).length, delivered.length), 0.2);
    near(share(delivered.filter(([first]) => first === 0).length, delivered.length), 0.05);
    const late = delivered.map(([first = 0]) => first).filter((delay) => delay > 0);
    assert.ok(Math.min(...late) >= 20 && Math.max(...late) < 30);
    near(late.reduce((sum, delay) => sum + delay, 0) / late.length / 100, 0.25);
  });

  test("a perfect link does nothing to packets", () => {
    assert.ok(fates(3, {}).every((fate) => fate.type === "delivered" && fate.delays.join() === "0"));
  });

  test("a rate sends one packet after the other, and the queue ends somewhere", () => {
    const wire = new Transmitter();
    const link = { rate: 8_000_000, queue: 10_000 };
    const times = Array.from({ length: 20 }, () => wire.transmit(1000, 1000, link));
    assert.deepEqual(times.slice(0, 3), [1001, 1002, 1003]);
    assert.equal(times.filter((time) => time === undefined).length, 9);
    assert.equal(wire.transmit(2000, 1000, link), 2001, "the wire is idle again");
    assert.equal(wire.transmit(5, 1000, {}), 5);
  });

  test("the agenda keeps the order of times, and of additions at one time", () => {
    const agenda = new Agenda<number>();
    const times = Array.from({ length: 500 }, (_, i) => (i * 7919) % 50);
    for (const [i, time] of times.entries()) agenda.add(time, i);
    const expected = [...times.keys()].sort((a, b) => (times[a] ?? 0) - (times[b] ?? 0) || a - b);
    assert.equal(agenda.takeUntil(-1), undefined);
    assert.deepEqual(
      times.map(() => agenda.takeUntil(100)),
      expected,
    );
    assert.equal(agenda.size, 0);
    assert.equal(agenda.takeUntil(100), undefined);
  });
});

describe("link emulator", { skip: labSkip }, () => {
  test("a perfect link delivers everything in order, both ways", async () => {
    await withCable({}, 1, async (one, other, cable) => {
      assert.deepEqual(
        await transfer(one, other, 1000, 200),
        Array.from({ length: 1000 }, (_, i) => i),
      );
      const [there, back] = await cable.statistics();
      assert.ok(there.received >= 1001 && there.lost === 0 && there.refused === 0, JSON.stringify(there));
      assert.ok(back.received >= 1 && back.received < 100, JSON.stringify(back));
    });
  });

  test("delay: each direction has its own, accurate to 1 ms", async (context) => {
    await withCable([{ delay: 20 }, { delay: 15 }], 1, async (one) => {
      const times = Array.from({ length: 15 }, () => roundTrip(one) ?? Number.NaN).sort((a, b) => a - b);
      const [fastest = 0, middle = 0] = [times[0], times[7]];
      context.diagnostic(`35 ms of delay: fastest ${fastest.toFixed(2)} ms, median ${middle.toFixed(2)} ms`);
      // Each way may be half a millisecond early; a machine that is busy makes single packets late, not all of them.
      assert.ok(fastest >= 33.9 && fastest < 37, `${times}`);
    });
  });

  test("loss, duplication and reordering in the stated shares, and the same ones again with the same seed", async (context) => {
    const link = [{ loss: 0.1, duplicate: 0.05, delay: 5, reorder: 0.02 }, {}] as const;
    const runs: { readonly lost: string; readonly twice: string }[] = [];
    const count = 2000;
    for (const seed of [42, 42, 43])
      await withCable(link, seed, async (one, other, cable) => {
        // The first ping may have been lost by design; numbering starts with the frames after it, in each run alike.
        const arrived = await transfer(one, other, count, 300);
        const times = new Map<number, number>();
        for (const number of arrived) times.set(number, (times.get(number) ?? 0) + 1);
        const lost = Array.from({ length: count }, (_, i) => i).filter((i) => !times.has(i));
        const twice = [...times].filter(([, n]) => n === 2).map(([i]) => i);
        runs.push({ lost: lost.join(), twice: twice.sort((a, b) => a - b).join() });
        const overtaken = arrived.filter((number, i) => i > 0 && number < (arrived[i - 1] ?? 0)).length;
        const [there] = await cable.statistics();
        context.diagnostic(
          `seed ${seed}: ${lost.length} lost, ${twice.length} twice, ${overtaken} overtaken of ${count}`,
        );
        assert.equal(there.tooMany + there.refused + there.queueFull, 0, JSON.stringify(there));
        assert.ok(lost.length > 140 && lost.length < 260, `${lost.length} lost`);
        assert.ok(twice.length > 50 && twice.length < 140, `${twice.length} twice`);
        assert.ok(overtaken > 5, `${overtaken} overtaken`);
      });
    assert.deepEqual(runs[0], runs[1]);
    assert.notDeepEqual(runs[0], runs[2]);
  });

  test("cut and changed while it runs", async () => {
    await withCable({}, 1, async (one, _other, cable) => {
      await cable.cut();
      assert.equal(roundTrip(one, 150), undefined);
      await cable.change({ delay: 30 });
      assert.ok((roundTrip(one) ?? 0) >= 58);
      await cable.change({});
      assert.ok(roundTrip(one) !== undefined);
    });
  });

  test("carries TCP at 300 Mbit/s and more, and no more than a rate allows", async (context) => {
    await withCable({}, 1, async (one, other, cable) => {
      const fast = await tcpRate(one, other, 1500);
      const [there, back] = await cable.statistics();
      context.diagnostic(`${(fast / 1e6).toFixed(0)} Mbit/s without impairment ${JSON.stringify([there, back])}`);
      await cable.change({ rate: 20e6, delay: 2 });
      const slow = await tcpRate(one, other, 1500);
      context.diagnostic(`${(slow / 1e6).toFixed(1)} Mbit/s at a rate of 20 Mbit/s`);
      assert.ok(slow > 10e6 && slow < 24e6, `${slow}`);
      // A machine that does other things meanwhile is not the emulator's fault: the figure above is for whoever reads it.
      assert.ok(fast > 60e6, `${fast}`);
    });
  });
});

const SINK = `let n = 0, t; require('net').createServer((s) => s.on('data', (d) => { t ??= performance.now(); n += d.length; })
  .on('end', () => { console.log(n * 8000 / (performance.now() - t)); process.exit(); })).listen(5001, () => console.log('ready'))`;

/** Bits per second that a TCP connection brings from one host to the other. */
async function tcpRate(one: LabHost, other: LabHost, milliseconds: number): Promise<number> {
  const sink = other.run(process.execPath, ["-e", SINK], { timeout: 30_000 });
  const source = `const s = require('net').connect(5001, '${OTHER}'), b = Buffer.alloc(1 << 18);
    s.on('error', () => setTimeout(() => process.exit(1), 50));
    const end = performance.now() + ${milliseconds};
    const pump = () => { if (performance.now() > end) s.end(); else s.write(b, pump); };
    s.on('connect', pump);`;
  for (let attempt = 0; attempt < 50; attempt++) {
    const { status } = await one.run(process.execPath, ["-e", source], { timeout: 30_000, allowFailure: true });
    if (status === 0) break;
  }
  const { stdout } = await sink;
  return Number(stdout.trim().split("\n").at(-1));
}
