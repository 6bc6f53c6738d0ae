// The handshake of WireGuard: Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s (whitepaper, section 5.4; spec 02, section 11.3), in the terms
// of the Noise protocol framework (revision 34, section 5).
//
//     initiator                                            responder
//     createInitiation   -- e, es, s, ss, {timestamp} -->  openInitiation      (e, es, s: whose initiation is it?)
//                                                          finishInitiation    (ss, timestamp: is it really theirs?)
//     consumeResponse    <------- e, ee, se, psk ------    createResponse
//     session keys                                         session keys
//
// Functions only: a failed step leaves the state it was given as it was. A state or key that is not needed any more is to be
// wiped by whoever holds it.

import type { Crypto } from "../base/crypto.js";
import { KEY_LENGTH } from "./constants.js";
import type { WireGuardError } from "./errors.js";
import type { LocalIdentity } from "./identity.js";
import { encodeInitiation, encodeResponse, type HandshakeInitiation, type HandshakeResponse } from "./messages.js";
import { hash, kdf1, kdf2, kdf3 } from "./primitives.js";

const ascii = (text: string): Uint8Array => Uint8Array.from(text, (character) => character.charCodeAt(0));

/** Name of the Noise protocol. */
const CONSTRUCTION = ascii("Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s");
/** Noise prologue. */
const IDENTIFIER = ascii("WireGuard v1 zx2c4 Jason@zx2c4.com");

const INITIAL_CHAINING_KEY = hash(CONSTRUCTION);
const INITIAL_HASH = hash(INITIAL_CHAINING_KEY, IDENTIFIER);

const EMPTY = new Uint8Array(0);

/** The AEAD's nonce: every key of the handshake encrypts one message only. */
const NONCE_ZERO = new Uint8Array(12);

/** A preshared key of zeros stands for none. */
export const NO_PRESHARED_KEY = new Uint8Array(KEY_LENGTH);

/** Chaining key and transcript hash: Noise's SymmetricState, with the CipherState's key where it is needed only. */
export class SymmetricState {
  chainingKey: Uint8Array;
  hash: Uint8Array;

  private constructor(chainingKey: Uint8Array, transcript: Uint8Array) {
    this.chainingKey = chainingKey;
    this.hash = transcript;
  }

  /** The state before the first message, for a responder with this static key (Noise: the pre-message of IK). */
  static initialize(responderPublicKey: Uint8Array): SymmetricState {
    return new SymmetricState(INITIAL_CHAINING_KEY.slice(), hash(INITIAL_HASH, responderPublicKey));
  }

  /** The state with these 32 bytes each, which it holds from now on. */
  static restore(chainingKey: Uint8Array, transcript: Uint8Array): SymmetricState {
    return new SymmetricState(chainingKey, transcript);
  }

  clone(): SymmetricState {
    return new SymmetricState(this.chainingKey.slice(), this.hash.slice());
  }

  /** `h = HASH(h ‖ data)`. */
  mixHash(data: Uint8Array): void {
    this.hash = hash(this.hash, data);
  }

  /** `ck = KDF1(ck, input)`: for steps after which nothing is encrypted. */
  mixKey(input: Uint8Array): void {
    this.#chain(kdf1(this.chainingKey, input));
  }

  /** `(ck, k) = KDF2(ck, input)`; returns `k`. */
  mixKeyForCipher(input: Uint8Array): Uint8Array {
    const [chainingKey, key] = kdf2(this.chainingKey, input);
    this.#chain(chainingKey);
    return key;
  }

  /** `(ck, τ, k) = KDF3(ck, psk)`, `h = HASH(h ‖ τ)`; returns `k`. */
  mixKeyAndHash(presharedKey: Uint8Array): Uint8Array {
    const [chainingKey, temporary, key] = kdf3(this.chainingKey, presharedKey);
    this.#chain(chainingKey);
    this.mixHash(temporary);
    temporary.fill(0);
    return key;
  }

  /** Encrypts with `key`, which is used up and wiped, and authenticates the transcript so far. */
  encryptAndHash(crypto: Crypto, key: Uint8Array, plaintext: Uint8Array): Uint8Array {
    const sealed = crypto.chacha20Poly1305Seal(key, NONCE_ZERO, plaintext, this.hash);
    key.fill(0);
    this.mixHash(sealed);
    return sealed;
  }

  /** Reverses {@link encryptAndHash}; `undefined` when the tag does not verify. */
  decryptAndHash(crypto: Crypto, key: Uint8Array, sealed: Uint8Array): Uint8Array | undefined {
    const plaintext = crypto.chacha20Poly1305Open(key, NONCE_ZERO, sealed, this.hash);
    key.fill(0);
    this.mixHash(sealed);
    return plaintext;
  }

