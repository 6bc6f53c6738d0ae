// What the engine does with datagrams: which kind they are, which are opened, which packets come through.

import assert from "node:assert/strict";
import { test } from "node:test";
import { SESSION_RECEIVE_KEY } from "../../assembly/records.js";
import { IpPrefix, type SocketAddress } from "../../src/base/address.js";
import { concatBytes, toHex, viewOf } from "../../src/base/bytes.js";
import { Exception } from "../../src/engine/index.js";
import {
  type ConnectOptions,
  connect,
  EnginePeer,
  INDEX_B,
  ip,
  KEY_A_TO_B,
  type ReceivedMessage,
  SIDE_B,
  SOCKET_A,
  SOCKET_B,
  sealMessage,
  socket,
} from "../support/engine-peer.js";
import { echoPacket, frameOf, ipPacket, tcpPacket, udpPacket } from "../support/ip-packets.js";

const A4 = ip("100.64.0.1");
const B4 = ip("100.96.0.1");
const A6 = ip("2001:db8:a::1");
const B6 = ip("2001:db8:b::1");
const V4 = { source: A4, destination: B4 };
const V6 = { source: A6, destination: B6 };

async function receiver(options: ConnectOptions = {}) {
  const peer = await EnginePeer.create();
  const connection = connect(peer, [IpPrefix.host(A4), IpPrefix.host(A6)], { ...SIDE_B, ...options });
  return { peer, connection };
}

const PACKET = udpPacket({ ...V4, sourcePort: 1, destinationPort: 2, payload: Uint8Array.of(1, 2, 3) });

function message(bytes: Uint8Array, from: SocketAddress = SOCKET_A): ReceivedMessage {
  return { from, to: from.family === 4 ? SOCKET_B.ip : B6, bytes };
}

function sealed(counter: number | bigint, packet: Uint8Array = PACKET): ReceivedMessage {
  return message(sealMessage(KEY_A_TO_B, INDEX_B, BigInt(counter), packet));
}

function accepts(peer: EnginePeer, counter: number | bigint): boolean {
  return peer.receive(4, [sealed(counter)]).length === 1;
}

// ---- Kinds of datagrams

/** `length` bytes that begin like this. */
function starting(length: number, ...bytes: number[]): Uint8Array {
  const result = new Uint8Array(length).fill(0xee);
  result.set(bytes);
  return result;
}
const COOKIE = [0x21, 0x12, 0xa4, 0x42];

test("spec 02, sections 7 and 11.2: datagrams go to the control plane by kind, with their addresses", async () => {
  const { peer } = await receiver();
  const datagrams = [
    [starting(148, 1, 0, 0, 0), Exception.WireGuardHandshake],
    [starting(92, 2, 0, 0, 0), Exception.WireGuardHandshake],
    [starting(64, 3, 0, 0, 0), Exception.WireGuardHandshake],
    [starting(20, 0, 1, 0, 0, ...COOKIE), Exception.Stun],
    [starting(100, 1, 1, 0, 80, ...COOKIE), Exception.Stun],
    // An initiation whose sender index happens to be the cookie: the length decides.
    [starting(148, 1, 0, 0, 0, ...COOKIE), Exception.WireGuardHandshake],
    [starting(8, 0x40, 0, 0, 4), Exception.Relay],
    [starting(50, 0x4f, 0xff, 0, 46), Exception.Relay],
  ] as const;
  assert.deepEqual(
    peer.receive(
      4,
      datagrams.map(([bytes]) => message(bytes)),
      0,
      52625,
    ),
    [],
  );
  assert.deepEqual(
    peer.exceptions(),
    datagrams.map(([payload, reason]) => ({
      reason,
      slot: 1,
      connection: undefined,
      localIndex: undefined,
      family: 4,
      local: "198.51.100.2:52625",
      remote: SOCKET_A.toString(),
      payload,
    })),
  );
  assert.deepEqual(peer.drops(), {});
});

