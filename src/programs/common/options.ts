// Options that several programs have (spec 05, sections 1.3, 6.1 and 9.1), and how a program tells of errors.

import { availableParallelism } from "node:os";
import { InvalidArgumentError, Option } from "commander";
import { SocketAddress } from "../../base/address.js";
import type { Duration } from "../../base/time.js";
import { parseDuration } from "./duration.js";

/** The portal when nobody says otherwise (spec 05, section 1.2). */
const DEFAULT_API_URL = "wss://api.firezone.dev";
/** Exit status of a bad command line (spec 05, section 1.3). */
export const USAGE_ERROR = 2;
/** Most datapath threads (src/engine). */
const MAX_WORKERS = 8;

/** `--api-url`. */
export function apiUrlOption(): Option {
  return new Option("-u, --api-url <url>", "the portal")
    .env("FIREZONE_API_URL")
    .argParser(urlArgument)
    .default(DEFAULT_API_URL);
}

/** `--firezone-name`. */
export function firezoneNameOption(): Option {
  return new Option("-n, --firezone-name <name>", "name to show in the portal (default: the host's name)").env(
    "FIREZONE_NAME",
  );
}

/** `--firezone-id`. */
export function firezoneIdOption(): Option {
  return new Option("-i, --firezone-id <id>", "id of this device (default: generated and kept)").env("FIREZONE_ID");
}

/** `--log-format`. */
export function logFormatOption(): Option {
  return new Option("--log-format <format>", "how log lines look on standard output")
    .env("FIREZONE_LOG_FORMAT")
    .choices(["human", "json"])
    .default("human");
}

/**
 * Datapath threads where nobody says how many: what the main thread leaves of the processors, at most four. Those that have nothing to do sleep;
 * on two processors one thread for both directions is faster than two (design, section 1.2).
 */
function defaultWorkers(): number {
  return Math.max(1, Math.min(4, availableParallelism() - 1));
}

/** `--workers`. */
export function workersOption(): Option {
  return new Option("-w, --workers <number>", "datapath threads; one less than the processors, at most 4, unless given")
    .argParser(workersArgument)
    .default(defaultWorkers());
}

/** An address with port on a command line. An empty variable is an error, as for every option with a type (spec 05, section 1.3). */
export function socketAddressArgument(text: string): SocketAddress {
  const address = SocketAddress.parse(text);
  if (address === undefined) throw new InvalidArgumentError('not an address with port: write it as "127.0.0.1:8080".');
  return address;
}

/** A duration on a command line, in milliseconds. */
export function durationArgument(text: string): Duration {
  const duration = parseDuration(text);
  if (duration === undefined) throw new InvalidArgumentError('not a duration: write it as "30m" or "1h 30m".');
  return duration;
}

/** Which schemes will do is for the login URL to say. */
function urlArgument(text: string): string {
  if (!URL.canParse(text)) throw new InvalidArgumentError('not a URL: write it as "wss://portal.example.com".');
  return text;
}

function workersArgument(text: string): number {
  const workers = Number(text);
  if (!Number.isInteger(workers) || workers < 1 || workers > MAX_WORKERS)
    throw new InvalidArgumentError(`not a number from 1 to ${MAX_WORKERS}.`);
  return workers;
}

/** An error and its causes on one line. */
export function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { message, cause } = error;
  if (!(cause instanceof Error) || message.includes(cause.message)) return message;
  return `${message}: ${messageOf(cause)}`;
}