  /** The keys of the session: initiator to responder, responder to initiator. Wipes the state. */
  split(): [Uint8Array, Uint8Array] {
    const keys = kdf2(this.chainingKey, EMPTY);
    this.wipe();
    return keys;
  }

  wipe(): void {
    this.chainingKey.fill(0);
    this.hash.fill(0);
  }

  #chain(chainingKey: Uint8Array): void {
    this.chainingKey.fill(0);
    this.chainingKey = chainingKey;
  }
}

/** The keys that a handshake ends with, from this side's point of view. 32 bytes each; wiped by whoever holds them last. */
export interface SessionKeys {
  readonly sendKey: Uint8Array;
  readonly receiveKey: Uint8Array;
}

/** What an initiator remembers until the response comes. */
export class InitiatorState {
  readonly localIndex: number;
  readonly symmetric: SymmetricState;
  readonly ephemeralPrivateKey: Uint8Array;

  constructor(localIndex: number, symmetric: SymmetricState, ephemeralPrivateKey: Uint8Array) {
    this.localIndex = localIndex;
    this.symmetric = symmetric;
    this.ephemeralPrivateKey = ephemeralPrivateKey;
  }

  wipe(): void {
    this.symmetric.wipe();
    this.ephemeralPrivateKey.fill(0);
  }
}

/** What {@link createInitiation} takes. */
export interface InitiationInput {
  readonly identity: LocalIdentity;
  readonly remotePublicKey: Uint8Array;
  /** DH of the two static keys. */
  readonly staticStatic: Uint8Array;
  /** Fresh, 32 bytes; the returned state holds it from now on. */
  readonly ephemeralPrivateKey: Uint8Array;
  readonly localIndex: number;
  /** TAI64N, 12 bytes. */
  readonly timestamp: Uint8Array;
}

/** First message, mac1 and mac2 zero, and the state to read the answer with; `undefined` for a remote key of low order. */
export function createInitiation(
  crypto: Crypto,
  input: InitiationInput,
): { readonly message: Uint8Array; readonly state: InitiatorState } | undefined {
  const { identity, remotePublicKey, ephemeralPrivateKey, localIndex } = input;
  const ephemeralStatic = crypto.x25519(ephemeralPrivateKey, remotePublicKey);
  if (ephemeralStatic === undefined) return undefined;

  const symmetric = SymmetricState.initialize(remotePublicKey);
  const ephemeral = crypto.x25519PublicKey(ephemeralPrivateKey);
  symmetric.mixHash(ephemeral);
  symmetric.mixKey(ephemeral);
  const encryptedStatic = symmetric.encryptAndHash(
    crypto,
    symmetric.mixKeyForCipher(ephemeralStatic),
    identity.publicKey,
  );
  ephemeralStatic.fill(0);
  const encryptedTimestamp = symmetric.encryptAndHash(
    crypto,
    symmetric.mixKeyForCipher(input.staticStatic),
    input.timestamp,
  );
  return {
    message: encodeInitiation({ senderIndex: localIndex, ephemeral, encryptedStatic, encryptedTimestamp }),
    state: new InitiatorState(localIndex, symmetric, ephemeralPrivateKey),
  };
}

/** Whose an initiation claims to be. */
export interface OpenedInitiation {
  /** The initiator's static public key, 32 bytes. */
  readonly staticPublicKey: Uint8Array;
  readonly symmetric: SymmetricState;
}

/** An initiation whose sender is known by name, but has not proved to be it. */
export interface ReceivedInitiation extends OpenedInitiation {
  readonly message: HandshakeInitiation;
}

/** Reads the sender's static key out of an initiation. */
export function openInitiation(
  crypto: Crypto,
  identity: Pick<LocalIdentity, "privateKey" | "publicKey">,
  message: Pick<HandshakeInitiation, "ephemeral" | "encryptedStatic">,
): OpenedInitiation | WireGuardError {
  const ephemeralStatic = crypto.x25519(identity.privateKey, message.ephemeral);
  if (ephemeralStatic === undefined) return "WrongKey";
  const symmetric = SymmetricState.initialize(identity.publicKey);
  symmetric.mixHash(message.ephemeral);
  symmetric.mixKey(message.ephemeral);
  const key = symmetric.mixKeyForCipher(ephemeralStatic);
  ephemeralStatic.fill(0);
  const staticPublicKey = symmetric.decryptAndHash(crypto, key, message.encryptedStatic);
  if (staticPublicKey === undefined) {
    symmetric.wipe();
    return "InvalidAeadTag";
  }
  return { staticPublicKey, symmetric };
}

