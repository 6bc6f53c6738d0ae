// Builds the project: assembly/ to build/engine.wasm and its like (AssemblyScript), everything else to dist/ (TypeScript). The
// engines are one source with different kernels of the AEAD: see scripts/generate-aead.mjs.
// Each half is skipped while its inputs are older than its output, so that `npm test` and `npm run demo` start fast.

import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { compileEngine } from "./compile-engine.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
process.chdir(root);

/** Newest modification time (ms) of the files below `paths`. */
function newest(paths) {
  let time = 0;
  for (const path of paths) {
    if (!existsSync(path)) continue;
    const stat = statSync(path);
    if (stat.isDirectory()) time = Math.max(time, newest(readdirSync(path).map((name) => `${path}/${name}`)));
    time = Math.max(time, stat.mtimeMs);
  }
  return time;
}

function upToDate(stamp, inputs) {
  return existsSync(stamp) && statSync(stamp).mtimeMs > newest(inputs);
}

function run(script, args) {
  const result = spawnSync(process.execPath, [script, ...args], { stdio: "inherit" });
  if (result.status !== 0) {
    process.stderr.write(`build: ${script} failed\n`);
    process.exit(result.status ?? 1);
  }
}

const force = process.argv.includes("--force");
mkdirSync("build", { recursive: true });

const assemblyInputs = [
  "assembly",
  "asconfig.json",
  "scripts/generate-aead.mjs",
  ...["companions", "lanes", "pair", "statements"].map((part) => `scripts/aead-${part}.mjs`),
  "scripts/compile-engine.mjs",
  "node_modules/assemblyscript/package.json",
];
const engines = ["", "-stored", "-wide", "-wide-stored"].map((set) => ({ set, file: `build/engine${set}.wasm` }));
if (force || !engines.every(({ file }) => upToDate(file, assemblyInputs))) {
  run("scripts/generate-aead.mjs", []);
  for (const { set, file } of engines) await compileEngine(file, set);
}

const typescriptInputs = ["src", "test", "bench", "scripts", "assembly", "tsconfig.json", "package-lock.json"];
if (force || !upToDate("build/typescript.stamp", typescriptInputs)) {
  rmSync("dist", { recursive: true, force: true });
  run("node_modules/typescript/bin/tsc", ["-p", "tsconfig.json"]);
  writeFileSync("build/typescript.stamp", "");
}
