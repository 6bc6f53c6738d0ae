// Whether tests may make network namespaces here.

import { NetworkNamespace } from "../../src/system/linux/namespace.js";

/** Why tests in namespaces of their own cannot run here; `false` when they can. */
export const labSkip: string | false = whyNoLab();

function whyNoLab(): string | false {
  try {
    NetworkNamespace.create().close();
    return false;
  } catch (error) {
    return `needs the privilege to make network namespaces: ${error instanceof Error ? error.message : error}`;
  }
}
