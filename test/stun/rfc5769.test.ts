// The published vectors of RFC 5769.

import assert from "node:assert/strict";
import { test } from "node:test";
import { toHex } from "../../src/base/bytes.js";
import {
  Fingerprint,
  IceControlled,
  MessageIntegrity,
  Nonce,
  Priority,
  Realm,
  Software,
  Username,
  XorMappedAddress,
} from "../../src/stun/attributes.js";
import { StunBuilder } from "../../src/stun/builder.js";
import { verifyFingerprint } from "../../src/stun/fingerprint.js";
import { Method } from "../../src/stun/header.js";
import { longTermKey, shortTermKey, verifyIntegrity } from "../../src/stun/integrity.js";
import { parseStunMessage, StunMessage } from "../../src/stun/message.js";
import { nodeCrypto } from "../../src/system/crypto.js";
import { hex } from "../support/hex.js";

const PASSWORD = shortTermKey("VOkJxbRl1RmTxUk/WvJxBt");
const TRANSACTION_ID = "b7e7a701bc34d686fa87dfae";

function parse(bytes: Uint8Array): StunMessage {
  const message = parseStunMessage(bytes);
  assert.ok(message instanceof StunMessage, `parses: ${message}`);
  return message;
}

const REQUEST = hex(`
  00010058 2112a442 b7e7a701 bc34d686 fa87dfae
  80220010 5354554e 20746573 7420636c 69656e74
  00240004 6e0001ff
  80290008 932ff9b1 51263b36
  00060009 6576746a 3a683676 59202020
  00080014 9aeaa70c bfd8cb56 781ef2b5 b2d3f249 c1b571a2
  80280004 e57a3bcf`);

test("RFC 5769, 2.1: sample request", () => {
  const message = parse(REQUEST);
  assert.equal(message.class, "request");
  assert.equal(message.method, Method.Binding);
  assert.equal(message.transactionKey, TRANSACTION_ID);
  assert.equal(message.get(Software), "STUN test client");
  assert.equal(message.get(Username), "evtj:h6vY");
  assert.equal(message.get(Priority), 0x6e0001ff);
  assert.equal(toHex(message.get(IceControlled) ?? new Uint8Array()), "932ff9b151263b36");
  assert.equal(verifyIntegrity(message, PASSWORD, nodeCrypto), true);
  assert.equal(verifyFingerprint(message), true);
});

test("RFC 5769, 2.1: any other password, and any changed bit, is noticed", () => {
  assert.equal(verifyIntegrity(parse(REQUEST), shortTermKey("VOkJxbRl1RmTxUk/WvJxBu"), nodeCrypto), false);
  const covered = REQUEST.length - 8;
  for (let bit = 0; bit < REQUEST.length * 8; bit++) {
    const changed = REQUEST.slice();
    const at = bit >> 3;
    changed[at] = (changed[at] ?? 0) ^ (1 << (bit & 7));
    const message = parseStunMessage(changed);
    if (!(message instanceof StunMessage)) continue;
    assert.notEqual(verifyFingerprint(message), true, `fingerprint, bit ${bit}`);
    if (at < covered) assert.equal(verifyIntegrity(message, PASSWORD, nodeCrypto), false, `integrity, bit ${bit}`);
  }
});

test("RFC 5769, 2.2: sample IPv4 response", () => {
  const message = parse(
    hex(`
    0101003c 2112a442 b7e7a701 bc34d686 fa87dfae
    8022000b 74657374 20766563 746f7220
    00200008 0001a147 e112a643
    00080014 2b91f599 fd9e90c3 8c7489f9 2af9ba53 f06be7d7
    80280004 c07d4c96`),
  );
  assert.equal(message.class, "success");
  assert.equal(message.get(Software), "test vector");
  assert.equal(message.get(XorMappedAddress)?.toString(), "192.0.2.1:32853");
  assert.equal(verifyIntegrity(message, PASSWORD, nodeCrypto), true);
  assert.equal(verifyFingerprint(message), true);
});

test("RFC 5769, 2.3: sample IPv6 response", () => {
  const message = parse(
    hex(`
    01010048 2112a442 b7e7a701 bc34d686 fa87dfae
    8022000b 74657374 20766563 746f7220
    00200014 0002a147 0113a9fa a5d3f179 bc25f4b5 bed2b9d9
    00080014 a382954e 4be67bf1 1784c97c 8292c275 bfe3ed41
    80280004 c8fb0b4c`),
  );
  assert.equal(message.get(XorMappedAddress)?.toString(), "[2001:db8:1234:5678:11:2233:4455:6677]:32853");
  assert.equal(verifyIntegrity(message, PASSWORD, nodeCrypto), true);
  assert.equal(verifyFingerprint(message), true);
});

test("RFC 5769, 2.4: sample request with long-term authentication, read and written", () => {
  const bytes = hex(`
    00010060 2112a442 78ad3433 c6ad72c0 29da412e
    00060012 e3839ee3 8388e383 aae38383 e382afe3 82b90000
    0015001c 662f2f34 39396b39 35346436 4f4c3334 6f4c3946 53547679 36347341
    0014000b 6578616d 706c652e 6f726700
    00080014 f6702465 6dd64a3e 02b8e071 2e85c9a2 8ca89666`);
  const message = parse(bytes);
  const username = "\u30de\u30c8\u30ea\u30c3\u30af\u30b9";
  assert.equal(message.get(Username), username);
  assert.equal(message.get(Nonce), "f//499k954d6OL34oL9FSTvy64sA");
  assert.equal(message.get(Realm), "example.org");
  assert.equal(message.get(Fingerprint), undefined);
  assert.equal(verifyFingerprint(message), undefined);
  const key = longTermKey(username, "example.org", "TheMatrIX", nodeCrypto);
  assert.equal(verifyIntegrity(message, key, nodeCrypto), true);

  const written = new StunBuilder("request", Method.Binding, hex("78ad3433c6ad72c029da412e"))
    .add(Username, username)
    .add(Nonce, "f//499k954d6OL34oL9FSTvy64sA")
    .add(Realm, "example.org")
    .addIntegrity(key, nodeCrypto)
    .finish();
  assert.equal(toHex(written), toHex(bytes));
  assert.deepEqual(message.attributeTypes, [Username.type, Nonce.type, Realm.type, MessageIntegrity.type]);
});
