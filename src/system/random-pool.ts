// Random bytes in small pieces: a call of the operating system's generator takes as long for a few bytes as for a thousand, and a
// gateway needs some for every connectivity check. For ids of transactions and the like; keys come fresh.

/** Bytes that are fetched at once. */
const POOL_SIZE = 4096;

/** The most bytes that a piece may have. */
export const MAX_POOLED = 16;

/** Random bytes that were fetched and not given away yet. What was given away is gone from here. */
export class RandomPool {
  readonly #bytes: Uint8Array;
  readonly #fill: (bytes: Uint8Array) => void;
  #used: number;

  /**
   * @param fill fills its argument with random bytes
   * @param bytes where the pool keeps them; tests look there
   */
  constructor(fill: (bytes: Uint8Array) => void, bytes = new Uint8Array(POOL_SIZE)) {
    this.#fill = fill;
    this.#bytes = bytes;
    this.#used = bytes.length;
  }

  /** `length` <= {@link MAX_POOLED} bytes that nobody else gets. */
  take(length: number): Uint8Array {
    if (this.#used + length > this.#bytes.length) {
      this.#fill(this.#bytes);
      this.#used = 0;
    }
    const end = this.#used + length;
    const piece = this.#bytes.slice(this.#used, end);
    this.#bytes.fill(0, this.#used, end);
    this.#used = end;
    return piece;
  }
}
