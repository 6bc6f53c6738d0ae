// Which build of the packet engine to use. They are one program with different kernels of the AEAD (scripts/generate-aead.mjs):
//
//   narrow   vectors of 128 bits; good everywhere
//   wide     pairs of them, which V8 12 and later merges into vectors of 256 bits when its revectorization is switched on, which this
//            file does; up to twice as fast then, and slow otherwise
//
// Whether it pays is known only after measuring, and nobody should trust an experimental compiler unseen: so both are checked
// against known answers and timed when the program starts, which takes some dozens of milliseconds.

import { setFlagsFromString } from "node:v8";
import { AeadTrial } from "./aead-trial.js";
import type { EngineBuild } from "./module.js";

/** What was chosen, and why. */
export interface BuildChoice {
  readonly build: EngineBuild;
  /** In words: for the log. */
  readonly reason: string;
}

/** First major version of V8 that has the option below, if it was built with it. */
const REVECTORIZING_V8 = 12;
const REVECTORIZATION = "experimental-wasm-revectorize";
/** What Node says about how its V8 was built. */
const BUILT_WITH = "v8_enable_wasm_simd256_revec";

/** How long two builds are timed after V8 compiled them well, in milliseconds, */
const TIMING = 20;
/** and how long that may take: 25 ms on an idle machine. */
const TIMING_LIMIT = 1000;
/** How much less time the wide build must take to be chosen: less is noise. */
const WORTHWHILE = 0.95;

/** Switches on V8's revectorization for all threads of the process; false where there is none. Before modules are compiled. */
export function enableRevectorization(): boolean {
  if (!hasRevectorization()) return false;
  setFlagsFromString(`--${REVECTORIZATION}`);
  return true;
}

/** V8 writes to the standard error about an option that it does not have, so it is not tried: the first Node 22 has a V8 12 built without. */
function hasRevectorization(): boolean {
  const major = Number.parseInt(process.versions.v8, 10);
  if (major !== REVECTORIZING_V8) return major > REVECTORIZING_V8;
  return new Map(Object.entries(process.config.variables)).get(BUILT_WITH) === 1;
}

/**
 * The build to use in this process. Everything that is compiled later is compiled under the same switches as in the trial.
 *
 * @param forced - a build to use whatever the timing says.
 * @throws Error when a build that must be used gives wrong answers, or was not built.
 */
export function chooseBuild(forced?: EngineBuild): Promise<BuildChoice> {
  const known = choices.get(forced);
  if (known !== undefined) return known;
  const choice = choose(forced);
  choices.set(forced, choice);
  return choice;
}

/** One trial per process is enough. */
const choices = new Map<EngineBuild | undefined, Promise<BuildChoice>>();

async function choose(forced: EngineBuild | undefined): Promise<BuildChoice> {
  if (forced === "wide" || forced === undefined) {
    const revectorizing = enableRevectorization();
    if (forced === "wide")
      return use("wide", revectorizing ? "as asked for" : "as asked for, without vectors of 256 bits");
    if (revectorizing) return compare();
    return use("narrow", `this V8 (${process.versions.v8}) has no vectors of 256 bits`);
  }
  return use("narrow", "as asked for");
}

async function use(build: EngineBuild, reason: string): Promise<BuildChoice> {
  const trial = await AeadTrial.create(build);
  if (!trial.isRight()) throw new Error(`the ${build} packet engine computes wrong results on this machine`);
  return { build, reason };
}

async function compare(): Promise<BuildChoice> {
  const wide = await AeadTrial.create("wide");
  const narrow = await AeadTrial.create("narrow");
  const areRight = wide.isRight() && narrow.isRight();
  const limit = performance.now() + TIMING_LIMIT;
  let end = limit;
  while (areRight && performance.now() < end) {
    wide.time();
    narrow.time();
    if (end === limit && wide.isCompiledWell && narrow.isCompiledWell) end = performance.now() + TIMING;
  }
  // Now they are compiled well.
  if (areRight && wide.isRight() && narrow.isRight()) {
    const ratio = narrow.best / wide.best;
    const comparison = `the wide one takes ${(1 / ratio).toFixed(2)} times as long as the narrow one`;
    return { build: wide.best < WORTHWHILE * narrow.best ? "wide" : "narrow", reason: comparison };
  }
  setFlagsFromString(`--no-${REVECTORIZATION}`);
  return use("narrow", "the wide one computes wrong results on this machine");
}
