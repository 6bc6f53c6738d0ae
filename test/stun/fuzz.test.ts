// One million datagrams at the STUN parser: nothing throws, and reading changes nothing. Seeded: a failure names the case, which can be
// made again from its number alone.

import assert from "node:assert/strict";
import { test } from "node:test";
import { toHex, viewOf } from "../../src/base/bytes.js";
import type { Random } from "../../src/base/random.js";
import * as Attributes from "../../src/stun/attributes.js";
import { StunBuilder } from "../../src/stun/builder.js";
import { parseChannelData } from "../../src/stun/channel-data.js";
import { HEADER_LENGTH, Method } from "../../src/stun/header.js";
import { longTermKey } from "../../src/stun/integrity.js";
import { parseStunMessage, StunMessage } from "../../src/stun/message.js";
import { nodeCrypto } from "../../src/system/crypto.js";
import { hex } from "../support/hex.js";
import { seededRandom } from "../support/random.js";
import { ALL_ATTRIBUTES, address, inspect, messageWithEverything } from "../support/stun-samples.js";

const CASES = 1_000_000;
/** Checksums of so few are computed as well: they cost ten times the rest. */
const VERIFIED = 16;
const SEED = 20_240_827;

const KEY = longTermKey("user", "realm", "password", nodeCrypto);
const TRANSACTION_ID = hex("0102030405060708090a0b0c");

/** What is changed at random: a message of each kind that the project reads. */
const ORIGINALS: readonly Uint8Array[] = [
  messageWithEverything(),
  new StunBuilder("request", Method.Binding, TRANSACTION_ID).finish(),
  new StunBuilder("success", Method.Binding, TRANSACTION_ID)
    .add(Attributes.XorMappedAddress, address("192.0.2.1:1"))
    .addFingerprint()
    .finish(),
  new StunBuilder("error", Method.Allocate, TRANSACTION_ID)
    .add(Attributes.ErrorCodeAttribute, { code: 401, reason: "Unauthorized" })
    .add(Attributes.Nonce, "nonce")
    .add(Attributes.Realm, "realm")
    .addIntegrity(KEY, nodeCrypto)
    .finish(),
  new StunBuilder("request", Method.ChannelBind, TRANSACTION_ID)
    .add(Attributes.XorPeerAddress, address("[2001:db8::1]:1"))
    .add(Attributes.ChannelNumber, 0x4000)
    .addIntegrity(KEY, nodeCrypto)
    .finish(),
];

/** Types of attributes: those that there are, and their neighbours. */
const TYPES: readonly number[] = [...ALL_ATTRIBUTES.map(({ type }) => type), 0, 0x7fff, 0x8000, 0xffff];

/** Random numbers for one case. */
class Dice {
  readonly #random: Random;

  constructor(seed: number) {
    this.#random = seededRandom(seed);
  }

  bytes(length: number): Uint8Array {
    return this.#random.bytes(length);
  }

  /** Below `bound`, at most 65536. */
  below(bound: number): number {
    const [high = 0, low = 0] = this.#random.bytes(2);
    return ((high << 8) | low) % bound;
  }

  /** Any of these. */
  of<T>(values: readonly T[]): T | undefined {
    return values[this.below(values.length)];
  }
}

/** The datagram of a case. */
function datagram(dice: Dice): Uint8Array {
  switch (dice.below(4)) {
    case 0:
      return dice.bytes(dice.below(80));
    case 1:
      return withHeader(dice, dice.bytes(dice.below(60)));
    case 2:
      return withHeader(dice, attributes(dice));
    default:
      return mutated(dice);
  }
}

/** Bytes behind a header whose length is mostly right. */
function withHeader(dice: Dice, body: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(HEADER_LENGTH + body.length);
  const view = viewOf(bytes);
  view.setUint16(0, dice.below(0x4000));
  view.setUint16(2, dice.below(8) === 0 ? dice.below(0x10000) : body.length & ~3);
  view.setUint32(4, 0x2112a442);
  bytes.set(dice.bytes(12), 8);
  bytes.set(body, HEADER_LENGTH);
  return dice.below(4) === 0 ? bytes : bytes.subarray(0, HEADER_LENGTH + (body.length & ~3));
}

/** Attributes with lengths that mostly fit. */
function attributes(dice: Dice): Uint8Array {
  const bytes = new Uint8Array(200);
  const view = viewOf(bytes);
  let at = 0;
  for (let i = dice.below(6); i >= 0; i--) {
    const length = dice.of([0, 1, 4, 8, 20, dice.below(24)]) ?? 0;
    view.setUint16(at, dice.of(TYPES) ?? 0);
    view.setUint16(at + 2, dice.below(16) === 0 ? dice.below(0x10000) : length);
    bytes.set(dice.bytes(length), at + 4);
    // A family that there is makes an address of it.
    if (dice.below(2) === 0) bytes[at + 5] = 1 + dice.below(2);
    at += 4 + length + (-length & 3);
  }
  return bytes.subarray(0, at);
}

/** A message with some bytes changed, perhaps cut off or drawn out. */
function mutated(dice: Dice): Uint8Array {
  const original = dice.of(ORIGINALS) ?? new Uint8Array(0);
  const bytes = new Uint8Array(original.length + (dice.below(8) === 0 ? dice.below(40) : 0));
  bytes.set(original);
  for (let i = dice.below(5); i >= 0; i--) bytes[dice.below(bytes.length)] = dice.below(256);
  const shorter = dice.below(4) === 0 ? bytes.subarray(0, dice.below(bytes.length + 1)) : bytes;
  if (dice.below(2) === 0 && shorter.length >= HEADER_LENGTH)
    viewOf(shorter).setUint16(2, (shorter.length - HEADER_LENGTH) & ~3);
  return shorter;
}

/** Reads a datagram in every way there is. @returns whether it was a message. */
function read(bytes: Uint8Array, verify: boolean): boolean {
  parseChannelData(bytes);
  const message = parseStunMessage(bytes);
  if (!(message instanceof StunMessage)) return false;
  if (verify) inspect(message);
  else for (const attribute of ALL_ATTRIBUTES) message.getAll(attribute);
  return true;
}

test("fuzz: a million datagrams never make the STUN parser throw", (context) => {
  let accepted = 0;
  for (let i = 0; i < CASES; i++) {
    const bytes = datagram(new Dice(SEED + i));
    const before = i % VERIFIED === 0 ? bytes.slice() : undefined;
    try {
      if (read(bytes, before !== undefined)) accepted++;
    } catch (error) {
      throw new Error(`case ${i}: ${toHex(bytes)}`, { cause: error });
    }
    if (before !== undefined) assert.deepEqual(bytes, before, `case ${i}: reading changes nothing`);
  }
  context.diagnostic(`${accepted} of ${CASES} were messages`);
  assert.ok(accepted > CASES / 10, "there was enough to look at");
});
