// Masquerading by nft(8): one table per family, replaced as a whole in one transaction and removed as a whole.

import type { AddressFamily } from "../../base/address.js";
import type { ClientRanges } from "./masquerade.js";
import { runTool } from "./tool.js";

/** Name of our tables. */
export const NFT_TABLE = "wirelane-masquerade";

/** nft's own name of a family. */
const TABLE_FAMILY = { 4: "ip", 6: "ip6" } as const;

/** Our tables in the thread's network namespace. */
export class NftMasquerade {
  readonly #tunnelInterface: string;
  readonly #ranges: ClientRanges;
  readonly #families: readonly AddressFamily[];
  readonly #path: string;
  #active: AddressFamily[] = [];

  constructor(tunnelInterface: string, ranges: ClientRanges, families: readonly AddressFamily[], path: string) {
    this.#tunnelInterface = tunnelInterface;
    this.#ranges = ranges;
    this.#families = families;
    this.#path = path;
  }

  /** Creates the tables in place of any that exist. Returns the families that work; no problems when nft is not installed. */
  start(): { families: readonly AddressFamily[]; problems: string[] } {
    const problems: string[] = [];
    for (const family of this.#families) {
      const result = runTool("nft", ["-f", "-"], this.#path, this.#script(family));
      if (result.type === "ok") this.#active.push(family);
      if (result.type === "failed") problems.push(`IPv${family} is not masqueraded: ${result.reason}`);
    }
    return { families: [...this.#active], problems };
  }

  /** Removes the tables. */
  remove(): string[] {
    const problems: string[] = [];
    for (const family of this.#active.splice(0)) {
      // Adding first makes it no error that somebody has removed the table.
      const table = `table ${TABLE_FAMILY[family]} ${NFT_TABLE}`;
      const result = runTool("nft", ["-f", "-"], this.#path, `add ${table}\ndelete ${table}\n`);
      if (result.type === "failed") problems.push(result.reason);
    }
    return problems;
  }

  /**
   * Chains of others that drop forwarded packets unless told otherwise, in words. What one table accepts another may still drop,
   * so this cannot be mended here. Those of iptables are left out: they are mended by iptables.
   */
  obstacles(): string[] {
    const listing = runTool("nft", ["list", "chains"], this.#path);
    if (listing.type !== "ok") return [];
    const obstacles: string[] = [];
    let table = "";
    let chain = "";
    for (const line of listing.output.split("\n").map((text) => text.trim())) {
      const opening = /^(table|chain) (.*) \{$/.exec(line);
      if (opening?.[1] === "table") table = opening[2] ?? "";
      if (opening?.[1] === "chain") chain = opening[2] ?? "";
      if (!/\bhook forward\b.*\bpolicy drop\b/.test(line) || isIptables(table)) continue;
      obstacles.push(
        `the firewall's chain ${table} ${chain} drops forwarded packets by policy: accept those from and to ${this.#tunnelInterface} there`,
      );
    }
    return obstacles;
  }

  #script(family: AddressFamily): string {
    const tableFamily = TABLE_FAMILY[family];
    const table = `table ${tableFamily} ${NFT_TABLE}`;
    // 100: the priority "srcnat", a name that older versions do not know.
    return `add ${table}
delete ${table}
${table} {
  chain postrouting {
    type nat hook postrouting priority 100; policy accept;
    ${tableFamily} saddr ${this.#ranges[family]} oifname != "${this.#tunnelInterface}" masquerade
  }
}
`;
  }
}

/** Whether iptables, in its form that works by nftables, made the table. */
function isIptables(table: string): boolean {
  return table === "ip filter" || table === "ip6 filter";
}
