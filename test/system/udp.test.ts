import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { IpAddress, SocketAddress } from "../../src/base/address.js";
import { Errno, SystemCallError } from "../../src/system/linux/errno.js";
import { allocate, check, getsockopt } from "../../src/system/linux/libc.js";
import {
  bindUdp,
  RECEIVE_BUFFER_SIZE,
  SEND_BUFFER_SIZE,
  segmentationIsSound,
  type UdpBinding,
} from "../../src/system/linux/udp.js";
import { MAX_UDP_PAYLOAD, UdpSender } from "../../src/system/linux/udp-message.js";
import { NetworkNamespace, namespaceSkip } from "../support/network-namespace.js";
import { receiveMessage, sendSegmented } from "../support/udp-socket.js";

/** Value of an integer socket option. */
function option(fd: number, level: number, name: number): number {
  const buffer = allocate(8);
  buffer.view.setUint32(4, 4, true);
  check(getsockopt(fd, level, name, buffer.address, buffer.address + 4), "getsockopt");
  return buffer.view.getInt32(0, true);
}

/** First socket and port of a family. */
function first(binding: UdpBinding, family: 4 | 6): { fd: number; port: number } {
  const sockets = family === 4 ? binding.ipv4 : binding.ipv6;
  assert.ok(sockets);
  return { fd: sockets.fds[0] ?? -1, port: sockets.port };
}

function address(text: string): SocketAddress {
  const parsed = SocketAddress.parse(text);
  assert.ok(parsed, text);
  return parsed;
}

function withBinding<T>(options: Parameters<typeof bindUdp>[0], action: (binding: UdpBinding) => T): T {
  const binding = bindUdp(options);
  try {
    return action(binding);
  } finally {
    binding.close();
  }
}

/** Whether this machine can bind IPv6 at all. */
const hasIpv6 = withBinding({ port: 0 }, (binding) => binding.ipv6 !== undefined);
const ipv6Skip = hasIpv6 ? false : "needs IPv6";

test("spec 04, 8.5: one socket per family on the same port; a second binding of the port is refused, and nothing leaks", () => {
  const files = readdirSync("/proc/self/fd").length;
  withBinding({ port: 0 }, (binding) => {
    const { port } = first(binding, 4);
    assert.ok(port > 0);
    if (binding.ipv6) assert.equal(binding.ipv6.port, port);
    const inUse = (error: unknown) => {
      assert.ok(error instanceof SystemCallError);
      assert.equal(error.errno, Errno.EADDRINUSE);
      assert.match(error.message, new RegExp(`bind UDP 0.0.0.0:${port}: EADDRINUSE`));
      return true;
    };
    assert.throws(() => bindUdp({ port }), inUse);
    assert.throws(() => bindUdp({ port, workers: 2 }), inUse);
  });
  assert.equal(readdirSync("/proc/self/fd").length, files);
});

test("a port shared by workers is not shared with another program of the same user", () => {
  withBinding({ port: 0, workers: 3 }, (binding) => {
    const sockets = binding.ipv4;
    assert.ok(sockets);
    assert.equal(new Set(sockets.fds).size, 3);
    for (const fd of sockets.fds) assert.equal(option(fd, 1, 15), 1, "SO_REUSEPORT");
    assert.throws(() => bindUdp({ port: sockets.port, workers: 2 }), { code: "EADDRINUSE" });
  });
});

