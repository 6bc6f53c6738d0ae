import assert from "node:assert/strict";
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { openSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { createLog, humanLine, jsonLine, type LogEvent, type LogFormat } from "../../src/programs/common/log.js";
import { logFileName } from "../../src/programs/common/log-files.js";
import { temporaryDirectory } from "../support/temporary-directory.js";

const TIME = new Date("2024-08-27T10:11:12.123Z");
const EVENT: LogEvent = {
  level: "info",
  target: "connlib_client_shared::eventloop",
  message: "Firezone Started!",
  fields: {},
  time: TIME,
};
const LOG_MODULE = new URL("../../src/programs/common/log.js", import.meta.url).href;
const jqSkip = spawnSync("jq", ["--version"]).status === 0 ? false : "needs jq";

test("spec 05, 2.2: the line for people is that of the reference", () => {
  const line = "2024-08-27T10:11:12.123000Z  INFO connlib_client_shared::eventloop: Firezone Started!";
  assert.equal(humanLine(EVENT, false), line);
  const fields = { id: "a-1", reason: "no such file", tries: 3, gone: undefined };
  assert.equal(
    humanLine({ ...EVENT, level: "error", fields }, false),
    `${line.replace(" INFO", "ERROR")} id=a-1 reason="no such file" tries=3`,
  );
});

test("spec 05, 2.2: what others say cannot forge a line or drive the terminal", () => {
  const hostile = "x\n2024 ERROR \u001b[2J\u009b2J\u2028";
  const line = humanLine({ ...EVENT, message: hostile, fields: { name: hostile } }, false);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
  assert.doesNotMatch(line, /[\u0000-\u001f\u007f-\u009f\u2028]/);
});

test("spec 05, 15.40: keys of the JSON line are in the order of section 2.3, names in camel case", () => {
  const line = jsonLine({ ...EVENT, fields: { z_last: 1.5, git_version: "1.2", arch: "x86_64", up: true, n: 7 } });
  assert.equal(
    line,
    '{"time":"2024-08-27T10:11:12.123Z","target":"connlib_client_shared::eventloop","severity":"INFO",' +
      '"arch":"x86_64","gitVersion":"1.2","message":"Firezone Started!","n":7,"up":true,"zLast":"1.5"}',
  );
});

test("spec 05, 15.40: WARN appears as WARNING, TRACE as DEBUG; a field called severity overrides", () => {
  const severities = (["error", "warn", "info", "debug", "trace"] as const).map(
    (level) => JSON.parse(jsonLine({ ...EVENT, level })).severity,
  );
  assert.deepEqual(severities, ["ERROR", "WARNING", "INFO", "DEBUG", "DEBUG"]);
  assert.equal(JSON.parse(jsonLine({ ...EVENT, fields: { severity: "NOTICE" } })).severity, "NOTICE");
});

/** Logs something of every level and reads back what was written. */
async function written(t: TestContext, format: LogFormat, directives?: string): Promise<string> {
  const path = join(temporaryDirectory(t), "out");
  const log = createLog({ format, directives, destination: openSync(path, "a") });
  const target = log.target("firezone_tunnel");
  for (const level of ["error", "warn", "info", "debug", "trace"] as const)
    target[level](`at ${level}`, { level_of: level });
  assert.equal(target.isEnabled("debug"), directives === "trace");
  await log.close();
  target.error("too late");
  assert.equal(log.lost, 1);
  return readFileSync(path, "utf8");
}

test("spec 05, 15.40: each JSON line parses and has time, target and severity; the filter holds", async (t) => {
  const text = await written(t, "json", "trace");
  assert.ok(text.endsWith("\n"));
  const lines = text.trimEnd().split("\n");
  assert.equal(lines.length, 5);
  for (const line of lines) {
    const { time, target, severity } = JSON.parse(line);
    assert.match(time, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z$/);
    assert.equal(target, "firezone_tunnel");
    assert.ok(["ERROR", "WARNING", "INFO", "DEBUG"].includes(severity));
  }
  assert.equal((await written(t, "json")).trimEnd().split("\n").length, 3);
});

test("spec 05, 2.2: no colours except on a terminal", async (t) => {
  const text = await written(t, "human", "trace");
  assert.ok(!text.includes("\u001b"));
  assert.match(text, / {2}WARN firezone_tunnel: at warn level_of=warn\n/);
  assert.ok(humanLine(EVENT, true).includes("\u001b[32m INFO\u001b[0m"));
});

test("spec 05, 15.40: a pair of files, mode 0640 whatever the umask, in a directory that is made", async (t) => {
  const logDir = join(temporaryDirectory(t), "made", "here");
  const umask = process.umask(0o077);
  t.after(() => process.umask(umask));
  const destination = openSync("/dev/null", "a");
  const log = createLog({ format: "human", directives: undefined, logDir, destination });
  log.target("firezone_headless_client").warn("written twice", { n: 1 });
  await log.close();
  const names = readdirSync(logDir).sort();
  assert.equal(names.length, 2);
  const stems = names.map((name) => name.replace(/\.[a-z]+$/, ""));
  assert.match(stems[0] ?? "", /^connlib\.\d{4}(-\d\d){5}$/);
  assert.equal(stems[0], stems[1]);
  assert.deepEqual(names, [`${stems[0]}.jsonl`, `${stems[0]}.log`]);
  for (const name of names) assert.equal(statSync(join(logDir, name)).mode & 0o777, 0o640);
  const [json = "", human = ""] = names.map((name) => readFileSync(join(logDir, name), "utf8"));
  assert.equal(JSON.parse(json).severity, "WARNING");
  assert.match(human, /Z {2}WARN firezone_headless_client: written twice n=1\n$/);
  assert.equal(logFileName("log", TIME), "connlib.2024-08-27-10-11-12.log");
});

test("spec 05, 15.40: the documented jq line works on standard output and on .jsonl files", { skip: jqSkip }, (t) => {
  const logDir = temporaryDirectory(t);
  const script = `
    import { createLog } from ${JSON.stringify(LOG_MODULE)};
    const log = createLog({ format: "json", directives: undefined, logDir: ${JSON.stringify(logDir)} });
    log.target("a").warn("first");
    log.target("a").info("second");
    log.close();`;
  const output = execFileSync(process.execPath, ["--input-type=module", "-e", script], { encoding: "utf8" });
  const [file = ""] = readdirSync(logDir).filter((name) => name.endsWith(".jsonl"));
  for (const input of [output, readFileSync(join(logDir, file), "utf8")]) {
    const text = execFileSync("jq", ["-r", '"\\(.time) \\(.severity) \\(.message)"'], { input, encoding: "utf8" });
    assert.match(text, /^\S+Z WARNING first\n\S+Z INFO second\n$/);
  }
});

test("spec 05, 2.4: a log whose reader is gone neither ends nor blocks the program", async (t) => {
  const script = `
    import { createLog } from ${JSON.stringify(LOG_MODULE)};
    const log = createLog({ format: "json", directives: undefined });
    const target = log.target("a");
    target.info("first");
    process.stdin.once("data", () => {
      target.info("nobody reads this");
      setTimeout(() => {
        target.info("nor this");
        void log.close().then(() => { process.stderr.write("lost " + log.lost); process.exitCode = 7; process.stdin.destroy(); });
      }, 50);
    });`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", script], { stdio: "pipe" });
  t.after(() => child.kill("SIGKILL"));
  const ended = new Promise<number | null>((resolve) => child.once("close", resolve));
  let errors = "";
  child.stderr.on("data", (chunk: Buffer) => {
    errors += chunk.toString();
  });
  child.stdout.once("data", () => {
    child.stdout.destroy();
    child.stdin.write("go\n");
  });
  assert.equal(await ended, 7);
  assert.equal(errors, "lost 2");
});

test("spec 05, 2.4: lines that find the queue full are dropped and counted, and the log says so", async (t) => {
  const path = join(temporaryDirectory(t), "out");
  const log = createLog({ format: "json", directives: undefined, destination: openSync(path, "a") });
  const text = "x".repeat(64 * 1024);
  for (let n = 0; n < 40; n += 1) log.target("a").info(text);
  const { lost } = log;
  assert.ok(lost > 0 && lost < 40, String(lost));
  while (!readFileSync(path, "utf8").includes("Lost log lines")) await new Promise(setImmediate);
  await log.close();
  const lines = readFileSync(path, "utf8").trimEnd().split("\n");
  assert.equal(lines.length, 40 - lost + 1);
  assert.equal(JSON.parse(lines.at(-1) ?? "").lines, lost);
});

test("spec 05, 2.4: a full disk does not end the program; what is lost is counted", async () => {
  const log = createLog({ format: "json", directives: undefined, destination: openSync("/dev/full", "a") });
  log.target("a").info("first");
  await log.close();
  log.target("a").info("second");
  await log.close();
  assert.equal(log.lost, 2);
});
