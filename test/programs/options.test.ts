import assert from "node:assert/strict";
import { test } from "node:test";
import { Command, CommanderError, type Option } from "commander";
import { parseDuration } from "../../src/programs/common/duration.js";
import {
  apiUrlOption,
  durationArgument,
  logFormatOption,
  messageOf,
  socketAddressArgument,
  workersOption,
} from "../../src/programs/common/options.js";

/** What a command with one option makes of arguments and one variable. */
function parse(option: Option, args: readonly string[], variable?: string): Record<string, unknown> {
  const command = new Command()
    .addOption(option)
    .exitOverride()
    .configureOutput({ writeErr: () => undefined });
  const name = option.envVar;
  if (name === undefined || variable === undefined) return command.parse(args, { from: "user" }).opts();
  const before = process.env[name];
  process.env[name] = variable;
  try {
    return command.parse(args, { from: "user" }).opts();
  } finally {
    if (before === undefined) delete process.env[name];
    else process.env[name] = before;
  }
}

test("spec 05, 15.1: --api-url overrides the default, and the variable; both ways of writing it", () => {
  assert.deepEqual(parse(apiUrlOption(), []), { apiUrl: "wss://api.firezone.dev" });
  assert.deepEqual(parse(apiUrlOption(), ["--api-url", "wss://api.firez.one"]), { apiUrl: "wss://api.firez.one" });
  const both = parse(apiUrlOption(), ["--api-url=wss://one.example.com"], "wss://two.example.com");
  assert.deepEqual(both, { apiUrl: "wss://one.example.com" });
  assert.deepEqual(parse(apiUrlOption(), [], "wss://two.example.com"), { apiUrl: "wss://two.example.com" });
});

test("spec 05, 1.3: a variable that is set but empty is an error for options with a type", () => {
  const address = logFormatOption().env("WIRELANE_TEST_ADDRESS").argParser(socketAddressArgument);
  const duration = logFormatOption().env("WIRELANE_TEST_DURATION").argParser(durationArgument);
  for (const option of [apiUrlOption(), logFormatOption(), address, duration])
    assert.throws(() => parse(option, [], ""), CommanderError, option.envVar);
});

test("spec 05, 1.3: options with a type refuse other values", () => {
  for (const workers of ["0", "9", "1.5", "two", ""])
    assert.throws(() => parse(workersOption(), ["--workers", workers]), CommanderError);
  assert.deepEqual(parse(workersOption(), ["-w", "8"]), { workers: 8 });
  assert.throws(() => parse(logFormatOption(), ["--log-format", "xml"]), CommanderError);
  assert.throws(() => socketAddressArgument("localhost:80"));
  assert.equal(socketAddressArgument("[2001:db8::1]:8080").toString(), "[2001:db8::1]:8080");
});

test("spec 05, 1.3: durations as people write them", () => {
  const minute = 60_000;
  const examples = {
    "5m": 5 * minute,
    "1h": 60 * minute,
    "30d": 30 * 24 * 60 * minute,
    "1h 30m": 90 * minute,
    "1h30min 15s": 90 * minute + 15_000,
    "2 hours": 120 * minute,
    "1w": 7 * 24 * 60 * minute,
    "1M": 30.44 * 24 * 60 * minute,
    "1month": 30.44 * 24 * 60 * minute,
    "1y": 365.25 * 24 * 60 * minute,
    "250ms": 250,
    "1500us": 1.5,
    "500000ns": 0.5,
    "0s": 0,
  };
  for (const [text, milliseconds] of Object.entries(examples))
    assert.ok(Math.abs((parseDuration(text) ?? Number.NaN) - milliseconds) < 1e-6, text);
  for (const text of ["", " ", "5", "m", "5x", "-5m", "1.5h", "5m,", "5 m 3", "1H", "constructor", "1constructor"])
    assert.equal(parseDuration(text), undefined, text);
  assert.equal(parseDuration(`${"9".repeat(40)}y`), undefined);
});

test("spec 05, 9.2: an error and its causes are on one line", () => {
  const cause = new Error("connection refused");
  assert.equal(messageOf(new Error("cannot connect", { cause })), "cannot connect: connection refused");
  assert.equal(messageOf(new Error("a: connection refused", { cause })), "a: connection refused");
  assert.equal(messageOf("text"), "text");
});
