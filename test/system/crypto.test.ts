// Hashes and MACs of node:crypto against published vectors, and against its own objects.

import assert from "node:assert/strict";
import { createHash, createHmac, randomBytes } from "node:crypto";
import { test } from "node:test";
import { toHex } from "../../src/base/bytes.js";
import { nodeCrypto, systemRandom } from "../../src/system/crypto.js";
import { hmac } from "../../src/system/hmac.js";
import { repeated } from "../support/hex.js";

const ascii = (text: string) => new TextEncoder().encode(text);

test("RFC 2202, section 3: HMAC-SHA1 with short and long keys", () => {
  for (const [key, message, mac] of [
    [repeated(0x0b, 20), ascii("Hi There"), "b617318655057264e28bc0b6fb378c8ef146be00"],
    [ascii("Jefe"), ascii("what do ya want for nothing?"), "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"],
    [repeated(0xaa, 20), repeated(0xdd, 50), "125d7342b9ac11cd91a39af48aa17b4f63f175d3"],
    [Uint8Array.from({ length: 25 }, (_, i) => i + 1), repeated(0xcd, 50), "4c9007f4026250c6bc8414f9bf50c86c2d7235da"],
    [
      repeated(0xaa, 80),
      ascii("Test Using Larger Than Block-Size Key - Hash Key First"),
      "aa4ae5e15272d00e95705637ce8a3b55ed402112",
    ],
    [
      repeated(0xaa, 80),
      ascii("Test Using Larger Than Block-Size Key and Larger Than One Block-Size Data"),
      "e8e99d0f45237d786d6bbaa7965c7808bbff1a91",
    ],
  ] as const)
    assert.equal(toHex(nodeCrypto.hmacSha1(key, message)), mac);
});

test("keys and messages of all lengths give what Node's objects do; both stay as they are", () => {
  for (let length = 0; length <= 130; length++) {
    const key = new Uint8Array(randomBytes(length));
    const message = new Uint8Array(randomBytes(130 - length));
    const before = [key.slice(), message.slice()];
    const of = (hash: { update(bytes: Uint8Array): { digest(): Uint8Array } }, bytes: Uint8Array) =>
      toHex(hash.update(bytes).digest());
    assert.equal(toHex(nodeCrypto.hmacSha1(key, message)), of(createHmac("sha1", key), message), `${length}`);
    assert.equal(toHex(nodeCrypto.md5(message)), of(createHash("md5"), message));
    assert.equal(toHex(nodeCrypto.sha256(message)), of(createHash("sha256"), message));
    assert.deepEqual([key, message], before);
  }
});

test("results are plain bytes of the caller's own", () => {
  for (const make of [nodeCrypto.md5, nodeCrypto.sha256, (bytes: Uint8Array) => nodeCrypto.hmacSha1(bytes, bytes)]) {
    const [first, second] = [make(ascii("abc")), make(ascii("abc"))];
    assert.equal(Object.getPrototypeOf(first), Uint8Array.prototype);
    assert.equal(first.byteLength, first.buffer.byteLength, "in memory that nothing else is in");
    first.fill(0);
    assert.notDeepEqual(first, second);
  }
});

test("nothing of a key is left in what was made of it", () => {
  for (const key of [repeated(0xaa, 20), repeated(0xaa, 80)]) {
    const made: Uint8Array[] = [];
    const digest = (bytes: Uint8Array) => {
      const result = nodeCrypto.sha256(bytes);
      made.push(bytes, result);
      return result;
    };
    hmac(digest, key, ascii("text"));
    const padded = made.filter((bytes) => bytes !== key && bytes.length > 64);
    assert.equal(padded.length, 2);
    for (const bytes of padded) assert.deepEqual(bytes.subarray(0, 64), repeated(0, 64));
    if (key.length > 64) assert.deepEqual(made[1], repeated(0, 32), "nor of a long key's short form");
  }
});

test("random bytes have the length that was asked for, none come twice, and what was given away is the receiver's alone", () => {
  for (const length of [0, 1, 4, 12, 16, 17, 32, 5000]) assert.equal(systemRandom.bytes(length).length, length);
  const ids = Array.from({ length: 5000 }, () => systemRandom.bytes(12));
  assert.equal(new Set(ids.map(toHex)).size, ids.length);
  const bits = ids.reduce((sum, bytes) => sum + bytes.reduce((count, byte) => count + bitsOf(byte), 0), 0);
  // 480 000 bits: half of them within seven standard deviations.
  assert.ok(Math.abs(bits - 240_000) < 7 * 347, `${bits} of 480 000 bits are set`);
  const [first, second] = [systemRandom.bytes(8), systemRandom.bytes(8)];
  const before = toHex(second);
  first.fill(0xff);
  assert.equal(toHex(second), before);
  assert.notEqual(first.buffer, second.buffer);
});

const bitsOf = (byte: number) => byte.toString(2).replaceAll("0", "").length;
