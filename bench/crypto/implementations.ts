// ChaCha20-Poly1305 as every library offers it, brought to one shape: a function that seals one message, and one that opens
// what it sealed. Each works on buffers of its own that are reused, as a program that cares for speed would.

import { createCipheriv, createDecipheriv } from "node:crypto";
import { createRequire } from "node:module";
import { chacha20poly1305 } from "@noble/ciphers/chacha.js";
import libsodium from "libsodium-wrappers";
import { chooseBuild } from "../../src/engine/builds.js";
import { type EngineBuild, instantiateAead } from "../../src/engine/module.js";
import { webAssembly } from "../../src/engine/webassembly.js";

/** One implementation at one message size. */
export interface Implementation {
  readonly name: string;
  /** Messages that one call handles. */
  readonly batch: number;
  seal(): void;
  /** Opens what was sealed before. Throws when the tag does not verify. */
  open(): void;
}

const KEY_LENGTH = 32;
const NONCE_LENGTH = 12;
const TAG_LENGTH = 16;

/**
 * All implementations, for messages of `size` bytes. The first is this project's with one packet a call, in the build that programs
 * would choose here.
 */
export async function implementations(size: number): Promise<Implementation[]> {
  await libsodium.ready;
  const chosen = await chooseBuild();
  const own = await wirelane("narrow", size, [1, 8]);
  if (chosen.build === "wide") own.unshift(...(await wirelane("wide", size, [1, 8])));
  return [...own, sodiumNative(size), nodeCrypto(size), libsodiumWrappers(size), noble(size)];
}

/** Packets in turn, so that not always the same one is in the nearest cache, as in a datagram of segments. */
const PACKETS = 8;

/** Pages of memory: enough for eight messages of each kind. */
const PAGES = 64;

async function wirelane(build: EngineBuild, size: number, batches: readonly number[]): Promise<Implementation[]> {
  const memory = new webAssembly.Memory({ initial: PAGES, maximum: PAGES, shared: true });
  const aead = await instantiateAead(memory, build);
  const view = new DataView(memory.buffer);
  const scratch = 0x10000;
  const key = 0x12000;
  const toSeal = 0x13000;
  const toOpen = 0x14000;
  const plaintexts = 0x20000;
  const stride = size + TAG_LENGTH + 16;
  const ciphertexts = plaintexts + PACKETS * stride;
  const opened = ciphertexts + PACKETS * stride;
  for (let i = 0; i < PACKETS; i++) {
    const open = toOpen + 24 * i;
    view.setUint32(toSeal + 8 * i, ciphertexts + i * stride, true);
    view.setUint32(toSeal + 8 * i + 4, size, true);
    view.setUint32(open, ciphertexts + i * stride, true);
    view.setUint32(open + 4, opened + i * stride, true);
    view.setUint32(open + 8, size, true);
    view.setBigUint64(open + 16, BigInt(i), true);
  }
  aead.sealPackets(PACKETS, key, 0n, toSeal, scratch);
  // From here on, sealing works on other memory: opening needs its ciphertexts.
  for (let i = 0; i < PACKETS; i++) view.setUint32(toSeal + 8 * i, plaintexts + i * stride, true);

  return batches.map((batch) => {
    let turn = 0;
    return {
      name: `wirelane, ${build}${batch === 1 ? "" : `, ${batch} a call`}`,
      batch,
      seal() {
        turn = (turn + batch) % PACKETS;
        aead.sealPackets(batch, key, 0n, toSeal + 8 * turn, scratch);
      },
      open() {
        turn = (turn + batch) % PACKETS;
        aead.openPackets(batch, key, toOpen + 24 * turn, scratch);
        if (view.getUint32(toOpen + 24 * turn + 12, true) !== 1) throw new Error("the tag does not verify");
      },
    };
  });
}

/** The functions of sodium-native used here; the package has no types. */
interface SodiumNative {
  crypto_aead_chacha20poly1305_ietf_encrypt(
    ciphertext: Buffer,
    plaintext: Buffer,
    additionalData: null,
    secretNonce: null,
    nonce: Buffer,
    key: Buffer,
  ): number;
  crypto_aead_chacha20poly1305_ietf_decrypt(
    plaintext: Buffer,
    secretNonce: null,
    ciphertext: Buffer,
    additionalData: null,
    nonce: Buffer,
    key: Buffer,
  ): number;
}

function sodiumNative(size: number): Implementation {
  const sodium = createRequire(import.meta.url)("sodium-native") as SodiumNative;
  const key = Buffer.alloc(KEY_LENGTH);
  const nonce = Buffer.alloc(NONCE_LENGTH);
  const plaintext = Buffer.alloc(size);
  const ciphertext = Buffer.alloc(size + TAG_LENGTH);
  const sealed = Buffer.alloc(size + TAG_LENGTH);
  sodium.crypto_aead_chacha20poly1305_ietf_encrypt(sealed, plaintext, null, null, nonce, key);
  return {
    name: "sodium-native",
    batch: 1,
    seal() {
      sodium.crypto_aead_chacha20poly1305_ietf_encrypt(ciphertext, plaintext, null, null, nonce, key);
    },
    open() {
      sodium.crypto_aead_chacha20poly1305_ietf_decrypt(plaintext, null, sealed, null, nonce, key);
    },
  };
}

function nodeCrypto(size: number): Implementation {
  const key = Buffer.alloc(KEY_LENGTH);
  const nonce = Buffer.alloc(NONCE_LENGTH);
  const plaintext = Buffer.alloc(size);
  const options = { authTagLength: TAG_LENGTH };
  const seal = () => {
    const cipher = createCipheriv("chacha20-poly1305", key, nonce, options);
    const ciphertext = cipher.update(plaintext);
    cipher.final();
    return { ciphertext, tag: cipher.getAuthTag() };
  };
  const { ciphertext, tag } = seal();
  return {
    name: "node:crypto",
    batch: 1,
    seal,
    open() {
      const decipher = createDecipheriv("chacha20-poly1305", key, nonce, options);
      decipher.setAuthTag(tag);
      decipher.update(ciphertext);
      decipher.final();
    },
  };
}

function libsodiumWrappers(size: number): Implementation {
  const key = new Uint8Array(KEY_LENGTH);
  const nonce = new Uint8Array(NONCE_LENGTH);
  const plaintext = new Uint8Array(size);
  const seal = () => libsodium.crypto_aead_chacha20poly1305_ietf_encrypt(plaintext, null, null, nonce, key);
  const sealed = seal();
  return {
    name: "libsodium-wrappers",
    batch: 1,
    seal,
    open() {
      libsodium.crypto_aead_chacha20poly1305_ietf_decrypt(null, sealed, null, nonce, key);
    },
  };
}

function noble(size: number): Implementation {
  const key = new Uint8Array(KEY_LENGTH);
  const nonce = new Uint8Array(NONCE_LENGTH);
  const plaintext = new Uint8Array(size);
  const output = new Uint8Array(size + TAG_LENGTH);
  const sealed = chacha20poly1305(key, nonce).encrypt(plaintext);
  return {
    name: "@noble/ciphers",
    batch: 1,
    seal() {
      chacha20poly1305(key, nonce).encrypt(plaintext, output);
    },
    open() {
      chacha20poly1305(key, nonce).decrypt(sealed, output.subarray(0, size));
    },
  };
}
