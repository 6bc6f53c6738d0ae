import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { temporaryDirectory } from "../support/temporary-directory.js";

const MAIN = fileURLToPath(new URL("../../src/programs/main.js", import.meta.url));
/** Nothing that a program could find on this machine instead. */
const NOTHING = { FIREZONE_ID: "id", FIREZONE_TOKEN_PATH: "/nonexistent/token" };

/** Runs the executable with nothing but these variables. */
function wirelane(args: readonly string[], variables: Readonly<Record<string, string>> = {}) {
  const env = { PATH: process.env["PATH"], ...NOTHING, ...variables };
  const { status, stdout, stderr } = spawnSync(process.execPath, [MAIN, ...args], {
    env,
    encoding: "utf8",
    timeout: 20_000,
  });
  return { status, stdout, stderr };
}

test("spec 05, 15.6: --check exits with 0 before connecting, and logs to the directory too (15.1)", (t) => {
  const logDir = join(temporaryDirectory(t), "logs");
  const url = "wss://portal.example.com";
  const { status, stdout } = wirelane(["client", "--check", "--log-dir", logDir, "--api-url", url], {
    FIREZONE_TOKEN: "hush-hush",
  });
  assert.equal(status, 0);
  assert.match(stdout, /INFO firezone_headless_client: Check passed/);
  assert.ok(!stdout.includes("hush-hush"));
  assert.equal(readdirSync(logDir).length, 2);
});

test("spec 05, 15.6: --check exits with 1 without token or with an unsupported scheme, and says why", () => {
  const noToken = wirelane(["client", "--check"]);
  assert.equal(noToken.status, 1);
  assert.match(noToken.stderr, /FIREZONE_TOKEN.*\/nonexistent\/token/);
  const scheme = wirelane(["client", "--check", "--api-url", "ftp://portal.example.com"], {
    FIREZONE_TOKEN: "hush-hush",
  });
  assert.equal(scheme.status, 1);
  assert.match(scheme.stderr, /ftp/);
  assert.ok(!(scheme.stderr + scheme.stdout).includes("hush-hush"));
});

test("spec 05, 2.1: a RUST_LOG that cannot be read is an error with status 1 that names the part", () => {
  for (const program of ["client", "gateway"]) {
    const { status, stderr } = wirelane([program], { FIREZONE_TOKEN: "x", RUST_LOG: "info,wire=loud" });
    assert.equal(status, 1);
    assert.match(stderr, /RUST_LOG: "wire=loud"/);
  }
});

test("spec 05, 1.3: help and version exit with 0; a bad command line with 1 for the client, 2 for the gateway", () => {
  for (const program of ["client", "gateway"]) {
    for (const flag of ["-h", "--help", "-V", "--version"]) {
      const { status, stdout, stderr } = wirelane([program, flag]);
      assert.deepEqual([status, stderr], [0, ""], `${program} ${flag}`);
      assert.notEqual(stdout, "");
    }
    const expected = program === "client" ? 1 : 2;
    for (const args of [["--nonsense"], ["--api-url="], ["--max-partition-time", "soon"]])
      assert.equal(
        wirelane([program, ...args], { FIREZONE_TOKEN: "x" }).status,
        expected,
        `${program} ${args.join(" ")}`,
      );
  }
  assert.equal(wirelane(["client", "--token", "x"]).status, 1);
});

test("--workers is one option: client, gateway and wg take 1 to 8, and say so otherwise", () => {
  for (const args of [["client"], ["gateway", "token"], ["wg", "wl-none"]])
    for (const workers of ["0", "9", "1.5", "many"]) {
      const { status, stderr } = wirelane([...args, "--workers", workers]);
      assert.notEqual(status, 0);
      assert.match(stderr, /'-w, --workers <number>' argument '\S+' is invalid. not a number from 1 to 8\./, args[0]);
    }
});