test("spec 02, 15.6.1: an initiation is no STUN message, and handshakes have exact lengths", async () => {
  const { peer } = await receiver();
  const malformed = [
    new Uint8Array(0),
    starting(3, 4, 0, 0),
    starting(31, 4, 0, 0, 0),
    starting(148, 1, 0, 0, 1),
    starting(147, 1, 0, 0, 0),
    starting(91, 2, 0, 0, 0),
    starting(65, 3, 0, 0, 0),
    starting(64, 5, 0, 0, 0),
    starting(19, 0, 1, 0, 0, ...COOKIE),
    starting(40, 4, 1, 0, 0, ...COOKIE),
    starting(40, 0x50, 0, 0, 0),
  ];
  assert.deepEqual(
    peer.receive(
      4,
      malformed.map((bytes) => message(bytes)),
    ),
    [],
  );
  assert.deepEqual(peer.exceptions(), []);
  assert.deepEqual(peer.drops(), { MalformedDatagram: malformed.length });
});

test("IPv6 sockets report IPv6 addresses; without packet information the local one is unspecified", async () => {
  const { peer } = await receiver();
  const bytes = starting(92, 2, 0, 0, 0);
  const from = socket("[2001:db8:9::1]:9");
  peer.receive(6, [
    { from, to: B6, bytes },
    { from, bytes },
  ]);
  assert.deepEqual(
    peer.exceptions().map(({ family, local, remote }) => [family, local, remote]),
    [
      [6, "[2001:db8:b::1]:51820", from.toString()],
      [6, "[::]:51820", from.toString()],
    ],
  );
});

test("an unknown receiver index is reported with the index and the beginning of the message", async () => {
  const { peer } = await receiver();
  const bytes = sealMessage(KEY_A_TO_B, 0xffffffff, 1n, new Uint8Array(500));
  peer.receive(4, [message(bytes)]);
  assert.deepEqual(
    peer.exceptions().map(({ reason, connection, localIndex, payload }) => [reason, connection, localIndex, payload]),
    [[Exception.UnknownIndex, undefined, 0xffffffff, bytes.slice(0, 64)]],
  );
});

test("a train of datagrams is split; its kinds may differ; a truncated one is dropped", async () => {
  const { peer } = await receiver();
  const first = sealed(1).bytes;
  const stun = starting(20, 0, 1, 0, 0, ...COOKIE);
  const train = (bytes: Uint8Array) => ({ ...message(bytes), segmentSize: first.length });
  const frames = peer.receive(4, [train(concatBytes(first, sealed(2).bytes, stun))]);
  assert.equal(frames.length, 1, "two packets of one flow, coalesced");
  assert.equal(peer.exceptions().length, 1);
  assert.equal(peer.receive(4, [train(first.slice(0, 20))]).length, 0);
  assert.equal(peer.receive(4, [{ ...sealed(3), flags: 0x20 }]).length, 0);
  assert.deepEqual(peer.drops(), { MalformedDatagram: 2 });
  assert.equal(peer.receive(4, [{ ...sealed(4), segmentSize: 0 }]).length, 1);
  assert.equal(peer.receive(4, [{ ...sealed(5), segmentSize: 60000 }]).length, 1);
});

test("a train of more datagrams than the kernel makes is cut off and counted", async () => {
  const { peer } = await receiver();
  peer.receive(4, [{ ...message(new Uint8Array(65507)), segmentSize: 1 }]);
  assert.deepEqual(peer.drops(), { MalformedDatagram: 65507 });
});

// ---- Replay (spec 02, 15.4.6, with a window of 8192; field notes 4.3)

const WINDOW = 8192;

test("field notes 4.3: the same message twice is dropped, in one batch and in two", async () => {
  const { peer } = await receiver();
  assert.equal(peer.receive(4, [sealed(5), sealed(5)]).length, 1);
  assert.equal(peer.receive(4, [sealed(5)]).length, 0);
  assert.deepEqual(peer.drops(), { Replayed: 2 });
});

