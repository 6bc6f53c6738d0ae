// The engine's WebAssembly module: found, compiled once per thread, instantiated over the shared memory.

import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { type SharedMemory, type WebAssemblyModule, webAssembly } from "./webassembly.js";

/**
 * What assembly/index.ts exports for src/engine. Addresses, lengths, slots and families (4 or 6) are u32; `region` is the
 * caller's own region, `now` milliseconds. The contracts are at the definitions.
 */
export interface EngineExports {
  initialize(region: number): void;
  holdFrame(region: number, frameLength: number): number;
  outboundHeld(region: number, now: number): void;
  sealForPeer(region: number, connection: number, length: number, now: number): number;
  transmitReady(region: number, family: number): number;
  transmitMessages(region: number, family: number): number;
  transmitDone(region: number, family: number, sent: number): void;
  transmitDropFirst(region: number, family: number): void;
  transmitSplitFirst(region: number, family: number): void;
  finishSealing(region: number): void;
  help(region: number, first: number, size: number, count: number, patience: number): number;
  prepareReceive(region: number, family: number): void;
  inbound(region: number, family: number, messageCount: number, localPort: number, now: number): number;
  beginRelayBatch(region: number): void;
  prepareRelayReceive(region: number, family: number): number;
  relayDatagrams(region: number, relay: number, socket: number, count: number, now: number): void;
  relayRun(region: number, i: number): number;
  relayMessage(region: number, i: number): number;
  splitRelayed(region: number, i: number): number;
  insertChannel(relay: number, slot: number): void;
  removeChannel(relay: number, slot: number): void;
  insertClient(relay: number, slot: number): void;
  removeClient(relay: number, slot: number): void;
  lookupRoute(region: number, family: number, address: number): number;
  insertPrefix(table: number, scope: number, family: number, length: number, address: number, value: number): void;
  removePrefix(table: number, scope: number, family: number, length: number, address: number): void;
  setPrefixLength(table: number, lengths: number, family: number, length: number, present: number): void;
  insertSession(index: number, localIndex: number, slot: number): void;
  removeSession(index: number, localIndex: number): void;
  setMac1Key(door: number, key: number): void;
}

/** The builds of the engine; see builds.ts. */
export const ENGINE_BUILDS = ["narrow", "wide"] as const;

/** One of them. */
export type EngineBuild = (typeof ENGINE_BUILDS)[number];

/** What assembly/aead/exports.ts exports for the trial of a build, and for tests and benchmarks. The contracts are there. */
export interface AeadExports {
  sealPackets(count: number, key: number, firstCounter: bigint, descriptors: number, scratch: number): void;
  openPackets(count: number, key: number, descriptors: number, scratch: number): void;
  checksumSum(address: number, length: number, initial: bigint): bigint;
  checksumFold(sum: bigint): number;
  copyBytes(destination: number, source: number, length: number): void;
}

/** Up to V8 12 (Node 22) kernels are faster, and merged at all, when they carry values through memory (scripts/generate-aead.mjs). */
const STORED = Number.parseInt(process.versions.v8, 10) > 12 ? "" : "-stored";

const FILES: Readonly<Record<EngineBuild, string>> = {
  narrow: join("build", `engine${STORED}.wasm`),
  wide: join("build", `engine-wide${STORED}.wasm`),
};

/** Threads do not share what they compile, but V8 shares the machine code among all modules of the same bytes. */
const compiled = new Map<EngineBuild, Promise<WebAssemblyModule>>();

/**
 * A new instance over `memory`. Every thread has its own; they share nothing but the memory.
 *
 * @throws Error when the build's file is missing or does not fit: the program was not built.
 */
export async function instantiate(memory: SharedMemory, build: EngineBuild = "narrow"): Promise<EngineExports> {
  return (await instance(memory, build)) as EngineExports;
}

/** The same, seen as an AEAD. */
export async function instantiateAead(memory: SharedMemory, build: EngineBuild): Promise<AeadExports> {
  return (await instance(memory, build)) as AeadExports;
}

async function instance(memory: SharedMemory, build: EngineBuild): Promise<object> {
  let module = compiled.get(build);
  if (module === undefined) {
    module = readFile(findFile(FILES[build])).then((code) => webAssembly.compile(code));
    compiled.set(build, module);
  }
  const abort = () => {
    throw new Error("the packet engine aborted");
  };
  const { exports } = await webAssembly.instantiate(await module, { env: { memory, abort } });
  return exports;
}

/** A file in the package's root, which is some levels above this file in dist/ (or another output folder). */
function findFile(name: string): string {
  let directory = dirname(fileURLToPath(import.meta.url));
  for (;;) {
    const file = join(directory, name);
    if (existsSync(file)) return file;
    const parent = dirname(directory);
    if (parent === directory) throw new Error(`${name} is missing: run "npm run build"`);
    directory = parent;
  }
}
