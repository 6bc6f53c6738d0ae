// A program that runs on a host of a lab and writes its log as JSON lines (spec 05, section 2.3) to standard output: the log is kept
// in a file, and its records can be waited for.

import type { ChildProcess } from "node:child_process";
import { createWriteStream, type WriteStream } from "node:fs";
import type { LabHost } from "./host.js";
import { signalProcess } from "./processes.js";

/** How to start a program. */
export interface ProgramOptions {
  /** For messages, as "gateway". */
  readonly name: string;
  /** Path of the script that Node runs. */
  readonly script: string;
  readonly args: readonly string[];
  readonly env: NodeJS.ProcessEnv;
  /** Everything that it writes is appended here. */
  readonly logFile: string;
  /** Node binary that runs the script. Default: that of this process. */
  readonly node?: string;
}

/** One line of the log. */
export interface LogRecord {
  /** Milliseconds since 1970, with fraction. */
  readonly time: number;
  readonly severity: string;
  /** Empty for a record without message. */
  readonly message: string;
  /** The whole line. */
  readonly fields: Readonly<Record<string, unknown>>;
}

/** How a program ended. */
export interface ProgramEnd {
  /** Exit code; `null` when a signal ended it. */
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** What to wait for, and how long. */
export interface WaitOptions {
  /** Milliseconds. */
  readonly timeout: number;
  /** Only records from this position on count: a value of `mark` from earlier. Default: all. */
  readonly from?: number;
}

/** Lines of the log that an error message quotes, and records remembered at most: the file has them all. */
const QUOTED_LINES = 20;
const MAX_RECORDS = 100_000;

interface Waiter {
  readonly check: () => void;
  readonly fail: (error: Error) => void;
}

/** A running program. */
export class LabProgram {
  readonly name: string;
  readonly logFile: string;
  /** Resolves when it has ended and its output is complete. */
  readonly ended: Promise<ProgramEnd>;
  readonly #child: ChildProcess;
  readonly #log: WriteStream;
  readonly #records: LogRecord[] = [];
  readonly #lastLines: string[] = [];
  readonly #waiters = new Set<Waiter>();
  #end: ProgramEnd | undefined;

  private constructor(child: ChildProcess, options: ProgramOptions) {
    this.name = options.name;
    this.logFile = options.logFile;
    this.#child = child;
    this.#log = createWriteStream(options.logFile, { flags: "a" });
    this.#read(child.stdout);
    this.#read(child.stderr);
    this.ended = new Promise((resolve, reject) => {
      child.once("error", reject);
      child.once("close", (status, signal) => {
        this.#end = { status, signal };
        this.#log.end();
        for (const waiter of this.#waiters) waiter.fail(new Error(this.#describeEnd()));
        resolve(this.#end);
      });
    });
    // Whoever waits for the end hears of it; nobody has to.
    this.ended.catch((error: Error) => {
      for (const waiter of this.#waiters) waiter.fail(error);
    });
  }

  /** Starts `node SCRIPT ARGS…` on a host. */
  static start(host: LabHost, options: ProgramOptions): LabProgram {
    const child = host.spawn(options.node ?? process.execPath, [options.script, ...options.args], {
      stdio: ["ignore", "pipe", "pipe"],
      env: options.env,
    });
    return new LabProgram(child, options);
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  get running(): boolean {
    return this.#end === undefined;
  }

  /** The position behind the newest record: what is logged from now on has this position or a higher one. */
  get mark(): number {
    return this.#records.length;
  }

  /** The records, oldest first. */
  get records(): readonly LogRecord[] {
    return this.#records;
  }

  /** The last lines that it wrote. */
  get tail(): string {
    return this.#lastLines.join("\n");
  }

  /** The first record with this message, if there is one. */
  find(message: string, from = 0): LogRecord | undefined {
    return this.#records.slice(from).find((record) => record.message === message);
  }

  /**
   * Waits for a record whose message is `message` (or, given a function, for which it holds).
   *
   * @throws Error with the end of the log, when the time is up or the program ends first.
   */
  waitFor(what: string | ((record: LogRecord) => boolean), options: WaitOptions): Promise<LogRecord> {
    const matches = typeof what === "string" ? (record: LogRecord) => record.message === what : what;
    const described = typeof what === "string" ? `"${what}"` : "what was waited for";
    let position = options.from ?? 0;
    return new Promise((resolve, reject) => {
      const finish = () => {
        clearTimeout(timer);
        this.#waiters.delete(waiter);
      };
      const fail = (error: Error) => {
        finish();
        reject(error);
      };
      const check = () => {
        for (; position < this.#records.length; position++) {
          const record = this.#records[position];
          if (record === undefined || !matches(record)) continue;
          finish();
          resolve(record);
          return;
        }
      };
      const timer = setTimeout(() => {
        fail(new Error(`${this.name}: did not log ${described} within ${options.timeout} ms\n${this.tail}`));
      }, options.timeout);
      const waiter: Waiter = { check, fail };
      this.#waiters.add(waiter);
      check();
      if (this.#end !== undefined && this.#waiters.has(waiter)) fail(new Error(this.#describeEnd()));
    });
  }

  /** Sends it a signal and waits for its end; SIGKILL after `timeout` milliseconds, which `status` then shows as `null`. */
  async stop(signal: NodeJS.Signals = "SIGTERM", timeout = 5000): Promise<ProgramEnd> {
    if (this.#end !== undefined) return this.#end;
    const timer = setTimeout(() => signalProcess(-this.pid, "SIGKILL"), timeout);
    this.signal(signal);
    try {
      return await this.ended;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Sends it a signal. */
  signal(signal: NodeJS.Signals): void {
    if (this.#end === undefined) signalProcess(this.pid, signal);
  }

  #describeEnd(): string {
    const { status, signal } = this.#end ?? { status: null, signal: null };
    return `${this.name}: ended with ${signal ?? `exit code ${status}`}\n${this.tail}`;
  }

  #read(stream: NodeJS.ReadableStream | null): void {
    let rest = "";
    stream?.setEncoding("utf8");
    stream?.on("data", (text: string) => {
      this.#log.write(text);
      const lines = (rest + text).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) this.#line(line);
      for (const waiter of this.#waiters) waiter.check();
    });
    stream?.on("end", () => {
      if (rest !== "") this.#line(rest);
    });
  }

  #line(line: string): void {
    this.#lastLines.push(line);
    if (this.#lastLines.length > QUOTED_LINES) this.#lastLines.shift();
    const record = parseRecord(line);
    if (record !== undefined && this.#records.length < MAX_RECORDS) this.#records.push(record);
  }
}

/** A record from its line; `undefined` for what is none, as the words of a crash. */
function parseRecord(line: string): LogRecord | undefined {
  if (!line.startsWith("{")) return undefined;
  let fields: unknown;
  try {
    fields = JSON.parse(line);
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
  if (typeof fields !== "object" || fields === null) return undefined;
  const { time, severity, message } = fields as Readonly<Record<string, unknown>>;
  return {
    time: typeof time === "string" ? parseTime(time) : Number.NaN,
    severity: typeof severity === "string" ? severity : "",
    message: typeof message === "string" ? message : "",
    fields: fields as Readonly<Record<string, unknown>>,
  };
}

/** Milliseconds since 1970 of an RFC 3339 time, with all digits of its fraction (Date.parse keeps three). */
function parseTime(text: string): number {
  const [, seconds, fraction, zone] = /^([^.]+?)(\.\d+)?(Z|[+-]\d\d:\d\d)$/.exec(text) ?? [];
  return Date.parse(`${seconds}${zone}`) + Number(fraction ?? 0) * 1000;
}
