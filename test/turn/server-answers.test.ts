// What a relay answers, byte for byte and whoever asks: spec 03, section 8.2. The attributes are those of the vectors of section 1.9, in the later order
// (SOFTWARE first, ERROR-CODE before REALM and NONCE, MESSAGE-INTEGRITY last; sections 3.4 and 6.1), put together by hand.

import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { test } from "node:test";
import { SocketAddress } from "../../src/base/address.js";
import { toHex } from "../../src/base/bytes.js";
import {
  AdditionalAddressFamily,
  ChannelNumber,
  Data,
  Lifetime,
  RequestedTransport,
  XorMappedAddress,
  XorPeerAddress,
} from "../../src/stun/attributes.js";
import { StunBuilder } from "../../src/stun/builder.js";
import { Method } from "../../src/stun/header.js";
import { parseStunMessage } from "../../src/stun/message.js";
import { hex } from "../support/hex.js";
import { seededRandom } from "../support/random.js";
import { at, codeOf, ip, TestClient, TestServer } from "../support/turn.js";

const ID = hex("0102030405060708090a0b0c");
const PEER = at("192.0.2.33:52625");

/** SOFTWARE of {@link TestServer}. */
const SOFTWARE = "80220004 74657374";
const REALM = "00140008 66697265 7a6f6e65";
const MAPPED = "00200008 0001eb7e ea12d545";
const RELAYED = "00160008 0001e112 e721c043 00160014 0002e112 0113a9fa 01030304 05060708 090a0b0d";
const LIFETIME_600 = "000d0004 00000258";
const UNAUTHORIZED = "00090010 00000401 556e6175 74686f72 697a6564";
const ALLOCATION_MISMATCH = "00090017 00000425 416c6c6f 63617469 6f6e204d 69736d61 74636800";

/** A message with these attributes, and MESSAGE-INTEGRITY by `key` if it is given. */
function message(type: number, attributes: readonly string[], key?: Uint8Array): string {
  const body = attributes.join("").replaceAll(" ", "");
  const signature = key === undefined ? 0 : 24;
  const header = `${type.toString(16).padStart(4, "0")}${(body.length / 2 + signature).toString(16).padStart(4, "0")}2112a442${toHex(ID)}`;
  if (key === undefined) return header + body;
  const mac = createHmac("sha1", key)
    .update(hex(header + body))
    .digest("hex");
  return `${header}${body}00080014${mac}`;
}

test("spec 03, 8.2.30: answers are byte-exact, and so is the order of their attributes", () => {
  const server = new TestServer({ lowestPort: 49152, highestPort: 49152 });
  const client = new TestClient(server);
  const binding = new StunBuilder("request", Method.Binding, ID).finish();
  assert.deepEqual(server.receive(client.address, binding).map(toHex), [message(0x0101, [SOFTWARE, MAPPED])]);

  const transport = (request: StunBuilder) => request.add(RequestedTransport, 17).add(AdditionalAddressFamily, 2);
  const challenge = client.send(Method.Allocate, transport, false, ID);
  client.challenge();
  const nonce = toHex(new TextEncoder().encode(client.nonce));
  assert.equal(nonce.length, 72);
  assert.equal(
    toHex(challenge?.bytes ?? ID),
    message(0x0113, [SOFTWARE, UNAUTHORIZED, REALM, `00150024${nonce}`]),
    "the nonce of a client stays the same for a time",
  );

  const answer = (method: number, add?: (request: StunBuilder) => unknown) =>
    toHex(client.request(method, add, ID).bytes);
  const { key } = client;
  const allocated = answer(Method.Allocate, transport);
  assert.equal(allocated, message(0x0103, [SOFTWARE, RELAYED, MAPPED, LIFETIME_600], key));
  assert.equal(answer(Method.Refresh), message(0x0104, [SOFTWARE, LIFETIME_600], key));
  const bind = (request: StunBuilder) => request.add(ChannelNumber, 0x4000).add(XorPeerAddress, PEER);
  assert.equal(answer(Method.ChannelBind, bind), message(0x0109, [SOFTWARE], key));
  const permission = (request: StunBuilder) => request.add(XorPeerAddress, PEER);
  assert.equal(answer(Method.CreatePermission, permission), message(0x0108, [SOFTWARE], key));
  assert.equal(
    answer(Method.Refresh, (request) => request.add(Lifetime, 0)),
    message(0x0104, [SOFTWARE, "000d0004 00000000"], key),
  );
  assert.equal(answer(Method.Refresh), message(0x0114, [SOFTWARE, ALLOCATION_MISMATCH], key));
});

test("spec 03, 8.2.9: a binding from any address and port, with any transaction id, has exactly one answer, with both", () => {
  const server = new TestServer();
  const random = seededRandom(9);
  for (let i = 0; i < 1000; i++) {
    const [high, low] = random.bytes(2);
    const port = Math.max(1, ((high ?? 0) << 8) | (low ?? 0));
    const client = new SocketAddress(ip([...random.bytes(4)].join(".")), port);
    const id = random.bytes(12);
    const answers = server.receive(client, new StunBuilder("request", Method.Binding, id).finish());
    assert.equal(answers.length, 1, String(client));
    const answer = parseStunMessage(answers[0] ?? id);
    assert.ok(typeof answer !== "string" && answer.class === "success");
    assert.equal(toHex(answer.transactionId), toHex(id));
    assert.equal(String(answer.get(XorMappedAddress)), String(client));
  }
});

