// The control plane's look at IP packets.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { isIcmpError, parseIpPacket, synIdentity } from "../../src/packet/ip.js";
import { echoPacket, ipPacket, TCP_ACK, TCP_SYN, tcpPacket, udpPacket } from "../support/ip-packets.js";
import { assertProperty } from "../support/property.js";
import { ipAddress } from "../support/simulated-host.js";

const IPV4 = { source: ipAddress("192.0.2.1"), destination: ipAddress("198.51.100.1") };
const IPV6 = { source: ipAddress("2001:db8::1"), destination: ipAddress("2001:db8::2") };
const UDP = { sourcePort: 1, destinationPort: 2, payload: Uint8Array.of(1, 2, 3) };

test("spec 04, 7.2: headers of both versions, with options, and cut to their length", () => {
  for (const fields of [IPV4, IPV6, { ...IPV4, options: new Uint8Array(40) }]) {
    const bytes = udpPacket({ ...fields, ...UDP });
    const parsed = parseIpPacket(Uint8Array.of(...bytes, 0, 0, 0));
    assert.ok(parsed);
    assert.ok(parsed.source.equals(fields.source) && parsed.destination.equals(fields.destination));
    assert.deepEqual([parsed.protocol, parsed.isFragment, parsed.bytes], [17, false, bytes]);
    assert.equal(parsed.payloadOffset, bytes.length - 11);
    for (let length = 0; length < bytes.length; length++)
      assert.equal(parseIpPacket(bytes.subarray(0, length)), undefined, `${length}`);
  }
});

test("spec 04, 7.2: what is none of both, or contradicts itself, is no packet", () => {
  const bytes = udpPacket({ ...IPV4, ...UDP });
  const broken = (at: number, value: number) => parseIpPacket(bytes.map((byte, i) => (i === at ? value : byte)));
  assert.equal(broken(0, 0x55), undefined);
  assert.equal(broken(0, 0x44), undefined);
  assert.equal(broken(3, 19), undefined);
  assert.equal(parseIpPacket(new Uint8Array(0)), undefined);
});

test("fragments of both versions", () => {
  for (const [fragment, expected] of [
    [0x4000, false],
    [0x2000, true],
    [0x0001, true],
    [0x3fff, true],
  ] as const)
    assert.equal(parseIpPacket(udpPacket({ ...IPV4, ...UDP, fragment }))?.isFragment, expected);
  assert.equal(parseIpPacket(ipPacket(IPV6, 44, new Uint8Array(8)))?.isFragment, true);
});

test("a SYN is the same attempt when addresses, ports and sequence number are the same", () => {
  const syn = (extra: object, flags = TCP_SYN) => {
    const parsed = parseIpPacket(
      tcpPacket({
        ...IPV4,
        sourcePort: 1,
        destinationPort: 2,
        sequence: 3,
        payload: new Uint8Array(0),
        flags,
        ...extra,
      }),
    );
    assert.ok(parsed);
    return synIdentity(parsed);
  };
  assert.equal(syn({}), syn({ id: 9, ttl: 3, window: 7 }));
  for (const other of [{ sourcePort: 2 }, { destinationPort: 1 }, { sequence: 4 }, { source: ipAddress("192.0.2.2") }])
    assert.notEqual(syn(other), syn({}));
  assert.equal(syn({}, TCP_ACK), undefined);
  assert.equal(syn({}, TCP_SYN | TCP_ACK), undefined);
  const udp = parseIpPacket(udpPacket({ ...IPV4, ...UDP }));
  const short = parseIpPacket(ipPacket(IPV4, 6, new Uint8Array(19).fill(2)));
  assert.ok(udp && short);
  assert.deepEqual([synIdentity(udp), synIdentity(short)], [undefined, undefined]);
});

test("spec 04, 6.11: ICMP errors are those about other packets", () => {
  const icmp = (fields: typeof IPV4, protocol: number, ...payload: number[]) => {
    const parsed = parseIpPacket(ipPacket(fields, protocol, Uint8Array.from(payload)));
    assert.ok(parsed);
    return isIcmpError(parsed);
  };
  for (const type of [3, 4, 5, 11, 12]) assert.ok(icmp(IPV4, 1, type, 0), `${type}`);
  for (const type of [0, 8, 13]) assert.ok(!icmp(IPV4, 1, type, 0), `${type}`);
  for (const type of [1, 2, 3, 4]) assert.ok(icmp(IPV6, 58, type, 0), `${type}`);
  for (const type of [128, 129, 135]) assert.ok(!icmp(IPV6, 58, type, 0), `${type}`);
  assert.ok(!icmp(IPV4, 1) && !icmp(IPV4, 17, 3) && !icmp(IPV4, 58, 3) && !icmp(IPV6, 1, 3));
  const echo = parseIpPacket(echoPacket({ ...IPV4, payload: new Uint8Array(8) }));
  assert.ok(echo && !isIcmpError(echo));
});

test("random and mutated packets: never an exception, and never more bytes than there are", () => {
  const seeds = [
    udpPacket({ ...IPV4, ...UDP }),
    udpPacket({ ...IPV6, ...UDP }),
    echoPacket({ ...IPV4, payload: UDP.payload }),
  ];
  const mutated = fc
    .tuple(fc.constantFrom(...seeds), fc.array(fc.tuple(fc.nat(60), fc.nat(255)), { maxLength: 4 }), fc.nat(80))
    .map(([seed, changes, length]) => {
      const bytes = seed.slice(0, length);
      for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
      return bytes;
    });
  assertProperty(
    fc.property(fc.oneof(mutated, fc.uint8Array({ maxLength: 80 })), (bytes) => {
      const parsed = parseIpPacket(bytes);
      if (parsed === undefined) return;
      synIdentity(parsed);
      isIcmpError(parsed);
      assert.ok(parsed.bytes.length <= bytes.length && parsed.payloadOffset <= parsed.bytes.length);
    }),
    { seed: 4, numRuns: 20_000 },
  );
});
