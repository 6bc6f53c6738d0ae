import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { test } from "node:test";
import { setTimeout } from "node:timers/promises";
import { clearEventCounter, EventCounter } from "../../src/system/linux/eventfd.js";
import { allocate } from "../../src/system/linux/libc.js";
import { ReadinessWatch } from "../../src/system/linux/readiness-watch.js";

const skip = process.platform !== "linux" && "needs Linux";

test("a descriptor that becomes readable is reported, again and again while it is", { skip }, async () => {
  const counter = new EventCounter();
  const scratch = allocate(8);
  let reports = 0;
  const watch = new ReadinessWatch(counter.fd, () => {
    // The first report reads nothing.
    if (++reports > 1) clearEventCounter(counter.fd, scratch.address);
  });
  await setTimeout(50);
  assert.equal(reports, 0);
  counter.signal();
  await setTimeout(150);
  assert.equal(reports, 2);
  counter.signal();
  await setTimeout(100);
  assert.equal(reports, 3);
  await new Promise<void>((resolve) => watch.stop(resolve));
  counter.close();
});

test("a watch can be stopped while it waits, between two reports, and in a report", { skip }, async () => {
  const counter = new EventCounter();
  await new Promise<void>((resolve) => new ReadinessWatch(counter.fd, () => assert.fail()).stop(resolve));
  counter.signal();
  await new Promise<void>((resolve) => {
    const inReport: ReadinessWatch = new ReadinessWatch(counter.fd, () => inReport.stop(resolve));
  });
  let reports = 0;
  const between = new ReadinessWatch(counter.fd, () => reports++);
  while (reports === 0) await setTimeout(1);
  await new Promise<void>((resolve) => between.stop(resolve));
  const seen = reports;
  await setTimeout(60);
  assert.equal(reports, seen);
  counter.close();
});

test("a process that watches can exit", { skip }, async () => {
  const path = (name: string) => JSON.stringify(new URL(`../../src/system/linux/${name}.js`, import.meta.url).href);
  const program = `
    const { EventCounter } = await import(${path("eventfd")});
    const { ReadinessWatch } = await import(${path("readiness-watch")});
    new ReadinessWatch(new EventCounter().fd, () => undefined);
    setTimeout(() => process.exit(3), 50);`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", program], { stdio: "inherit", timeout: 10_000 });
  const [code] = await once(child, "exit");
  assert.equal(code, 3);
});
