// The primitives of src/base/crypto.ts and cryptographic randomness from node:crypto.

import crypto, {
  createCipheriv,
  createDecipheriv,
  createHash,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  type KeyObject,
  randomBytes,
  randomFillSync,
} from "node:crypto";
import { concatBytes } from "../base/bytes.js";
import type { Crypto } from "../base/crypto.js";
import type { Random } from "../base/random.js";
import { type Digest, hmac } from "./hmac.js";
import { MAX_POOLED, RandomPool } from "./random-pool.js";

/** Length of a Poly1305 tag in bytes (RFC 8439, section 2.5). */
const TAG_LENGTH = 16;

/** DER of an X25519 private key up to the key itself (RFC 8410, section 7: PKCS #8 OneAsymmetricKey). */
const PRIVATE_KEY_DER_PREFIX = Buffer.from("302e020100300506032b656e04220420", "hex");

type KeyImport = (key: Uint8Array) => KeyObject;

/** By DER, which every Node understands, and Node 20 to 22 ten times as slowly as JWK: OpenSSL tries all its decoders. */
const privateKeyFromDer: KeyImport = (key) =>
  createPrivateKey({ key: Buffer.concat([PRIVATE_KEY_DER_PREFIX, key]), format: "der", type: "pkcs8" });

/** By JWK (RFC 8037), which wants a public key but, up to Node 24, does not look at it; Node 26 does. */
const privateKeyFromJwk: KeyImport = (key) =>
  createPrivateKey({ key: { kty: "OKP", crv: "X25519", d: base64Url(key), x: ANY_KEY }, format: "jwk" });

const ANY_KEY = base64Url(new Uint8Array(32));

const privateKeyObject = accepts(privateKeyFromJwk) ? privateKeyFromJwk : privateKeyFromDer;

const publicKeyObject: KeyImport = (key) =>
  createPublicKey({ key: { kty: "OKP", crv: "X25519", x: base64Url(key) }, format: "jwk" });

function accepts(importKey: KeyImport): boolean {
  try {
    importKey(new Uint8Array(32).fill(1));
    return true;
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ERR_CRYPTO_INVALID_JWK") return false;
    throw error;
  }
}

function base64Url(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("base64url");
}

/** In one call, which takes two thirds of the time of an object and its methods; those are for Node before 20.12, which has no such call. */
function digestBy(algorithm: string): Digest {
  return "hash" in crypto
    ? (bytes) => new Uint8Array(crypto.hash(algorithm, bytes, "buffer"))
    : (bytes) => new Uint8Array(createHash(algorithm).update(bytes).digest());
}

const sha1 = digestBy("sha1");

/** {@link Crypto} by OpenSSL. */
export const nodeCrypto: Crypto = {
  x25519PublicKey(privateKey) {
    const { x } = createPublicKey(privateKeyObject(privateKey)).export({ format: "jwk" });
    if (x === undefined) throw new Error("an X25519 key without x");
    return new Uint8Array(Buffer.from(x, "base64url"));
  },

  x25519(privateKey, publicKey) {
    const keys = { privateKey: privateKeyObject(privateKey), publicKey: publicKeyObject(publicKey) };
    try {
      const secret = new Uint8Array(diffieHellman(keys));
      return secret.every((byte) => byte === 0) ? undefined : secret;
    } catch (error) {
      // OpenSSL refuses public keys of low order by failing the derivation: a peer's doing, hence a value.
      if (error instanceof Error && "code" in error && String(error.code).startsWith("ERR_OSSL")) return undefined;
      throw error;
    }
  },

  chacha20Poly1305Seal(key, nonce, plaintext, additional) {
    const cipher = createCipheriv("chacha20-poly1305", key, nonce, { authTagLength: TAG_LENGTH });
    cipher.setAAD(additional, { plaintextLength: plaintext.length });
    return concatBytes(cipher.update(plaintext), cipher.final(), cipher.getAuthTag());
  },

  chacha20Poly1305Open(key, nonce, sealed, additional) {
    if (sealed.length < TAG_LENGTH) return undefined;
    const decipher = createDecipheriv("chacha20-poly1305", key, nonce, { authTagLength: TAG_LENGTH });
    const ciphertextLength = sealed.length - TAG_LENGTH;
    decipher.setAAD(additional, { plaintextLength: ciphertextLength });
    decipher.setAuthTag(sealed.subarray(ciphertextLength));
    const plaintext = decipher.update(sealed.subarray(0, ciphertextLength));
    try {
      decipher.final();
    } catch (error) {
      // The only failure that `final` knows is a tag that does not verify.
      if (error instanceof Error) return undefined;
      throw error;
    }
    return new Uint8Array(plaintext);
  },

  hmacSha1: (key, message) => hmac(sha1, key, message),
  md5: digestBy("md5"),
  sha256: digestBy("sha256"),
};

const pool = new RandomPool((bytes) => randomFillSync(bytes));

/** {@link Random} from the operating system's generator. */
export const systemRandom: Random = {
  bytes: (length) => (length <= MAX_POOLED ? pool.take(length) : new Uint8Array(randomBytes(length))),
};