test("spec 04, 8.5: options are set: packet info, do-not-fragment, V6ONLY, buffers as granted", () => {
  withBinding({ port: 0, workers: 2 }, ({ ipv4, ipv6 }) => {
    assert.ok(ipv4);
    for (const fd of ipv4.fds) {
      assert.equal(option(fd, 0, 8), 1, "IP_PKTINFO");
      assert.equal(option(fd, 0, 10), 3, "IP_MTU_DISCOVER: IP_PMTUDISC_PROBE");
      assert.equal(option(fd, 1, 8), 2 * ipv4.receiveBuffer);
      assert.equal(option(fd, 1, 7), 2 * ipv4.sendBuffer);
      if (ipv4.coalescing) assert.equal(option(fd, 17, 104), 1, "UDP_GRO");
    }
    for (const fd of ipv6?.fds ?? []) {
      assert.equal(option(fd, 41, 26), 1, "IPV6_V6ONLY");
      assert.equal(option(fd, 41, 49), 1, "IPV6_RECVPKTINFO");
      assert.equal(option(fd, 41, 23), 3, "IPV6_MTU_DISCOVER: IPV6_PMTUDISC_PROBE");
    }
    if (process.getuid?.() === 0) {
      assert.equal(ipv4.receiveBuffer, RECEIVE_BUFFER_SIZE);
      assert.equal(ipv4.sendBuffer, SEND_BUFFER_SIZE);
    }
  });
});

test("offloads can be switched off", () => {
  withBinding({ port: 0, offloads: false }, ({ ipv4 }) => {
    assert.equal(ipv4?.segmentation, false);
    assert.equal(ipv4?.coalescing, false);
    assert.equal(option(ipv4?.fds[0] ?? -1, 17, 104), 0);
  });
});

test("one family can be left out", () => {
  withBinding({ port: 0, families: [4] }, (binding) => {
    assert.equal(binding.ipv6, undefined);
    assert.deepEqual(binding.missing, []);
  });
  assert.throws(() => bindUdp({ port: 0, families: [] }), RangeError);
});

test("kernels whose segmentation corrupts datagrams are known", () => {
  for (const kernel of ["6.18.44-fc", "5.10.0-8-amd64", "7.1.5", "7.2.0-rc1", "8.0.0", "7.10.1"])
    assert.equal(segmentationIsSound(kernel), true, kernel);
  for (const kernel of ["7.0.0", "7.0.12-generic", "7.1.0", "7.1.4-arch1"])
    assert.equal(segmentationIsSound(kernel), false, kernel);
});

test("spec 05, 3.4: datagrams are marked", { skip: namespaceSkip }, () => {
  withBinding({ port: 0, mark: 0xfd002021 }, (binding) => {
    assert.equal(option(first(binding, 4).fd, 1, 36) >>> 0, 0xfd002021);
    if (binding.ipv6) assert.equal(option(first(binding, 6).fd, 1, 36) >>> 0, 0xfd002021);
  });
});

test("spec 04, 8.5: the explicit source address is honoured and the local address reported (127.0.0.2)", () => {
  withBinding({ port: 0 }, (a) => {
    withBinding({ port: 0 }, (b) => {
      const sender = new UdpSender();
      const payload = new TextEncoder().encode("hello");
      const { fd, port } = first(a, 4);
      const destination = address(`127.0.0.3:${first(b, 4).port}`);
      const expectFrom = (source: string, transmit: Parameters<UdpSender["send"]>[1]) => {
        assert.equal(sender.send(fd, transmit), 0);
        const message = receiveMessage(first(b, 4).fd);
        assert.equal(String(message?.source), `${source}:${port}`);
        assert.equal(String(message?.localIp), "127.0.0.3");
        assert.deepEqual(message?.payload, payload);
      };
      expectFrom("127.0.0.2", { source: address(`127.0.0.2:${port}`), destination, payload });
      expectFrom("127.0.0.1", { destination, payload });
      expectFrom("127.0.0.1", { source: address(`0.0.0.0:${port}`), destination, payload });
    });
  });
});

test("spec 04, 8.5: the same over IPv6", { skip: namespaceSkip || ipv6Skip }, () => {
  const namespace = new NetworkNamespace("udp6");
  try {
    for (const ip of ["2001:db8::2", "2001:db8::3"]) namespace.ip("addr", "add", `${ip}/128`, "dev", "lo");
    const a = namespace.enter(() => bindUdp({ port: 0 }));
    const b = namespace.enter(() => bindUdp({ port: 0 }));
    const { fd, port } = first(a, 6);
    const destination = address(`[2001:db8::3]:${first(b, 6).port}`);
    const source = address(`[2001:db8::2]:${port}`);
    assert.equal(new UdpSender().send(fd, { source, destination, payload: Uint8Array.of(1, 2, 3) }), 0);
    const message = receiveMessage(first(b, 6).fd);
    assert.equal(String(message?.source), `[2001:db8::2]:${port}`);
    assert.equal(String(message?.localIp), "2001:db8::3");
    a.close();
    b.close();
  } finally {
    namespace.delete();
  }
});

