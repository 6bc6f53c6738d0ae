// What the STUN parser and builder refuse, ignore and bound.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { concatBytes, viewOf } from "../../src/base/bytes.js";
import { AttributeError } from "../../src/stun/attribute.js";
import {
  ChannelNumber,
  ErrorCodeAttribute,
  Fingerprint,
  IceControlled,
  Lifetime,
  MessageIntegrity,
  Nonce,
  Priority,
  RequestedAddressFamily,
  Software,
  UseCandidate,
  Username,
  XorMappedAddress,
} from "../../src/stun/attributes.js";
import { StunBuilder } from "../../src/stun/builder.js";
import {
  CHANNEL_MAX,
  CHANNEL_MIN,
  encodeChannelData,
  mayBeChannelData,
  parseChannelData,
} from "../../src/stun/channel-data.js";
import { crc32, verifyFingerprint } from "../../src/stun/fingerprint.js";
import { encodeType, Method, parseHeader } from "../../src/stun/header.js";
import { shortTermKey, verifyIntegrity } from "../../src/stun/integrity.js";
import { MAX_ATTRIBUTES, parseStunMessage, StunMessage } from "../../src/stun/message.js";
import { nodeCrypto } from "../../src/system/crypto.js";
import { hex } from "../support/hex.js";
import { ALL_ATTRIBUTES, address, inspect, messageWithEverything } from "../support/stun-samples.js";

const TRANSACTION_ID = hex("0102030405060708090a0b0c");
const KEY = shortTermKey("clientPassVord12345678");

function parse(bytes: Uint8Array): StunMessage {
  const message = parseStunMessage(bytes);
  assert.ok(message instanceof StunMessage, `parses: ${message}`);
  return message;
}

function request(): StunBuilder {
  return new StunBuilder("request", Method.Binding, TRANSACTION_ID);
}

/** The message with `attributes` (already encoded) appended and a right length. */
function append(bytes: Uint8Array, ...attributes: Uint8Array[]): Uint8Array {
  const result = concatBytes(bytes, ...attributes);
  viewOf(result).setUint16(2, result.length - 20);
  return result;
}

test("spec 03, 1.2: type codes of all classes and methods", () => {
  assert.deepEqual(
    [Method.Binding, Method.Allocate, Method.Refresh, Method.CreatePermission, Method.ChannelBind].map((method) => [
      encodeType("request", method),
      encodeType("success", method),
      encodeType("error", method),
    ]),
    [
      [0x0001, 0x0101, 0x0111],
      [0x0003, 0x0103, 0x0113],
      [0x0004, 0x0104, 0x0114],
      [0x0008, 0x0108, 0x0118],
      [0x0009, 0x0109, 0x0119],
    ],
  );
  assert.equal(encodeType("indication", Method.Binding), 0x0011);
  for (let type = 0; type <= 0x3fff; type++) {
    const bytes = new Uint8Array(20);
    viewOf(bytes).setUint16(0, type);
    viewOf(bytes).setUint32(4, 0x2112a442);
    const header = parseHeader(bytes);
    assert.ok(typeof header === "object");
    assert.equal(encodeType(header.class, header.method), type);
  }
});

test("spec 02, 15.3.19: an empty or short buffer is not STUN and does not crash", () => {
  const message = messageWithEverything();
  for (let length = 0; length < message.length; length++)
    assert.equal(typeof parseStunMessage(message.subarray(0, length)), "string");
});

test("spec 03, 1.8: other protocols, wrong lengths and truncated attributes are refused", () => {
  const good = request().add(Software, "snownet").finish();
  const changed = (at: number, value: number): Uint8Array => {
    const bytes = good.slice();
    bytes[at] = value;
    return bytes;
  };
  assert.equal(parseStunMessage(changed(0, 0x40)), "not-stun");
  assert.equal(parseStunMessage(changed(0, 0x80)), "not-stun");
  assert.equal(parseStunMessage(changed(7, 0x43)), "not-stun");
  assert.equal(parseStunMessage(changed(3, 8)), "bad-length");
  assert.equal(parseStunMessage(changed(3, 16)), "bad-length");
  assert.equal(parseStunMessage(concatBytes(good, Uint8Array.of(0))), "bad-length");
  assert.equal(parseStunMessage(append(good, hex("8022"))), "bad-length");
  // The attribute's length field: one more than there is, and as much as there can be.
  assert.equal(parseStunMessage(changed(23, 9)), "truncated-attribute");
  assert.equal(parseStunMessage(append(good, hex("0006ffff"))), "truncated-attribute");
});

test("a WireGuard handshake initiation is no STUN message", () => {
  const initiation = new Uint8Array(148);
  initiation[0] = 1;
  // Even with a sender index that equals the magic cookie.
  viewOf(initiation).setUint32(4, 0x2112a442);
  assert.equal(parseStunMessage(initiation), "bad-length");
});

