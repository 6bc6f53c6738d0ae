// The thread that opens initiations, for real.

import assert from "node:assert/strict";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { getPriority } from "node:os";
import { test } from "node:test";
import { setImmediate } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { BroadcastChannel } from "node:worker_threads";
import { SocketAddress } from "../../src/base/address.js";
import { BATCH_TIME_LIMIT, InitiationHelper, type InitiationSource } from "../../src/programs/wg/initiation-helper.js";
import { nodeCrypto, systemRandom } from "../../src/system/crypto.js";
import { LocalIdentity } from "../../src/wireguard/identity.js";
import { type BatchResult, InitiationBlock } from "../../src/wireguard/initiation-block.js";
import { BATCH_SIZE, type InitiationBatch, MAX_BATCHES } from "../../src/wireguard/initiation-queue.js";
import { parseMessage } from "../../src/wireguard/messages.js";
import { createInitiation, openInitiation } from "../../src/wireguard/noise.js";

const identity = LocalIdentity.generate(systemRandom, nodeCrypto);
const somewhere = SocketAddress.parse("192.0.2.1:51820");
assert.ok(somewhere);
const from = somewhere;

/** A batch of initiations of as many initiators, whose static keys it returns too. */
function batchOf(id: number, size: number): { batch: InitiationBatch; initiators: Uint8Array[] } {
  const initiators = Array.from({ length: size }, () => LocalIdentity.generate(systemRandom, nodeCrypto));
  const initiations = initiators.map((initiator) => {
    const created = createInitiation(nodeCrypto, {
      identity: initiator,
      remotePublicKey: identity.publicKey,
      staticStatic: new Uint8Array(32),
      ephemeralPrivateKey: systemRandom.bytes(32),
      localIndex: 7,
      timestamp: new Uint8Array(12),
    });
    const message = parseMessage(created?.message ?? new Uint8Array());
    assert.ok(message?.type === "initiation");
    return { message, local: from, from, length: 148 };
  });
  return { batch: { id, identity, initiations }, initiators: initiators.map(({ publicKey }) => publicKey) };
}

/** For tests that hand batches to the helper themselves. */
const NOTHING_WAITS: InitiationSource = {
  batchCounters: { batched: 0, full: 0, outdated: 0, failed: 0 },
  pollBatch: () => undefined,
  handleBatch: () => assert.fail("nobody has asked"),
};

/** Hangs with batches of one. Not to be imported here: it would make this thread nice. */
const HANGING_TASK = fileURLToPath(new URL("../support/hanging-initiation-task.js", import.meta.url));

/** The niceness of each thread of this process (proc(5): field 19 of stat; fields count from behind the name in parentheses). */
const threads = () =>
  readdirSync("/proc/self/task").map((id) => {
    const text = readFileSync(`/proc/self/task/${id}/stat`, "utf8");
    return Number(text.slice(text.lastIndexOf(")") + 2).split(" ")[16]);
  });

test("batches are opened in a thread that starts with the first one, in turn, and ends with the helper", async (t) => {
  const errors: unknown[] = [];
  const helper = new InitiationHelper(NOTHING_WAITS, (error) => errors.push(error));
  const before = threads();
  const wipes = t.mock.method(InitiationBlock.prototype, "wipe").mock;
  for (let round = 0; round < 3; round++) {
    const batches = Array.from({ length: MAX_BATCHES }, (_, i) => batchOf(2 * round + i, BATCH_SIZE - i));
    const answers = batches.map(({ batch }) => helper.open(batch));
    assert.equal(helper.hasRoom, false);
    for (const [i, { batch, initiators }] of batches.entries()) {
      const results = (await answers[i]) ?? [];
      assert.deepEqual(
        results.map((result) => typeof result === "object" && result.staticPublicKey),
        initiators,
      );
      const inLine = batch.initiations.map(({ message }) => openInitiation(nodeCrypto, identity, message));
      assert.deepEqual(results, inLine);
    }
    assert.equal(helper.hasRoom, true);
    assert.equal(wipes.callCount(), (round + 1) * MAX_BATCHES, "what was shared is wiped once it has been read");
  }
  const after = threads();
  assert.ok(after.length > before.length, "it is a thread");
  const own = getPriority();
  assert.ok(after.includes(Math.min(own + 10, 19)), "which leaves the cores to established traffic");
  assert.ok(after.filter((niceness) => niceness === own).length >= before.length, "and no other thread does");
  await helper.stop();
  assert.deepEqual(errors, []);
  assert.equal(helper.hasRoom, false);
});