test("spec 02, 15.4.6: every counter once; 15 after 63; the window behind a far jump", async () => {
  const { peer } = await receiver();
  for (let counter = 0; counter < 64; counter++) {
    if (counter === 15) continue;
    assert.equal(accepts(peer, counter), true, `${counter}`);
    assert.equal(accepts(peer, counter), false, `${counter} again`);
  }
  assert.equal(accepts(peer, 15), true);
  assert.equal(accepts(peer, 15), false);

  assert.equal(accepts(peer, 3 * WINDOW), true);
  for (let counter = 0; counter <= 2 * WINDOW; counter += 61) assert.equal(accepts(peer, counter), false, `${counter}`);
  assert.equal(accepts(peer, 2 * WINDOW), false);
  for (let counter = 2 * WINDOW + 1; counter < 3 * WINDOW; counter++)
    assert.equal(accepts(peer, counter), true, `${counter}`);
  for (let counter = 2 * WINDOW + 1; counter <= 3 * WINDOW; counter += 7)
    assert.equal(accepts(peer, counter), false, `${counter} again`);

  for (const offset of [70, 71, 72, 197]) assert.equal(accepts(peer, 3 * WINDOW + offset), true);
  assert.equal(accepts(peer, 3 * WINDOW + 63), true);
  for (const offset of [63, 70, 71, 72, 197]) assert.equal(accepts(peer, 3 * WINDOW + offset), false);
});

test("field notes 4.3: far ahead, then an old one", async () => {
  const { peer } = await receiver();
  assert.equal(accepts(peer, 10), true);
  assert.equal(accepts(peer, 2n ** 60n), true);
  assert.equal(accepts(peer, 11), false);
  assert.equal(accepts(peer, 2n ** 60n - BigInt(WINDOW) + 1n), true);
  assert.equal(accepts(peer, 2n ** 60n - BigInt(WINDOW)), false);
});

test("a random order against a set of seen counters", async () => {
  const { peer } = await receiver();
  const seen = new Set<number>();
  let highest = -1;
  let state = 12345;
  const random = (bound: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * bound);
  };
  for (let i = 0; i < 6000; i++) {
    const jump = random(50) === 0 ? random(3 * WINDOW) : random(100);
    const counter = Math.max(0, highest + jump - (random(3) === 0 ? random(WINDOW + 2000) : 20));
    const expected = counter > highest || (highest - counter < WINDOW && !seen.has(counter));
    assert.equal(accepts(peer, counter), expected, `${counter} after ${highest}`);
    if (expected) seen.add(counter);
    highest = Math.max(highest, counter);
  }
});

test("field notes 4.3: a forged counter does not move the window", async () => {
  const { peer, connection } = await receiver();
  assert.equal(accepts(peer, 1), true);
  const forged = sealed(1_000_000).bytes.slice();
  forged[20] = (forged[20] ?? 0) ^ 1;
  assert.equal(peer.receive(4, [message(forged)], 99).length, 0);
  assert.deepEqual(peer.drops(), { BadTag: 1 });
  assert.equal(accepts(peer, 2), true);
  assert.equal(accepts(peer, 1_000_000), true);
  assert.notEqual(peer.tables.activity(connection).receivedAt, 99);
});

test("field notes 4.3: counters from REJECT_AFTER_MESSAGES on are refused", async () => {
  const { peer } = await receiver();
  const limit = 2n ** 64n - 2n ** 13n - 1n;
  assert.equal(accepts(peer, limit), false);
  assert.equal(accepts(peer, 2n ** 64n - 1n), false);
  assert.deepEqual(peer.drops(), { SessionExpired: 2 });
  assert.equal(accepts(peer, limit - 1n), true);
  assert.equal(accepts(peer, limit - 2n), true);
  assert.equal(accepts(peer, limit - 1n), false);
  assert.equal(accepts(peer, limit - BigInt(WINDOW)), true);
  assert.equal(accepts(peer, limit - BigInt(WINDOW) - 1n), false);
});

