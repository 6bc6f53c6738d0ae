// The byte vectors of the specification: spec 03, section 1.9, and spec 02, section 10.2.

import assert from "node:assert/strict";
import { test } from "node:test";
import { toHex } from "../../src/base/bytes.js";
import {
  AdditionalAddressFamily,
  ChannelNumber,
  ErrorCodeAttribute,
  IceControlling,
  Lifetime,
  Nonce,
  Priority,
  Realm,
  RequestedTransport,
  Software,
  TRANSPORT_UDP,
  UseCandidate,
  Username,
  XorMappedAddress,
  XorPeerAddress,
  XorRelayedAddress,
} from "../../src/stun/attributes.js";
import { StunBuilder } from "../../src/stun/builder.js";
import { ErrorCode } from "../../src/stun/error-code.js";
import { verifyFingerprint } from "../../src/stun/fingerprint.js";
import { Method, type StunClass } from "../../src/stun/header.js";
import { longTermKey, shortTermKey, verifyIntegrity } from "../../src/stun/integrity.js";
import { parseStunMessage, StunMessage } from "../../src/stun/message.js";
import { nodeCrypto } from "../../src/system/crypto.js";
import { hex } from "../support/hex.js";
import { address } from "../support/stun-samples.js";

const HEADER = "2112a442 01020304 05060708 090a0b0c";

function builder(stunClass: StunClass, method: number): StunBuilder {
  return new StunBuilder(stunClass, method, hex("0102030405060708090a0b0c"));
}

function parse(bytes: Uint8Array): StunMessage {
  const message = parseStunMessage(bytes);
  assert.ok(message instanceof StunMessage, `parses: ${message}`);
  return message;
}

/** The bytes written are the vector; returns it parsed. */
function check(written: StunBuilder, vector: string): StunMessage {
  assert.equal(toHex(written.finish()), toHex(hex(vector)));
  return parse(hex(vector));
}

test("spec 03, 8.1.1 and 1.9: binding request", () => {
  const message = check(
    builder("request", Method.Binding).add(Software, "snownet"),
    `0001000c ${HEADER} 80220007 736e6f77 6e657400`,
  );
  assert.equal(message.class, "request");
  assert.equal(message.get(Software), "snownet");
});

test("spec 03, 8.1.1 and 1.9: binding success, IPv4 and IPv6", () => {
  const v4 = check(
    builder("success", Method.Binding).add(XorMappedAddress, address("203.0.113.7:51820")),
    `0101000c ${HEADER} 00200008 0001eb7e ea12d545`,
  );
  assert.equal(v4.class, "success");
  assert.equal(v4.get(XorMappedAddress)?.toString(), "203.0.113.7:51820");
  const v6 = check(
    builder("success", Method.Binding).add(XorMappedAddress, address("[2001:db8::7]:51820")),
    `01010018 ${HEADER} 00200014 0002eb7e 0113a9fa 01020304 05060708 090a0b0b`,
  );
  assert.equal(v6.get(XorMappedAddress)?.toString(), "[2001:db8::7]:51820");
});

test("spec 03, 8.1.1 and 1.9: Allocate errors 401 and 437", () => {
  const unauthorized = check(
    builder("error", Method.Allocate)
      .add(ErrorCodeAttribute, ErrorCode.Unauthorized)
      .add(Nonce, "00000000-0000-0000-0000-000000000000")
      .add(Realm, "firezone"),
    `01130048 ${HEADER} 00090010 00000401 556e6175 74686f72 697a6564
     00150024 30303030 30303030 2d303030 302d3030 30302d30 3030302d 30303030 30303030 30303030
     00140008 66697265 7a6f6e65`,
  );
  assert.equal(unauthorized.class, "error");
  assert.deepEqual(unauthorized.get(ErrorCodeAttribute), { code: 401, reason: "Unauthorized" });
  const mismatch = check(
    builder("error", Method.Allocate).add(ErrorCodeAttribute, ErrorCode.AllocationMismatch),
    `0113001c ${HEADER} 00090017 00000425 416c6c6f 63617469 6f6e204d 69736d61 74636800`,
  );
  assert.deepEqual(mismatch.get(ErrorCodeAttribute), { code: 437, reason: "Allocation Mismatch" });
});

test("spec 03, 8.1.1 and 1.9: Allocate success with both relayed addresses", () => {
  const message = check(
    builder("success", Method.Allocate)
      .add(XorRelayedAddress, address("198.51.100.1:49152"))
      .add(XorRelayedAddress, address("[2001:db8:1::1]:49152"))
      .add(XorMappedAddress, address("203.0.113.7:51820"))
      .add(Lifetime, 600),
    `01030038 ${HEADER} 00160008 0001e112 e721c043
     00160014 0002e112 0113a9fa 01030304 05060708 090a0b0d 00200008 0001eb7e ea12d545 000d0004 00000258`,
  );
  assert.deepEqual(message.getAll(XorRelayedAddress).map(String), ["198.51.100.1:49152", "[2001:db8:1::1]:49152"]);
  assert.equal(message.get(Lifetime), 600);
});

test("spec 03, 8.1.1 and 1.9: ChannelBind and Refresh success", () => {
  check(builder("success", Method.ChannelBind), `01090000 ${HEADER}`);
  check(builder("success", Method.Refresh).add(Lifetime, 600), `01040008 ${HEADER} 000d0004 00000258`);
});

