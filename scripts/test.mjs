// Runs the tests with Node's own runner: `npm test` runs everything that this machine can run,
// `npm test -- stun ice` only the files whose path contains one of the words.

import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const words = process.argv.slice(2).filter((argument) => !argument.startsWith("-"));
const flags = process.argv.slice(2).filter((argument) => argument.startsWith("-"));

function* testFiles(directory) {
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) yield* testFiles(path);
    else if (entry.name.endsWith(".test.js")) yield path;
  }
}

const files = [...testFiles(join(root, "dist/test"))]
  .filter((file) => words.length === 0 || words.some((word) => file.includes(word)))
  .sort();
if (files.length === 0) {
  process.stderr.write(`no test file matches ${words.join(" ")}\n`);
  process.exit(2);
}

// Where scripts/install-test-peers.sh puts the programs that the interoperation tests run against.
const cache = process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache");
const defaultPeers = join(cache, "wirelane/peers/bin");

// Tests in namespaces share the machine's two cores with what they measure: one file at a time.
const result = spawnSync(
  process.execPath,
  ["--test", "--test-concurrency=1", "--test-reporter=spec", ...flags, ...files],
  { stdio: "inherit", cwd: root, env: { WIRELANE_TEST_PEERS: defaultPeers, ...process.env } },
);
process.exit(result.status ?? 1);
