import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { concatBytes, fromHex, toHex } from "../../src/base/bytes.js";
import { decodeAddress } from "../../src/system/linux/rtnetlink/addresses.js";
import { decodeChange } from "../../src/system/linux/rtnetlink/changes.js";
import { decodeLink } from "../../src/system/linux/rtnetlink/links.js";
import {
  Attributes,
  ControlType,
  decodeMessages,
  decodeOutcome,
  MessageBuilder,
  MessageFlag,
  type NetlinkMessage,
} from "../../src/system/linux/rtnetlink/message.js";
import { decodeRoute } from "../../src/system/linux/rtnetlink/routes.js";
import { decodeRule } from "../../src/system/linux/rtnetlink/rules.js";

function only(datagram: Uint8Array): NetlinkMessage {
  const [message, ...rest] = decodeMessages(datagram) ?? [];
  assert.ok(message !== undefined && rest.length === 0, "exactly one message");
  return message;
}

/** An ERROR or DONE message as the kernel writes it. */
function outcomeMessage(type: number, flags: number, error: number, quoted: Uint8Array, details?: Uint8Array) {
  const number = new Uint8Array(4);
  new DataView(number.buffer).setInt32(0, error, true);
  return { type, flags, sequence: 1, payload: concatBytes(number, quoted, details ?? new Uint8Array(0)) };
}

/** NLMSGERR_ATTR_MSG with this text. */
function textAttribute(text: string): Uint8Array {
  return new MessageBuilder(0, 0).attributeText(1, text).build(0).slice(16);
}

test("a message is laid out as in RFC 3549, section 2.3, with padded and nested attributes", () => {
  const bytes = new MessageBuilder(0x1234, 0x0605)
    .uint8(1)
    .uint16(0x0302)
    .attributeText(3, "lo")
    .nested(26, (message) => message.nested(10, (inner) => inner.attributeUint8(8, 1)))
    .attributeUint32(4, 1280)
    .build(7);
  assert.equal(
    toHex(bytes),
    [
      "34000000 3412 0506 07000000 00000000",
      "010203 00",
      "0700 0300 6c6f00 00",
      "1000 1a80 0c00 0a80 0500 0800 01 000000",
      "0800 0400 00050000",
    ]
      .join("")
      .replaceAll(" ", ""),
  );
});

test("what is built can be read back, whatever the attributes", () => {
  const values = fc.dictionary(fc.integer({ min: 1, max: 0x3fff }).map(String), fc.uint8Array({ maxLength: 600 }));
  fc.assert(
    fc.property(fc.nat(0xffff), fc.nat(0xffff), fc.nat(0xffffffff), values, (type, flags, sequence, attributes) => {
      const builder = new MessageBuilder(type, flags).uint32(0xdeadbeef);
      for (const [number, value] of Object.entries(attributes)) builder.attribute(Number(number), value);
      const message = only(builder.build(sequence));
      assert.deepEqual([message.type, message.flags, message.sequence], [type, flags, sequence]);
      const decoded = Attributes.decode(message.payload, 4);
      for (const [number, value] of Object.entries(attributes)) assert.deepEqual(decoded?.bytes(Number(number)), value);
    }),
  );
});

test("several messages share a datagram", () => {
  const first = new MessageBuilder(16, 0).attributeText(3, "a").build(1);
  const second = new MessageBuilder(17, 0).build(2);
  assert.deepEqual(
    decodeMessages(concatBytes(first, second))?.map((message) => message.type),
    [16, 17],
  );
});

test("a datagram that is cut short anywhere is malformed", () => {
  const bytes = new MessageBuilder(16, 0).attributeText(3, "eth0").build(1);
  for (let length = 1; length < bytes.length; length++)
    assert.equal(decodeMessages(bytes.subarray(0, length)), undefined, `${length} bytes`);
});

test("attributes whose lengths lie are malformed", () => {
  for (const hex of ["0300", "03000100", "0900010001020304", "ffff0100", "00000000"])
    assert.equal(Attributes.decode(fromHex(hex) ?? new Uint8Array(0)), undefined, hex);
});

test("values of another length than asked for are absent", () => {
  const attributes = Attributes.decode(new MessageBuilder(0, 0).attributeUint32(1, 5).build(0).slice(16));
  assert.equal(attributes?.uint32(1), 5);
  assert.equal(attributes?.uint8(1), undefined);
  assert.equal(attributes?.nested(1), undefined);
  assert.equal(attributes?.uint32(2), undefined);
});

