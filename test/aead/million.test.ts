// Both builds of the engine on every Node version that is supported: a million random comparisons with node:crypto each, and the published
// vectors. Versions other than the installed one come from the npm registry.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { findNode } from "../../bench/node-binary.js";
import { ENGINES } from "../support/aead-module.js";

/** Major versions; the one that runs the tests is among them or comes in addition. */
const VERSIONS = ["20", "22", "24", "26"];

const MILLION = fileURLToPath(new URL("../support/million-main.js", import.meta.url));
const VECTORS = fileURLToPath(new URL("./vectors.test.js", import.meta.url));

const run = promisify(execFile);

/** The binary of a version, or why there is none. */
function binaryOf(version: string): { readonly file: string } | { readonly reason: string } {
  try {
    return { file: findNode(version, () => undefined).file ?? process.execPath };
  } catch (error) {
    return { reason: error instanceof Error ? error.message : String(error) };
  }
}

for (const version of VERSIONS) {
  const binary = binaryOf(version);
  const skip = "reason" in binary && binary.reason;
  const file = "file" in binary ? binary.file : "";
  // Where the tests themselves run under a reporter of Node's, their children must not think that they do.
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;

  test(`Node ${version}: a million random comparisons of each build with node:crypto`, { skip }, async (t) => {
    const compare = async (engine: string) => {
      const { stdout } = await run(file, [MILLION, engine], { env });
      t.diagnostic(`${engine}: ${stdout.trim()}`);
    };
    // Both at once: there are two processors.
    await Promise.all(ENGINES.map(compare));
  });

  test(`Node ${version}: the published vectors`, { skip }, async () => {
    const { stdout } = await run(file, ["--test-reporter=tap", VECTORS], { env, maxBuffer: 16 * 1024 * 1024 });
    assert.match(stdout, /^# fail 0$/m);
  });
}
