// The word by which whoever pushed exceptions wakes the main thread.

import type { Layout } from "../engine/layout.js";
import type { SharedMemory } from "../engine/webassembly.js";

/** The word, at index 0. */
export function exceptionWord(memory: SharedMemory, layout: Layout): Int32Array {
  return new Int32Array(memory.buffer, layout.exceptionSignal, 1);
}

/** A function that wakes the main thread because exceptions wait. */
export function signalExceptions(memory: SharedMemory, layout: Layout): () => void {
  const word = exceptionWord(memory, layout);
  return () => {
    Atomics.add(word, 0, 1);
    Atomics.notify(word, 0);
  };
}
