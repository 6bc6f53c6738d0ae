import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { Errno, SystemCallError } from "../../src/system/linux/errno.js";
import { allocate, errno, read, write } from "../../src/system/linux/libc.js";
import { openTun, type TunDevice, type TunOptions, VIRTIO_HEADER_LENGTH } from "../../src/system/linux/tun.js";
import { NetworkNamespace, namespaceSkip } from "../support/network-namespace.js";

/** Number of open file descriptors of this process. */
function openFiles(): number {
  return readdirSync("/proc/self/fd").length;
}

test("impossible interface names are refused with a reason", () => {
  for (const name of ["", "sixteen-letters-", "with space", "a/b", "a:b", ".", "..", "zero\0byte", "äöüäöüäö"])
    assert.throws(() => openTun({ name }), { name: "RangeError", message: /interface name/ }, name);
});

describe("TUN device", { skip: namespaceSkip }, () => {
  let namespace: NetworkNamespace;
  before(() => {
    namespace = new NetworkNamespace("tun");
  });
  after(() => namespace.delete());

  const openInside = (options: TunOptions) => namespace.enter(() => openTun(options));

  const interfaces = () => namespace.ip("-o", "link").match(/wltun\d*/g) ?? [];

  test("spec 05, 15.22: 50 create/drop cycles of the TUN device in one process succeed", () => {
    const files = openFiles();
    for (let i = 0; i < 50; i++) {
      const device = openInside({ name: "wltun", queues: 1 + (i % 3) });
      assert.equal(device.name, "wltun");
      device.close();
    }
    assert.equal(openFiles(), files);
    assert.deepEqual(interfaces(), []);
  });

  test("spec 05, 3.1: the interface vanishes with its file descriptor, and close is idempotent", () => {
    const device = openInside({ name: "wltun" });
    assert.equal(interfaces().length, 1);
    device.close();
    device.close();
    assert.deepEqual(interfaces(), []);
  });

  test("the kernel chooses the number in a name", () => {
    const devices = [openInside({ name: "wltun%d" }), openInside({ name: "wltun%d", queues: 2 })];
    assert.deepEqual(
      devices.map((device) => device.name),
      ["wltun0", "wltun1"],
    );
    assert.equal(devices[1]?.queues.length, 2);
    for (const device of devices) device.close();
  });

  test("a device in use, with one queue or several, is refused with a reason", () => {
    for (const queues of [1, 2]) {
      const device = openInside({ name: "wltun", queues });
      const files = openFiles();
      assert.throws(
        () => openInside({ name: "wltun", queues }),
        (error: unknown) => {
          assert.ok(error instanceof SystemCallError);
          assert.equal(error.errno, Errno.EBUSY);
          assert.match(error.message, /TUNSETIFF wltun: EBUSY.*another process/);
          return true;
        },
      );
      assert.equal(openFiles(), files, "nothing leaks on failure");
      device.close();
    }
  });

  test("the name of an interface of another kind is refused with a reason", () => {
    assert.throws(() => openInside({ name: "lo" }), /TUNSETIFF lo: EINVAL.*no tun device/);
  });

  test("spec 05, 3.1.1: a missing clone device is created with its directory", () => {
    const directory = mkdtempSync(join(tmpdir(), "wirelane-tun-"));
    try {
      const clonePath = join(directory, "net", "tun");
      openInside({ name: "wltun", clonePath }).close();
      assert.equal(statSync(join(directory, "net")).mode & 0o777, 0o751);
      const node = statSync(clonePath);
      assert.ok(node.isCharacterDevice());
      assert.equal(node.rdev, 10 * 256 + 200);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  test("frames carry a virtio header exactly when offloads are on", async () => {
    for (const offloads of [true, false]) {
      const device = openInside({ name: "wltun", offloads });
      assert.equal(device.offloads.virtioHeader, offloads);
      if (!offloads)
        assert.deepEqual(device.offloads, { virtioHeader: false, checksum: false, tso: false, uso: false });
      const header = offloads ? VIRTIO_HEADER_LENGTH : 0;
      namespace.ip("addr", "add", "192.0.2.1/24", "dev", "wltun");
      namespace.ip("link", "set", "wltun", "up");

      const echo = readIpv4(device, header, () => sendPing(namespace, "192.0.2.2"));
      assert.equal(echo[header] ?? 0, 0x45);
      assert.deepEqual([...echo.subarray(header + 12, header + 20)], [192, 0, 2, 1, 192, 0, 2, 2]);
      assert.ok(
        echo.subarray(0, header).every((byte) => byte === 0),
        "a single packet has an empty header",
      );
      device.close();
    }
  });

  test("spec 05, 3.1.5: writing to an interface that is down fails with EIO; reading an idle one with EAGAIN", () => {
    const device = openInside({ name: "wltun" });
    const frame = allocate(100);
    frame.bytes[VIRTIO_HEADER_LENGTH] = 0x45;
    const fd = device.queues[0] ?? -1;
    assert.equal(read(fd, frame.address, 100), -1);
    assert.equal(errno(), Errno.EAGAIN);
    assert.equal(write(fd, frame.address, 50), -1);
    assert.equal(errno(), Errno.EIO);
    device.close();
  });

  test("reading from a deleted interface fails with EBADFD", () => {
    const device = openInside({ name: "wltun" });
    namespace.ip("link", "delete", "wltun");
    const frame = allocate(100);
    assert.equal(read(device.queues[0] ?? -1, frame.address, 100), -1);
    assert.equal(errno(), Errno.EBADFD);
    device.close();
  });
});

/** Makes the namespace send something to `address`, without waiting for an answer. */
function sendPing(namespace: NetworkNamespace, address: string): void {
  try {
    namespace.run("ping", "-c", "1", "-W", "0.1", "-n", address);
  } catch (error) {
    // Nobody answers: that is its exit status 1.
    assert.match(String(error), /Command failed/);
  }
}

/** The first IPv4 frame in the device's queue after `action`; router solicitations and the like are skipped. */
function readIpv4(device: TunDevice, header: number, action: () => void): Uint8Array {
  action();
  const frame = allocate(2000);
  for (;;) {
    const length = read(device.queues[0] ?? -1, frame.address, 2000);
    assert.ok(length > 0, "no IPv4 frame came");
    if ((frame.bytes[header] ?? 0) >> 4 === 4) return frame.bytes.subarray(0, length);
  }
}
