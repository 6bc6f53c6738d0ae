// Compiles the engine (assembly/) with one of the sets of kernels that scripts/generate-aead.mjs writes. The kernels come out as
// they were generated, untouched by AssemblyScript's optimizer (binaryen). It would gather each Poly1305 block that the
// generator spread between the lines of ChaCha20 into one expression, and repeat a rotation mask at each use; V8 from version 13
// on keeps that order, and makes the mask anew each time, which costs a third of the speed. V8 does all of the optimizing that
// the kernels need. So the program is compiled twice, with and without the optimizer, and the kernels are taken from the latter.

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { resolve } from "node:path";
import asc from "assemblyscript/asc";
import binaryen from "assemblyscript/binaryen";

/**
 * Compiles the engine with the generated kernels whose names end in `kernels` ("", "-wide" and so on) to `outFile`. The current
 * directory is the project's root.
 *
 * @throws Error when something does not compile.
 */
export async function compileEngine(outFile, kernels) {
  const optimized = await engineText(kernels, ["--optimizeLevel", "3"]);
  const plain = await engineText(kernels, ["--optimizeLevel", "0"]);
  writeFileSync(outFile, spliceKernels(optimized, plain));
}

/** The text of the engine with the generated kernels whose names end in `kernels`. */
async function engineText(kernels, options) {
  const readFile = (name, baseDir) => {
    const file = name.replace(/^build\/generated\/(aead-\w+)\.ts$/, `build/generated/$1${kernels}.ts`);
    const path = resolve(baseDir, file);
    return existsSync(path) ? readFileSync(path, "utf8") : null;
  };
  let text = "";
  const writeFile = (name, contents) => {
    if (name.endsWith(".wat")) text = contents;
  };
  const { error, stderr } = await asc.main(["--target", "release", "--textFile", "engine.wat", ...options], {
    readFile,
    writeFile,
  });
  process.stderr.write(stderr.toString());
  if (error) throw error;
  return text;
}

/** Functions whose names begin so are kernels. */
const KERNELS = "$build/generated/aead-kernels/";

/** The functions of a module's text, by name. */
function functionsOf(text) {
  return new Map(Array.from(text.matchAll(/^ \(func (\S+)[\s\S]*?^ \)\n/gm), ([body, name]) => [name, body]));
}

/** The values of constant globals: the optimizer would have put them in the place of `global.get`. */
function constantsOf(text) {
  const globals = text.matchAll(/^ \(global (\S+) (?:i32|i64) \(((?:i32|i64)\.const [^)]*)\)\)/gm);
  return new Map(Array.from(globals, ([, name, value]) => [name, value]));
}

/**
 * The binary of a module: `optimized`, with the kernels of `plain`. Both are texts of the same program.
 *
 * @throws Error when the optimizer moved a kernel into its caller, or when a kernel uses what the optimized program does not have.
 */
function spliceKernels(optimized, plain) {
  const constants = constantsOf(plain);
  const complete = (name, body) =>
    body.replace(/global\.get (\S+)/g, (_, global) => {
      const value = constants.get(global);
      if (value === undefined) throw new Error(`kernel ${name} uses ${global}, which is not constant`);
      return value;
    });
  const kernels = [...functionsOf(plain)].filter(([name]) => name.startsWith(KERNELS));
  const bodies = functionsOf(optimized);
  let text = optimized;
  let added = "";
  for (const [name, kernel] of kernels) {
    const body = bodies.get(name);
    if (body !== undefined) text = text.replace(body, () => complete(name, kernel));
    // What only kernels call may be gone from where they are replaced.
    else if (kernels.some(([_, caller]) => caller.includes(`call ${name}\n`))) added += complete(name, kernel);
    else throw new Error(`kernel ${name} is part of its caller`);
  }
  const module = binaryen.parseText(text.replace(/\)\s*$/, () => `${added})\n`));
  module.setFeatures(binaryen.Features.All);
  if (!module.validate()) throw new Error("the kernels do not fit into the optimized engine");
  const binary = module.emitBinary();
  module.dispose();
  return binary;
}