test("the number of attributes is bounded", () => {
  const many = (count: number): Uint8Array =>
    append(request().finish(), ...Array.from({ length: count }, () => hex("80ff0000")));
  assert.ok(parseStunMessage(many(MAX_ATTRIBUTES)) instanceof StunMessage);
  assert.equal(parseStunMessage(many(MAX_ATTRIBUTES + 1)), "too-many-attributes");
});

test("the first of several attributes of one type counts (field notes 4.3, duplicates)", () => {
  const message = parse(request().add(Username, "first").add(Username, "second").finish());
  assert.equal(message.get(Username), "first");
  assert.deepEqual(message.getAll(Username), ["first", "second"]);
});

test("attributes after MESSAGE-INTEGRITY are ignored, except FINGERPRINT (field notes 4.3)", () => {
  const protectedPart = request().add(Username, "a:b").addIntegrity(KEY, nodeCrypto).finish();
  const useCandidate = hex("00250000");
  const bytes = new StunBuilder("request", Method.Binding, TRANSACTION_ID)
    .add(Username, "a:b")
    .addIntegrity(KEY, nodeCrypto)
    .add(UseCandidate, true)
    .add(Username, "evil:b")
    .addFingerprint()
    .finish();
  const message = parse(bytes);
  assert.equal(message.has(UseCandidate), false);
  assert.deepEqual(message.getAll(Username), ["a:b"]);
  assert.equal(verifyIntegrity(message, KEY, nodeCrypto), true);
  assert.equal(verifyFingerprint(message), true);
  assert.equal(parse(append(protectedPart, useCandidate)).has(UseCandidate), false);
});

test("nothing counts after FINGERPRINT, not even MESSAGE-INTEGRITY", () => {
  const message = parse(request().addFingerprint().add(Username, "a:b").addIntegrity(KEY, nodeCrypto).finish());
  assert.deepEqual(message.attributeTypes, [Fingerprint.type]);
  assert.equal(verifyIntegrity(message, KEY, nodeCrypto), false);
});

test("spec 02, 10.2: unknown attributes are ignored, also an empty one of type 0 after USERNAME", () => {
  const message = parse(append(request().finish(), hex("0006 0004 61623a63 0000 0000 7fff 0001 ff000000")));
  assert.equal(message.get(Username), "ab:c");
});

test("spec 03, 1.8: values that are malformed or invalid are told apart", () => {
  const kind = (attribute: string): string[] =>
    ALL_ATTRIBUTES.map((known) => parse(append(request().finish(), hex(attribute))).decode(known)).flatMap((value) =>
      value instanceof AttributeError ? [value.kind] : [],
    );
  assert.deepEqual(kind("000d 0003 00000000"), ["malformed"], "LIFETIME of 3 bytes");
  assert.deepEqual(kind("000c 0004 80000000"), ["invalid"], "channel 0x8000");
  assert.deepEqual(kind("0020 0008 0003eb7e ea12d545"), ["invalid"], "address family 3");
  assert.deepEqual(kind("0020 0008 0002eb7e ea12d545"), ["malformed"], "IPv6 address of 4 bytes");
  assert.deepEqual(kind("0020 0000"), ["malformed"], "no address");
  assert.deepEqual(kind("0017 0004 03000000"), ["invalid"], "requested family 3");
  assert.deepEqual(kind("0006 0002 c3280000"), ["invalid"], "USERNAME that is not UTF-8");
  assert.deepEqual(kind("0009 0004 00000200"), ["invalid"], "error code 200");
  assert.deepEqual(kind("0009 0004 00000464"), ["invalid"], "error code 4, 100");
  assert.deepEqual(kind("0009 0003 00000400"), ["malformed"], "ERROR-CODE of 3 bytes");
  assert.deepEqual(kind("0008 0010 00000000 00000000 00000000 00000000"), ["malformed"], "short MESSAGE-INTEGRITY");
  assert.deepEqual(kind("0025 0001 00000000"), ["malformed"], "USE-CANDIDATE with a value");
  assert.deepEqual(kind("8029 0004 00000000"), ["malformed"], "short tie-breaker");
  assert.deepEqual(kind(`0006 0204 ${"61".repeat(516)}`), ["invalid"], "USERNAME of 516 bytes");
  assert.equal(parse(append(request().finish(), hex("000d 0003 00000000"))).get(Lifetime), undefined);
});

test("a MESSAGE-INTEGRITY of the wrong size verifies with nothing", () => {
  const message = parse(append(request().finish(), hex("0008 0004 00000000")));
  assert.equal(verifyIntegrity(message, KEY, nodeCrypto), false);
  assert.equal(message.has(MessageIntegrity), true);
});

