// The operator's say in which build of the packet engine runs (src/engine/builds.ts).

import { ENGINE_BUILDS, type EngineBuild } from "../../engine/module.js";

/** The environment variable that forces a build. */
const VARIABLE = "WIRELANE_AEAD";

/**
 * The build that the environment asks for; `undefined`: the faster one.
 *
 * @throws Error with words for the user when there is no such build.
 */
export function forcedBuild(): EngineBuild | undefined {
  const name = process.env[VARIABLE];
  if (name === undefined || name === "") return undefined;
  const build = ENGINE_BUILDS.find((build) => build === name);
  if (build === undefined) throw new Error(`${VARIABLE} is "${name}", but must be one of ${ENGINE_BUILDS.join(", ")}`);
  return build;
}
