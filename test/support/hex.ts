// Hexadecimal constants in tests.

import { fromHex } from "../../src/base/bytes.js";

/** The bytes of hexadecimal digits; white space is for reading only. */
export function hex(text: string): Uint8Array {
  const bytes = fromHex(text.replace(/\s/g, ""));
  if (bytes === undefined) throw new Error(`not hexadecimal: ${text}`);
  return bytes;
}

/** `length` bytes of `value`. */
export function repeated(value: number, length: number): Uint8Array {
  return new Uint8Array(length).fill(value);
}
