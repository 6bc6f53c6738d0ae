// Relays as the portal lists them, one entry per address, and as connections use them, one per relay (spec 02, section 5.1).

import type { Relay } from "../../connection/events.js";
import type { RelayEntry } from "../../portal/common-messages.js";

/** The realm of all relays (spec 02, section 2.5). */
const REALM = "firezone";

/** Merges entries with the same id; of two addresses of one IP version the first counts. */
export function mergeRelays(entries: readonly RelayEntry[]): Relay[] {
  const relays = new Map<string, Relay>();
  for (const { id, address, username, password } of entries) {
    const known = relays.get(id) ?? { id, username, password, realm: REALM };
    const family = address.family === 4 ? "ipv4" : "ipv6";
    relays.set(id, known[family] === undefined ? { ...known, [family]: address } : known);
  }
  return [...relays.values()];
}
