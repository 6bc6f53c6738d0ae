// The bytes of WireGuard's transport messages.

import assert from "node:assert/strict";
import { test } from "node:test";
import { IpPrefix } from "../../src/base/address.js";
import { fromHex, toHex } from "../../src/base/bytes.js";
import { Exception } from "../../src/engine/index.js";
import { connect, EnginePeer, ip, SOCKET_A, SOCKET_B, socket } from "../support/engine-peer.js";
import { frameOf } from "../support/ip-packets.js";

function hex(text: string): Uint8Array {
  const bytes = fromHex(text.replace(/\s/g, ""));
  if (bytes === undefined) throw new Error("not hexadecimal");
  return bytes;
}

// Spec 02, section 11.5.
const INITIATOR_TO_RESPONDER = hex("a18cc809fd05b6b5f99644cf506f89dce368c2f54a9dbeb9a384f36c274317ef");
const RESPONDER_TO_INITIATOR = hex("b1aa1b797d3a45da97552b8084ade493aa767f15af95854bc86557f6dacd851d");
const INITIATOR_INDEX = 0x101;
const RESPONDER_INDEX = 0x201;
const KEEPALIVE = hex("040000000102000000000000000000002573d3030aabba0c616df8e5a1bab60b");
const PACKET = hex("4500002000000000401100006440000164600001162e0017000c000000010203");
const INITIATOR_PACKET = hex(`
  04000000010200000100000000000000bff40fa8ad16255233a73db492b85214475a5f5af43f590100a5e13645a85151
  d4dd7f1e8097be28af986edc438ad042`);
const RESPONDER_PACKET = hex(`
  04000000010100000000000000000000679b62edf85a670b647dcec99d3d7d861cda08af9a34e8c7a89a8e76896351ea
  a2cd6d584296182a2473833dd5dc8034`);

const INITIATOR_IP = IpPrefix.host(ip("100.64.0.1"));
const RESPONDER_IP = IpPrefix.host(ip("100.96.0.1"));

async function initiator() {
  const peer = await EnginePeer.create();
  const connection = connect(peer, [RESPONDER_IP], {
    localIndex: INITIATOR_INDEX,
    remoteIndex: RESPONDER_INDEX,
    sendKey: INITIATOR_TO_RESPONDER,
    receiveKey: RESPONDER_TO_INITIATOR,
  });
  return { peer, connection };
}

async function responder(confirmed: boolean) {
  const peer = await EnginePeer.create();
  const connection = connect(peer, [INITIATOR_IP, RESPONDER_IP], {
    localIndex: RESPONDER_INDEX,
    remoteIndex: INITIATOR_INDEX,
    sendKey: RESPONDER_TO_INITIATOR,
    receiveKey: INITIATOR_TO_RESPONDER,
    local: SOCKET_B,
    remote: SOCKET_A,
    confirmed,
  });
  return { peer, connection };
}

test("spec 02, 11.5: the initiator's keepalive and its packet P, byte for byte", async () => {
  const { peer, connection } = await initiator();
  assert.equal(peer.engine.sealKeepalive(connection, 5), true);
  peer.outbound(frameOf(PACKET), 6);
  assert.deepEqual(peer.sendDatagrams(4).map(toHex), [toHex(KEEPALIVE), toHex(INITIATOR_PACKET)]);
  assert.deepEqual(peer.tables.activity(connection), {
    sentAt: 6,
    sentDataAt: 6,
    receivedAt: 0,
    receivedDataAt: 0,
    txBytes: 32 + 64,
    rxBytes: 0,
    txPackets: 2,
    rxPackets: 0,
  });
});

test("spec 02, 11.5: the responder's packet P, byte for byte", async () => {
  const { peer } = await responder(true);
  peer.outbound(frameOf(PACKET));
  assert.deepEqual(peer.sendDatagrams(4).map(toHex), [toHex(RESPONDER_PACKET)]);
});

test("spec 02, 11.5, 15.4.1 and 15.4.5: the responder opens both, the packet is what it was, the keepalive confirms the session once", async () => {
  const { peer, connection } = await responder(false);
  const messages = [KEEPALIVE, INITIATOR_PACKET].map((bytes) => ({ from: SOCKET_A, to: SOCKET_B.ip, bytes }));
  assert.deepEqual(peer.receive(4, messages, 7).map(toHex), [toHex(frameOf(PACKET))]);
  assert.equal(peer.engine.exceptionsPending(), true);
  assert.equal(peer.engine.exceptionsPending(), false);
  assert.deepEqual(
    peer.exceptions().map(({ reason, connection: slot, localIndex }) => [reason, slot, localIndex]),
    [[Exception.SessionConfirmed, connection, RESPONDER_INDEX]],
  );
  const { receivedAt, receivedDataAt, rxBytes, rxPackets } = peer.tables.activity(connection);
  assert.deepEqual([receivedAt, receivedDataAt, rxBytes, rxPackets], [7, 7, 96, 2]);
  assert.deepEqual(peer.drops(), {});
});

test("a keepalive is no data: it stamps the time of receiving only", async () => {
  const { peer, connection } = await responder(true);
  assert.deepEqual(peer.receive(4, [{ from: SOCKET_A, bytes: KEEPALIVE }], 9), []);
  const { receivedAt, receivedDataAt } = peer.tables.activity(connection);
  assert.deepEqual([receivedAt, receivedDataAt], [9, 0]);
});

test("messages leave from the path's local address to its remote one, by either family", async () => {
  for (const [local, remote, family] of [
    [socket("192.0.2.9:51820"), socket("203.0.113.4:4000"), 4],
    [socket("[2001:db8::9]:51820"), socket("[2001:db8:1::4]:4000"), 6],
  ] as const) {
    const { peer, connection } = await initiator();
    peer.tables.setPath(connection, { local, remote });
    peer.outbound(frameOf(PACKET));
    const [message] = peer.send(family);
    assert.equal(message?.to.toString(), remote.toString());
    assert.equal(message?.from?.toString(), local.ip.toString());
    assert.equal(message?.segmentSize, undefined);

    peer.tables.setPath(connection, { local: undefined, remote });
    peer.outbound(frameOf(PACKET));
    assert.equal(peer.send(family)[0]?.from, undefined);
  }
});

test("RFC 8656, section 12.4: to a relay the message is the payload of channel data", async () => {
  const { peer, connection } = await initiator();
  peer.tables.setPath(connection, { local: undefined, remote: SOCKET_B, relayChannel: 0x4abc });
  assert.equal(peer.engine.sealKeepalive(connection, 0), true);
  peer.outbound(frameOf(PACKET));
  assert.deepEqual(peer.sendDatagrams(4).map(toHex), [
    `4abc0020${toHex(KEEPALIVE)}`,
    `4abc0040${toHex(INITIATOR_PACKET)}`,
  ]);
});
