// What the demo prints: a line per step while it runs and a summary for people, or one JSON document for programs.

import type { WriteStream } from "node:tty";

/** A step that has passed. */
export interface Step {
  /** For programs, as `portal-up`. */
  readonly name: string;
  /** For people. */
  readonly title: string;
  /** Milliseconds: of the step itself or, with `sinceFirstPacket`, from the moment the first packet was sent. */
  readonly milliseconds: number;
  readonly sinceFirstPacket?: true;
  /** What it showed. */
  readonly detail?: string;
}

/** Where the report goes. */
export interface Report {
  /** A heading over the steps that follow. */
  heading(text: string): void;
  /** A step has passed. */
  step(step: Step): void;
  /** Something to know that is no step. */
  note(text: string): void;
  /** A long step is going on; `fraction` is 0 to 1. */
  progress(title: string, fraction: number, detail: string): void;
}

/** Time between two lines of progress where they cannot overwrite each other, milliseconds. */
const PROGRESS_LINE_INTERVAL = 5000;
const TITLE_WIDTH = 26;
const BAR_WIDTH = 20;

/** The report for people. */
export class TextReport implements Report {
  readonly #output: WriteStream | NodeJS.WriteStream;
  readonly #isTerminal: boolean;
  #lastProgress = 0;
  #progressShown = false;

  constructor(output: NodeJS.WriteStream) {
    this.#output = output;
    this.#isTerminal = output.isTTY === true;
  }

  heading(text: string): void {
    this.#clearProgress();
    this.#output.write(`\n${text}\n`);
  }

  step(step: Step): void {
    this.#clearProgress();
    const sign = step.sinceFirstPacket === true ? "+" : " ";
    const time = `${sign}${formatMilliseconds(step.milliseconds)}`.padStart(12);
    const detail = step.detail === undefined ? "" : `   ${step.detail}`;
    this.#output.write(`  ok  ${step.title.padEnd(TITLE_WIDTH)}${time}${detail}\n`);
    this.#lastProgress = Date.now();
  }

  note(text: string): void {
    this.#clearProgress();
    this.#output.write(`      ${text}\n`);
  }

  progress(title: string, fraction: number, detail: string): void {
    const share = Math.min(1, Math.max(0, fraction));
    if (this.#isTerminal) {
      const bar = "#".repeat(Math.round(share * BAR_WIDTH)).padEnd(BAR_WIDTH, ".");
      this.#output.write(`\r\x1b[K  ..  ${title.padEnd(TITLE_WIDTH)}[${bar}] ${detail}`);
      this.#progressShown = true;
      return;
    }
    if (Date.now() - this.#lastProgress < PROGRESS_LINE_INTERVAL) return;
    this.#lastProgress = Date.now();
    this.#output.write(`  ..  ${title.padEnd(TITLE_WIDTH)}${Math.round(share * 100)} %  ${detail}\n`);
  }

  #clearProgress(): void {
    if (this.#progressShown) this.#output.write("\r\x1b[K");
    this.#progressShown = false;
  }
}

/** Milliseconds for people: three significant digits. */
export function formatMilliseconds(milliseconds: number): string {
  if (milliseconds >= 10_000) return `${(milliseconds / 1000).toFixed(1)} s`;
  if (milliseconds >= 1000) return `${(milliseconds / 1000).toFixed(2)} s`;
  return `${milliseconds.toFixed(milliseconds < 10 ? 2 : 1)} ms`;
}

/** Bits per second for people. */
export function formatRate(bitsPerSecond: number): string {
  if (bitsPerSecond >= 1e9) return `${(bitsPerSecond / 1e9).toFixed(2)} Gbit/s`;
  return `${(bitsPerSecond / 1e6).toFixed(0)} Mbit/s`;
}
