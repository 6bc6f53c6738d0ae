// Where log lines go: a queue that is written in the background (spec 05, section 2.4). Logging never waits and never ends the program: lines
// that find the queue full, or the reader gone, are lost and counted.

import { pino } from "pino";

/** Most that may wait to be written, in bytes: some seconds of a busy log. */
const QUEUE_BYTES = 1024 * 1024;

/** One output of a log. */
export class LogOutput {
  readonly #stream: ReturnType<typeof pino.destination>;
  readonly #closed: Promise<void>;
  #state: "open" | "closing" | "failed" = "open";
  #lost = 0;
  #reported = 0;

  /**
   * @param descriptor open file descriptor, closed at the end unless it is standard output or standard error.
   * @param describeLoss makes the line that tells how many lines were lost; it is written when there is room again.
   */
  constructor(descriptor: number, describeLoss: (lines: number) => string) {
    const stream = pino.destination({ dest: descriptor, sync: false, maxLength: QUEUE_BYTES });
    this.#stream = stream;
    this.#closed = new Promise((resolve) => {
      stream.once("close", resolve);
      // What pino does about a reader that is gone does not include this event.
      stream.once("error", () => resolve());
    });
    stream.on("drop", () => {
      this.#lost += 1;
    });
    stream.on("drain", () => {
      const news = this.#lost - this.#reported;
      if (news === 0 || this.#state !== "open") return;
      this.#reported = this.#lost;
      stream.write(`${describeLoss(news)}\n`);
    });
    stream.on("error", () => {
      // The reader is gone or the disk is full. The stream would offer the same bytes for ever: no more of it.
      if (this.#state === "failed") return;
      this.#state = "failed";
      this.#lost += 1;
      stream.destroy();
    });
  }

  /** Lines lost so far. */
  get lost(): number {
    return this.#lost;
  }

  /** Queues a line, given without its line feed. */
  write(line: string): void {
    if (this.#state === "open") this.#stream.write(`${line}\n`);
    else this.#lost += 1;
  }

  /** Takes no more lines; resolves when those that wait are written. */
  close(): Promise<void> {
    if (this.#state === "open") {
      this.#state = "closing";
      this.#stream.end();
    }
    return this.#closed;
  }
}
