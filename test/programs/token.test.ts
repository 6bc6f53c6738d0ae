import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chmodSync, chownSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { inspect } from "node:util";
import { Token, TokenError, type TokenProblem, takeToken } from "../../src/programs/common/token.js";
import { temporaryDirectory } from "../support/temporary-directory.js";

const rootSkip = process.getuid?.() === 0 ? false : "needs root: token files belong to it";

/** What goes wrong, and that the message names the place. */
function refused(problem: TokenProblem, place: string) {
  return (error: unknown) => error instanceof TokenError && error.problem === problem && error.message.includes(place);
}

test("spec 05, 15.4: the variable wins over the file and is gone afterwards; space around the file's token is ignored", {
  skip: rootSkip,
}, (t) => {
  const path = join(temporaryDirectory(t), "token");
  writeFileSync(path, "\n from-file \n", { mode: 0o400 });
  const environment: NodeJS.ProcessEnv = { FIREZONE_TOKEN: "from-variable", OTHER: "stays" };
  assert.equal(takeToken(environment, { path }).reveal(), "from-variable");
  assert.deepEqual(environment, { OTHER: "stays" });
  assert.equal(takeToken(environment, { path }).reveal(), "from-file");
});

test("spec 05, 15.4: the variable is gone from the real process environment too, and from children's", () => {
  process.env["FIREZONE_TOKEN"] = "secret-of-this-test";
  takeToken(process.env, {});
  assert.ok(!("FIREZONE_TOKEN" in process.env));
  assert.ok(!execFileSync("env", { encoding: "utf8" }).includes("secret-of-this-test"));
});

test("spec 05, 15.5: 0400 and 0600 are accepted, every bit of 0177 is refused", { skip: rootSkip }, (t) => {
  const path = join(temporaryDirectory(t), "token");
  writeFileSync(path, "token");
  for (const mode of [0o400, 0o600]) {
    chmodSync(path, mode);
    assert.equal(takeToken({}, { path }).reveal(), "token");
  }
  for (const bit of [0o100, 0o040, 0o020, 0o010, 0o004, 0o002, 0o001]) {
    chmodSync(path, 0o600 | bit);
    assert.throws(() => takeToken({}, { path }), refused("mode", path), bit.toString(8));
  }
});

test("spec 05, 15.5: other owners are refused, also behind a symbolic link", { skip: rootSkip }, (t) => {
  const directory = temporaryDirectory(t);
  const path = join(directory, "token");
  const link = join(directory, "link");
  writeFileSync(path, "token", { mode: 0o600 });
  symlinkSync(path, link);
  assert.equal(takeToken({}, { path: link }).reveal(), "token");
  chownSync(path, 65534, 0);
  assert.throws(() => takeToken({}, { path }), refused("user", path));
  assert.throws(() => takeToken({}, { path: link }), refused("user", link));
  chownSync(path, 0, 65534);
  assert.throws(() => takeToken({}, { path }), refused("group", path));
});

test("spec 05, 6.2: no token, an empty one and an empty file are the same error, which names variable and path", (t) => {
  const path = join(temporaryDirectory(t), "token");
  for (const environment of [{}, { FIREZONE_TOKEN: "" }, { FIREZONE_TOKEN: " " }])
    assert.throws(
      () => takeToken(environment, { path }),
      (error) => refused("absent", path)(error) && refused("absent", "FIREZONE_TOKEN")(error),
    );
  if (rootSkip === false) {
    writeFileSync(path, "\n", { mode: 0o400 });
    assert.throws(() => takeToken({}, { path }), refused("absent", path));
  }
});

test("spec 05, 6.2: what is no regular file or no UTF-8 text is refused", { skip: rootSkip }, (t) => {
  const directory = temporaryDirectory(t);
  const path = join(directory, "token");
  assert.throws(() => takeToken({}, { path: directory }), refused("not-a-file", directory));
  writeFileSync(path, Buffer.from([0x74, 0xff]), { mode: 0o400 });
  assert.throws(() => takeToken({}, { path }), refused("encoding", path));
  const pipe = join(directory, "pipe");
  execFileSync("mkfifo", ["-m", "600", pipe]);
  assert.throws(() => takeToken({}, { path: pipe }), refused("not-a-file", pipe));
});

test("spec 05, 16: a gateway takes the argument, the variable, then the credential of the service manager", (t) => {
  const directory = temporaryDirectory(t);
  const environment = () => ({ FIREZONE_TOKEN: "variable", CREDENTIALS_DIRECTORY: directory });
  writeFileSync(join(directory, "FIREZONE_TOKEN"), "credential\n", { mode: 0o440 });
  const sources = { credential: true };
  assert.equal(takeToken(environment(), { ...sources, argument: "argument" }).reveal(), "argument");
  assert.equal(takeToken(environment(), sources).reveal(), "variable");
  assert.equal(takeToken({ CREDENTIALS_DIRECTORY: directory }, sources).reveal(), "credential");
  // Clients do not look for one.
  assert.throws(() => takeToken({ CREDENTIALS_DIRECTORY: directory }, {}), refused("absent", "FIREZONE_TOKEN"));
  const empty = join(directory, "empty");
  mkdirSync(empty);
  assert.throws(() => takeToken({ CREDENTIALS_DIRECTORY: empty }, sources), refused("absent", "FIREZONE_TOKEN"));
});

test("spec 05, 2.1: a token does not print", () => {
  const token = new Token("hush");
  for (const text of [`${token}`, JSON.stringify({ token }), inspect({ token }, { showHidden: true, depth: 9 })]) {
    assert.ok(!text.includes("hush"), text);
    assert.ok(text.includes("[secret]"), text);
  }
});
