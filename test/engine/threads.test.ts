// Several threads on one memory: counters are never used twice, messages are accepted once, and lookups hold while the tables
// change.

import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { IpAddress, IpPrefix } from "../../src/base/address.js";
import {
  connect,
  EnginePeer,
  INDEX_B,
  ip,
  KEY_A_TO_B,
  SIDE_B,
  SMALL_CONFIG,
  SOCKET_B,
  sealMessage,
} from "../support/engine-peer.js";
import type { ThreadResult, ThreadTask } from "../support/engine-thread.js";
import { frameOf, tcpGsoFrame, udpPacket } from "../support/ip-packets.js";

const THREADS = 3;

/** Runs the same work on three workers at once, and `meanwhile` on this thread until they are done. */
async function onThreads(peer: EnginePeer, work: ThreadTask["work"], meanwhile: () => void): Promise<ThreadResult[]> {
  const barrier = new Int32Array(new SharedArrayBuffer(4));
  let running = THREADS;
  const results = Array.from({ length: THREADS }, async (_, i) => {
    const task: ThreadTask = {
      memory: peer.memory,
      layout: peer.layout,
      slot: i + 1,
      barrier,
      start: THREADS,
      work,
    };
    const worker = new Worker(new URL("../support/engine-thread.js", import.meta.url), { workerData: task });
    try {
      return await new Promise<ThreadResult>((resolve, reject) => {
        worker.once("message", resolve);
        worker.once("error", reject);
      });
    } finally {
      running--;
      await worker.terminate();
    }
  });
  while (running > 0) {
    meanwhile();
    await sleep(0);
  }
  return Promise.all(results);
}

test("field notes 4.3: workers that seal for one session never use a counter twice", async () => {
  const peer = await EnginePeer.create({ ...SMALL_CONFIG, workers: THREADS, routes: 4096 });
  const destination = ip("100.96.0.1");
  const fields = { source: ip("100.64.0.1"), destination, sourcePort: 1, destinationPort: 2 };
  const connection = connect(peer, [IpPrefix.host(destination)]);
  peer.tables.setPath(connection, { local: undefined, remote: SOCKET_B });
  const frames = [
    tcpGsoFrame({ ...fields, sequence: 1, payload: new Uint8Array(10_000) }, 1000),
    frameOf(udpPacket({ ...fields, payload: new Uint8Array(100) })),
    frameOf(udpPacket({ ...fields, payload: new Uint8Array(100) })),
  ];
  const rounds = 400;
  // Meanwhile routes around the one in use come and go, so that entries move.
  let turn = 0;
  const results = await onThreads(peer, { kind: "send", frames, rounds }, () => {
    for (let i = 0; i < 200; i++) {
      turn++;
      const address = IpAddress.fromBytes(Uint8Array.of(100, 96, (turn >> 8) & 15, turn & 255));
      const prefix = IpPrefix.of(address, 24 + (turn % 8));
      if (turn & 0x1000) peer.tables.removeRoute(prefix);
      else peer.tables.setRoute(prefix, connection);
    }
    peer.tables.setPath(connection, { local: undefined, remote: SOCKET_B });
    peer.tables.reclaim();
  });
  const counters = results.flatMap((result) => result.counters);
  assert.equal(counters.length, THREADS * rounds * 12);
  assert.equal(new Set(counters).size, counters.length);
  for (const result of results)
    for (const [i, counter] of result.counters.entries())
      assert.ok(i === 0 || counter > (result.counters[i - 1] ?? 0n), "a worker's counters ascend");
  assert.deepEqual(peer.drops(), {});
  const { txPackets } = peer.tables.activity(connection);
  assert.equal(txPackets, counters.length);
});

test("a message that several workers receive is accepted once", async () => {
  const peer = await EnginePeer.create({ ...SMALL_CONFIG, workers: THREADS, sessions: 256 });
  const source = ip("100.64.0.1");
  const connection = connect(peer, [IpPrefix.host(source)], SIDE_B);
  const packet = udpPacket({
    source,
    destination: ip("100.96.0.1"),
    sourcePort: 1,
    destinationPort: 2,
    payload: source.bytes,
  });
  const count = 6000;
  const datagrams = Array.from({ length: count }, (_, i) => sealMessage(KEY_A_TO_B, INDEX_B, BigInt(i), packet));
  // Meanwhile other sessions come and go.
  let turn = 0;
  const results = await onThreads(peer, { kind: "receive", datagrams }, () => {
    for (let i = 0; i < 100; i++) {
      turn++;
      const localIndex = 0x1000 + (turn % 200) * 0x0100_0001;
      if (turn % 3 === 0) peer.tables.removeSession(localIndex >>> 0);
      else
        peer.tables.installSession({
          connection,
          localIndex: localIndex >>> 0,
          remoteIndex: 0,
          sendKey: KEY_A_TO_B,
          receiveKey: KEY_A_TO_B,
          confirmed: true,
          createdAt: 0,
        });
    }
    peer.tables.reclaim();
  });
  const accepted = results.reduce((sum, { frames }) => sum + frames, 0);
  assert.equal(accepted, peer.tables.activity(connection).rxPackets);
  assert.deepEqual(peer.exceptions(), []);
  // None is ever too old: there are fewer than the window holds.
  assert.equal(accepted, count);
  assert.deepEqual(peer.drops(), { Replayed: (THREADS - 1) * count });
});
