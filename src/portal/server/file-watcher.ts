// Tells when a file has another content, however it got it: written, replaced, behind a symbolic link, or on a file system that
// reports nothing.

import { type FSWatcher, readFileSync, unwatchFile, watch, watchFile } from "node:fs";
import { dirname, resolve } from "node:path";
import { type Duration, SECOND } from "../../base/time.js";

/** Editors write a file in several steps: it is read when nothing has happened to it for this long. */
const SETTLE_TIME: Duration = 100;
/** How often to look at a file of which the system reports nothing. */
const POLL_INTERVAL: Duration = 5 * SECOND;

/** A watched file. */
export class FileWatcher {
  readonly #path: string;
  readonly #onChange: () => void;
  readonly #watcher: FSWatcher | undefined;
  readonly #onPoll = () => this.#settle();
  #content: string | undefined;
  #timer: NodeJS.Timeout | undefined;

  /** @param onChange is called when the content is another one than at the last call, or at first; also when it cannot be read any more. */
  constructor(path: string, onChange: () => void) {
    this.#path = resolve(path);
    this.#onChange = onChange;
    this.#content = this.#read();
    this.#watcher = this.#watchDirectory();
    watchFile(this.#path, { interval: POLL_INTERVAL, persistent: false }, this.#onPoll);
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#watcher?.close();
    unwatchFile(this.#path, this.#onPoll);
  }

  /** The directory, not the file: editors replace files, and whoever mounts a directory of links replaces the links. */
  #watchDirectory(): FSWatcher | undefined {
    try {
      const watcher = watch(dirname(this.#path), () => this.#settle());
      // The directory is gone, or there are too many watches: looking at the file now and then is enough.
      watcher.on("error", () => watcher.close());
      return watcher;
    } catch (error) {
      if (error instanceof Error && "code" in error) return undefined;
      throw error;
    }
  }

  #settle(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      const content = this.#read();
      if (content === this.#content) return;
      this.#content = content;
      this.#onChange();
    }, SETTLE_TIME);
  }

  #read(): string | undefined {
    try {
      return readFileSync(this.#path, "utf8");
    } catch (error) {
      if (error instanceof Error && "code" in error) return undefined;
      throw error;
    }
  }
}