test("outcomes: success, an error, an error in the kernel's own words, with and without the request quoted", () => {
  const request = new MessageBuilder(24, 0).attributeText(1, "quoted").build(9);
  const header = request.slice(0, 16);
  const { ERROR, DONE } = ControlType;
  const { CAPPED, DETAILS } = MessageFlag;
  const words = textAttribute("Invalid prefix");

  assert.deepEqual(decodeOutcome(outcomeMessage(ERROR, 0, 0, request)), { errno: 0 });
  assert.deepEqual(decodeOutcome(outcomeMessage(ERROR, CAPPED, -17, header)), { errno: 17 });
  const expected = { errno: 22, text: "Invalid prefix" };
  assert.deepEqual(decodeOutcome(outcomeMessage(ERROR, CAPPED | DETAILS, -22, header, words)), expected);
  assert.deepEqual(decodeOutcome(outcomeMessage(ERROR, DETAILS, -22, request, words)), expected);
  assert.deepEqual(decodeOutcome(outcomeMessage(DONE, DETAILS, -22, new Uint8Array(0), words)), expected);
  assert.deepEqual(decodeOutcome(outcomeMessage(DONE, 0, 0, new Uint8Array(0))), { errno: 0 });
});

test("outcomes that cannot be are malformed", () => {
  const { ERROR, DONE } = ControlType;
  assert.equal(decodeOutcome(outcomeMessage(ERROR, 0, -1, new Uint8Array(15))), undefined);
  assert.equal(decodeOutcome(outcomeMessage(DONE, 0, 1, new Uint8Array(0))), undefined, "a positive error");
  assert.equal(decodeOutcome({ type: DONE, flags: 0, sequence: 1, payload: new Uint8Array(3) }), undefined);
  assert.equal(decodeOutcome(outcomeMessage(16, 0, 0, new Uint8Array(16))), undefined, "not an outcome");
});

test("no decoder throws, whatever the bytes", () => {
  const types = fc.oneof(fc.constantFrom(1, 2, 3, 4, 16, 17, 20, 21, 24, 25, 32, 33), fc.nat(0xffff));
  // Random bytes seldom are attributes: half of the payloads are a structure followed by well-formed ones.
  const attributes = fc
    .array(fc.tuple(fc.nat(50), fc.uint8Array({ maxLength: 40 })), { maxLength: 12 })
    .map((entries) => {
      const builder = new MessageBuilder(0, 0);
      for (const [type, value] of entries) builder.attribute(type, value);
      return builder.build(0).slice(16);
    });
  const structured = fc
    .tuple(fc.uint8Array({ minLength: 8, maxLength: 20 }), attributes)
    .map((parts) => concatBytes(...parts));
  fc.assert(
    fc.property(
      types,
      fc.nat(0xffff),
      fc.oneof(fc.uint8Array({ maxLength: 120 }), structured),
      (type, flags, payload) => {
        const message = { type, flags, sequence: 1, payload };
        for (const decode of [decodeOutcome, decodeLink, decodeAddress, decodeRoute, decodeRule, decodeChange])
          decode(message);
        decodeMessages(payload);
        Attributes.decode(payload)?.text(3);
      },
    ),
    { numRuns: 2000 },
  );
});

test("a route with an impossible prefix length or address size is no route", () => {
  const route = (family: number, prefixLength: number, destination: Uint8Array) =>
    decodeRoute(
      only(
        new MessageBuilder(24, 0)
          .uint8(family)
          .uint8(prefixLength)
          .uint16(0)
          .uint8(254)
          .uint8(4)
          .uint8(0)
          .uint8(1)
          .uint32(0)
          .attribute(1, destination)
          .build(0),
      ),
    );
  assert.equal(route(2, 8, Uint8Array.of(10, 0, 0, 0))?.destination.toString(), "10.0.0.0/8");
  assert.equal(route(2, 33, Uint8Array.of(10, 0, 0, 0)), undefined);
  assert.equal(route(2, 8, new Uint8Array(16)), undefined);
  assert.equal(route(10, 129, new Uint8Array(16)), undefined);
  assert.equal(route(7, 8, Uint8Array.of(10, 0, 0, 0)), undefined, "a family of no concern");
});
