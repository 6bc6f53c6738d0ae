// Things to do at their times: a binary heap. Of two with the same time the one added first comes first.

interface Entry<T> {
  readonly time: number;
  readonly order: number;
  readonly item: T;
}

/** What is to be done when. */
export class Agenda<T> {
  readonly #heap: Entry<T>[] = [];
  #order = 0;

  get size(): number {
    return this.#heap.length;
  }

  /** The earliest time; `undefined` when there is nothing to do. */
  get next(): number | undefined {
    return this.#heap[0]?.time;
  }

  /** Adds an item. */
  add(time: number, item: T): void {
    const entry = { time, order: this.#order++, item };
    let place = this.#heap.length;
    while (place > 0) {
      const parent = (place - 1) >> 1;
      const above = this.#heap[parent];
      if (above === undefined || !isBefore(entry, above)) break;
      this.#heap[place] = above;
      place = parent;
    }
    this.#heap[place] = entry;
  }

  /** Takes the first item whose time is `time` at the latest, if there is one. */
  takeUntil(time: number): T | undefined {
    const top = this.#heap[0];
    if (top === undefined || top.time > time) return undefined;
    const last = this.#heap.pop();
    if (last !== undefined && last !== top) this.#sink(last);
    return top.item;
  }

  /** Puts an entry in at the top, which is vacant. */
  #sink(entry: Entry<T>): void {
    const heap = this.#heap;
    let place = 0;
    for (;;) {
      const left = 2 * place + 1;
      const [one, other] = [heap[left], heap[left + 1]];
      if (one === undefined) break;
      const takesOther = other !== undefined && isBefore(other, one);
      const child = takesOther ? other : one;
      if (!isBefore(child, entry)) break;
      heap[place] = child;
      place = takesOther ? left + 1 : left;
    }
    heap[place] = entry;
  }
}

function isBefore<T>(one: Entry<T>, other: Entry<T>): boolean {
  return one.time < other.time || (one.time === other.time && one.order < other.order);
}
