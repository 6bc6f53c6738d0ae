// Published vectors for the AEAD: RFC 8439 and Wycheproof, through the same kernels that packets go through.

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { AEAD_SCRATCH_SIZE } from "../../assembly/aead/abi.js";
import { fromHex, toHex } from "../../src/base/bytes.js";
import { type AeadExports, ENGINES, loadAead } from "../support/aead-module.js";

// The build under test, set before its tests run.
let aead: AeadExports;
let bytes: Uint8Array;
let view: DataView;

// Where the inputs of one call lie.
const SCRATCH = 0x10000;
const KEY = 0x20000;
const TAG = 0x20100;
const NONCE = 0x20200;
const AAD = 0x21000;
const SOURCE = 0x30000;
const DESTINATION = 0x40000;

/** Poly1305 as RFC 8439, section 2.5.1 writes it down; the message is whole blocks. */
function poly1305(r: string, pad: string, message: string): string {
  const number = (hex: string) => BigInt(`0x${Buffer.from(hex, "hex").reverse().toString("hex")}`);
  const clamped = number(r) & 0x0ffffffc0ffffffc0ffffffc0fffffffn;
  let accumulator = 0n;
  for (const block of message.match(/.{32}/g) ?? []) {
    accumulator = ((accumulator + number(`${block}01`)) * clamped) % (2n ** 130n - 5n);
  }
  const tag = (accumulator + number(pad)) % 2n ** 128n;
  return Buffer.from(tag.toString(16).padStart(32, "0"), "hex").reverse().toString("hex");
}

interface Vector {
  readonly key: string;
  readonly nonce: string;
  readonly aad: string;
  readonly plaintext: string;
  readonly ciphertext: string;
  readonly tag: string;
}

function put(address: number, hex: string): number {
  const value = fromHex(hex);
  assert.ok(value);
  bytes.set(value, address);
  return value.length;
}

function prepare(vector: Vector, text: string): { aadLength: number; length: number; head: number; tail: bigint } {
  put(KEY, vector.key);
  put(NONCE, vector.nonce);
  return {
    aadLength: put(AAD, vector.aad),
    length: put(SOURCE, text),
    head: view.getUint32(NONCE, true),
    tail: view.getBigUint64(NONCE + 4, true),
  };
}

function seal(vector: Vector, destination: number): { ciphertext: string; tag: string } {
  const { aadLength, length, head, tail } = prepare(vector, vector.plaintext);
  bytes.fill(0xa5, TAG, TAG + 16);
  aead.sealMessage(KEY, head, tail, AAD, aadLength, SOURCE, destination, length, TAG, SCRATCH);
  return {
    ciphertext: toHex(bytes.slice(destination, destination + length)),
    tag: toHex(bytes.slice(TAG, TAG + 16)),
  };
}

/** The plaintext, or `undefined` when the tag does not verify; then the destination must have been wiped. */
function open(vector: Vector, destination: number): string | undefined {
  const { aadLength, length, head, tail } = prepare(vector, vector.ciphertext);
  put(TAG, vector.tag);
  const ok = aead.openMessage(KEY, head, tail, AAD, aadLength, SOURCE, destination, length, TAG, SCRATCH);
  const text = toHex(bytes.slice(destination, destination + length));
  if (ok === 1) return text;
  assert.equal(text, "00".repeat(length), "the destination of a rejected message is wiped");
  return undefined;
}

function check(vector: Vector): void {
  for (const destination of [DESTINATION, SOURCE]) {
    assert.deepEqual(seal(vector, destination), { ciphertext: vector.ciphertext, tag: vector.tag });
    assert.equal(open(vector, destination), vector.plaintext);
  }
}

const wycheproof = fileURLToPath(
  new URL("../../../../shared/vectors/wycheproof-chacha20-poly1305.json", import.meta.url),
);

interface WycheproofFile {
  readonly testGroups: readonly {
    readonly ivSize: number;
    readonly tests: readonly {
      readonly tcId: number;
      readonly key: string;
      readonly iv: string;
      readonly aad: string;
      readonly msg: string;
      readonly ct: string;
      readonly tag: string;
      readonly result: "valid" | "invalid" | "acceptable";
    }[];
  }[];
}