test("a source address that the host lacks, a payload too large and a missing route are error numbers", () => {
  withBinding({ port: 0 }, (binding) => {
    const { fd, port } = first(binding, 4);
    const sender = new UdpSender();
    const payload = Uint8Array.of(1);
    const loopback = address(`127.0.0.1:${port}`);
    const wrongSource = sender.send(fd, { source: address("192.0.2.1:1"), destination: loopback, payload });
    assert.ok(
      wrongSource === Errno.EINVAL || wrongSource === Errno.ENETUNREACH,
      `depends on the kernel: ${wrongSource}`,
    );
    assert.equal(
      sender.send(fd, { destination: loopback, payload: new Uint8Array(MAX_UDP_PAYLOAD + 1) }),
      Errno.EMSGSIZE,
    );
    assert.equal(sender.send(-1, { destination: loopback, payload }), Errno.EBADF);
    assert.equal(sender.send(fd, { destination: loopback, payload }), 0, "an error leaves nothing behind");
    assert.equal(receiveMessage(fd)?.payload.length, 1);
  });
});

test("UDP_SEGMENT sends many datagrams by one call, UDP_GRO receives them by few", (t) => {
  withBinding({ port: 0 }, (a) => {
    withBinding({ port: 0 }, (b) => {
      if (a.ipv4?.segmentation !== true || b.ipv4?.coalescing !== true) {
        t.skip("this kernel has no UDP segmentation or coalescing");
        return;
      }
      const payload = Uint8Array.from({ length: 10 * 1312 - 500 }, (_, i) => i * 7);
      const destination = address(`127.0.0.1:${first(b, 4).port}`);
      assert.equal(sendSegmented(first(a, 4).fd, destination, payload, 1312), payload.length);
      const received: number[] = [];
      while (received.length < payload.length) {
        const message = receiveMessage(first(b, 4).fd);
        assert.ok(message);
        assert.equal(message.segmentSize, 1312);
        received.push(...message.payload);
      }
      assert.deepEqual(Uint8Array.from(received), payload);
      // Somebody without UDP_GRO gets ten datagrams.
      withBinding({ port: 0, offloads: false }, (c) => {
        sendSegmented(first(a, 4).fd, address(`127.0.0.1:${first(c, 4).port}`), payload, 1312);
        const lengths = Array.from({ length: 10 }, () => receiveMessage(first(c, 4).fd)?.payload.length);
        assert.deepEqual(lengths, [...Array.from({ length: 9 }, () => 1312), 812]);
      });
    });
  });
});

describe("a host without IPv6", { skip: namespaceSkip }, () => {
  let namespace: NetworkNamespace;
  before(() => {
    namespace = new NetworkNamespace("noipv6");
    namespace.run("sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6");
  });
  after(() => namespace.delete());

  test("spec 05, 15.26: IPv4 works there", () => {
    const binding = namespace.enter(() => bindUdp({ port: 51820, workers: 2 }));
    const { fd, port } = first(binding, 4);
    assert.equal(port, 51820);
    const transmit = { destination: address("127.0.0.1:51820"), payload: Uint8Array.of(9) };
    assert.equal(new UdpSender().send(fd, transmit), 0);
    const received = (binding.ipv4?.fds ?? []).map((socket) => receiveMessage(socket, 100)).filter(Boolean);
    assert.equal(received.length, 1);
    assert.equal(
      IpAddress.parse("127.0.0.1")?.equals(received[0]?.localIp ?? IpAddress.fromBytes(new Uint8Array(4))),
      true,
    );
    binding.close();
  });
});
