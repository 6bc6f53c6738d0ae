// The name that administrators see in the portal (spec 05, section 1.5).

import { hostname } from "node:os";
import { randomUuid } from "../../base/random.js";
import { systemRandom } from "../../system/crypto.js";

/** The name given unless it is blank, else the host's, else a random one. */
export function displayName(given: string | undefined): string {
  if (given !== undefined && given.trim() !== "") return given;
  const name = hostname();
  return name === "" ? randomUuid(systemRandom) : name;
}
