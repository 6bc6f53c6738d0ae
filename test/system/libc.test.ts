import assert from "node:assert/strict";
import { test } from "node:test";
import { IpAddress, SocketAddress } from "../../src/base/address.js";
import { clearEventCounter, EventCounter } from "../../src/system/linux/eventfd.js";
import {
  addressOf,
  allocate,
  check,
  close,
  O_CLOEXEC,
  O_RDONLY,
  open,
  POLLIN,
  read,
} from "../../src/system/linux/libc.js";
import { PollSet } from "../../src/system/linux/poll.js";
import {
  readSocketAddress,
  SOCKADDR_IN_SIZE,
  SOCKADDR_IN6_SIZE,
  writeSocketAddress,
} from "../../src/system/linux/sockaddr.js";

test("system calls write straight into shared memory, at an offset", () => {
  const bytes = new Uint8Array(new SharedArrayBuffer(4096));
  const fd = check(open("/proc/self/comm", O_RDONLY | O_CLOEXEC, 0), "open");
  const length = check(read(fd, addressOf(bytes) + 1000, 64), "read");
  close(fd);
  assert.ok(length > 1);
  assert.notEqual(bytes[1000], 0);
  assert.equal(bytes[1000 + length - 1], 10, "comm ends in a line feed");
  assert.equal(bytes[999], 0);
  assert.equal(bytes[1000 + length], 0);
});

test("the address of a view includes its offset; an empty view has none", () => {
  const buffer = new ArrayBuffer(64);
  assert.equal(addressOf(new Uint8Array(buffer, 16)), addressOf(new Uint8Array(buffer)) + 16);
  assert.throws(() => addressOf(new Uint8Array(0)), RangeError);
});

test("small native buffers stay where they are when garbage is collected", () => {
  const buffers = Array.from({ length: 1000 }, () => allocate(8));
  let garbage: Uint8Array[] = [];
  for (let i = 0; i < 50; i++) garbage = Array.from({ length: 1000 }, () => new Uint8Array(1000));
  assert.equal(garbage.length, 1000);
  for (const buffer of buffers) assert.equal(addressOf(buffer.bytes), buffer.address);
});

test("socket addresses are laid out as the kernel wants them", () => {
  const buffer = allocate(64);
  const ipv4 = SocketAddress.parse("192.0.2.7:51820");
  const ipv6 = SocketAddress.parse("[2001:db8::7]:443");
  assert.ok(ipv4 && ipv6);
  assert.equal(writeSocketAddress(buffer, 8, ipv4), SOCKADDR_IN_SIZE);
  assert.deepEqual([...buffer.bytes.subarray(8, 16)], [2, 0, 0xca, 0x6c, 192, 0, 2, 7]);
  assert.deepEqual(readSocketAddress(buffer, 8), ipv4);
  buffer.bytes.fill(0xff);
  assert.equal(writeSocketAddress(buffer, 0, ipv6), SOCKADDR_IN6_SIZE);
  assert.deepEqual([...buffer.bytes.subarray(0, 12)], [10, 0, 1, 0xbb, 0, 0, 0, 0, 0x20, 1, 0x0d, 0xb8]);
  assert.deepEqual([...buffer.bytes.subarray(24, 29)], [0, 0, 0, 0, 0xff], "scope id 0, nothing beyond");
  assert.deepEqual(readSocketAddress(buffer, 0), ipv6);
  buffer.view.setUint16(0, 1, true);
  assert.equal(readSocketAddress(buffer, 0), undefined);
  assert.equal(IpAddress.parse("192.0.2.7")?.family, 4);
});

test("poll sees an event counter, sleeps no longer than told, and ignores switched-off entries", () => {
  const counter = new EventCounter();
  const scratch = allocate(8);
  const set = new PollSet(3);
  set.set(1, counter.fd, POLLIN);
  set.set(2, -1, POLLIN);
  assert.equal(set.wait(0), 0);
  counter.signal();
  counter.signal();
  assert.equal(set.wait(1000), 1);
  assert.equal(set.ready(1), POLLIN);
  assert.equal(set.ready(0), 0);
  assert.equal(set.ready(2), 0);
  clearEventCounter(counter.fd, scratch.address);
  clearEventCounter(counter.fd, scratch.address);
  assert.equal(set.wait(0), 0);
  counter.close();
});
