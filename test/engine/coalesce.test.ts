// Coalescing for the TUN device, rule by rule (datapath: the kernel's own GRO rules; field notes, section 3).

import assert from "node:assert/strict";
import { test } from "node:test";
import { IpPrefix } from "../../src/base/address.js";
import { concatBytes, toHex, viewOf } from "../../src/base/bytes.js";
import { connect, EnginePeer, INDEX_B, ip, KEY_A_TO_B, SIDE_B, SOCKET_A, sealMessage } from "../support/engine-peer.js";
import {
  echoPacket,
  frameOf,
  internetChecksum,
  ipPacket,
  PLAIN,
  packetsOfFrame,
  pseudoHeader,
  readVnet,
  TCP_ACK,
  TCP_CWR,
  TCP_ECE,
  TCP_FIN,
  TCP_PSH,
  TCP_RST,
  TCP_SYN,
  TCP_URG,
  type TcpFields,
  tcpPacket,
  type UdpFields,
  udpPacket,
} from "../support/ip-packets.js";

const V4 = { source: ip("100.64.0.1"), destination: ip("100.96.0.1") };
const V6 = { source: ip("2001:db8:a::1"), destination: ip("2001:db8:b::1") };

async function receiver() {
  const peer = await EnginePeer.create();
  connect(peer, [IpPrefix.host(V4.source), IpPrefix.host(V6.source)], SIDE_B);
  let counter = 0n;
  /** The frames that these packets become when they arrive together. */
  const deliver = (packets: readonly Uint8Array[]) =>
    peer.receive(
      4,
      packets.map((packet) => ({ from: SOCKET_A, bytes: sealMessage(KEY_A_TO_B, INDEX_B, counter++, packet) })),
    );
  /** The same for packets of one length that arrive as trains of 40. */
  const deliverTrains = (packets: readonly Uint8Array[]) => {
    const datagrams = packets.map((packet) => sealMessage(KEY_A_TO_B, INDEX_B, counter++, packet));
    const trains = Array.from({ length: Math.ceil(datagrams.length / 40) }, (_, i) => ({
      from: SOCKET_A,
      bytes: concatBytes(...datagrams.slice(40 * i, 40 * i + 40)),
      segmentSize: datagrams[0]?.length ?? 0,
    }));
    return peer.receive(4, trains);
  };
  return { peer, deliver, deliverTrains };
}

/** Numbers of packets in each frame. Checks that the frames stand for exactly these packets, in order. */
function counts(packets: readonly Uint8Array[], frames: readonly Uint8Array[]): number[] {
  const parts = frames.map(packetsOfFrame);
  assert.deepEqual(parts.flat().map(toHex), packets.map(toHex));
  return parts.map(({ length }) => length);
}

function payload(length: number, seed = 1): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i * 7 + seed * 13) & 255);
}

const TCP: TcpFields = {
  ...V4,
  sourcePort: 80,
  destinationPort: 40000,
  sequence: 0xffffff00,
  acknowledgement: 77,
  payload: payload(100),
};
/** The `i`-th segment of 100 bytes of a flow. */
const segment = (i: number, fields: Partial<TcpFields> = {}) =>
  tcpPacket({ ...TCP, sequence: TCP.sequence + 100 * i, id: i, payload: payload(100, i), ...fields });
const UDP: UdpFields = { ...V4, sourcePort: 1, destinationPort: 2, payload: payload(100) };
const datagram = (i: number, fields: Partial<UdpFields> = {}) =>
  udpPacket({ ...UDP, id: i, payload: payload(100, i), ...fields });

test("a run of TCP segments is one frame with the header that the kernel wants", async () => {
  const { deliver } = await receiver();
  for (const ends of [V4, V6]) {
    const packets = [0, 1, 2].map((i) => segment(i, ends));
    const frames = deliver(packets);
    assert.deepEqual(counts(packets, frames), [3]);
    const [frame = new Uint8Array(0)] = frames;
    const isV4 = ends === V4;
    const header = isV4 ? 20 : 40;
    assert.deepEqual(readVnet(frame), {
      flags: 1,
      gsoType: isV4 ? 1 : 4,
      headerLength: header + 20,
      gsoSize: 100,
      checksumStart: header,
      checksumOffset: 16,
    });
    assert.equal(frame.length, 10 + header + 20 + 300);
    const packet = frame.subarray(10);
    if (isV4) {
      assert.equal(viewOf(packet).getUint16(2), 340);
      assert.equal(internetChecksum(packet.subarray(0, 20)), 0);
    } else {
      assert.equal(viewOf(packet).getUint16(4), 320);
    }
    const pseudo = ~internetChecksum(pseudoHeader(ends, 6, 320)) & 0xffff;
    assert.equal(viewOf(packet).getUint16(header + 16), pseudo);
  }
});

