// Test vectors that lie beside the repository (../shared/vectors); where they are absent, tests skip with the reason.

import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** The directory of the vectors, seen from the compiled test in `dist*\/test/support`. */
const directory = new URL("../../../../shared/vectors/", import.meta.url);

/** Path of a vector file. */
export function vectorPath(name: string): string {
  return fileURLToPath(new URL(name, directory));
}

/** Why a test that reads these files cannot run; `false` when it can. */
export function vectorSkip(...names: readonly string[]): string | false {
  const missing = names.filter((name) => !existsSync(vectorPath(name)));
  return missing.length > 0 && `no ${missing.join(", ")} in ../shared/vectors`;
}

/** The lines of a file of JSON objects, one a line. */
export function readJsonLines(name: string): Record<string, unknown>[] {
  return readFileSync(vectorPath(name), "utf8")
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

/** A Wycheproof file: groups of tests, whose fields are all scalars. */
export function readWycheproof(name: string): (WycheproofCase & { readonly group: WycheproofCase })[] {
  const file = JSON.parse(readFileSync(vectorPath(name), "utf8")) as {
    testGroups: (WycheproofCase & { tests: WycheproofCase[] })[];
  };
  return file.testGroups.flatMap((group) => group.tests.map((test) => ({ ...test, group })));
}

/** A test or group of a Wycheproof file. */
export interface WycheproofCase {
  readonly [field: string]: unknown;
}
