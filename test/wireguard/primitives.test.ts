// The primitives under WireGuard against published vectors.

import assert from "node:assert/strict";
import { test } from "node:test";
import { blake2s } from "@noble/hashes/blake2.js";
import { toHex } from "../../src/base/bytes.js";
import { nodeCrypto } from "../../src/system/crypto.js";
import { hash, hmacHash, kdf1, kdf2, kdf3, mac } from "../../src/wireguard/primitives.js";
import { hchacha20, xchacha20Poly1305Open, xchacha20Poly1305Seal } from "../../src/wireguard/xchacha.js";
import { hex } from "../support/hex.js";
import { readWycheproof, vectorSkip, type WycheproofCase } from "../support/vectors.js";

const ascii = (text: string) => new TextEncoder().encode(text);

test("spec 02, 11.1: the hashes that every handshake starts with", () => {
  const construction = hash(ascii("Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"));
  assert.equal(toHex(construction), "60e26daef327efc02ec335e2a025d2d016eb4206f87277f52d38d1988b78cd36");
  assert.equal(
    toHex(hash(construction, ascii("WireGuard v1 zx2c4 Jason@zx2c4.com"))),
    "2211b361081ac566691243db458ad5322d9c6c662293e8b70ee19c65ba079ef3",
  );
});

test("RFC 7693, appendix B: BLAKE2s-256 of abc", () => {
  assert.equal(toHex(hash(ascii("abc"))), "508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982");
});

test("RFC 7693, appendix E: the self-test over lengths and keys", () => {
  const sequence = (length: number, seed: number) => {
    let a = Math.imul(0xdead4bad, seed) >>> 0;
    let b = 1;
    return Uint8Array.from({ length }, () => {
      const sum = (a + b) >>> 0;
      a = b;
      b = sum;
      return sum >>> 24;
    });
  };
  const all = blake2s.create({ dkLen: 32 });
  for (const dkLen of [16, 20, 28, 32]) {
    for (const length of [0, 3, 64, 65, 255, 1024]) {
      const input = sequence(length, length);
      const key = sequence(dkLen, dkLen);
      all.update(blake2s(input, { dkLen }));
      all.update(blake2s(input, { dkLen, key }));
      if (dkLen === 16) assert.deepEqual(mac(key, input), blake2s(input, { dkLen, key }));
    }
  }
  assert.equal(toHex(all.digest()), "6a411f08ce25adcdfb02aba641451cec53c598b24f4fc787fbdc88797f4c1dfe");
});

test("spec 02, 11.1: HMAC is RFC 2104 over BLAKE2s with blocks of 64 bytes, and KDF_n is a chain of it", () => {
  const key = hex("000102030405060708090a0b0c0d0e0f");
  const input = ascii("input");
  const padded = (byte: number) => Uint8Array.from({ length: 64 }, (_, i) => (key[i] ?? 0) ^ byte);
  const secret = hash(padded(0x5c), hash(padded(0x36), input));
  assert.deepEqual(hmacHash(key, input), secret);

  const first = hmacHash(secret, Uint8Array.of(1));
  const second = hmacHash(secret, Uint8Array.of(...first, 2));
  const third = hmacHash(secret, Uint8Array.of(...second, 3));
  assert.deepEqual(kdf1(key, input), first);
  assert.deepEqual(kdf2(key, input), [first, second]);
  assert.deepEqual(kdf3(key, input), [first, second, third]);
});

test("RFC 7748, section 5.2: X25519", () => {
  for (const [scalar, point, result] of [
    [
      "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
      "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
      "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
    ],
    [
      "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
      "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
      "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
    ],
  ] as const) {
    assert.equal(toHex(nodeCrypto.x25519(hex(scalar), hex(point)) ?? new Uint8Array()), result);
  }

  let k = new Uint8Array(32);
  k[0] = 9;
  let u = k;
  for (let round = 1; round <= 1000; round++) {
    const next: Uint8Array = nodeCrypto.x25519(k, u) ?? new Uint8Array();
    u = k;
    k = next.slice();
    if (round === 1) assert.equal(toHex(k), "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079");
  }
  assert.equal(toHex(k), "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51");
});

