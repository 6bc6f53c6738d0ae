// Deadlines of many objects in one order, so that neither finding the next one nor changing one looks at all of them: a binary heap, and
// where each object is in it.
//
//              0              heap[i] is due no later than heap[2i + 1] and heap[2i + 2]
//          1       2
//        3   4   5   6

import type { Instant } from "./time.js";

interface Entry<T> {
  readonly item: T;
  deadline: Instant;
  /** Index in the heap. */
  place: number;
}

/** When each of many objects wants to be woken. */
export class Deadlines<T> {
  readonly #heap: Entry<T>[] = [];
  readonly #entries = new Map<T, Entry<T>>();

  /** Objects with a deadline. */
  get size(): number {
    return this.#heap.length;
  }

  /** The earliest deadline; `undefined`: nobody has one. */
  next(): Instant | undefined {
    return this.#heap[0]?.deadline;
  }

  /** Changes the deadline of an object; `undefined`: it has none (any more). */
  set(item: T, deadline: Instant | undefined): void {
    const known = this.#entries.get(item);
    if (deadline === undefined) {
      if (known !== undefined) this.#remove(known);
      return;
    }
    if (known === undefined) {
      const entry = { item, deadline, place: this.#heap.length };
      this.#entries.set(item, entry);
      this.#heap.push(entry);
      this.#raise(entry);
      return;
    }
    const before = known.deadline;
    known.deadline = deadline;
    if (deadline < before) this.#raise(known);
    else this.#sink(known);
  }

  /** Takes out all objects that are due at `now`, the longest overdue first. Those that want to be woken again say so anew. */
  takeDue(now: Instant): T[] {
    const due: T[] = [];
    for (let first = this.#heap[0]; first !== undefined && first.deadline <= now; first = this.#heap[0]) {
      due.push(first.item);
      this.#remove(first);
    }
    return due;
  }

  #remove(entry: Entry<T>): void {
    this.#entries.delete(entry.item);
    const last = this.#heap.pop();
    if (last === undefined || last === entry) return;
    this.#put(last, entry.place);
    this.#raise(last);
    this.#sink(last);
  }

  #raise(entry: Entry<T>): void {
    while (entry.place > 0) {
      const parent = this.#heap[(entry.place - 1) >> 1];
      if (parent === undefined || parent.deadline <= entry.deadline) return;
      this.#swap(parent, entry);
    }
  }

  #sink(entry: Entry<T>): void {
    for (;;) {
      const left = this.#heap[2 * entry.place + 1];
      const right = this.#heap[2 * entry.place + 2];
      const child = right !== undefined && left !== undefined && right.deadline < left.deadline ? right : left;
      if (child === undefined || child.deadline >= entry.deadline) return;
      this.#swap(entry, child);
    }
  }

  #swap(a: Entry<T>, b: Entry<T>): void {
    const place = a.place;
    this.#put(a, b.place);
    this.#put(b, place);
  }

  #put(entry: Entry<T>, place: number): void {
    entry.place = place;
    this.#heap[place] = entry;
  }
}