test("a bad message within a batch does not harm its neighbours", async () => {
  const { peer } = await receiver();
  peer.engine.setTunOffloads({ checksum: false, tso: false, uso: false });
  const messages = Array.from({ length: 150 }, (_, i) => sealed(i));
  for (const i of [0, 7, 64, 149]) {
    const bytes = messages[i]?.bytes ?? new Uint8Array(0);
    bytes[bytes.length - 1] = (bytes[bytes.length - 1] ?? 0) ^ 0x80;
  }
  const frames = peer.receive(4, [
    { ...message(concatBytes(...messages.map(({ bytes }) => bytes))), segmentSize: messages[0]?.bytes.length ?? 0 },
  ]);
  assert.equal(frames.length, 146);
  for (const frame of frames) assert.equal(toHex(frame), toHex(frameOf(PACKET)));
  assert.deepEqual(peer.drops(), { BadTag: 4 });
});

// ---- Sessions

test("spec 02, 15.6.8: a session older than 180 s neither receives nor sends", async () => {
  const { peer, connection } = await receiver({ createdAt: 1000 });
  const outgoing = frameOf(
    udpPacket({ source: B4, destination: A4, sourcePort: 1, destinationPort: 2, payload: PACKET }),
  );
  assert.equal(peer.receive(4, [sealed(1)], 181_000).length, 1);
  peer.outbound(outgoing, 181_000);
  assert.equal(peer.sendDatagrams(4).length, 1);

  assert.equal(peer.receive(4, [sealed(2)], 181_001).length, 0);
  assert.deepEqual(peer.drops(), { SessionExpired: 1 });
  peer.outbound(outgoing, 181_001);
  assert.equal(peer.sendDatagrams(4).length, 0);
  assert.equal(peer.engine.sealKeepalive(connection, 181_001), false);
  assert.deepEqual(
    peer.exceptions().map(({ reason, connection: slot, payload }) => [reason, slot, toHex(payload)]),
    [[Exception.NoSession, connection, toHex(outgoing.slice(10))]],
  );
  // A session from the future is young: the clock of another thread may be ahead.
  assert.equal(peer.receive(4, [sealed(3)], 0).length, 1);
});

test("a removed session is unknown at once; its keys are wiped when no worker can be using them", async () => {
  const { peer } = await receiver();
  peer.engine.leaveQuiescent();
  peer.tables.removeSession(INDEX_B);
  assert.equal(peer.receive(4, [sealed(1)]).length, 0);
  assert.deepEqual(
    peer.exceptions().map(({ reason }) => reason),
    [Exception.UnknownIndex],
  );
  const key = () =>
    peer.bytes.slice(peer.layout.sessions + SESSION_RECEIVE_KEY, peer.layout.sessions + SESSION_RECEIVE_KEY + 32);
  peer.tables.reclaim();
  peer.tables.reclaim();
  assert.deepEqual(key(), KEY_A_TO_B);
  peer.engine.enterQuiescent();
  peer.tables.reclaim();
  assert.deepEqual(key(), new Uint8Array(32));
});

test("an unconfirmed session is confirmed by its first authentic message only", async () => {
  const { peer, connection } = await receiver({ confirmed: false });
  const forged = sealed(0).bytes.slice();
  forged[30] = (forged[30] ?? 0) ^ 1;
  peer.receive(4, [message(forged)]);
  assert.deepEqual(peer.exceptions(), []);
  peer.receive(4, [sealed(0), sealed(1)]);
  peer.receive(4, [sealed(2)]);
  assert.deepEqual(
    peer.exceptions().map(({ reason, connection: slot, localIndex }) => [reason, slot, localIndex]),
    [[Exception.SessionConfirmed, connection, INDEX_B]],
  );
});

test("messages of several sessions in one call are opened with their own keys", async () => {
  const { peer, connection } = await receiver();
  const other = new Uint8Array(32).fill(0x77);
  peer.tables.installSession({
    connection,
    localIndex: 0xb02,
    remoteIndex: 0xa02,
    sendKey: other,
    receiveKey: other,
    confirmed: true,
    createdAt: 0,
  });
  peer.engine.setTunOffloads({ checksum: false, tso: false, uso: false });
  const messages = Array.from({ length: 20 }, (_, i) =>
    i % 3 === 0 ? message(sealMessage(other, 0xb02, BigInt(i), PACKET)) : sealed(i),
  );
  assert.equal(peer.receive(4, messages).length, 20);
  assert.deepEqual(peer.drops(), {});
});