test("a single packet has an empty virtio header and is not changed", async () => {
  const { deliver } = await receiver();
  for (const packet of [
    segment(0),
    segment(0, V6),
    datagram(0),
    echoPacket({ ...V6, payload: payload(5) }),
    ipPacket(V4, 47, payload(9)),
  ]) {
    const [frame = new Uint8Array(0)] = deliver([packet]);
    assert.equal(toHex(frame), toHex(frameOf(packet)));
    assert.deepEqual(readVnet(frame), PLAIN);
  }
});

test("only the last segment may be shorter, none may be longer", async () => {
  const { deliver } = await receiver();
  const shorter = [
    segment(0),
    segment(1),
    segment(2, { payload: payload(60) }),
    segment(3, { sequence: TCP.sequence + 260 }),
  ];
  assert.deepEqual(counts(shorter, deliver(shorter)), [3, 1]);
  const longer = [segment(0), segment(1, { payload: payload(101) })];
  assert.deepEqual(counts(longer, deliver(longer)), [1, 1]);
});

test("PSH ends a run and is kept", async () => {
  const { deliver } = await receiver();
  const packets = [segment(0), segment(1, { flags: TCP_ACK | TCP_PSH }), segment(2), segment(3)];
  assert.deepEqual(counts(packets, deliver(packets)), [2, 2]);
  const pushed = [segment(0, { flags: TCP_ACK | TCP_PSH }), segment(1)];
  assert.deepEqual(counts(pushed, deliver(pushed)), [1, 1]);
});

test("other flags, and segments without payload, are never merged, and nothing overtakes them", async () => {
  const { deliver } = await receiver();
  for (const flag of [TCP_FIN, TCP_SYN, TCP_RST, TCP_URG, TCP_ECE, TCP_CWR]) {
    const packets = [segment(0), segment(1), segment(2, { flags: TCP_ACK | flag }), segment(3), segment(4)];
    assert.deepEqual(counts(packets, deliver(packets)), [2, 1, 2], `flag ${flag}`);
  }
  const flagless = [segment(0, { flags: 0 }), segment(1, { flags: 0 })];
  assert.deepEqual(counts(flagless, deliver(flagless)), [1, 1]);
  const bare = { sequence: TCP.sequence + 200, payload: new Uint8Array(0) };
  const empty = [segment(0), segment(1), segment(2, bare), segment(2), segment(3)];
  assert.deepEqual(counts(empty, deliver(empty)), [2, 1, 2]);
});

test("sequence numbers are contiguous", async () => {
  const { deliver } = await receiver();
  const gap = [segment(0), segment(2, { id: 1 })];
  assert.deepEqual(counts(gap, deliver(gap)), [1, 1]);
  const repeated = [segment(0), segment(0, { id: 1 })];
  assert.deepEqual(counts(repeated, deliver(repeated)), [1, 1]);
  const reversed = [segment(1, { id: 0 }), segment(0, { id: 1 })];
  assert.deepEqual(counts(reversed, deliver(reversed)), [1, 1]);
});

