// Builds the project: assembly/ to build/engine.wasm (AssemblyScript), everything else to dist/ (TypeScript).
// Each half is skipped while its inputs are older than its output, so that `npm test` and `npm run demo` start fast.

import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

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

function run(tool, args) {
  const result = spawnSync(process.execPath, [`node_modules/${tool}`, ...args], { stdio: "inherit" });
  if (result.status !== 0) {
    process.stderr.write(`build: ${tool} failed\n`);
    process.exit(result.status ?? 1);
  }
}

const force = process.argv.includes("--force");
mkdirSync("build", { recursive: true });

const assemblyInputs = ["assembly", "asconfig.json", "node_modules/assemblyscript/package.json"];
if (force || !upToDate("build/engine.wasm", assemblyInputs)) {
  run("assemblyscript/bin/asc.js", ["--target", "release"]);
}

const typescriptInputs = ["src", "test", "bench", "scripts", "assembly", "tsconfig.json", "package-lock.json"];
if (force || !upToDate("build/typescript.stamp", typescriptInputs)) {
  rmSync("dist", { recursive: true, force: true });
  run("typescript/bin/tsc", ["-p", "tsconfig.json"]);
  writeFileSync("build/typescript.stamp", "");
}
