import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createCipheriv, createHash } from "node:crypto";
import { describe, test } from "node:test";
import {
  AeadTrial,
  KNOWN_ANSWER,
  TRIAL_COUNTER,
  TRIAL_LENGTHS,
  trialKey,
  trialText,
} from "../../src/engine/aead-trial.js";
import { chooseBuild, enableRevectorization } from "../../src/engine/builds.js";
import { ENGINE_BUILDS } from "../../src/engine/module.js";

/** Node refuses options that its V8 does not have. */
const revectorizes = spawnSync(process.execPath, ["--experimental-wasm-revectorize", "--eval", ""]).status === 0;

test("the known answer of the trial is what node:crypto computes", () => {
  const hash = createHash("sha256");
  for (const i of TRIAL_LENGTHS.keys()) {
    const nonce = Buffer.alloc(12);
    nonce.writeBigUInt64LE(TRIAL_COUNTER + BigInt(i), 4);
    const cipher = createCipheriv("chacha20-poly1305", trialKey(), nonce, { authTagLength: 16 });
    hash.update(cipher.update(trialText(i)));
    cipher.final();
    hash.update(cipher.getAuthTag());
  }
  assert.equal(hash.digest("hex"), KNOWN_ANSWER);
});

describe("builds of the engine", () => {
  for (const build of ENGINE_BUILDS) {
    test(`the ${build} build passes its trial, before and after V8 compiles it well`, async () => {
      if (build === "wide") assert.equal(enableRevectorization(), revectorizes);
      const trial = await AeadTrial.create(build);
      assert.ok(trial.isRight());
      for (let i = 0; i < 2000; i++) trial.time();
      assert.ok(trial.isRight());
      assert.ok(trial.best > 0 && trial.best < 1e6, `${trial.best} ns`);
    });
  }

  test("a build is chosen for a reason, and once", async () => {
    const choice = await chooseBuild();
    assert.ok(ENGINE_BUILDS.includes(choice.build));
    assert.match(choice.reason, revectorizes ? /times as long/ : /no vectors of 256 bits/);
    assert.equal(await chooseBuild(), choice);
  });

  test("a build can be forced", async () => {
    for (const build of ENGINE_BUILDS) assert.equal((await chooseBuild(build)).build, build);
  });
});

test("WIRELANE_AEAD with a build that does not exist is an error that names the builds", () => {
  const main = new URL("../../src/programs/main.js", import.meta.url).pathname;
  const { status, stderr, stdout } = spawnSync(process.execPath, [main, "wg", "-f", "wlbuildtest"], {
    env: { ...process.env, WIRELANE_AEAD: "fast" },
    encoding: "utf8",
    timeout: 20_000,
  });
  assert.notEqual(status, 0);
  assert.match(stderr + stdout, /WIRELANE_AEAD is "fast", but must be one of narrow, wide/);
});