test("everything in the headers that a segment inherits must agree", async () => {
  const { deliver } = await receiver();
  const options = (value: number) => ({ tcpOptions: Uint8Array.of(1, 1, 8, 10, 0, 0, 0, value, 0, 0, 0, 0) });
  for (const [name, base, change] of [
    ["acknowledgement", {}, { acknowledgement: 78 }],
    ["window", {}, { window: 513 }],
    ["option values", options(1), options(2)],
    ["option lengths", options(1), {}],
    ["TOS", {}, { tos: 4 }],
    ["ECN", { tos: 2 }, { tos: 3 }],
    ["TTL", {}, { ttl: 63 }],
    ["DF", {}, { fragment: 0 }],
    ["the reserved bit", {}, { fragment: 0xc000 }],
    ["traffic class", V6, { ...V6, tos: 4 }],
    ["flow label", V6, { ...V6, flowLabel: 5 }],
    ["hop limit", V6, { ...V6, ttl: 63 }],
  ] as const) {
    const equal = [segment(0, base), segment(1, base)];
    assert.deepEqual(counts(equal, deliver(equal)), [2], name);
    const packets = [
      segment(0, base),
      segment(1, { ...base, ...change, ...(name === "option lengths" ? { tcpOptions: new Uint8Array(0) } : {}) }),
    ];
    assert.deepEqual(counts(packets, deliver(packets)), [1, 1], name);
  }
});

test("the identification counts up, unless DF makes it meaningless (RFC 6864)", async () => {
  const { deliver } = await receiver();
  const ids = (fragment: number, ...list: number[]) => list.map((id, i) => segment(i, { id, fragment }));
  const wrapping = ids(0, 65534, 65535, 0);
  assert.deepEqual(counts(wrapping, deliver(wrapping)), [3]);
  const constant = ids(0, 7, 7);
  assert.deepEqual(counts(constant, deliver(constant)), [1, 1]);
  const frames = deliver(ids(0x4000, 7, 7));
  assert.equal(frames.length, 1);
});

test("IP options and extension headers are not merged, and nothing overtakes them", async () => {
  const { deliver } = await receiver();
  const options = new Uint8Array(4).fill(1);
  const packets = [segment(0), segment(1), segment(2, { options }), segment(3), segment(4)];
  assert.deepEqual(counts(packets, deliver(packets)), [2, 1, 2]);
  const hidden = ipPacket(V6, 60, payload(64));
  const v6 = [segment(0, V6), segment(1, V6), hidden, segment(2, V6), segment(3, V6)];
  assert.deepEqual(counts(v6, deliver(v6)), [2, 1, 2]);
});

test("packets with wrong checksums stay as they are", async () => {
  const { deliver } = await receiver();
  const spoilt = (i: number, at: number) => {
    const packet = segment(i);
    packet[at] = (packet[at] ?? 0) ^ 1;
    return packet;
  };
  // The checksum of IPv4, that of TCP, and the payload.
  for (const at of [10, 36, 139]) {
    for (const bad of [0, 1, 2]) {
      const packets = [0, 1, 2, 3].map((i) => (i === bad ? spoilt(i, at) : segment(i)));
      const frames = deliver(packets);
      assert.deepEqual(
        counts(packets, frames),
        [
          [1, 3],
          [1, 1, 2],
          [2, 1, 1],
        ][bad],
        `byte ${at} of ${bad}`,
      );
    }
  }
});

test("flows are told apart by addresses and ports, and merge although they are interleaved", async () => {
  const { peer, deliver } = await receiver();
  assert.equal(peer.tables.setRoute(IpPrefix.of(V4.source, 24), 0), true);
  const flows = [
    {},
    { sourcePort: 81 },
    { destinationPort: 40001 },
    { source: ip("100.64.0.9") },
    { destination: ip("100.96.0.9") },
    V6,
  ];
  const packets = [0, 1, 2].flatMap((i) => flows.map((fields) => segment(i, fields)));
  const frames = deliver(packets);
  assert.equal(frames.length, flows.length);
  for (const [i, frame] of frames.entries()) {
    assert.deepEqual(
      packetsOfFrame(frame).map(toHex),
      [0, 1, 2].map((k) => toHex(segment(k, flows[i]))),
    );
  }
});

test("more flows than can be open at once: their order is kept", async () => {
  const { deliver } = await receiver();
  const ports = Array.from({ length: 20 }, (_, i) => i);
  const packets = [0, 1, 2, 3].flatMap((i) => ports.map((sourcePort) => segment(i, { sourcePort })));
  const received = deliver(packets).flatMap(packetsOfFrame);
  assert.equal(received.length, packets.length);
  for (const port of ports) {
    const ofFlow = received.filter((packet) => viewOf(packet).getUint16(20) === port);
    assert.deepEqual(
      ofFlow.map(toHex),
      [0, 1, 2, 3].map((i) => toHex(segment(i, { sourcePort: port }))),
    );
  }
});

