import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readdirSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { type Assignment, NO_ASSIGNMENT } from "../../src/datapath/control-block.js";
import { type WorkerFailure, WorkerPool } from "../../src/datapath/pool.js";
import type { FakeWorkerTask } from "../support/fake-worker.js";

const FAKE_WORKER = fileURLToPath(new URL("../support/fake-worker.js", import.meta.url));

/** A pool of fake workers, and what it reported. */
async function startPool(tasks: readonly FakeWorkerTask[], heapLimit?: number) {
  const failures: WorkerFailure[] = [];
  let reportFailure: (failure: WorkerFailure) => void;
  const failed = new Promise<WorkerFailure>((resolve) => {
    reportFailure = resolve;
  });
  const pool = await WorkerPool.start<FakeWorkerTask>({
    workers: tasks.length,
    filename: FAKE_WORKER,
    task: (index) => tasks[index] ?? {},
    onFailure: (failure) => {
      failures.push(failure);
      reportFailure(failure);
    },
    ...(heapLimit !== undefined && { heapLimit }),
  });
  return { pool, failures, failed };
}

const openFiles = () => readdirSync("/proc/self/fd").length;

const assignment = (tun: number): Assignment => ({ ...NO_ASSIGNMENT, tun });

test("workers start, adopt assignments, and stop without leaving file descriptors", async () => {
  await (await startPool([{}])).pool.stop();
  const files = openFiles();
  const { pool, failures } = await startPool([{}, {}]);
  for (let round = 1; round <= 20; round++) {
    await pool.assign([assignment(round), assignment(100 + round)]);
    assert.deepEqual(
      pool.controls.map((control) => control.statistics[0]),
      [round, 100 + round],
    );
  }
  await pool.stop();
  await pool.stop();
  assert.deepEqual(failures, []);
  assert.equal(openFiles(), files);
});

test("a worker that does not come up fails the start, with its reason", async () => {
  const files = openFiles();
  await assert.rejects(startPool([{}, { fault: "throw", when: "start" }]), {
    name: "WorkerFailure",
    message: "datapath worker 1 died: the device fell off",
  });
  await assert.rejects(
    startPool([{ fault: "return", when: "start" }]),
    /datapath worker 0 returned without being asked to/,
  );
  assert.equal(openFiles(), files);
});

for (const [fault, message] of [
  ["throw", /^datapath worker 1 died: the device fell off$/],
  ["exit", /^datapath worker 1 died: .*(exited|code).*3/],
  ["return", /^datapath worker 1 returned without being asked to$/],
  ["memory", /^datapath worker 1 died: .*memory/],
] as const) {
  test(`the death of a worker surfaces: ${fault}`, { timeout: 30_000 }, async () => {
    const { pool, failures, failed } = await startPool([{}, { fault, when: "assigned" }], 32);
    await assert.rejects(pool.assign([assignment(1), assignment(2)]), { message });
    assert.match((await failed).message, message);
    await pool.stop();
    assert.equal(failures.length, 1, "reported once");
  });
}

test("a worker that hangs surfaces, and can be stopped", { timeout: 30_000 }, async () => {
  const { pool, failed } = await startPool([{ fault: "hang", when: "assigned" }]);
  await assert.rejects(pool.assign([assignment(1)]), /datapath worker 0 gave no answer for 5000 ms/);
  assert.match((await failed).message, /gave no answer/);
  await pool.stop();
});

test("the process can exit while workers sleep, on request and by an uncaught error", { timeout: 30_000 }, async () => {
  const module = JSON.stringify(new URL("../../src/datapath/pool.js", import.meta.url).href);
  const start = `
    import { WorkerPool } from ${module};
    await WorkerPool.start({ workers: 2, filename: ${JSON.stringify(FAKE_WORKER)}, task: () => ({}), onFailure: () => {} });`;
  const run = promisify(execFile);
  const inNode = (code: string) => run(process.execPath, ["--input-type=module", "-e", code], { timeout: 10_000 });
  await assert.rejects(inNode(`${start} process.exit(7);`), { code: 7 });
  await assert.rejects(inNode(`${start} throw new Error("uncaught");`), { code: 1 });
});
