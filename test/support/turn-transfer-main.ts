// A relayed transfer as a program: a client with an allocation sends to a peer on a channel, and the peer sends back what it gets. So much
// is under way at a time and no more, as with TCP; what is lost is given up after a while. The rate is limited, so that this program does
// not need a whole processor: then the relay would compete with it, and with whoever else is measured.
//
//    arguments: server's address and port, own address, user, password, datagrams per second
//    prints a line for each interval of 250 ms: bytes that have come back

import assert from "node:assert/strict";
import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { SocketAddress } from "../../src/base/address.js";
import { toHex } from "../../src/base/bytes.js";
import {
  ChannelNumber,
  Nonce,
  Realm,
  RequestedTransport,
  Username,
  XorPeerAddress,
} from "../../src/stun/attributes.js";
import { StunBuilder } from "../../src/stun/builder.js";
import { Method } from "../../src/stun/header.js";
import { longTermKey } from "../../src/stun/integrity.js";
import { parseStunMessage, type StunMessage } from "../../src/stun/message.js";
import { nodeCrypto, systemRandom } from "../../src/system/crypto.js";

/** Datagrams under way at once, and bytes of each. */
const WINDOW = 32;
const PAYLOAD = 1200;
/** Time without any datagram after which those under way are given up, in milliseconds. */
const PATIENCE = 20;
const INTERVAL = 250;
const CHANNEL = 0x4000;

const [address = "", ip = "", user = "", password = "", rate = "Infinity"] = process.argv.slice(2);
const server = SocketAddress.parse(address);
assert.ok(server !== undefined, `"${address}" is no address`);

async function open(): Promise<Socket> {
  const socket = createSocket({ type: "udp4", recvBufferSize: 1 << 20 });
  socket.bind(0, ip);
  await once(socket, "listening");
  return socket;
}

const client = await open();
const peer = await open();
const answers = new Map<string, (message: StunMessage) => void>();
let underWay = 0;
let bytes = 0;
let lastAt = performance.now();

/** An answer; a request is sent once, because nothing is lost before the flood. */
function request(method: number, add: (message: StunBuilder) => void): Promise<StunMessage> {
  const id = systemRandom.bytes(12);
  const message = new StunBuilder("request", method, id);
  add(message);
  client.send(message.finish(), server?.port ?? 0, server?.ip.toString());
  return new Promise((resolve) => answers.set(toHex(id), resolve));
}

client.on("message", (data) => {
  if (data.readUInt16BE(0) === CHANNEL) {
    underWay--;
    bytes += data.length - 4;
    lastAt = performance.now();
    fill();
    return;
  }
  const message = parseStunMessage(data);
  if (typeof message !== "string") answers.get(message.transactionKey)?.(message);
});
peer.on("message", (data, from) => peer.send(data, from.port, from.address));

const challenge = await request(Method.Allocate, (message) => message.add(RequestedTransport, 17));
const realm = challenge.get(Realm) ?? "";
const nonce = challenge.get(Nonce) ?? "";
const key = longTermKey(user, realm, password, nodeCrypto);
const sign = (message: StunBuilder) =>
  message.add(Username, user).add(Realm, realm).add(Nonce, nonce).addIntegrity(key, nodeCrypto);
const granted = await request(Method.Allocate, (message) => sign(message.add(RequestedTransport, 17)));
assert.equal(granted.class, "success");
const peerAddress = SocketAddress.parse(`${ip}:${peer.address().port}`);
assert.ok(peerAddress !== undefined);
const bound = await request(Method.ChannelBind, (message) =>
  sign(message.add(ChannelNumber, CHANNEL).add(XorPeerAddress, peerAddress)),
);
assert.equal(bound.class, "success");

const datagram = Buffer.alloc(4 + PAYLOAD);
datagram.writeUInt16BE(CHANNEL, 0);
datagram.writeUInt16BE(PAYLOAD, 2);

const start = performance.now();
let sent = 0;
/** What was not used of the rate, because too much was under way, is lost. */
let forfeited = 0;

function fill(): void {
  const allowed = ((performance.now() - start) / 1000) * Number(rate) - forfeited;
  if (allowed - sent > 2 * WINDOW) forfeited += allowed - sent - 2 * WINDOW;
  while (underWay < WINDOW && sent < allowed) {
    sent++;
    client.send(datagram, server?.port ?? 0, server?.ip.toString());
    underWay++;
  }
}

setInterval(fill, 1);
setInterval(() => {
  if (performance.now() - lastAt < PATIENCE) return;
  underWay = 0;
  fill();
}, PATIENCE);
setInterval(() => {
  process.stdout.write(`${bytes}\n`);
  bytes = 0;
}, INTERVAL);
