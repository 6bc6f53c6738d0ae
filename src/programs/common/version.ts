// Versions: this program's, and the one that the portal sees.

import { readFileSync } from "node:fs";

/**
 * Version in the `connlib/` part of the user agent (spec 05, section 1.4): that of the programs that wirelane is compatible with, because portals
 * decide by it which messages to send.
 */
export const CONNLIB_VERSION = "1.2.1";

/** Version of wirelane, of package.json. */
export function programVersion(): string {
  const text = readFileSync(new URL("../../../../package.json", import.meta.url), "utf8");
  return (JSON.parse(text) as { readonly version: string }).version;
}
