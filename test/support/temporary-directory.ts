// A directory that is gone when the test is over.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";

/** Makes an empty directory for a test. @returns its path. */
export function temporaryDirectory(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), "wirelane-test-"));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}
