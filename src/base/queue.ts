// A first-in first-out queue with a capacity: nothing in this project grows without bound.

/** What a full queue does with one more element. */
export type Overflow = "drop-oldest" | "drop-newest";

/** A bounded first-in first-out queue; elements that do not fit are dropped and counted. */
export class BoundedQueue<T> {
  readonly capacity: number;
  /** Elements dropped because the queue was full, since creation. */
  dropped = 0;

  readonly #overflow: Overflow;
  #items: T[] = [];
  /** Index of the oldest element in `#items`; the part before it is reclaimed now and then. */
  #head = 0;

  constructor(capacity: number, overflow: Overflow) {
    this.capacity = capacity;
    this.#overflow = overflow;
  }

  get length(): number {
    return this.#items.length - this.#head;
  }

  /** Appends `item`; returns false when something was dropped for it, or instead of it. */
  push(item: T): boolean {
    if (this.length < this.capacity) {
      this.#items.push(item);
      return true;
    }
    this.dropped++;
    if (this.#overflow === "drop-oldest") {
      this.shift();
      this.#items.push(item);
    }
    return false;
  }

  /** Removes and returns the oldest element. */
  shift(): T | undefined {
    if (this.length === 0) return undefined;
    const item = this.#items[this.#head];
    this.#head++;
    if (this.#head * 2 >= this.#items.length) {
      this.#items = this.#items.slice(this.#head);
      this.#head = 0;
    }
    return item;
  }

  /** Removes all elements and returns them, oldest first. */
  drain(): T[] {
    const items = this.#items.slice(this.#head);
    this.clear();
    return items;
  }

  /** Forgets all elements. */
  clear(): void {
    this.#items = [];
    this.#head = 0;
  }

  *[Symbol.iterator](): IterableIterator<T> {
    for (let i = this.#head; i < this.#items.length; i++) yield this.#items[i] as T;
  }
}