test("a message with every attribute comes out as it went in", () => {
  const message = parse(messageWithEverything());
  assert.equal(message.attributeTypes.length, 20);
  assert.equal(message.get(XorMappedAddress)?.toString(), "[2001:db8::7]:51820");
  assert.equal(message.get(ChannelNumber), 0x4001);
  assert.equal(message.get(RequestedAddressFamily), 2);
  assert.deepEqual(message.get(ErrorCodeAttribute), { code: 438, reason: "Stale Nonce" });
  assert.equal(verifyIntegrity(message, KEY, nodeCrypto), true);
  assert.equal(verifyFingerprint(message), true);
});

test("what the builder cannot write is a caller's bug", () => {
  assert.throws(() => new StunBuilder("request", Method.Binding, new Uint8Array(11)), RangeError);
  assert.throws(() => request().add(Username, "x".repeat(513)), RangeError);
  assert.throws(() => request().add(Nonce, "x".repeat(764)), RangeError);
  assert.throws(() => request().add(ChannelNumber, 0x8000), RangeError);
  assert.throws(() => request().add(ErrorCodeAttribute, { code: 299, reason: "" }), RangeError);
  assert.throws(() => request().add(IceControlled, new Uint8Array(7)), RangeError);
  const long = request();
  assert.throws(() => {
    for (let i = 0; i < 200; i++) long.add(Username, "x".repeat(512));
  }, RangeError);
});

test("spec 03, 8.1.2 to 8.1.4: channel data", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: CHANNEL_MIN, max: CHANNEL_MAX }),
      fc.uint8Array({ maxLength: 2000 }),
      fc.uint8Array({ maxLength: 8 }),
      (channel, data, trailing) => {
        const datagram = encodeChannelData(channel, data);
        assert.ok(mayBeChannelData(datagram));
        assert.equal((datagram[0] ?? 0) >> 4, 4);
        assert.deepEqual(parseChannelData(concatBytes(datagram, trailing)), { channel, data });
        if (data.length > 0) assert.equal(parseChannelData(datagram.subarray(0, -1)), "truncated");
      },
    ),
  );
  const longest = parseChannelData(encodeChannelData(CHANNEL_MIN, new Uint8Array(65535)));
  assert.ok(typeof longest === "object" && longest.data.length === 65535);
  assert.equal(parseChannelData(hex("400000")), "too-short");
  assert.equal(parseChannelData(hex("80000000")), "bad-channel");
  assert.equal(parseChannelData(hex("80000000")), "bad-channel");
  assert.equal(parseChannelData(new Uint8Array()), "too-short");
  assert.equal(mayBeChannelData(new Uint8Array()), false);
  assert.throws(() => encodeChannelData(0x3fff, new Uint8Array()), RangeError);
  assert.throws(() => encodeChannelData(CHANNEL_MIN, new Uint8Array(65536)), RangeError);
});

test("CRC-32 of the customary check string", () => {
  assert.equal(crc32(new TextEncoder().encode("123456789")), 0xcbf43926);
});

/** Looks at bytes in every way the parsers know; nothing may throw. */
function exercise(bytes: Uint8Array): void {
  const message = parseStunMessage(bytes);
  if (message instanceof StunMessage) inspect(message);
  parseChannelData(bytes);
}

test("fuzz: 50 000 random byte strings behind a right header never throw", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 96 }), (bytes) => {
      exercise(bytes);
      exercise(append(request().finish(), bytes.subarray(0, bytes.length & ~3)));
    }),
    { numRuns: 25_000 },
  );
});

test("fuzz: 60 000 mutated messages never throw", () => {
  const originals = [
    messageWithEverything(),
    request().add(Username, "gx2B:cl1A").add(Priority, 1).addIntegrity(KEY, nodeCrypto).addFingerprint().finish(),
    new StunBuilder("success", Method.Binding, TRANSACTION_ID)
      .add(XorMappedAddress, address("192.0.2.1:1"))
      .addIntegrity(KEY, nodeCrypto)
      .finish(),
  ];
  const mutation = fc.record({ at: fc.nat({ max: 400 }), value: fc.nat({ max: 255 }) });
  let accepted = 0;
  fc.assert(
    fc.property(
      fc.constantFrom(...originals),
      fc.array(mutation, { minLength: 1, maxLength: 6 }),
      fc.nat({ max: 8 }),
      (original, mutations, cut) => {
        const bytes = original.slice();
        for (const { at, value } of mutations) bytes[20 + (at % (bytes.length - 20))] = value;
        exercise(bytes);
        if (parseStunMessage(bytes) instanceof StunMessage) accepted++;
        const shorter = bytes.slice(0, bytes.length - 4 * cut);
        viewOf(shorter).setUint16(2, shorter.length - 20);
        exercise(shorter);
      },
    ),
    { numRuns: 30_000 },
  );
  assert.ok(accepted > 1000, `the mutations leave enough messages to look at: ${accepted}`);
});