/** The same, with the message, for {@link finishInitiation}. */
export function receiveInitiation(
  crypto: Crypto,
  identity: LocalIdentity,
  message: HandshakeInitiation,
): ReceivedInitiation | WireGuardError {
  const opened = openInitiation(crypto, identity, message);
  return typeof opened === "string" ? opened : { ...opened, message };
}

/** An initiation whose sender is proved, unless it is a replay: the caller judges the timestamp. */
export interface AuthenticatedInitiation {
  /** TAI64N, 12 bytes. */
  readonly timestamp: Uint8Array;
  readonly message: HandshakeInitiation;
  /** The initiator's static public key, 32 bytes. */
  readonly staticPublicKey: Uint8Array;
  readonly symmetric: SymmetricState;
}

/** Checks that the owner of `received.staticPublicKey` made the initiation; `staticStatic` is the DH of the static keys. */
export function finishInitiation(
  crypto: Crypto,
  received: ReceivedInitiation,
  staticStatic: Uint8Array,
): AuthenticatedInitiation | WireGuardError {
  const { message, staticPublicKey } = received;
  const symmetric = received.symmetric.clone();
  const key = symmetric.mixKeyForCipher(staticStatic);
  const timestamp = symmetric.decryptAndHash(crypto, key, message.encryptedTimestamp);
  if (timestamp === undefined) {
    symmetric.wipe();
    return "InvalidAeadTag";
  }
  return { timestamp, message, staticPublicKey, symmetric };
}

/** What {@link createResponse} takes besides the initiation. */
export interface ResponseInput {
  readonly presharedKey: Uint8Array;
  /** Fresh, 32 bytes; wiped. */
  readonly ephemeralPrivateKey: Uint8Array;
  readonly localIndex: number;
}

/** Second message, mac1 and mac2 zero, and the session's keys; `undefined` for keys of low order. Uses up `initiation`. */
export function createResponse(
  crypto: Crypto,
  initiation: AuthenticatedInitiation,
  input: ResponseInput,
): { readonly message: Uint8Array; readonly keys: SessionKeys } | undefined {
  const { message, staticPublicKey, symmetric } = initiation;
  const { ephemeralPrivateKey, presharedKey, localIndex } = input;
  const ephemeralEphemeral = crypto.x25519(ephemeralPrivateKey, message.ephemeral);
  const staticEphemeral = crypto.x25519(ephemeralPrivateKey, staticPublicKey);
  const ephemeral = crypto.x25519PublicKey(ephemeralPrivateKey);
  ephemeralPrivateKey.fill(0);
  if (ephemeralEphemeral === undefined || staticEphemeral === undefined) return undefined;

  symmetric.mixHash(ephemeral);
  symmetric.mixKey(ephemeral);
  symmetric.mixKey(ephemeralEphemeral);
  symmetric.mixKey(staticEphemeral);
  ephemeralEphemeral.fill(0);
  staticEphemeral.fill(0);
  const encryptedNothing = symmetric.encryptAndHash(crypto, symmetric.mixKeyAndHash(presharedKey), EMPTY);
  const [receiveKey, sendKey] = symmetric.split();
  return {
    message: encodeResponse({
      senderIndex: localIndex,
      receiverIndex: message.senderIndex,
      ephemeral,
      encryptedNothing,
    }),
    keys: { sendKey, receiveKey },
  };
}

/** The session's keys out of the response; `state` stays as it is, whatever the outcome. */
export function consumeResponse(
  crypto: Crypto,
  state: InitiatorState,
  identity: LocalIdentity,
  presharedKey: Uint8Array,
  message: HandshakeResponse,
): SessionKeys | WireGuardError {
  const ephemeralEphemeral = crypto.x25519(state.ephemeralPrivateKey, message.ephemeral);
  const staticEphemeral = crypto.x25519(identity.privateKey, message.ephemeral);
  if (ephemeralEphemeral === undefined || staticEphemeral === undefined) return "WrongKey";

  const symmetric = state.symmetric.clone();
  symmetric.mixHash(message.ephemeral);
  symmetric.mixKey(message.ephemeral);
  symmetric.mixKey(ephemeralEphemeral);
  symmetric.mixKey(staticEphemeral);
  ephemeralEphemeral.fill(0);
  staticEphemeral.fill(0);
  const nothing = symmetric.decryptAndHash(crypto, symmetric.mixKeyAndHash(presharedKey), message.encryptedNothing);
  if (nothing === undefined) {
    symmetric.wipe();
    return "InvalidAeadTag";
  }
  const [sendKey, receiveKey] = symmetric.split();
  return { sendKey, receiveKey };
}
