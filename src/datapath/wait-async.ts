// Atomics.waitAsync (ECMAScript 2024): waiting for a shared word without blocking the event loop. Node 20 has it, the type
// library of ES2023 does not.

/** What a wait came to at once: a promise when it really waits, else the reason why not. */
export type AsyncWait =
  | { readonly async: false; readonly value: "not-equal" | "timed-out" }
  | { readonly async: true; readonly value: Promise<"ok" | "timed-out"> };

/** `Atomics.waitAsync`: waits while the word holds `value`, at most `timeout` ms. A pending wait does not keep the process alive. */
export const waitAsync: (words: Int32Array, index: number, value: number, timeout?: number) => AsyncWait = (
  Atomics as typeof Atomics & {
    waitAsync(words: Int32Array, index: number, value: number, timeout?: number): AsyncWait;
  }
).waitAsync;
