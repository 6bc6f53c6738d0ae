// The cryptographic primitives that the protocol layers use for control messages. They come in as an object, so that the
// sans-IO layers stay free of platform modules. Per-packet cryptography is not here: it is assembly/.

/** Cryptographic primitives. All functions are pure; all byte strings are copies owned by the caller. */
export interface Crypto {
  /** The X25519 public key of a private key of 32 bytes (RFC 7748, section 5). Clamping is done here. */
  x25519PublicKey(privateKey: Uint8Array): Uint8Array;
  /** The X25519 shared secret (RFC 7748); `undefined` when it is all zeros, i.e. the public key has low order. */
  x25519(privateKey: Uint8Array, publicKey: Uint8Array): Uint8Array | undefined;
  /** ChaCha20-Poly1305 (RFC 8439) with a 12-byte nonce: ciphertext followed by the 16-byte tag. */
  chacha20Poly1305Seal(key: Uint8Array, nonce: Uint8Array, plaintext: Uint8Array, additional: Uint8Array): Uint8Array;
  /** Reverses {@link Crypto.chacha20Poly1305Seal}; `undefined` when the tag does not verify or the input is shorter than a tag. */
  chacha20Poly1305Open(
    key: Uint8Array,
    nonce: Uint8Array,
    sealed: Uint8Array,
    additional: Uint8Array,
  ): Uint8Array | undefined;
  /** HMAC-SHA1, 20 bytes (RFC 2104). */
  hmacSha1(key: Uint8Array, message: Uint8Array): Uint8Array;
  /** MD5, 16 bytes (RFC 1321); only for TURN's long-term credentials. */
  md5(message: Uint8Array): Uint8Array;
  /** SHA-256, 32 bytes. */
  sha256(message: Uint8Array): Uint8Array;
}