for (const engine of ENGINES) {
  describe(`the ${engine} engine`, () => {
    before(() => {
      ({ exports: aead, bytes, view } = loadAead(engine));
    });

    test("spec 02, 15.4.7; RFC 8439, section 2.8.2: example of the AEAD construction", () => {
      check({
        key: "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f",
        nonce: "070000004041424344454647",
        aad: "50515253c0c1c2c3c4c5c6c7",
        plaintext:
          "4c616469657320616e642047656e746c656d656e206f662074686520636c617373206f66202739393a20496620492063" +
          "6f756c64206f6666657220796f75206f6e6c79206f6e652074697020666f7220746865206675747572652c2073756e73" +
          "637265656e20776f756c642062652069742e",
        ciphertext:
          "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca9671282fafb69da92728b" +
          "1a71de0a9e060b2905d6a5b67ecd3b3692ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc" +
          "3ff4def08e4b7a9de576d26586cec64b6116",
        tag: "1ae10b594f09e26a7e902ecbd0600691",
      });
    });

    test("RFC 8439, appendix A.5: decryption, 265 bytes", () => {
      const vector = {
        key: "1c9240a5eb55d38af333888604f6b5f0473917c1402b80099dca5cbc207075c0",
        nonce: "000000000102030405060708",
        aad: "f33388860000000000004e91",
        plaintext: "",
        ciphertext:
          "64a0861575861af460f062c79be643bd5e805cfd345cf389f108670ac76c8cb24c6cfc18755d43eea09ee94e382d26b0" +
          "bdb7b73c321b0100d4f03b7f355894cf332f830e710b97ce98c8a84abd0b948114ad176e008d33bd60f982b1ff37c855" +
          "9797a06ef4f0ef61c186324e2b3506383606907b6a7c02b0f9f6157b53c867e4b9166c767b804d46a59b5216cde7a4e9" +
          "9040c5a40433225ee282a1b0a06c523eaf4534d7f83fa1155b0047718cbc546a0d072b04b3564eea1b422273f548271a" +
          "0bb2316053fa76991955ebd63159434ecebb4e466dae5a1073a6727627097a1049e617d91d361094fa68f0ff77987130" +
          "305beaba2eda04df997b714d6c6f2c29a6ad5cb4022b02709b",
        tag: "eead9d67890cbb22392336fea1851f38",
      };
      const plaintext = open(vector, DESTINATION);
      assert.ok(plaintext !== undefined);
      const text = Buffer.from(plaintext, "hex").toString("utf8");
      assert.match(text, /^Internet-Drafts are draft documents valid for a maximum of six months/);
      assert.match(text, /or to cite them other than as /);
      check({ ...vector, plaintext });
    });

    test("RFC 8439, section 2.5.2 and appendix A.3: Poly1305 alone, where carries and the final reduction are delicate", () => {
      const zeros = (n: number) => "00".repeat(n);
      const ones = (n: number) => "ff".repeat(n);
      const vectors: readonly [key: string, message: string, tag: string][] = [
        [zeros(32), zeros(64), zeros(16)],
        [`02${zeros(31)}`, ones(16), `03${zeros(15)}`],
        [`02${zeros(15)}${ones(16)}`, `02${zeros(15)}`, `03${zeros(15)}`],
        [`01${zeros(31)}`, `${ones(16)}f0${ones(15)}11${zeros(15)}`, `05${zeros(15)}`],
        [`01${zeros(31)}`, `${ones(16)}fb${"fe".repeat(15)}${"01".repeat(16)}`, zeros(16)],
        [`02${zeros(31)}`, `fd${ones(15)}`, `fa${ones(15)}`],
        [
          `0100000000000000040000000000000${zeros(16)}0`,
          `e33594d7505e43b900000000000000003394d7505e4379cd01000000000000000000000000000000000000000000000001${zeros(15)}`,
          `1400000000000000550000000000000${"0"}`,
        ],
        [
          `0100000000000000040000000000000${zeros(16)}0`,
          `e33594d7505e43b900000000000000003394d7505e4379cd010000000000000000000000000000000000000000000000`,
          `13${zeros(15)}`,
        ],
        // Section 2.5.2: "Cryptographic Forum Research Group", which ends within a block.
        [
          "85d6be7857556d337f4452fe42d506a80103808afb0db2fd4abff6af4149f51b",
          "43727970746f6772617068696320466f72756d2052657365617263682047726f7570",
          "a8061dc1305136c6c22b8baf0c0127a9",
        ],
      ];
      for (const [key, message, tag] of vectors) {
        assert.equal(put(KEY, key), 32);
        bytes.fill(0, SCRATCH, SCRATCH + AEAD_SCRATCH_SIZE);
        aead.poly1305Tag(KEY, SOURCE, put(SOURCE, message), TAG, SCRATCH);
        assert.equal(toHex(bytes.slice(TAG, TAG + 16)), tag, `message ${message}`);
        assert.ok(!bytes.subarray(SCRATCH, SCRATCH + AEAD_SCRATCH_SIZE).some((byte) => byte !== 0), "wiped");
      }
    });

    test("Poly1305 with limbs of r that are as great and as different as can be, against arithmetic of any size", () => {
      const limbs = ["ffffffff", "00000000"];
      const keys = Array.from({ length: 16 }, (_, i) => [1, 2, 4, 8].map((bit) => limbs[i & bit ? 1 : 0]).join(""));
      const messages = [
        `${"ff".repeat(1040)}`,
        `${"ff".repeat(16)}${"00".repeat(16)}`.repeat(20),
        "00000000ffffffff".repeat(60),
      ];
      for (const key of keys) {
        for (const message of messages) {
          put(KEY, key + "ff".repeat(16));
          aead.poly1305Tag(KEY, SOURCE, put(SOURCE, message), TAG, SCRATCH);
          assert.equal(toHex(bytes.slice(TAG, TAG + 16)), poly1305(key, "ff".repeat(16), message), `r ${key}`);
        }
      }
    });

    test("Wycheproof: ChaCha20-Poly1305, every case with a 96-bit nonce", {
      skip: existsSync(wycheproof) ? false : "no shared/vectors beside the repository",
    }, () => {
      const file = JSON.parse(readFileSync(wycheproof, "utf8")) as WycheproofFile;
      let valid = 0;
      let invalid = 0;
      for (const group of file.testGroups.filter(({ ivSize }) => ivSize === 96)) {
        for (const { tcId, key, iv, aad, msg, ct, tag, result } of group.tests) {
          const vector = { key, nonce: iv, aad, plaintext: msg, ciphertext: ct, tag };
          if (result === "valid") {
            check(vector);
            valid++;
          } else {
            assert.equal(open(vector, DESTINATION), undefined, `case ${tcId} must be rejected`);
            assert.equal(open(vector, SOURCE), undefined, `case ${tcId} must be rejected in place`);
            invalid++;
          }
        }
      }
      assert.ok(valid > 200 && invalid > 50, `${valid} valid and ${invalid} invalid cases`);
    });
  });
}