test("RFC 7748, section 6.1: Diffie-Hellman", () => {
  const alice = hex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a");
  const bob = hex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb");
  const alicePublic = nodeCrypto.x25519PublicKey(alice);
  const bobPublic = nodeCrypto.x25519PublicKey(bob);
  assert.equal(toHex(alicePublic), "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a");
  assert.equal(toHex(bobPublic), "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f");
  const shared = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742";
  assert.equal(toHex(nodeCrypto.x25519(alice, bobPublic) ?? new Uint8Array()), shared);
  assert.equal(toHex(nodeCrypto.x25519(bob, alicePublic) ?? new Uint8Array()), shared);
});

test("draft-irtf-cfrg-xchacha-03, section 2.2.1: HChaCha20", () => {
  const key = Uint8Array.from({ length: 32 }, (_, i) => i);
  assert.equal(
    toHex(hchacha20(key, hex("000000090000004a0000000031415927"))),
    "82413b4227b27bfed30e42508a877d73a0f9e4d58a74a853c12ec41326d3ecdc",
  );
});

test("draft-irtf-cfrg-xchacha-03, appendix A.3: XChaCha20-Poly1305", () => {
  const key = Uint8Array.from({ length: 32 }, (_, i) => 0x80 + i);
  const nonce = Uint8Array.from({ length: 24 }, (_, i) => 0x40 + i);
  const additional = hex("50515253c0c1c2c3c4c5c6c7");
  const plaintext = ascii(
    "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.",
  );
  const sealed = xchacha20Poly1305Seal(nodeCrypto, key, nonce, plaintext, additional);
  assert.equal(
    toHex(sealed),
    "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb731c7f1b0b4aa6440bf3a82f4eda7e39" +
      "ae64c6708c54c216cb96b72e1213b4522f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9" +
      "21f9664c97637da9768812f615c68b13b52ec0875924c1c7987947deafd8780acf49",
  );
  assert.deepEqual(xchacha20Poly1305Open(nodeCrypto, key, nonce, sealed, additional), new Uint8Array(plaintext));
});

const bytesOf = (vector: WycheproofCase, field: string) => hex(String(vector[field]));

test("Wycheproof X25519; field notes, 4.3: a point of low order gives no secret", {
  skip: vectorSkip("wycheproof-x25519.json"),
}, () => {
  let count = 0;
  let refused = 0;
  for (const vector of readWycheproof("wycheproof-x25519.json")) {
    const shared = nodeCrypto.x25519(bytesOf(vector, "private"), bytesOf(vector, "public"));
    const expected = String(vector["shared"]);
    const isZero = /^0+$/.test(expected);
    assert.equal(shared && toHex(shared), isZero ? undefined : expected, `tcId ${vector["tcId"]}`);
    count++;
    if (isZero) refused++;
  }
  assert.equal(count, 518);
  assert.ok(refused > 0);
});

test("Wycheproof XChaCha20-Poly1305", { skip: vectorSkip("wycheproof-xchacha20-poly1305.json") }, () => {
  let valid = 0;
  let invalid = 0;
  for (const vector of readWycheproof("wycheproof-xchacha20-poly1305.json")) {
    // The nonce's length is fixed by the message format.
    if (vector.group["ivSize"] !== 192) continue;
    const [key, nonce, additional] = [bytesOf(vector, "key"), bytesOf(vector, "iv"), bytesOf(vector, "aad")];
    const message = bytesOf(vector, "msg");
    const sealed = Uint8Array.of(...bytesOf(vector, "ct"), ...bytesOf(vector, "tag"));
    const opened = xchacha20Poly1305Open(nodeCrypto, key, nonce, sealed, additional);
    if (vector["result"] === "valid") {
      assert.deepEqual(opened, message, `tcId ${vector["tcId"]}`);
      assert.deepEqual(xchacha20Poly1305Seal(nodeCrypto, key, nonce, message, additional), sealed);
      valid++;
    } else {
      assert.equal(opened, undefined, `tcId ${vector["tcId"]}`);
      invalid++;
    }
  }
  assert.ok(valid > 100 && invalid > 20, `${valid} valid, ${invalid} invalid`);
});
