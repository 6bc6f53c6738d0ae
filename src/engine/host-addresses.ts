// Addresses for system calls, as numbers that exist already. V8 keeps whole numbers of up to 31 bits in place; an address of this
// process is larger, so that each one that is computed is an object on the heap, some hundred thousand per second under full
// traffic. The places that frames and messages begin at recur, so their addresses are kept.

/** Addresses kept: a power of two, and more than there are places at which an engine's frames begin in steady traffic. */
const KEPT = 4096;

/** The addresses in this process of places in the engine's memory. */
export class HostAddresses {
  readonly #base: number;
  /** The place whose address is kept in a slot; -1: none. */
  readonly #offsets = new Int32Array(KEPT).fill(-1);
  /** Not only numbers, for an array of only numbers would hold them in place and make an object of each at reading. */
  readonly #addresses: (number | undefined)[] = new Array<number | undefined>(KEPT).fill(undefined);

  /** @param base - address of the memory's first byte. */
  constructor(base: number) {
    this.#base = base;
  }

  /** The address of the byte at `offset`, below 2^31. */
  at(offset: number): number {
    const slot = ((offset >>> 2) ^ (offset >>> 14)) & (KEPT - 1);
    const address = this.#addresses[slot];
    return this.#offsets[slot] === offset && address !== undefined ? address : this.#keep(slot, offset);
  }

  #keep(slot: number, offset: number): number {
    const address = this.#base + offset;
    this.#offsets[slot] = offset;
    this.#addresses[slot] = address;
    return address;
  }
}
