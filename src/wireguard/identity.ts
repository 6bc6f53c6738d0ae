// The static key pair of a node: who it is for its peers.

import type { Crypto } from "../base/crypto.js";
import type { Random } from "../base/random.js";
import { KEY_LENGTH } from "./constants.js";

/** A static X25519 key pair. */
export class LocalIdentity {
  /** 32 bytes, secret. */
  readonly privateKey: Uint8Array;
  /** 32 bytes. */
  readonly publicKey: Uint8Array;

  /** Copies `privateKey`, 32 bytes in any form: clamping happens where it is used. */
  constructor(privateKey: Uint8Array, crypto: Crypto) {
    if (privateKey.length !== KEY_LENGTH) throw new RangeError(`a private key has ${KEY_LENGTH} bytes`);
    this.privateKey = privateKey.slice();
    this.publicKey = crypto.x25519PublicKey(privateKey);
  }

  /** A new random identity. */
  static generate(random: Random, crypto: Crypto): LocalIdentity {
    const privateKey = random.bytes(KEY_LENGTH);
    const identity = new LocalIdentity(privateKey, crypto);
    privateKey.fill(0);
    return identity;
  }

  /** Overwrites the private key; the identity is unusable afterwards. */
  wipe(): void {
    this.privateKey.fill(0);
  }
}