test("spec 03, 8.2.25, as the RFC has it: CreatePermission without credentials is 401, without allocation 437, with both a success", () => {
  const server = new TestServer();
  const client = new TestClient(server);
  const permission = (request: StunBuilder) => request.add(XorPeerAddress, PEER);
  assert.equal(codeOf(client.send(Method.CreatePermission, permission, false)), 401);
  assert.equal(codeOf(client.request(Method.CreatePermission, permission)), 437);
  client.allocate();
  const answer = client.request(Method.CreatePermission, permission);
  assert.equal(answer.class, "success");
});

test("spec 03, 8.2.26: a Send indication has no answer, whatever is wrong with it; an unknown request method is 400", () => {
  const server = new TestServer();
  const client = new TestClient(server);
  const indication = (peer: SocketAddress | undefined) => {
    const built = new StunBuilder("indication", Method.Send, ID);
    if (peer !== undefined) built.add(XorPeerAddress, peer);
    return built.add(Data, Uint8Array.of(1)).finish();
  };
  assert.deepEqual(server.receive(client.address, indication(PEER)), [], "without allocation");
  client.allocate();
  for (const peer of [PEER, at("127.0.0.1:1"), at("[2001:db8::1]:1"), undefined])
    assert.deepEqual(server.receive(client.address, indication(peer)), [], String(peer));
  assert.deepEqual(server.of("send-to-peer"), []);
  assert.equal(codeOf(client.send(0x00a, () => undefined, true)), 400);
});

test("spec 03, 1.8 and 3.13: what cannot be decoded is 400 if its content is wrong and 500 if its length is, without realm and nonce", () => {
  const server = new TestServer();
  const client = new TestClient(server);
  const request = (type: string, attributes: string) => {
    const body = attributes.replaceAll(" ", "");
    return hex(`${type}${(body.length / 2).toString(16).padStart(4, "0")}2112a442${toHex(ID)}${body}`);
  };
  const badRequest = "0009000f 00000400 42616420 52657175 65737400";
  const serverError = "00090010 00000500 53657276 65722045 72726f72";
  const transport = "00190004 11000000";
  const rows: readonly (readonly [string, Uint8Array, string])[] = [
    [
      "channel 0x8000",
      request("0009", "00120008 0001ec83 e112a663 000c0004 80000000"),
      message(0x0119, [SOFTWARE, badRequest]),
    ],
    [
      "address family 3",
      request("0009", "00120008 0003ec83 e112a663 000c0004 40000000"),
      message(0x0119, [SOFTWARE, badRequest]),
    ],
    [
      "name that is not UTF-8",
      request("0003", `${transport} 00060002 c3280000`),
      message(0x0113, [SOFTWARE, badRequest]),
    ],
    ["LIFETIME of 3 bytes", request("0004", "000d0003 00000000"), message(0x0114, [SOFTWARE, serverError])],
    [
      "IPv6 address of 4 bytes",
      request("0009", "00120008 0002ec83 e112a663"),
      message(0x0119, [SOFTWARE, serverError]),
    ],
    ["truncated attribute", request("0003", "00190010"), message(0x0113, [SOFTWARE, serverError])],
  ];
  for (const [what, datagram, answer] of rows)
    assert.deepEqual(server.receive(client.address, datagram).map(toHex), [answer], what);
  assert.deepEqual(server.receive(client.address, request("0013", "00190010")), [], "an indication has no answer");
});

test("spec 03, 8.1.8: a malformed datagram has no answer and no influence on the next one", () => {
  const server = new TestServer();
  const client = new TestClient(server);
  const binding = new StunBuilder("request", Method.Binding, ID).finish();
  const expected = [message(0x0101, [SOFTWARE, MAPPED])];
  const allocate = client.allocate().bytes;
  const malformed: readonly (readonly [string, Uint8Array])[] = [
    ["cut off in the header", binding.subarray(0, 19)],
    ["cut off in an attribute", allocate.subarray(0, allocate.length - 3)],
    ["longer than it says", Uint8Array.of(...binding, 0, 0, 0, 0)],
    ["another cookie", binding.map((byte, i) => (i === 4 ? byte ^ 1 : byte))],
    ["an attribute of a response that is longer than it", hex(`010100042112a442${toHex(ID)}80220010`)],
    ["channel data that are shorter than they say", Uint8Array.of(0x40, 0, 0, 9, 1)],
    ["nothing", new Uint8Array()],
  ];
  for (const [what, datagram] of malformed) {
    assert.deepEqual(server.receive(client.address, datagram), [], what);
    assert.deepEqual(server.receive(client.address, binding).map(toHex), expected, `after ${what}`);
  }
  // The server's own memory of an earlier message would show in an authenticated one, which has most attributes.
  server.receive(client.address, hex(`000300042112a442${toHex(ID)}00190010`));
  assert.equal(codeOf(client.request(Method.Refresh)), 0);
});