// ---- Roaming

test("a new remote address is reported once per path, and only for connections that learn it", async () => {
  const elsewhere = socket("203.0.113.50:1000");
  const fromElsewhere = (counter: number) => ({ ...sealed(counter), from: elsewhere });
  const { peer, connection } = await receiver({ learnEndpoint: true });
  peer.receive(4, [sealed(0)]);
  assert.deepEqual(peer.exceptions(), []);
  const forged = fromElsewhere(1).bytes.slice();
  forged[17] = (forged[17] ?? 0) ^ 1;
  peer.receive(4, [{ ...fromElsewhere(1), bytes: forged }]);
  assert.deepEqual(peer.exceptions(), []);

  peer.receive(4, [fromElsewhere(1), fromElsewhere(2)]);
  peer.receive(4, [fromElsewhere(3)]);
  const moves = peer.exceptions();
  assert.deepEqual(
    moves.map(({ reason, connection: slot, localIndex, local, remote }) => [reason, slot, localIndex, local, remote]),
    [[Exception.EndpointMoved, connection, INDEX_B, "198.51.100.2:51820", elsewhere.toString()]],
  );

  peer.tables.watchSource(connection);
  peer.receive(4, [sealed(20)]);
  assert.deepEqual(peer.exceptions(), [], "over the path");
  peer.receive(4, [fromElsewhere(21), fromElsewhere(22)]);
  assert.equal(peer.exceptions().length, 1, "once more, since it was asked for");

  peer.tables.setPath(connection, { local: SOCKET_B, remote: elsewhere });
  peer.receive(4, [fromElsewhere(4)]);
  assert.deepEqual(peer.exceptions(), []);
  // Only the port, and another family, are other addresses, too.
  peer.receive(4, [{ ...sealed(5), from: socket("203.0.113.50:1001") }]);
  assert.equal(peer.exceptions().length, 1);
  peer.tables.setPath(connection, { local: undefined, remote: elsewhere });
  peer.receive(6, [{ from: socket("[2001:db8::7]:1000"), to: B6, bytes: sealed(6).bytes }]);
  assert.deepEqual(
    peer.exceptions().map(({ remote }) => remote),
    ["[2001:db8::7]:1000"],
  );
  peer.tables.setPath(connection, { local: undefined, remote: socket("[2001:db8::7]:1000") });
  peer.receive(6, [{ from: socket("[2001:db8::7]:1000"), to: B6, bytes: sealed(7).bytes }]);
  assert.deepEqual(peer.exceptions(), []);
  peer.tables.setPath(connection, undefined);
  peer.receive(4, [sealed(8)]);
  assert.equal(peer.exceptions().length, 1);

  const { peer: stationary } = await receiver({ learnEndpoint: false });
  assert.equal(stationary.receive(4, [fromElsewhere(1)]).length, 1);
  assert.deepEqual(stationary.exceptions(), []);
});

// ---- Inner packets

test("spec 02, 15.6.17: padding is cut off; 15.6.18: lengths that lie are refused", async () => {
  const { peer } = await receiver();
  const padded = concatBytes(PACKET, new Uint8Array(1));
  assert.equal(toHex(peer.receive(4, [sealed(0, padded)])[0] ?? new Uint8Array(0)), toHex(frameOf(PACKET)));
  const v6 = echoPacket({ ...V6, payload: PACKET });
  assert.equal(
    toHex(peer.receive(4, [sealed(1, concatBytes(v6, new Uint8Array(9)))])[0] ?? new Uint8Array(0)),
    toHex(frameOf(v6)),
  );

  const lying = (change: (view: DataView) => void, packet = PACKET) => {
    const copy = packet.slice();
    change(viewOf(copy));
    return copy;
  };
  const bad = [
    PACKET.slice(0, PACKET.length - 1),
    PACKET.slice(0, 19),
    v6.slice(0, 39),
    v6.slice(0, v6.length - 1),
    new Uint8Array(16),
    new Uint8Array(1).fill(0x45),
    lying((view) => view.setUint8(0, 0x44)),
    lying((view) => view.setUint8(0, 0x55)),
    lying((view) => view.setUint8(0, 0x4f)),
    lying((view) => view.setUint16(2, 19)),
    lying((view) => view.setUint16(2, 65535)),
    lying((view) => view.setUint16(4, 65535), v6),
  ];
  assert.deepEqual(
    peer.receive(
      4,
      bad.map((packet, i) => sealed(10 + i, packet)),
    ),
    [],
  );
  assert.deepEqual(peer.drops(), { MalformedInner: bad.length });
});

