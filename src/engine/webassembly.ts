// The part of the WebAssembly interface that the engine uses: neither ES2023 nor Node's types declare it.

/** A shared linear memory. */
export interface SharedMemory {
  readonly buffer: SharedArrayBuffer;
}

/** A compiled module. */
export type WebAssemblyModule = object;

interface WebAssemblyApi {
  Memory: new (descriptor: { initial: number; maximum: number; shared: true }) => SharedMemory;
  compile(code: Uint8Array): Promise<WebAssemblyModule>;
  instantiate(module: WebAssemblyModule, imports: object): Promise<{ exports: object }>;
}

/** Node's WebAssembly. */
export const webAssembly = (globalThis as unknown as { WebAssembly: WebAssemblyApi }).WebAssembly;
