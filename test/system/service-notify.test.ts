import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import {
  AF_UNIX,
  allocate,
  bind,
  check,
  close,
  MSG_DONTWAIT,
  recvfrom,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  socket,
} from "../../src/system/linux/libc.js";
import { ServiceNotifier, unixAddress } from "../../src/system/linux/service-notify.js";

/** A service manager's end of NOTIFY_SOCKET. */
class Manager {
  readonly #fd = check(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket");

  constructor(path: string) {
    const address = unixAddress(path);
    assert.ok(address);
    check(bind(this.#fd, address.target.address, address.length), `bind ${path}`);
  }

  /** The next datagram as text; `undefined` when there is none. */
  receive(): string | undefined {
    const buffer = allocate(4096);
    const length = recvfrom(this.#fd, buffer.address, 4096, MSG_DONTWAIT, 0, 0);
    return length === -1 ? undefined : new TextDecoder().decode(buffer.bytes.subarray(0, length));
  }

  close(): void {
    close(this.#fd);
  }
}

describe("service notification", () => {
  test("spec 05, 6.6: READY=1 goes to the socket, and the variable is unset", () => {
    const folder = mkdtempSync(join(tmpdir(), "wirelane-notify-"));
    const manager = new Manager(join(folder, "notify"));
    const environment = { NOTIFY_SOCKET: join(folder, "notify"), OTHER: "kept" };
    try {
      const notifier = ServiceNotifier.fromEnvironment(environment);
      assert.deepEqual(environment, { OTHER: "kept" });
      assert.deepEqual(notifier.ready(), { type: "sent" });
      assert.equal(manager.receive(), "READY=1");
      assert.deepEqual(notifier.status("two\nlines"), { type: "sent" });
      assert.equal(manager.receive(), "STATUS=two lines");
      assert.deepEqual(notifier.stopping(), { type: "sent" });
      assert.equal(manager.receive(), "STOPPING=1");
      assert.equal(manager.receive(), undefined);
    } finally {
      manager.close();
      rmSync(folder, { recursive: true });
    }
  });

  test("sockets in the abstract name space are addressed by @", () => {
    const path = `@wirelane/notify/${process.pid}`;
    const manager = new Manager(path);
    assert.deepEqual(new ServiceNotifier(path).ready(), { type: "sent" });
    assert.equal(manager.receive(), "READY=1");
    manager.close();
    assert.deepEqual(new ServiceNotifier(path).ready(), {
      type: "failed",
      reason: `NOTIFY_SOCKET=${path}: connection refused`,
    });
  });

  test("spec 05, 6.6: without a service manager it is silently skipped", () => {
    assert.deepEqual(ServiceNotifier.fromEnvironment({}).ready(), { type: "unsupervised" });
    assert.deepEqual(ServiceNotifier.fromEnvironment({ NOTIFY_SOCKET: "" }).ready(), { type: "unsupervised" });
  });

  test("what is no path, too long or nobody's socket is reported, not thrown", () => {
    for (const path of ["relative", "@", "/", "vsock:2:1234", `/${"x".repeat(107)}`, `@${"x".repeat(108)}`])
      assert.equal(new ServiceNotifier(path).ready().type, "failed", path);
    assert.ok(unixAddress(`/${"x".repeat(106)}`));
    assert.ok(unixAddress(`@${"x".repeat(107)}`));
  });
});
