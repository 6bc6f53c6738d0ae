// The packet engine's AEAD and checksum as tests see them: the module over a shared memory of its own, and
// functions that take addresses in it.

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { setFlagsFromString } from "node:v8";
import type { AeadExports as CommonExports } from "../../src/engine/module.js";

/** The exports of assembly/aead/exports.ts, all of them. Addresses and lengths are bytes; see there for the contracts. */
export interface AeadExports extends CommonExports {
  sealMixed(count: number, keys: number, counters: number, descriptors: number, scratch: number): void;
  openMixed(count: number, keys: number, descriptors: number, scratch: number): void;
  sealMessage(
    key: number,
    nonceHead: number,
    nonceTail: bigint,
    aad: number,
    aadLength: number,
    source: number,
    destination: number,
    length: number,
    tag: number,
    scratch: number,
  ): void;
  openMessage(
    key: number,
    nonceHead: number,
    nonceTail: bigint,
    aad: number,
    aadLength: number,
    source: number,
    destination: number,
    length: number,
    tag: number,
    scratch: number,
  ): number;
  poly1305Tag(oneTimeKey: number, message: number, length: number, tag: number, scratch: number): void;
}

/** The part of the WebAssembly interface used here, which neither ES2023 nor Node's types declare. */
interface WebAssemblyApi {
  Memory: new (descriptor: { initial: number; maximum: number; shared: true }) => { buffer: SharedArrayBuffer };
  Module: new (code: Uint8Array) => object;
  Instance: new (module: object, imports: object) => { exports: object };
}

/** The exports and views of the memory they work on. */
export interface AeadModule {
  readonly exports: AeadExports;
  readonly bytes: Uint8Array;
  readonly view: DataView;
}

/**
 * The builds of the engine: with kernels for vectors of 128 bits, and of 256 bits, carried in locals or stored between turns
 * (scripts/generate-aead.mjs).
 */
export const ENGINES = ["narrow", "narrow-stored", "wide", "wide-stored"] as const;

/** One of the builds. */
export type EngineName = (typeof ENGINES)[number];

const FILES: Record<EngineName, string> = {
  narrow: "engine.wasm",
  "narrow-stored": "engine-stored.wasm",
  wide: "engine-wide.wasm",
  "wide-stored": "engine-wide-stored.wasm",
};

/**
 * Instantiates a build of the engine with a shared memory of `pages` 64-KiB pages that nothing else uses. For the wide ones
 * V8's revectorization is switched on where there is one (V8 12, Node 22, and later).
 */
export function loadAead(engine: EngineName = "narrow", pages = 32): AeadModule {
  if (engine.startsWith("wide") && Number.parseInt(process.versions.v8, 10) >= 12) {
    setFlagsFromString("--experimental-wasm-revectorize");
  }
  const { WebAssembly } = globalThis as unknown as { WebAssembly: WebAssemblyApi };
  const memory = new WebAssembly.Memory({ initial: pages, maximum: 65535, shared: true });
  const file = fileURLToPath(new URL(`../../../build/${FILES[engine]}`, import.meta.url));
  const module = new WebAssembly.Module(readFileSync(file));
  const instance = new WebAssembly.Instance(module, {
    env: {
      memory,
      abort: () => {
        throw new Error("the engine aborted");
      },
    },
  });
  return {
    exports: instance.exports as AeadExports,
    bytes: new Uint8Array(memory.buffer),
    view: new DataView(memory.buffer),
  };
}
