// The log of client, gateway and portal (spec 05, section 2): one event per line, for people or as JSON, filtered by target.
//
//   human   2024-08-27T10:11:12.123456Z  INFO firezone_gateway: Accepted connection client_id=…
//   JSON    {"time":…,"target":…,"severity":…, event fields and "message" in alphabetical order of their names }
//
// Secrets are never logged. Names and addresses of users' traffic are logged at debug and trace only.

import { isatty } from "node:tty";
import { LOG_LEVELS, LogFilter, type LogLevel } from "./directives.js";
import { openLogFile } from "./log-files.js";
import { LogOutput } from "./log-output.js";

/**
 * Fields of an event, in snake case as their names are in the reference; JSON output turns them into camel case. The names of what
 * every line has are taken.
 */
export type LogFields = Readonly<Record<string, string | number | boolean | undefined>> & {
  readonly time?: undefined;
  readonly target?: undefined;
  readonly message?: undefined;
};

/** Level of an event. */
export type EventLevel = Exclude<LogLevel, "off">;

/** How lines look. */
export type LogFormat = "human" | "json";

/** The log of one part of a program. */
export interface TargetLog {
  error(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  debug(message: string, fields?: LogFields): void;
  trace(message: string, fields?: LogFields): void;
  /** For events that are costly to describe. */
  isEnabled(level: EventLevel): boolean;
}

/** What to log, and how. */
export interface LogOptions {
  readonly format: LogFormat;
  /** RUST_LOG; absent: `info`. */
  readonly directives: string | undefined;
  /** Write files there too. */
  readonly logDir?: string | undefined;
  /** File descriptor. Default: standard output. */
  readonly destination?: number;
}

const STDOUT = 1;

const SEVERITY: Readonly<Record<EventLevel, string>> = {
  error: "ERROR",
  warn: "WARNING",
  info: "INFO",
  debug: "DEBUG",
  trace: "DEBUG",
};

const COLOURS: Readonly<Record<EventLevel, string>> = {
  error: "\u001b[31m",
  warn: "\u001b[33m",
  info: "\u001b[32m",
  debug: "\u001b[34m",
  trace: "\u001b[35m",
};
const DIM = "\u001b[2m";
const PLAIN = "\u001b[0m";

/** The log's own target. */
const LOG_TARGET = "wirelane_log";

/** How one output's lines look, and the output. */
interface Sink {
  readonly format: LogFormat;
  readonly colours: boolean;
  readonly output: LogOutput;
}

/** A program's log. */
export class Log {
  readonly #filter: LogFilter;
  readonly #sinks: readonly Sink[];

  /** @throws DirectiveError for an unusable filter; the system's error when a log file cannot be made. */
  constructor(options: LogOptions) {
    this.#filter = LogFilter.parse(options.directives);
    const { format, logDir, destination = STDOUT } = options;
    const colours = format === "human" && isatty(destination) && (process.env["NO_COLOR"] ?? "") === "";
    const sinks = [makeSink(format, colours, destination)];
    const now = new Date();
    if (logDir !== undefined)
      sinks.push(
        makeSink("json", false, openLogFile(logDir, "jsonl", now)),
        makeSink("human", false, openLogFile(logDir, "log", now)),
      );
    this.#sinks = sinks;
  }

  /** The log of one part; see spec 05, section 2.1 for the names that operators know. */
  target(target: string): TargetLog {
    const threshold = LOG_LEVELS.indexOf(this.#filter.levelOf(target));
    const isEnabled = (level: EventLevel) => LOG_LEVELS.indexOf(level) <= threshold;
    const at =
      (level: EventLevel) =>
      (message: string, fields: LogFields = {}) => {
        if (isEnabled(level)) this.#write({ level, target, message, fields, time: new Date() });
      };
    return {
      error: at("error"),
      warn: at("warn"),
      info: at("info"),
      debug: at("debug"),
      trace: at("trace"),
      isEnabled,
    };
  }

  /** Lines lost so far, over all outputs: queues were full, or readers gone. */
  get lost(): number {
    return this.#sinks.reduce((sum, { output }) => sum + output.lost, 0);
  }

  /** Takes no more events; resolves when what is waiting is written. The process does not end before that. */
  async close(): Promise<void> {
    await Promise.all(this.#sinks.map(({ output }) => output.close()));
  }

  #write(event: LogEvent): void {
    for (const { format, colours, output } of this.#sinks) output.write(toLine(format, colours, event));
  }
}

/** Makes a program's log. @throws as {@link Log} */
export function createLog(options: LogOptions): Log {
  return new Log(options);
}

/** An event on its way to a line. */
export interface LogEvent {
  readonly level: EventLevel;
  readonly target: string;
  readonly message: string;
  readonly fields: LogFields;
  readonly time: Date;
}

/** A JSON line without its line feed (spec 05, section 2.3). */
export function jsonLine({ level, target, message, fields, time }: LogEvent): string {
  const line: Record<string, unknown> = { time: time.toISOString(), target, severity: SEVERITY[level] };
  // By their original names; no two are equal.
  const sorted = Object.entries({ ...fields, message }).sort(([a], [b]) => (a < b ? -1 : 1));
  for (const [name, value] of sorted) if (value !== undefined) line[camelCase(name)] = scalar(value);
  return JSON.stringify(line);
}

/** A line for people without its line feed (spec 05, section 2.2). */
export function humanLine({ level, target, message, fields, time }: LogEvent, colours: boolean): string {
  const paint = (colour: string, text: string) => (colours ? `${colour}${text}${PLAIN}` : text);
  // Node's clock has milliseconds; the format has microseconds.
  const stamp = time.toISOString().replace("Z", "000Z");
  const parts = [
    paint(DIM, stamp),
    paint(COLOURS[level], level.toUpperCase().padStart(5)),
    `${paint(DIM, `${target}:`)} ${printable(message)}`,
  ];
  for (const [name, value] of Object.entries(fields))
    if (value !== undefined) parts.push(`${name}=${typeof value === "string" ? quoted(value) : value}`);
  return parts.join(" ");
}

function toLine(format: LogFormat, colours: boolean, event: LogEvent): string {
  return format === "json" ? jsonLine(event) : humanLine(event, colours);
}

function makeSink(format: LogFormat, colours: boolean, descriptor: number): Sink {
  const describeLoss = (lines: number) =>
    toLine(format, colours, {
      level: "warn",
      target: LOG_TARGET,
      message: "Lost log lines: they came faster than they could be written",
      fields: { lines },
      time: new Date(),
    });
  return { format, colours, output: new LogOutput(descriptor, describeLoss) };
}

/** Integers and booleans stay what they are, everything else is text (spec 05, section 2.3). */
function scalar(value: string | number | boolean): string | number | boolean {
  return typeof value === "number" && !Number.isInteger(value) ? String(value) : value;
}

function camelCase(name: string): string {
  return name.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
}

/** Quoted where it would otherwise not be one word. */
function quoted(text: string): string {
  return /^[\w.:/@[\]-]+$/.test(text) ? text : printable(JSON.stringify(text));
}

/** Texts of others must not forge lines or drive the terminal. */
function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g, " ");
}
