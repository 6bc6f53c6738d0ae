// Memory in which one thread asks another to open a batch of initiations, and is answered:
//
//   | private key 32 | public key 32 | BATCH_SIZE entries: | ephemeral 32 | static, encrypted 48 | outcome 1 | static key 32 | chaining key 32 | hash 32 | |
//
// Shared memory, so that there is one copy of each secret and it can be overwritten from either side; messages between threads would
// leave copies to the garbage collector. The threads take turns: what one has written is there when the other is told.

import type { Crypto } from "../base/crypto.js";
import { KEY_LENGTH, TAG_LENGTH } from "./constants.js";
import type { WireGuardError } from "./errors.js";
import { BATCH_SIZE, type InitiationBatch } from "./initiation-queue.js";
import { type OpenedInitiation, openInitiation, SymmetricState } from "./noise.js";

const PRIVATE_KEY = 0;
const PUBLIC_KEY = PRIVATE_KEY + KEY_LENGTH;
const ENTRIES = PUBLIC_KEY + KEY_LENGTH;

// Within an entry.
const EPHEMERAL = 0;
const ENCRYPTED_STATIC = EPHEMERAL + KEY_LENGTH;
const OUTCOME = ENCRYPTED_STATIC + KEY_LENGTH + TAG_LENGTH;
const STATIC_KEY = OUTCOME + 1;
const CHAINING_KEY = STATIC_KEY + KEY_LENGTH;
const HASH = CHAINING_KEY + KEY_LENGTH;
const ENTRY_SIZE = HASH + KEY_LENGTH;

const BLOCK_SIZE = ENTRIES + BATCH_SIZE * ENTRY_SIZE;

const OPENED = 1;
/** Outcomes that are refusals. 0: not computed. */
const REFUSALS: ReadonlyMap<number, WireGuardError> = new Map([
  [2, "WrongKey"],
  [3, "InvalidAeadTag"],
]);

/** What comes of an initiation in a batch; `undefined`: it was not computed. */
export type BatchResult = OpenedInitiation | WireGuardError | undefined;

/** A batch of initiations in shared memory: see the head of this file. */
export class InitiationBlock {
  /** What the other thread needs to make its own {@link InitiationBlock}. */
  readonly memory: SharedArrayBuffer;
  readonly #bytes: Uint8Array;

  constructor(memory: SharedArrayBuffer = new SharedArrayBuffer(BLOCK_SIZE)) {
    this.memory = memory;
    this.#bytes = new Uint8Array(memory);
  }

  /** Asks: what a batch needs, with the key it is for. */
  write({ identity, initiations }: InitiationBatch): void {
    this.#bytes.set(identity.privateKey, PRIVATE_KEY);
    this.#bytes.set(identity.publicKey, PUBLIC_KEY);
    for (const [i, { message }] of initiations.entries()) {
      this.#bytes.set(message.ephemeral, entry(i) + EPHEMERAL);
      this.#bytes.set(message.encryptedStatic, entry(i) + ENCRYPTED_STATIC);
      this.#bytes[entry(i) + OUTCOME] = 0;
    }
  }

  /** Answers: opens the first `count` initiations and wipes the key. */
  compute(crypto: Crypto, count: number): void {
    // Copies: hashes and ciphers want memory that is not shared.
    const identity = { privateKey: this.#copy(PRIVATE_KEY), publicKey: this.#copy(PUBLIC_KEY) };
    for (let i = 0; i < count; i++) {
      const message = {
        ephemeral: this.#copy(entry(i) + EPHEMERAL),
        encryptedStatic: this.#copy(entry(i) + ENCRYPTED_STATIC, KEY_LENGTH + TAG_LENGTH),
      };
      this.#answer(entry(i), openInitiation(crypto, identity, message));
    }
    identity.privateKey.fill(0);
    this.#bytes.fill(0, PRIVATE_KEY, ENTRIES);
  }

  /** The answer to initiation `i`; `undefined`: there is none. The states are copies, to be wiped by whoever takes them. */
  read(i: number): BatchResult {
    const at = entry(i);
    const outcome = this.#bytes[at + OUTCOME] ?? 0;
    if (outcome !== OPENED) return REFUSALS.get(outcome);
    const symmetric = SymmetricState.restore(this.#copy(at + CHAINING_KEY), this.#copy(at + HASH));
    return { staticPublicKey: this.#copy(at + STATIC_KEY), symmetric };
  }

  /** Overwrites everything: after reading, or because the key is not in use any more. */
  wipe(): void {
    this.#bytes.fill(0);
  }

  #answer(at: number, opened: OpenedInitiation | WireGuardError): void {
    if (typeof opened === "string") {
      const code = [...REFUSALS].find(([, error]) => error === opened)?.[0];
      this.#bytes[at + OUTCOME] = code ?? 0;
      return;
    }
    const { staticPublicKey, symmetric } = opened;
    this.#bytes.set(staticPublicKey, at + STATIC_KEY);
    this.#bytes.set(symmetric.chainingKey, at + CHAINING_KEY);
    this.#bytes.set(symmetric.hash, at + HASH);
    this.#bytes[at + OUTCOME] = OPENED;
    symmetric.wipe();
  }

  #copy(at: number, length: number = KEY_LENGTH): Uint8Array {
    return this.#bytes.slice(at, at + length);
  }
}

const entry = (i: number) => ENTRIES + i * ENTRY_SIZE;
