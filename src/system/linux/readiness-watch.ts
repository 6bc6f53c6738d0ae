// Tells when a file descriptor that Node cannot wait for, a netlink socket say, is readable. One thread of Node's pool waits for it in
// poll(2), instead of the main thread looking again and again: what happens is known at once, and an idle process sleeps.
//
//    (waiting in poll) ── readable ──► onReadable ── PAUSE ──► (waiting in poll)
//            └── stop, or the process exits: the event counter ──► closed

import type { Duration } from "../../base/time.js";
import { EventCounter } from "./eventfd.js";
import { POLLIN, pollAsync } from "./libc.js";
import { PollSet } from "./poll.js";

/** Between two reports: a burst of events costs a few turns of the event loop, not one for each. */
const PAUSE: Duration = 20;

enum Entry {
  Watched,
  Stop,
  Count,
}

/** Watches one descriptor. */
export class ReadinessWatch {
  readonly #set = new PollSet(Entry.Count);
  readonly #stop = new EventCounter();
  readonly #onReadable: () => void;
  readonly #wake = () => this.#stop.signal();
  #pause: NodeJS.Timeout | undefined;
  #onStopped: (() => void) | undefined;

  /** @param onReadable reads all there is, or learns what is wrong with the descriptor; it is called again while there is more. */
  constructor(fd: number, onReadable: () => void) {
    this.#onReadable = onReadable;
    this.#set.set(Entry.Watched, fd, POLLIN);
    this.#set.set(Entry.Stop, this.#stop.fd, POLLIN);
    // Node waits for the threads of its pool when it exits.
    process.once("exit", this.#wake);
    this.#wait();
  }

  /** Ends watching; `onStopped` is called when the descriptor is not used any more and may be closed. Once. */
  stop(onStopped: () => void): void {
    this.#onStopped = onStopped;
    process.off("exit", this.#wake);
    if (this.#pause === undefined) {
      this.#stop.signal();
      return;
    }
    clearTimeout(this.#pause);
    this.#end(onStopped);
  }

  #wait(): void {
    this.#pause = undefined;
    this.#set.waitAsync(pollAsync, () => {
      if (this.#onStopped !== undefined) {
        this.#end(this.#onStopped);
        return;
      }
      // Before the report, which may stop the watch.
      this.#pause = setTimeout(() => this.#wait(), PAUSE);
      this.#onReadable();
    });
  }

  #end(onStopped: () => void): void {
    this.#stop.close();
    onStopped();
  }
}
