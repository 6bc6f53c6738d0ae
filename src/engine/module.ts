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
  outbound(region: number, frameLength: number, now: number): void;
  sealForPeer(region: number, connection: number, length: number, now: number): number;
  transmitReady(region: number, family: number): number;
  transmitMessages(region: number, family: number): number;
  transmitDone(region: number, family: number, sent: number): void;
  transmitDropFirst(region: number, family: number): void;
  transmitSplitFirst(region: number, family: number): void;
  sealPending(region: number): void;
  prepareReceive(region: number, family: number): void;
  inbound(region: number, family: number, messageCount: number, localPort: number, now: number): number;
  lookupRoute(region: number, family: number, address: number): number;
  insertPrefix(table: number, scope: number, family: number, length: number, address: number, value: number): void;
  removePrefix(table: number, scope: number, family: number, length: number, address: number): void;
  setPrefixLength(table: number, lengths: number, family: number, length: number, present: number): void;
  insertSession(index: number, localIndex: number, slot: number): void;
  removeSession(index: number, localIndex: number): void;
}

const MODULE_FILE = join("build", "engine.wasm");

let compiled: Promise<WebAssemblyModule> | undefined;

/**
 * A new instance over `memory`. Every thread has its own; they share nothing but the memory.
 *
 * @throws Error when build/engine.wasm is missing or does not fit: the program was not built.
 */
export async function instantiate(memory: SharedMemory): Promise<EngineExports> {
  compiled ??= readFile(findModule()).then((code) => webAssembly.compile(code));
  const abort = () => {
    throw new Error("the packet engine aborted");
  };
  const instance = await webAssembly.instantiate(await compiled, { env: { memory, abort } });
  return instance.exports as EngineExports;
}

/** The module's file in the package's root, which is some levels above this file in dist/ (or another output folder). */
function findModule(): string {
  let directory = dirname(fileURLToPath(import.meta.url));
  for (;;) {
    const file = join(directory, MODULE_FILE);
    if (existsSync(file)) return file;
    const parent = dirname(directory);
    if (parent === directory) throw new Error(`${MODULE_FILE} is missing: run "npm run build"`);
    directory = parent;
  }
}
