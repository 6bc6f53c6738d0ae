// The configuration socket.

import assert from "node:assert/strict";
import { once } from "node:events";
import { existsSync, linkSync, mkdtempSync, rmSync, statSync, unlinkSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, test } from "node:test";
import { ERRNO } from "../../src/uapi/errno.js";
import { type UapiHandler, UapiServer } from "../../src/uapi/server.js";
import type { DeviceChange } from "../../src/wireguard/configuration.js";

const cleanups: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

function newPath(): string {
  const directory = mkdtempSync(join(tmpdir(), "wirelane-uapi-"));
  cleanups.push(() => rmSync(directory, { recursive: true, force: true }));
  return join(directory, "run", "wg0.sock");
}

/** A device that remembers what it was told. */
class RecordingHandler implements UapiHandler {
  readonly changes: DeviceChange[] = [];
  errno: number = ERRNO.ok;
  /** What `set` waits for. */
  gate: Promise<void> = Promise.resolve();
  failure: Error | undefined;

  get() {
    return { listenPort: 51820, fwmark: 0, peers: [] };
  }

  async set(change: DeviceChange) {
    await this.gate;
    if (this.failure !== undefined) throw this.failure;
    this.changes.push(change);
    return this.errno;
  }
}

/** A server whose errors are collected, and an event target that tells when its socket was deleted. */
async function listen(path: string, handler: UapiHandler = new RecordingHandler()) {
  const errors: unknown[] = [];
  const removal = new EventTarget();
  const server = await UapiServer.listen({
    path,
    handler,
    onRemoved: () => removal.dispatchEvent(new Event("removed")),
    onError: (error) => errors.push(error),
  });
  cleanups.push(() => server.close());
  return { server, errors, removal };
}

/** Sends `text`, closes the sending side (`half-close`) or waits for `answers` answers, and returns what came back. */
function ask(path: string, text: string, answers: number | "half-close"): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ path, allowHalfOpen: true });
    let received = "";
    socket.setEncoding("latin1");
    socket.on("error", reject);
    socket.on("data", (data: string) => {
      received += data;
      if (received.split("\n\n").length - 1 === answers) socket.end();
    });
    socket.on("close", () => resolve(received));
    socket.on("end", () => socket.end());
    if (answers === "half-close") socket.end(text);
    else socket.write(text);
  });
}

test("get and set are answered in order, on one connection and on several", async () => {
  const path = newPath();
  const handler = new RecordingHandler();
  await listen(path, handler);
  assert.equal(await ask(path, "get=1\n\n", 1), "listen_port=51820\nerrno=0\n\n");
  const both = await ask(path, "set=1\nlisten_port=7\n\nget=1\n\nset=1\nbad=1\n\n", 3);
  assert.equal(both, "errno=0\n\nlisten_port=51820\nerrno=0\n\nerrno=-22\n\n");
  const many = await Promise.all(Array.from({ length: 20 }, (_, i) => ask(path, `set=1\nfwmark=${i}\n\n`, 1)));
  assert.deepEqual(new Set(many), new Set(["errno=0\n\n"]));
  assert.deepEqual(
    handler.changes
      .slice(1)
      .map(({ fwmark }) => fwmark)
      .sort((a, b) => (a ?? 0) - (b ?? 0)),
    Array.from({ length: 20 }, (_, i) => i),
  );
});

test("a client that closes its side after asking is still answered", async () => {
  const path = newPath();
  await listen(path);
  assert.equal(await ask(path, "get=1\n\n", "half-close"), "listen_port=51820\nerrno=0\n\n");
  assert.equal(await ask(path, "set=1\nfwmark=1\n\n", "half-close"), "errno=0\n\n");
  assert.equal(await ask(path, "set=1\nfwmark=1\n", "half-close"), "", "an unfinished request has no answer");
});

test("the device's error number is passed on, an exception becomes EIO", async () => {
  const path = newPath();
  const handler = new RecordingHandler();
  const { errors } = await listen(path, handler);
  handler.errno = ERRNO.EADDRINUSE;
  assert.equal(await ask(path, "set=1\nlisten_port=7\n\n", 1), "errno=-98\n\n");
  handler.failure = new Error("no");
  assert.equal(await ask(path, "set=1\nlisten_port=7\n\n", 1), "errno=-5\n\n");
  assert.deepEqual(errors, [handler.failure]);
  handler.failure = undefined;
  handler.errno = ERRNO.ok;
  assert.equal(await ask(path, "set=1\nlisten_port=7\n\n", 1), "errno=0\n\n", "the server goes on");
});

test("text that is no request is answered with EPROTO and the connection ends", async () => {
  const path = newPath();
  await listen(path);
  assert.equal(await ask(path, "GET / HTTP/1.1\r\n\r\n", 99), "errno=-71\n\n");
});

test("secrets in a change are wiped once the device has them", async () => {
  const path = newPath();
  const seen: DeviceChange[] = [];
  await listen(path, {
    get: () => ({ listenPort: 0, fwmark: 0, peers: [] }),
    set: async (change) => {
      seen.push(change);
      assert.equal(change.privateKey?.[0], 0x11);
      return ERRNO.ok;
    },
  });
  const key = "11".repeat(32);
  await ask(path, `set=1\nprivate_key=${key}\npublic_key=${key}\npreshared_key=${key}\n\n`, 1);
  assert.ok(seen[0]?.privateKey?.every((byte) => byte === 0));
  assert.ok(seen[0]?.peers[0]?.presharedKey?.every((byte) => byte === 0));
});

test("the socket is for its owner only, its directory is made, and it goes with the server", async () => {
  const path = newPath();
  const { server } = await listen(path);
  assert.equal(statSync(path).mode & 0o777, 0o600);
  await server.close();
  assert.equal(existsSync(path), false);
});

test("a socket that its owner left behind is replaced, one in use is not", async () => {
  const path = newPath();
  const { server } = await listen(path);
  await assert.rejects(listen(path), /in use/);
  assert.equal(await ask(path, "get=1\n\n", 1), "listen_port=51820\nerrno=0\n\n", "and still works");

  // A process that was killed leaves its socket: here, a copy of the name outlives the server.
  linkSync(path, `${path}.left`);
  await server.close();
  linkSync(`${path}.left`, path);
  await listen(path);
  assert.equal(await ask(path, "get=1\n\n", 1), "listen_port=51820\nerrno=0\n\n");
});

test("deleting the socket's file is noticed: the device is to end", async () => {
  const path = newPath();
  const { removal } = await listen(path);
  const removed = once(removal, "removed");
  unlinkSync(path);
  await removed;
});
