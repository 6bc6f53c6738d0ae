// A reusable set for poll(2): fixed entries, each a file descriptor and the events awaited.
//
//   struct pollfd, 8 bytes:  fd i32 (negative: ignored) | events i16 | results i16

import { allocate, type NativeBuffer, poll, type pollAsync } from "./libc.js";

/** Entries of `struct pollfd` that the kernel reads and answers in place. */
export class PollSet {
  readonly #fds: Int32Array;
  readonly #events: Int16Array;
  readonly #buffer: NativeBuffer;
  /** A closure, because an address read from a property is an object at each reading. */
  readonly #poll: (timeout: number) => number;

  constructor(size: number) {
    this.#buffer = allocate(8 * size);
    const { bytes, address } = this.#buffer;
    this.#fds = new Int32Array(bytes.buffer);
    this.#events = new Int16Array(bytes.buffer);
    this.#poll = (timeout) => poll(address, size, timeout);
    for (let i = 0; i < size; i++) this.set(i, -1, 0);
  }

  /** Watches `fd` for `events` (POLLIN, POLLOUT); a negative `fd` switches the entry off. */
  set(entry: number, fd: number, events: number): void {
    this.#fds[2 * entry] = fd;
    this.#events[4 * entry + 2] = events;
    this.#events[4 * entry + 3] = 0;
  }

  /** The file descriptor that an entry watches. */
  fd(entry: number): number {
    return this.#fds[2 * entry] ?? -1;
  }

  /** The events that an entry waits for. */
  events(entry: number): number {
    return this.#events[4 * entry + 2] ?? 0;
  }

  /** What the last wait found for an entry: the events awaited, POLLERR, POLLHUP or POLLNVAL. */
  ready(entry: number): number {
    return this.#events[4 * entry + 3] ?? 0;
  }

  /** Stores a result, as the kernel does in {@link PollSet.wait}: for replacements of the kernel in tests. */
  setReady(entry: number, events: number): void {
    this.#events[4 * entry + 3] = events;
  }

  /** Waits at most `timeout` ms (-1: for ever); returns the number of ready entries, or -1 with `errno()`. */
  wait(timeout: number): number {
    return this.#poll(timeout);
  }

  /** Waits for ever in another thread, by {@link pollAsync}; the set must not change until `done` is called. */
  waitAsync(wait: typeof pollAsync, done: () => void): void {
    wait(this.#buffer.address, this.#events.length / 4, -1, done);
  }
}
