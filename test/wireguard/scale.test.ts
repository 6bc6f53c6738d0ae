// A device with ten thousand idle peers: what one of them causes is work for that one only.

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { SocketAddress } from "../../src/base/address.js";
import { toHex } from "../../src/base/bytes.js";
import type { Crypto } from "../../src/base/crypto.js";
import { MINUTE, SECOND } from "../../src/base/time.js";
import { nodeCrypto } from "../../src/system/crypto.js";
import { WireGuardDevice } from "../../src/wireguard/device.js";
import { Peer } from "../../src/wireguard/peer.js";
import { Tai64nClock } from "../../src/wireguard/tai64n.js";
import { repeated } from "../support/hex.js";
import { seededRandom } from "../support/random.js";

const START = 10_000;
const UNIX_TIME = 1_724_716_800_000;
const MANY = 10_000;

/** Nothing here depends on what Diffie-Hellman yields, and ten thousand of them take a second. */
const quickCrypto: Crypto = { ...nodeCrypto, x25519: () => repeated(9, 32) };

function drain(device: WireGuardDevice): void {
  while (device.pollEvent() !== undefined);
  while (device.pollTransmit() !== undefined);
}

/** A device with `count` peers, and the public key of the one in the middle. */
function deviceWith(count: number): { readonly device: WireGuardDevice; readonly name: string } {
  const random = seededRandom(count);
  const device = new WireGuardDevice({
    crypto: quickCrypto,
    random,
    clock: new Tai64nClock(START, UNIX_TIME),
    maxPeers: count,
    maxAllowedIps: 1,
  });
  const endpoint = SocketAddress.parse("192.0.2.1:51820");
  assert.ok(endpoint);
  const keys = Array.from({ length: count }, () => random.bytes(32));
  const peers = keys.map((publicKey) => ({ publicKey, endpoint, allowedIps: [] }));
  assert.equal(device.configure({ privateKey: repeated(1, 32), peers }, START), undefined);
  drain(device);
  const middle = keys[count >> 1];
  assert.ok(middle);
  return { device, name: toHex(middle) };
}

/** How often peers are looked at while `act` runs. */
function looks(t: TestContext, act: () => void): number {
  const mocks = [
    t.mock.method(Peer.prototype, "handleTimeout"),
    t.mock.method(Peer.prototype, "pollTimeout"),
    t.mock.method(Peer.prototype, "pollEvent"),
  ];
  act();
  const count = mocks.reduce((sum, mock) => sum + mock.mock.callCount(), 0);
  for (const mock of mocks) mock.mock.restore();
  return count;
}

/** One peer is woken by a packet and tries in vain to reach the other side, for 20 s. */
function wakeOne(device: WireGuardDevice, name: string): void {
  device.handlePacket(name, Uint8Array.of(0x45), START + SECOND);
  drain(device);
  for (let turn = 0; turn < 100; turn++) {
    const deadline = device.pollTimeout();
    if (deadline === undefined || deadline > START + 21 * SECOND) return;
    device.handleTimeout(deadline);
    drain(device);
  }
  assert.fail("the device wants to be woken for ever");
}

test("issue 4: a turn of a device with 10 000 idle peers looks at as many of them as one of a device with one", (t) => {
  const one = deviceWith(1);
  const many = deviceWith(MANY);
  const expected = looks(t, () => wakeOne(one.device, one.name));
  assert.ok(expected >= 10, "the peer is looked at");
  const seen = looks(t, () => wakeOne(many.device, many.name));
  // The times at which one peer repeats its initiation are random: one repetition more or less.
  assert.ok(Math.abs(seen - expected) <= 10, `${seen} looks, ${expected} with one peer`);
});

test("issue 4: 10 000 idle peers without a session want nothing for minutes", (t) => {
  const { device } = deviceWith(MANY);
  const next = device.pollTimeout();
  assert.ok(next !== undefined && next > START + 5 * MINUTE);
  assert.equal(
    looks(t, () => device.handleTimeout(START + MINUTE)),
    0,
  );
});