test("spec 04, 7.2: fragments are dropped in both directions", async () => {
  const { peer, connection } = await receiver();
  const fragments = [0x2000, 0x0001, 0x1fff, 0x6000].map((fragment) => ipPacket({ ...V4, fragment }, 17, PACKET));
  fragments.push(ipPacket(V6, 44, PACKET));
  assert.deepEqual(
    peer.receive(
      4,
      fragments.map((packet, i) => sealed(i, packet)),
    ),
    [],
  );
  assert.deepEqual(peer.drops(), { Fragment: fragments.length });
  // The reserved bit alone makes no fragment.
  assert.equal(peer.receive(4, [sealed(90, ipPacket({ ...V4, fragment: 0x8000 }, 17, PACKET))]).length, 1);
  for (const packet of fragments) peer.outbound(frameOf(packet));
  assert.deepEqual(peer.drops(), { Fragment: 2 * fragments.length });
  assert.equal(peer.tables.activity(connection).txPackets, 0);
});

test("RFC 8656, 12.4: a transport message in channel data is opened; bytes behind it are cut off, what is cut short is not", async () => {
  const { peer } = await receiver();
  const wrapped = (counter: number, announced: number, ...behind: number[]) => {
    const inner = sealMessage(KEY_A_TO_B, INDEX_B, BigInt(counter), PACKET);
    const length = inner.length + announced;
    return message(concatBytes(Uint8Array.of(0x40, 7, length >> 8, length & 255), inner, Uint8Array.from(behind)));
  };
  const frames = [peer.receive(4, [wrapped(0, 0)]), peer.receive(4, [wrapped(1, 0, 0xaa, 0xbb)])].flat();
  assert.deepEqual(
    frames.map((frame) => toHex(frame.subarray(10))),
    [toHex(PACKET), toHex(PACKET)],
  );
  assert.deepEqual(peer.receive(4, [wrapped(2, 1)]), []);
  assert.deepEqual(
    peer.exceptions().map(({ reason }) => reason),
    [Exception.Relay],
  );
  // One byte less than the message has: another tag, and a forgery at that.
  assert.deepEqual(peer.receive(4, [wrapped(3, -1)]), []);
  assert.deepEqual(peer.drops(), { BadTag: 1 });
  const train = concatBytes(wrapped(4, 0).bytes, wrapped(5, 0).bytes);
  const { length } = wrapped(4, 0).bytes;
  // Coalesced: one frame of two datagrams.
  const [both] = peer.receive(4, [{ ...message(train), segmentSize: length }]);
  assert.equal(both?.length, 10 + PACKET.length + 3);
});

test("spec 04, 11.1: a message of the peer itself goes to the control plane, not to the device", async () => {
  const { peer, connection } = await receiver({ filtered: true });
  const peerMessage = (change: (packet: Uint8Array) => void = () => undefined) => {
    const packet = new Uint8Array(48);
    packet.set([0x60, 0, 0, 0, 0, 8, 255, 255]);
    packet[40] = 2;
    change(packet);
    return packet;
  };
  assert.deepEqual(peer.receive(4, [sealed(0, peerMessage())]), []);
  const [exception] = peer.exceptions();
  assert.equal(exception?.reason, Exception.PeerMessage);
  assert.equal(exception?.connection, connection);
  assert.equal(toHex(exception?.payload ?? new Uint8Array()), toHex(peerMessage()));
  const others = [
    peerMessage((packet) => packet.fill(17, 6, 7)),
    peerMessage((packet) => packet.fill(1, 23, 24)),
    peerMessage((packet) => packet.fill(1, 39, 40)),
  ];
  assert.deepEqual(
    peer.receive(
      4,
      others.map((packet, i) => sealed(i + 1, packet)),
    ),
    [],
  );
  assert.deepEqual(peer.exceptions(), []);
  assert.deepEqual(peer.drops(), { SourceNotAllowed: 3 });
});

