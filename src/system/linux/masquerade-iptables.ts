// Masquerading by iptables(8) and ip6tables(8): rules in the tables that everybody shares, so each of ours carries a comment. A rule
// with our comment is ours, from this run or one that crashed; any other is never touched.

import type { AddressFamily } from "../../base/address.js";
import type { ClientRanges } from "./masquerade.js";
import { runTool, type ToolResult } from "./tool.js";

/** The comment that marks a rule as ours. */
export const RULE_COMMENT = "wirelane";

const TOOL = { 4: "iptables", 6: "ip6tables" } as const;
const FAMILIES: readonly AddressFamily[] = [4, 6];

/** Most copies of one rule that are removed: earlier runs leave at most one. */
const MAX_COPIES = 16;

/** A rule without its place: table, chain, and the words that describe it. */
interface FirewallRule {
  readonly table: "nat" | "filter";
  readonly chain: string;
  readonly words: readonly string[];
}

/** Our rules in the thread's network namespace. */
export class IptablesMasquerade {
  readonly #tunnelInterface: string;
  readonly #ranges: ClientRanges;
  readonly #families: readonly AddressFamily[];
  readonly #path: string;
  readonly #added: { readonly family: AddressFamily; readonly rule: FirewallRule }[] = [];

  constructor(tunnelInterface: string, ranges: ClientRanges, families: readonly AddressFamily[], path: string) {
    this.#tunnelInterface = tunnelInterface;
    this.#ranges = ranges;
    this.#families = families;
    this.#path = path;
  }

  /** Inserts all rules at position 1 of their chains. Returns the families that work; no problems when it is not installed. */
  start(): { families: readonly AddressFamily[]; problems: string[] } {
    const problems: string[] = [];
    const families = this.#families.filter((family) => {
      const result = this.#insertAll(family, [...this.#forwardRules(), this.#masqueradeRule(family)]);
      if (result.type === "failed") problems.push(`IPv${family} is not masqueraded: ${result.reason}`);
      return result.type === "ok";
    });
    if (families.length > 0 && families.length < this.#families.length && problems.length === 0)
      problems.push(
        `only IPv${families[0]} is masqueraded: ${families[0] === 4 ? "ip6tables" : "iptables"} is not installed`,
      );
    return { families, problems };
  }

  /** Inserts the rules that let packets pass, where the chain FORWARD has any other rule or drops by policy. */
  acceptWhereNeeded(): string[] {
    const problems: string[] = [];
    for (const family of this.#families) {
      const listing = this.#run(family, ["-S", "FORWARD"]);
      if (listing.type === "ok" && listing.output.trim() === "-P FORWARD ACCEPT") continue;
      const result = listing.type === "ok" ? this.#insertAll(family, this.#forwardRules()) : listing;
      if (result.type === "failed")
        problems.push(`the firewall may drop forwarded IPv${family} packets: ${result.reason}`);
    }
    return problems;
  }

  /** Removes what was inserted. */
  remove(): string[] {
    const problems: string[] = [];
    for (const { family, rule } of this.#added.splice(0)) {
      const result = this.#run(family, ruleArguments("-D", rule));
      // Somebody else may have flushed the chain.
      if (result.type === "failed" && this.#exists(family, rule)) problems.push(result.reason);
    }
    return problems;
  }

  /** Removes the rules of runs that crashed. */
  clean(): string[] {
    const problems: string[] = [];
    for (const family of FAMILIES) {
      for (const rule of [...this.#forwardRules(), this.#masqueradeRule(family)]) {
        for (let copies = 0; copies < MAX_COPIES && this.#exists(family, rule); copies++) {
          const result = this.#run(family, ruleArguments("-D", rule));
          if (result.type === "failed") problems.push(result.reason);
        }
      }
    }
    return problems;
  }

  /** Inserts rules; if one cannot be, those before it are taken back. */
  #insertAll(family: AddressFamily, rules: readonly FirewallRule[]): ToolResult {
    let inserted = 0;
    for (const rule of rules) {
      const result = this.#run(family, ruleArguments("-I", rule));
      if (result.type !== "ok") {
        for (const { rule: earlier } of this.#added.splice(this.#added.length - inserted, inserted))
          this.#run(family, ruleArguments("-D", earlier));
        return result;
      }
      this.#added.push({ family, rule });
      inserted++;
    }
    return { type: "ok", output: "" };
  }

  #forwardRules(): FirewallRule[] {
    return ["-i", "-o"].map((direction) => ({
      table: "filter",
      chain: "FORWARD",
      words: [direction, this.#tunnelInterface, ...COMMENT, "-j", "ACCEPT"],
    }));
  }

  #masqueradeRule(family: AddressFamily): FirewallRule {
    const { [family]: source } = this.#ranges;
    return {
      table: "nat",
      chain: "POSTROUTING",
      words: ["-s", `${source}`, "!", "-o", this.#tunnelInterface, ...COMMENT, "-j", "MASQUERADE"],
    };
  }

  #exists(family: AddressFamily, rule: FirewallRule): boolean {
    return this.#run(family, ruleArguments("-C", rule)).type === "ok";
  }

  /** Waits up to 5 s for the lock that other users of the tool may hold. */
  #run(family: AddressFamily, args: readonly string[]): ToolResult {
    return runTool(TOOL[family], ["-w", "5", ...args], this.#path);
  }
}

const COMMENT = ["-m", "comment", "--comment", RULE_COMMENT] as const;

/** Arguments to insert (at position 1), delete or check a rule. */
function ruleArguments(action: "-I" | "-D" | "-C", { table, chain, words }: FirewallRule): string[] {
  const position = action === "-I" ? ["1"] : [];
  return ["-t", table, action, chain, ...position, ...words];
}