test("what waits at the source is opened until nothing does, two batches at a time; what it has dropped is told once", async () => {
  const waiting = Array.from({ length: 5 }, (_, i) => batchOf(i, 1 + i).batch);
  const source = {
    batchCounters: { batched: 0, full: 3, outdated: 0, failed: 1 },
    pollBatch: () => waiting.shift(),
    handleBatch: (id: number, results: readonly BatchResult[] | undefined) =>
      answers.push(`${id}: ${results?.filter((result) => typeof result === "object").length}`),
  };
  const answers: string[] = [];
  const helper = new InitiationHelper(source, (error) => assert.fail(String(error)));
  helper.openWaiting();
  assert.equal(waiting.length, 5 - MAX_BATCHES);
  helper.openWaiting();
  assert.equal(waiting.length, 5 - MAX_BATCHES, "there is no room");
  while (answers.length < 5) await setImmediate();
  assert.deepEqual(answers, ["0: 1", "1: 2", "2: 3", "3: 4", "4: 5"]);
  assert.equal(helper.takeDropped(), 4);
  assert.equal(helper.takeDropped(), 0);
  source.batchCounters.outdated = 2;
  assert.equal(helper.takeDropped(), 2);
  await helper.stop();
});

test("a key that changes while a batch is computed leaves no answer with it; the next batch is answered", async () => {
  const helper = new InitiationHelper(NOTHING_WAITS, (error) => assert.fail(String(error)));
  const { batch } = batchOf(1, BATCH_SIZE);
  const answer = helper.open(batch);
  // Before the thread is up: it finds zeros.
  helper.wipe();
  for (const result of (await answer) ?? []) assert.equal(typeof result, "string");
  const next = batchOf(2, 1);
  const [result] = (await helper.open(next.batch)) ?? [];
  assert.ok(typeof result === "object");
  await helper.stop();
});

test("a helper that is stopped ends what is being computed without a report", async () => {
  const helper = new InitiationHelper(NOTHING_WAITS, (error) => assert.fail(String(error)));
  const answer = helper.open(batchOf(1, BATCH_SIZE).batch);
  await helper.stop();
  const results = await answer;
  assert.ok(results === undefined || results.every((result) => typeof result !== "object"));
});

test("a thread that hangs is ended after a while; its batches have failed, and others are opened by another", {
  timeout: 20_000,
}, async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const errors: unknown[] = [];
  const helper = new InitiationHelper(NOTHING_WAITS, (error) => errors.push(error), { taskModule: HANGING_TASK });
  t.after(() => helper.stop());
  const own = getPriority();
  const helperThreads = () => threads().filter((niceness) => niceness !== own).length;
  const channel = new BroadcastChannel("hanging-initiation-task");
  const hanging = once(channel, "message");
  const failing = [1, BATCH_SIZE].map((size, i) => helper.open(batchOf(i, size).batch));
  await hanging;
  channel.close();
  assert.equal(helperThreads(), 1);
  t.mock.timers.tick(BATCH_TIME_LIMIT - 1);
  assert.deepEqual(errors, []);
  t.mock.timers.tick(1);
  assert.equal(helper.hasRoom, false, "what may still be written to is in nobody's hands");
  assert.deepEqual(await Promise.all(failing), [undefined, undefined]);
  assert.deepEqual(errors.map(String), ["Error: no answer within 5 s"]);
  assert.equal(helperThreads(), 0);

  const answers = Array.from({ length: MAX_BATCHES }, (_, i) => helper.open(batchOf(2 + i, BATCH_SIZE).batch));
  for (const results of await Promise.all(answers)) {
    assert.equal(results?.length, BATCH_SIZE);
    for (const result of results) assert.equal(typeof result, "object");
  }
  t.mock.timers.tick(BATCH_TIME_LIMIT);
  assert.equal(helperThreads(), 1, "what has been answered is not late");
  assert.equal(helper.hasRoom, true);
  await helper.stop();
  assert.equal(errors.length, 1);
});
