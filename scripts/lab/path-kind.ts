// Which way the connection of a client or gateway goes, by its log.

import { setTimeout as sleep } from "node:timers/promises";
import type { LabProgram } from "./program.js";

/** Over which way a connection goes. */
export type PathKind = "direct" | "relayed";

/** Time between two looks, milliseconds. */
const LOOK_INTERVAL = 20;

/** Which way a program's (only) connection goes; `undefined` when it has none yet. */
export function pathOf(program: LabProgram): PathKind | undefined {
  const path = program.records.findLast(({ message }) => message === "Path selected")?.fields["path"];
  return path === "direct" || path === "relayed" ? path : undefined;
}

/** Waits until a program's connection goes this way. @throws Error when it does not within `timeout` milliseconds. */
export async function waitForPath(program: LabProgram, path: PathKind, timeout: number): Promise<void> {
  const start = Date.now();
  while (pathOf(program) !== path) {
    if (Date.now() - start > timeout)
      throw new Error(`the ${program.name}'s path is ${pathOf(program)}, not ${path}, after ${timeout} ms`);
    await sleep(LOOK_INTERVAL);
  }
}