test("spec 04, 6.7: only sources that are routed to the connection, longest prefix first (field notes 4.3)", async () => {
  const { peer, connection } = await receiver();
  const other = connect(peer, [], { ...SIDE_B, localIndex: 0xb99 });
  const from = (source: string) => {
    const packet = echoPacket({ source: ip(source), destination: source.includes(":") ? B6 : B4, payload: PACKET });
    counter++;
    return peer.receive(4, [sealed(counter, packet)]).length === 1;
  };
  let counter = 0;
  const route = (text: string, target: number) => {
    const prefix = IpPrefix.parse(text);
    if (prefix === undefined) throw new Error(text);
    assert.equal(peer.tables.setRoute(prefix, target), true);
  };
  assert.equal(from("100.64.0.1"), true);
  assert.equal(from("100.64.0.2"), false);
  assert.equal(from("2001:db8:a::2"), false);
  route("10.0.0.0/8", connection);
  route("10.1.0.0/16", other);
  route("10.1.2.0/24", connection);
  assert.deepEqual(["10.9.9.9", "10.1.9.9", "10.1.2.9"].map(from), [true, false, true]);
  route("2001:db8:c::/48", connection);
  route("2001:db8:c:1::/64", other);
  route("2001:db8:c:1::7/128", connection);
  assert.deepEqual(["2001:db8:c::1", "2001:db8:c:1::1", "2001:db8:c:1::7"].map(from), [true, false, true]);
  assert.deepEqual(peer.drops(), { SourceNotAllowed: 4 });
});

