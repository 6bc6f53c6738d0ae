// The address book on disk, so that devices keep their tunnel addresses over restarts of the portal: a JSON object, owner → offset.

import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import type { Random } from "../../base/random.js";
import { type Duration, SECOND } from "../../base/time.js";
import { AddressBook } from "./identity.js";

/** How often the book is looked at for something new. */
const SAVE_INTERVAL: Duration = SECOND;

/** The file is there, but not ours: it must not be overwritten. */
export class AddressFileError extends Error {
  override readonly name = "AddressFileError";
}

/** An address book that is saved soon after it has changed. */
export class AddressFile {
  readonly addresses: AddressBook;
  readonly #path: string;
  readonly #onError: (error: Error) => void;
  readonly #timer: NodeJS.Timeout;
  /** Owners in the book when it was last saved: there are only ever more. */
  #saved: number;

  /**
   * Reads the file; one that does not exist is an empty book.
   *
   * @param onError is told when the file cannot be written; it is tried again.
   * @throws AddressFileError, or the system's error when the file cannot be read.
   */
  constructor(path: string, random: Random, onError: (error: Error) => void) {
    this.addresses = new AddressBook(random, read(path));
    this.#path = path;
    this.#onError = onError;
    this.#saved = this.addresses.size;
    this.#timer = setInterval(() => this.save(), SAVE_INTERVAL);
  }

  /** Writes what is new, the file as a whole at once. */
  save(): void {
    if (this.addresses.size === this.#saved) return;
    try {
      const temporary = `${this.#path}.new`;
      writeFileSync(temporary, JSON.stringify(this.addresses.snapshot()), { mode: 0o600, flush: true });
      renameSync(temporary, this.#path);
      this.#saved = this.addresses.size;
    } catch (error) {
      if (!(error instanceof Error)) throw error;
      this.#onError(error);
    }
  }

  /** Saves, and stops looking. */
  close(): void {
    clearInterval(this.#timer);
    this.save();
  }
}

function read(path: string): Record<string, number> {
  if (!existsSync(path)) return {};
  const problem = new AddressFileError(
    `${path} does not hold the tunnel addresses of a portal: name another file, or remove it`,
  );
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(path, "utf8"));
  } catch (error) {
    if (error instanceof SyntaxError) throw problem;
    throw error;
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw problem;
  const state: Record<string, number> = {};
  for (const [owner, offset] of Object.entries(value)) {
    if (typeof offset !== "number" || !Number.isInteger(offset) || offset < 0) throw problem;
    state[owner] = offset;
  }
  return state;
}