const USERNAME = "4102444800:n23JJ2wKKtt30oXi";
const KEY = longTermKey(USERNAME, "firezone", "1PUyI/cuLYrowEvj08mrS8Dzr8IFNcOgFbrsJnrvF64", nodeCrypto);
const CREDENTIALS = `0006001b 34313032 34343438 30303a6e 32334a4a 32774b4b 74743330 6f586900
  00140008 66697265 7a6f6e65
  00150024 66383164 34666165 2d376465 632d3131 64302d61 3736352d 30306130 63393165 36626636`;

function authenticated(request: StunBuilder): StunBuilder {
  return request
    .add(Username, USERNAME)
    .add(Realm, "firezone")
    .add(Nonce, "f81d4fae-7dec-11d0-a765-00a0c91e6bf6")
    .addIntegrity(KEY, nodeCrypto);
}

test("spec 03, 8.1.1 and 1.9: authenticated Allocate, ChannelBind and Refresh", () => {
  assert.equal(toHex(KEY), "27d7caf16c6b45a1aee3c5696f7474e9");
  const allocate = check(
    authenticated(
      builder("request", Method.Allocate)
        .add(RequestedTransport, TRANSPORT_UDP)
        .add(AdditionalAddressFamily, 2)
        .add(Software, "snownet"),
    ),
    `00030088 ${HEADER} 00190004 11000000 80000004 02000000 80220007 736e6f77 6e657400 ${CREDENTIALS}
     00080014 3bf90f96 fcffd3de 144b7cf9 83239239 0781c4ce`,
  );
  assert.equal(allocate.bytes.length, 156);
  assert.equal(allocate.get(RequestedTransport), 17);
  assert.equal(allocate.get(AdditionalAddressFamily), 2);
  assert.equal(verifyIntegrity(allocate, KEY, nodeCrypto), true);

  const channelBind = check(
    authenticated(
      builder("request", Method.ChannelBind)
        .add(XorPeerAddress, address("192.0.2.33:52625"))
        .add(ChannelNumber, 0x4000)
        .add(Software, "snownet"),
    ),
    `0009008c ${HEADER} 00120008 0001ec83 e112a663 000c0004 40000000 80220007 736e6f77 6e657400 ${CREDENTIALS}
     00080014 8501bbf8 b5dfd049 705d0241 90ec48a9 1c93bd13`,
  );
  assert.equal(channelBind.get(ChannelNumber), 0x4000);
  assert.equal(channelBind.get(XorPeerAddress)?.toString(), "192.0.2.33:52625");

  check(
    // The ellipsis in the specification stands for the two attributes that the Allocate request begins with.
    authenticated(
      builder("request", Method.Refresh)
        .add(RequestedTransport, TRANSPORT_UDP)
        .add(AdditionalAddressFamily, 2)
        .add(Software, "snownet")
        .add(Lifetime, 0),
    ),
    `00040090 ${HEADER} 00190004 11000000 80000004 02000000 80220007 736e6f77 6e657400 000d0004 00000000 ${CREDENTIALS}
     00080014 1975ba2c bed89d38 a0ef3a2b 9a6c4cfc af7e09d8`,
  );
});

test("spec 02, 10.2: ICE binding request with USE-CANDIDATE, and its response", () => {
  const transactionId = hex("000102030405060708090a0b");
  const key = shortTermKey("gatexayPassvord1234567");
  const request = new StunBuilder("request", Method.Binding, transactionId)
    .add(Username, "gx2B:cl1A")
    .add(IceControlling, hex("0102030405060708"))
    .add(Priority, 1862270719)
    .add(UseCandidate, true)
    .addIntegrity(key, nodeCrypto)
    .addFingerprint();
  const parsedRequest = check(
    request,
    `000100482112a442000102030405060708090a0b00060009677832423a636c3141000000802a00080102030405060708
     002400046efffeff0025000000080014ac6f99973a1982f430f5f04c6b1ff2d104cb27ad8028000483107be8`,
  );
  assert.equal(parsedRequest.bytes.length, 92);
  assert.equal(verifyIntegrity(parsedRequest, key, nodeCrypto), true);
  assert.equal(verifyFingerprint(parsedRequest), true);

  const response = new StunBuilder("success", Method.Binding, transactionId)
    .add(XorMappedAddress, address("192.0.2.10:50000"))
    .addIntegrity(key, nodeCrypto)
    .addFingerprint();
  const parsedResponse = check(
    response,
    `0101002c2112a442000102030405060708090a0b002000080001e242e112a64800080014d0a56479b86d396779995d0d
     4076a9a67c7b5216802800042ff8f7e6`,
  );
  assert.equal(parsedResponse.bytes.length, 64);
  assert.equal(verifyIntegrity(parsedResponse, key, nodeCrypto), true);
});

test("spec 03, 8.1.1 and 2.3: the key of long-term credentials", () => {
  const key = longTermKey(
    "1892160000:n23JJ2wKKtt30oXi",
    "firezone",
    "00hqldgk5xLeKKOB+xls9mHMVtgqzie9DulfgQwMv68",
    nodeCrypto,
  );
  assert.equal(key.length, 16);
});