test("spec 04, 6.6: filters of a connection", async () => {
  const { peer, connection } = await receiver({ filtered: true });
  let counter = 0;
  const passes = (packet: Uint8Array) => {
    counter++;
    return peer.receive(4, [sealed(counter, packet)]).length === 1;
  };
  const to = (destination: string) => ({ source: A4, destination: ip(destination) });
  const tcp = (destination: string, destinationPort: number) =>
    passes(tcpPacket({ ...to(destination), sourcePort: 9, destinationPort, sequence: 1, payload: PACKET }));
  const udp = (destination: string, destinationPort: number) =>
    passes(udpPacket({ ...to(destination), sourcePort: 9, destinationPort, payload: PACKET }));
  const echo = (destination: string) => passes(echoPacket({ ...to(destination), payload: PACKET }));
  const prefix = (text: string) => {
    const parsed = IpPrefix.parse(text);
    if (parsed === undefined) throw new Error(text);
    return parsed;
  };

  // Nothing granted: nothing passes.
  assert.deepEqual([tcp("10.0.0.1", 80), udp("10.0.0.1", 80), echo("10.0.0.1")], [false, false, false]);
  assert.equal(peer.tables.setFilters(connection, []), true);
  assert.equal(tcp("10.0.0.1", 80), false);

  // Overlapping grants add up.
  assert.equal(
    peer.tables.setFilters(connection, [
      { prefix: prefix("10.0.0.0/24"), rules: [{ protocol: "tcp", first: 20, last: 100 }] },
      { prefix: prefix("10.0.0.0/16"), rules: [{ protocol: "udp", first: 53, last: 53 }, { protocol: "icmp" }] },
      { prefix: prefix("10.0.0.0/24"), rules: [{ protocol: "tcp", first: 443, last: 443 }] },
      { prefix: prefix("10.9.0.0/16"), rules: [] },
      { prefix: prefix("10.8.0.0/16"), rules: "allow-all" },
      { prefix: prefix("10.8.1.0/24"), rules: [{ protocol: "tcp", first: 1, last: 1 }] },
    ]),
    true,
  );
  assert.deepEqual(
    [19, 20, 80, 100, 101, 442, 443, 444, 1000].map((port) => tcp("10.0.0.1", port)),
    [false, true, true, true, false, false, true, false, false],
  );
  assert.deepEqual(
    [52, 53, 54, 80].map((port) => udp("10.0.0.1", port)),
    [false, true, false, false],
  );
  assert.deepEqual([tcp("10.0.1.1", 80), udp("10.0.1.1", 53), echo("10.0.1.1")], [false, true, true]);
  assert.equal(echo("10.0.0.1"), true);
  assert.deepEqual([tcp("10.9.0.1", 1), udp("10.9.0.1", 1), echo("10.9.0.1")], [true, true, true]);
  assert.deepEqual([tcp("10.8.1.1", 7), udp("10.8.1.1", 1), echo("10.8.1.1")], [true, true, true]);
  assert.equal(tcp("10.1.0.1", 80), false);
  // Other protocols pass only where everything does; a transport header that is not all there counts as another protocol.
  assert.equal(passes(ipPacket(to("10.0.0.1"), 47, PACKET)), false);
  assert.equal(passes(ipPacket(to("10.9.0.1"), 47, PACKET)), true);
  const stump = Uint8Array.of(0, 9, 0, 80);
  assert.equal(passes(ipPacket(to("10.0.0.1"), 6, stump)), false);
  assert.equal(passes(ipPacket(to("10.9.0.1"), 6, stump)), true);
  // ICMPv6 in IPv4 is no ICMP.
  assert.equal(passes(ipPacket(to("10.0.0.1"), 58, PACKET)), false);
  // IPv4 options do not hide the port.
  const options = new Uint8Array(8).fill(1);
  assert.equal(
    passes(tcpPacket({ ...to("10.0.0.1"), options, sourcePort: 9, destinationPort: 80, sequence: 1, payload: PACKET })),
    true,
  );
  assert.equal(
    passes(tcpPacket({ ...to("10.0.0.1"), options, sourcePort: 80, destinationPort: 9, sequence: 1, payload: PACKET })),
    false,
  );

  // Replaced as a whole.
  assert.equal(
    peer.tables.setFilters(connection, [{ prefix: prefix("10.0.0.0/16"), rules: [{ protocol: "icmp" }] }]),
    true,
  );
  assert.deepEqual(
    [tcp("10.0.0.1", 80), udp("10.0.0.1", 53), echo("10.0.0.1"), tcp("10.9.0.1", 1)],
    [false, false, true, false],
  );
  assert.equal(peer.drops().DestinationNotAllowed !== undefined, true);
});

test("spec 04, 6.6: filters of one connection do not leak into another, and IPv6 has its own", async () => {
  const { peer, connection } = await receiver({ filtered: true });
  const other = connect(peer, [IpPrefix.host(ip("100.64.0.2"))], {
    ...SIDE_B,
    localIndex: 0xb02,
    filtered: true,
  });
  const all = IpPrefix.of(ip("0.0.0.0"), 0);
  const all6 = IpPrefix.of(ip("::"), 0);
  assert.equal(peer.tables.setFilters(other, [{ prefix: all, rules: "allow-all" }]), true);
  assert.equal(peer.receive(4, [sealed(1)]).length, 0);
  assert.equal(peer.tables.setFilters(connection, [{ prefix: all, rules: [{ protocol: "icmp" }] }]), true);
  assert.equal(peer.receive(4, [sealed(2, echoPacket({ ...V4, payload: PACKET }))]).length, 1);
  assert.equal(peer.receive(4, [sealed(3, echoPacket({ ...V6, payload: PACKET }))]).length, 0);
  assert.equal(peer.tables.setFilters(connection, [{ prefix: all6, rules: [{ protocol: "icmp" }] }]), true);
  assert.equal(peer.receive(4, [sealed(4, echoPacket({ ...V6, payload: PACKET }))]).length, 1);
  assert.equal(peer.receive(4, [sealed(5, echoPacket({ ...V4, payload: PACKET }))]).length, 0);
});
