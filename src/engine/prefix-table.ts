// A table of prefixes in the shared memory, as its only writer sees it; what it is, and how it is searched, is in
// assembly/tables/prefix.ts. One table holds the prefixes of several scopes, each of which knows what lengths its prefixes have.

import type { IpPrefix } from "../base/address.js";
import type { EngineExports } from "./module.js";

/** Where the engine finds a prefix's address while it is called: 16 bytes of the caller's own. */
export interface ArgumentBuffer {
  readonly bytes: Uint8Array;
  readonly address: number;
}

/** See the head of this file. Who writes knows what is in the table, and that there is room. */
export class PrefixTable {
  readonly #exports: EngineExports;
  readonly #table: number;
  readonly #argument: ArgumentBuffer;

  /** `table`: its address. */
  constructor(exports: EngineExports, table: number, argument: ArgumentBuffer) {
    this.#exports = exports;
    this.#table = table;
    this.#argument = argument;
  }

  /** Lets a prefix lead to a value, in place of the one before. */
  insert(scope: number, prefix: IpPrefix, value: number): void {
    this.#exports.insertPrefix(this.#table, scope, prefix.family, prefix.length, this.#pass(prefix), value);
  }

  /** Removes a prefix. */
  remove(scope: number, prefix: IpPrefix): void {
    this.#exports.removePrefix(this.#table, scope, prefix.family, prefix.length, this.#pass(prefix));
  }

  /** Whether there are prefixes of this one's family and length in the scope whose set of lengths is at `lengths`: no others are tried. */
  setLength(lengths: number, prefix: IpPrefix, present: boolean): void {
    this.#exports.setPrefixLength(this.#table, lengths, prefix.family, prefix.length, present ? 1 : 0);
  }

  #pass({ address }: IpPrefix): number {
    this.#argument.bytes.set(address.bytes, this.#argument.address);
    return this.#argument.address;
  }
}
