// The primitives of src/base/crypto.ts and cryptographic randomness from node:crypto.

import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createHmac,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  randomBytes,
} from "node:crypto";
import { concatBytes } from "../base/bytes.js";
import type { Crypto } from "../base/crypto.js";
import type { Random } from "../base/random.js";

/** Length of a Poly1305 tag in bytes (RFC 8439, section 2.5). */
const TAG_LENGTH = 16;

/** DER of an X25519 private key up to the key itself (RFC 8410, section 7: PKCS #8 OneAsymmetricKey). */
const PRIVATE_KEY_DER_PREFIX = Buffer.from("302e020100300506032b656e04220420", "hex");

/** DER of an X25519 public key up to the key itself (RFC 8410, section 4: SubjectPublicKeyInfo). */
const PUBLIC_KEY_DER_PREFIX = Buffer.from("302a300506032b656e032100", "hex");

function privateKeyObject(key: Uint8Array) {
  return createPrivateKey({ key: Buffer.concat([PRIVATE_KEY_DER_PREFIX, key]), format: "der", type: "pkcs8" });
}

/** {@link Crypto} by OpenSSL. */
export const nodeCrypto: Crypto = {
  x25519PublicKey(privateKey) {
    const spki = createPublicKey(privateKeyObject(privateKey)).export({ format: "der", type: "spki" });
    return new Uint8Array(spki.subarray(PUBLIC_KEY_DER_PREFIX.length));
  },

  x25519(privateKey, publicKey) {
    const key = createPublicKey({
      key: Buffer.concat([PUBLIC_KEY_DER_PREFIX, publicKey]),
      format: "der",
      type: "spki",
    });
    try {
      const secret = new Uint8Array(diffieHellman({ privateKey: privateKeyObject(privateKey), publicKey: key }));
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

  hmacSha1(key, message) {
    return new Uint8Array(createHmac("sha1", key).update(message).digest());
  },

  md5(message) {
    return new Uint8Array(createHash("md5").update(message).digest());
  },

  sha256(message) {
    return new Uint8Array(createHash("sha256").update(message).digest());
  },
};

/** {@link Random} from the operating system's generator. */
export const systemRandom: Random = {
  bytes: (length) => new Uint8Array(randomBytes(length)),
};
