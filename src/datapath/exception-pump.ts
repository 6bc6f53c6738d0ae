// Wakes the main thread when workers have pushed exceptions, and lets it handle them in bounded turns: a flood of exceptions must
// not starve timers and the portal's socket (field notes, section 3: "bound iterations per turn").

import { ExceptionReader, type ExceptionRecord } from "../engine/exceptions.js";
import type { Layout } from "../engine/layout.js";
import type { SharedMemory } from "../engine/webassembly.js";
import { monotonicNow } from "../system/clock.js";
import { exceptionWord } from "./signal.js";
import { waitAsync } from "./wait-async.js";

/** Exceptions handled before the event loop has its turn. */
export const EXCEPTIONS_PER_TURN = 256;

/** Time after which the event loop has its turn, in milliseconds: exceptions that cost cryptography are a hundred times as slow as others. */
export const TURN_LIMIT = 4;

/** Exceptions handled between two looks at the clock. */
export const EXCEPTIONS_PER_LOOK = 8;

/** What the pump works with. */
export interface ExceptionPumpParts {
  /** The word that workers increment and notify after pushing exceptions. */
  readonly words: Int32Array;
  readonly index: number;
  /** Handles at most `limit` exceptions of all rings; returns how many. */
  readonly drain: (limit: number) => number;
  /** A clock, in milliseconds. */
  readonly now: () => number;
  /** Called after each turn that handled something: the moment to poll state machines for transmits and events. */
  readonly endOfTurn: () => void;
  /** `drain` or `endOfTurn` threw: a bug. The pump has stopped. */
  readonly onError: (error: unknown) => void;
}

/** Receives exceptions. */
export interface ExceptionHandler {
  /** One exception. The record and its bytes are valid until this returns. */
  handle(record: ExceptionRecord): void;
  /** After a batch of them: the moment to poll state machines. */
  endOfBatch(): void;
}

/** Calls `handler` for every exception of an engine's threads from now on, in bounded batches. */
export function pumpExceptions(
  memory: SharedMemory,
  layout: Layout,
  handler: ExceptionHandler,
  onError: (error: Error) => void,
): ExceptionPump {
  const reader = new ExceptionReader({ memory, layout });
  return new ExceptionPump({
    words: exceptionWord(memory, layout),
    index: 0,
    drain: (limit) => {
      let handled = 0;
      for (; handled < limit; handled++) {
        const record = reader.next();
        if (record === undefined) break;
        handler.handle(record);
      }
      reader.release();
      return handled;
    },
    now: monotonicNow,
    endOfTurn: () => handler.endOfBatch(),
    onError: (error) => onError(error instanceof Error ? error : new Error(String(error))),
  });
}

/** Handles exceptions until it is stopped. */
export class ExceptionPump {
  readonly #parts: ExceptionPumpParts;
  #stopped = false;

  constructor(parts: ExceptionPumpParts) {
    this.#parts = parts;
    void this.#run();
  }

  /** Handles nothing more. */
  stop(): void {
    this.#stopped = true;
    // Ends a pending wait, which would keep the shared memory alive.
    Atomics.notify(this.#parts.words, this.#parts.index);
  }

  async #run(): Promise<void> {
    const { words, index, endOfTurn, onError } = this.#parts;
    try {
      while (!this.#stopped) {
        // Read before draining: what is pushed from here on changes the word, and the wait below returns at once.
        const seen = Atomics.load(words, index);
        const { handled, isEmpty } = this.#turn();
        if (handled > 0) endOfTurn();
        if (this.#stopped) return;
        const wait = isEmpty ? waitAsync(words, index, seen) : undefined;
        if (wait?.async === true) await wait.value;
        else await nextTurn();
      }
    } catch (error) {
      this.#stopped = true;
      onError(error);
    }
  }

  /** Handles exceptions for the time of a turn. */
  #turn(): { readonly handled: number; readonly isEmpty: boolean } {
    const { drain, now } = this.#parts;
    const end = now() + TURN_LIMIT;
    for (let handled = 0; ; ) {
      const some = drain(EXCEPTIONS_PER_LOOK);
      handled += some;
      const isEmpty = some < EXCEPTIONS_PER_LOOK;
      if (isEmpty || handled >= EXCEPTIONS_PER_TURN || now() >= end) return { handled, isEmpty };
    }
  }
}

/** Resolves after the event loop has looked at its timers and sockets once. */
function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
