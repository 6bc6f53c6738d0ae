// The address book on disk, so that devices keep their tunnel addresses over restarts of the portal: a JSON object, owner → offset.

import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import type { Random } from "../../base/random.js";
import type { Duration } from "../../base/time.js";
import { AddressBook } from "./identity.js";

/**
 * The least time from one save to the next. A new owner is saved at once, or a device would come back to another address when the portal
 * is killed just after; when many come at once, as at the first start of a large site, they are saved together.
 */
const SAVE_INTERVAL: Duration = 100;
/** After a failure, the next attempt. */
const RETRY_INTERVAL: Duration = 1000;

/** The file is there, but not ours: it must not be overwritten. */
export class AddressFileError extends Error {
  override readonly name = "AddressFileError";
}

/** An address book that is saved soon after it has changed. */
export class AddressFile {
  readonly addresses: AddressBook;
  readonly #path: string;
  readonly #onError: (error: Error) => void;
  #timer: NodeJS.Timeout | undefined;
  #savedAt = Number.NEGATIVE_INFINITY;
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
    this.addresses.onAdded = () => this.#scheduleSave(this.#savedAt + SAVE_INTERVAL - performance.now());
  }

  /** Writes what is new, the file as a whole at once. */
  save(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.addresses.size === this.#saved) return;
    this.#savedAt = performance.now();
    try {
      const temporary = `${this.#path}.new`;
      writeFileSync(temporary, JSON.stringify(this.addresses.snapshot()), { mode: 0o600, flush: true });
      renameSync(temporary, this.#path);
      this.#saved = this.addresses.size;
    } catch (error) {
      if (!(error instanceof Error)) throw error;
      this.#onError(error);
      this.#scheduleSave(RETRY_INTERVAL);
    }
  }

  /** Saves for the last time. */
  close(): void {
    this.addresses.onAdded = () => undefined;
    this.save();
    clearTimeout(this.#timer);
  }

  #scheduleSave(delay: Duration): void {
    this.#timer ??= setTimeout(() => this.save(), Math.max(0, delay));
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
