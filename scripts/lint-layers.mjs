// Checks the layering of ARCHITECTURE.md: a folder of src/ imports only the folders listed for it, and the sans-IO folders
// import no `node:` module and touch no clock, timer or global randomness. Benchmarks import no tests: these may change for their own reasons,
// figures should not. Prints one line per violation; exits 1 if any.

import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));

/** Folder of src/ → folders it may import, besides itself and `base`. `assembly` stands for the constants shared with the engine. */
const mayImport = {
  base: [],
  packet: [],
  stun: [],
  wireguard: [],
  ice: ["stun"],
  turn: ["stun"],
  connection: ["ice", "turn", "wireguard", "stun"],
  dns: ["packet"],
  tunnel: ["connection", "dns", "packet"],
  engine: ["assembly"],
  system: [],
  datapath: ["engine", "system", "assembly"],
  portal: [],
  uapi: ["wireguard"],
  programs: ["*"],
};

/** Folders without IO: time, randomness and cryptographic primitives come in as arguments. */
const sansIo = new Set(["base", "packet", "stun", "wireguard", "ice", "turn", "connection", "dns", "tunnel"]);

const forbiddenGlobals = [
  [/\bDate\.now\b|\bnew Date\b/, "reads the wall clock"],
  [/\bperformance\.now\b|\bprocess\.hrtime\b/, "reads the clock"],
  [/\bset(Timeout|Interval|Immediate)\s*\(/, "starts a timer"],
  [/\bMath\.random\b|\bcrypto\.getRandomValues\b/, "uses global randomness"],
];

const violations = [];

function* sources(directory) {
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) yield* sources(path);
    else if (entry.name.endsWith(".ts")) yield path;
  }
}

/** The source text without comments, line structure kept. */
function withoutComments(text) {
  return text
    .replace(/\/\*[\s\S]*?\*\//g, (comment) => comment.replace(/[^\n]/g, " "))
    .replace(/(^|[^:"'`])\/\/[^\n]*/g, "$1");
}

/** What the code of `file` imports: names of modules, or paths from the project's root, in parts. */
function* importsOf(file, code) {
  for (const match of code.matchAll(/(?:from|import)\s*\(?\s*["']([^"']+)["']/g)) {
    const specifier = match[1];
    const line = code.slice(0, match.index).split("\n").length;
    const target = specifier.startsWith(".") ? relative(root, resolve(dirname(file), specifier)).split("/") : undefined;
    yield { specifier, line, target };
  }
}

for (const file of sources(join(root, "bench"))) {
  for (const { line, target } of importsOf(file, withoutComments(readFileSync(file, "utf8"))))
    if (target?.[0] === "test") violations.push(`${relative(root, file)}:${line}: bench must not import test`);
}

for (const file of sources(join(root, "src"))) {
  const name = relative(root, file);
  const folder = relative(join(root, "src"), file).split("/")[0];
  const allowed = mayImport[folder];
  if (allowed === undefined) {
    violations.push(`${name}: folder src/${folder} is not in the layer table`);
    continue;
  }
  const code = withoutComments(readFileSync(file, "utf8"));
  const lines = code.split("\n");
  for (const { specifier, line, target } of importsOf(file, code)) {
    if (specifier.startsWith("node:")) {
      if (sansIo.has(folder)) violations.push(`${name}:${line}: sans-IO layer ${folder} imports ${specifier}`);
      continue;
    }
    if (target === undefined) continue;
    const layer = target[0] === "src" ? target[1] : target[0];
    if (layer === folder || layer === "base" || allowed.includes(layer) || allowed.includes("*")) continue;
    violations.push(`${name}:${line}: ${folder} must not import ${layer}`);
  }
  if (sansIo.has(folder)) {
    for (const [index, text] of lines.entries()) {
      for (const [pattern, what] of forbiddenGlobals) {
        if (pattern.test(text)) violations.push(`${name}:${index + 1}: sans-IO layer ${folder} ${what}`);
      }
    }
  }
}

for (const violation of violations) process.stderr.write(`${violation}\n`);
if (violations.length > 0) process.exit(1);