test("a frame holds at most 65535 bytes of packet", async () => {
  const { deliverTrains } = await receiver();
  const packets = Array.from({ length: 70 }, (_, i) => segment(i, { sequence: i * 1240, payload: payload(1240, i) }));
  const frames = deliverTrains(packets);
  assert.deepEqual(counts(packets, frames), [52, 18]);
  assert.equal(frames[0]?.length, 10 + 40 + 52 * 1240);
  const v6 = Array.from({ length: 52 }, (_, i) => segment(i, { ...V6, sequence: i * 1260, payload: payload(1260, i) }));
  assert.deepEqual(counts(v6, deliverTrains(v6)), [51, 1]);
});

test("runs go on over messages of one call, and end with it", async () => {
  const { deliver } = await receiver();
  const packets = Array.from({ length: 40 }, (_, i) => segment(i));
  // 32 messages a call.
  assert.deepEqual(counts(packets, deliver(packets)), [32, 8]);
});

test("UDP datagrams of equal size are one frame; a shorter one is the last; at most 64", async () => {
  const { deliver } = await receiver();
  for (const ends of [V4, V6]) {
    const packets = [0, 1, 2].map((i) => datagram(i, ends));
    packets.push(datagram(3, { ...ends, payload: payload(10) }), datagram(4, ends));
    const frames = deliver(packets);
    assert.deepEqual(counts(packets, frames), [4, 1]);
    const [frame = new Uint8Array(0)] = frames;
    const header = ends === V4 ? 20 : 40;
    assert.deepEqual(readVnet(frame), {
      flags: 1,
      gsoType: 5,
      headerLength: header + 8,
      gsoSize: 100,
      checksumStart: header,
      checksumOffset: 6,
    });
    assert.equal(viewOf(frame).getUint16(10 + header + 4), 8 + 310);
    const pseudo = ~internetChecksum(pseudoHeader(ends, 17, 318)) & 0xffff;
    assert.equal(viewOf(frame).getUint16(10 + header + 6), pseudo);
  }
  const { peer } = await receiver();
  const train = Array.from({ length: 100 }, (_, i) => sealMessage(KEY_A_TO_B, INDEX_B, BigInt(i), datagram(i)));
  const bytes = concatBytes(...train);
  const frames = peer.receive(4, [{ from: SOCKET_A, bytes, segmentSize: train[0]?.length ?? 0 }]);
  assert.deepEqual(
    frames.map((frame) => packetsOfFrame(frame).length),
    [64, 36],
  );
});

test("UDP without a checksum, with a lying length, or empty is not merged", async () => {
  const { deliver } = await receiver();
  const changed = (i: number, change: (view: DataView) => void) => {
    const packet = datagram(i);
    change(viewOf(packet));
    return packet;
  };
  for (const packets of [
    [0, 1].map((i) => changed(i, (view) => view.setUint16(26, 0))),
    [datagram(0), changed(1, (view) => view.setUint16(26, 0))],
    [datagram(0), changed(1, (view) => view.setUint16(24, 100))],
    [0, 1].map((i) => datagram(i, { payload: new Uint8Array(0) })),
    [datagram(0), datagram(1, { payload: new Uint8Array(0) })],
    [datagram(0), datagram(1, { payload: payload(101) })],
  ]) {
    assert.deepEqual(
      deliver(packets).map(toHex),
      packets.map((packet) => toHex(frameOf(packet))),
    );
  }
});

test("only what the TUN device can segment is coalesced", async () => {
  const { peer, deliver } = await receiver();
  const packets = [segment(0), segment(1), datagram(0), datagram(1)];
  for (const [offloads, expected] of [
    [{ checksum: true, tso: true, uso: true }, [2, 2]],
    [{ checksum: true, tso: true, uso: false }, [2, 1, 1]],
    [{ checksum: true, tso: false, uso: true }, [1, 1, 2]],
    [{ checksum: false, tso: true, uso: true }, [1, 1, 1, 1]],
    [{ checksum: true, tso: false, uso: false }, [1, 1, 1, 1]],
  ] as const) {
    peer.engine.setTunOffloads(offloads);
    assert.deepEqual(counts(packets, deliver(packets)), expected);
  }
});
