// What handshake messages must prove to the engine before the control plane sees them (spec 02, section 11.4).

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { blake2s } from "@noble/hashes/blake2.js";
import { Drop, Exception } from "../../assembly/abi.js";
import { SocketAddress } from "../../src/base/address.js";
import { mac1KeyOf } from "../../src/wireguard/cookie.js";
import { mac } from "../../src/wireguard/primitives.js";
import { EnginePeer } from "../support/engine-peer.js";
import { seededRandom } from "../support/random.js";

const random = seededRandom(11);
const OUR_KEY = mac1KeyOf(random.bytes(32));
const SOURCE = SocketAddress.parse("192.0.2.7:51820") as SocketAddress;

/** A message of `type` whose mac1 is made with `key`. */
function message(type: 1 | 2 | 3, key: Uint8Array): Uint8Array {
  const length = { 1: 148, 2: 92, 3: 64 }[type];
  const datagram = random.bytes(length);
  datagram.set([type, 0, 0, 0]);
  if (type !== 3) datagram.set(mac(key, datagram.subarray(0, length - 32)), length - 32);
  return datagram;
}

async function peerThatChecks(): Promise<EnginePeer> {
  const peer = await EnginePeer.create();
  peer.tables.setMac1Key(OUR_KEY);
  return peer;
}

const receive = (peer: EnginePeer, datagrams: readonly Uint8Array[], now: number, from = SOURCE) => {
  assert.deepEqual(
    peer.receive(
      4,
      datagrams.map((bytes) => ({ bytes, from })),
      now,
    ),
    [],
  );
  return peer.exceptions().map(({ reason }) => reason);
};

describe("handshake messages at the engine's door", () => {
  test("those with a mac1 for our public key go to the control plane, whole", async () => {
    const peer = await peerThatChecks();
    for (const type of [1, 2] as const) {
      const datagram = message(type, OUR_KEY);
      peer.receive(4, [{ bytes: datagram, from: SOURCE }], 1000);
      const [exception, ...others] = peer.exceptions();
      assert.equal(exception?.reason, Exception.WireGuardHandshake);
      assert.deepEqual(Buffer.from(exception?.payload ?? []), Buffer.from(datagram));
      assert.equal(others.length, 0);
    }
  });

  test("those with a mac1 for another key are dropped and counted, and so is a change of any bit", async () => {
    const peer = await peerThatChecks();
    let dropped = 0;
    for (const type of [1, 2] as const) {
      assert.deepEqual(receive(peer, [message(type, mac1KeyOf(random.bytes(32)))], 1000), []);
      dropped++;
      for (let bit = 32; bit < 8 * (type === 1 ? 132 : 76); bit += 7) {
        const datagram = message(type, OUR_KEY);
        datagram[bit >> 3] = (datagram[bit >> 3] ?? 0) ^ (1 << (bit & 7));
        assert.deepEqual(receive(peer, [datagram], 1000), []);
        dropped++;
      }
    }
    assert.equal(peer.tables.counters()[Drop.HandshakeMac], dropped);
  });

  test("cookie replies have no mac1, and without a key nothing is checked", async () => {
    const peer = await peerThatChecks();
    assert.deepEqual(receive(peer, [message(3, OUR_KEY)], 1000), [Exception.WireGuardHandshake]);
    peer.tables.setMac1Key(undefined);
    assert.deepEqual(receive(peer, [message(1, random.bytes(32))], 1000), [Exception.WireGuardHandshake]);
  });

  test("another key takes the place of the first", async () => {
    const peer = await peerThatChecks();
    const next = mac1KeyOf(random.bytes(32));
    peer.tables.setMac1Key(next);
    assert.deepEqual(receive(peer, [message(1, OUR_KEY)], 1000), []);
    assert.deepEqual(receive(peer, [message(1, next)], 1000), [Exception.WireGuardHandshake]);
  });

  test("one source gets a burst of 1000 and then 100 a second, and does not keep out the others", async () => {
    const peer = await peerThatChecks();
    const initiation = message(1, OUR_KEY);
    const flood = (count: number, now: number, from = SOURCE) => {
      let passed = 0;
      for (let i = 0; i < count; i++) passed += receive(peer, [initiation], now, from).length;
      return passed;
    };
    assert.equal(flood(1500, 10_000), 1000);
    assert.equal(flood(500, 10_100), 10);
    assert.equal(peer.tables.counters()[Drop.HandshakeFlood], 990);
    const others = [10, 11, 12].map((host) => flood(10, 10_100, SocketAddress.parse(`198.51.100.${host}:1`)));
    // One of them may share the flooder's budget by chance.
    assert.ok(others.filter((passed) => passed === 10).length >= 2, others.join());
    assert.equal(flood(10, 60_000), 10);
  });

  test("however many sources there are, the control plane gets a burst of 2000 and then 1000 a second", async () => {
    const peer = await peerThatChecks();
    const initiation = message(1, OUR_KEY);
    const flood = (count: number, now: number) => {
      let passed = 0;
      for (let i = 0; i < count; i++) {
        const from = SocketAddress.parse(`198.${18 + (i >> 16)}.${(i >> 8) & 255}.${i & 255}:1`);
        passed += receive(peer, [initiation], now, from).length;
      }
      return passed;
    };
    assert.equal(flood(5000, 10_000), 2000);
    assert.equal(flood(500, 10_100), 100);
  });
});

test("the engine's keyed BLAKE2s is that of a well-known library (RFC 7693)", async () => {
  // The door answers only yes or no, so: yes for the library's MAC, for many keys and messages.
  const peer = await EnginePeer.create();
  for (let i = 0; i < 200; i++) {
    const key = random.bytes(32);
    peer.tables.setMac1Key(key);
    const type = i % 2 === 0 ? 1 : 2;
    const datagram = message(type, key);
    const covered = datagram.length - 32;
    datagram.set(blake2s(datagram.subarray(0, covered), { key, dkLen: 16 }), covered);
    assert.deepEqual(receive(peer, [datagram], 1000 * i), [Exception.WireGuardHandshake]);
  }
});
