// Masquerading of what clients send through a gateway (spec 05, section 11.1, with what was fixed later): packets from a client's
// tunnel address leave by other interfaces than the tunnel's with the gateway's own source address, and the firewall lets them pass.
//
// By `nft`, in tables of our own that are removed as a whole; else by `iptables` and `ip6tables`, in rules that carry our comment.
// What a crashed run left behind is replaced. The gateway runs on if neither works: its clients then reach only what routes back.

import { existsSync } from "node:fs";
import { type AddressFamily, IpPrefix } from "../../base/address.js";
import { IptablesMasquerade } from "./masquerade-iptables.js";
import { NftMasquerade } from "./masquerade-nft.js";
import { defaultToolPath } from "./tool.js";

/** Source addresses to masquerade, per family: the clients' tunnel ranges (spec 05, section 1.2). */
export type ClientRanges = Readonly<Record<AddressFamily, IpPrefix>>;

/** What to masquerade. */
export interface MasqueradeOptions {
  /** Name of the tunnel's interface. */
  readonly tunnelInterface: string;
  /** Default: {@link CLIENT_RANGES}. */
  readonly ranges?: ClientRanges;
  /** Families to masquerade. Default: those that the kernel has. */
  readonly families?: readonly AddressFamily[];
  /** Where `nft` and `iptables` are looked up. Default: PATH and the folders of system programs. */
  readonly path?: string;
}

/** How the start of masquerading ended. */
export type MasqueradeResult =
  | {
      readonly type: "active";
      readonly masquerade: Masquerade;
      /** What will hinder clients all the same, in words. */
      readonly problems: readonly string[];
    }
  /** Neither tool is installed, or none worked; `reason` says which package helps, or quotes the tools. */
  | { readonly type: "unavailable"; readonly reason: string };

/** Active masquerading. */
export interface Masquerade {
  /** The program that set it up. */
  readonly tool: "nft" | "iptables";
  readonly families: readonly AddressFamily[];
  /** Removes everything that was set up. Idempotent. @returns what could not be removed, in words. */
  remove(): string[];
}

function range(text: string): IpPrefix {
  const prefix = IpPrefix.parse(text);
  if (prefix === undefined) throw new RangeError(`"${text}" is not a prefix`);
  return prefix;
}

/** The ranges of clients' tunnel addresses. */
export const CLIENT_RANGES: ClientRanges = { 4: range("100.64.0.0/11"), 6: range("fd00:2021:1111::/107") };

/**
 * Starts masquerading in the thread's network namespace.
 *
 * @throws RangeError for an interface name that the tools would read as something else.
 */
export function startMasquerade(options: MasqueradeOptions): MasqueradeResult {
  const { tunnelInterface, ranges = CLIENT_RANGES, path = defaultToolPath() } = options;
  const families = options.families ?? (existsSync("/proc/sys/net/ipv6") ? [4, 6] : [4]);
  // A trailing * or + is a wildcard, a leading ! or - something else again.
  if (!/^[A-Za-z0-9_][A-Za-z0-9_.@-]{0,14}$/.test(tunnelInterface))
    throw new RangeError(`interface name "${tunnelInterface}" cannot be used in firewall rules`);

  const iptables = new IptablesMasquerade(tunnelInterface, ranges, families, path);
  const nft = new NftMasquerade(tunnelInterface, ranges, families, path);
  // A run that crashed may have used the other tool.
  const leftovers = iptables.clean();

  const byNft = nft.start();
  if (byNft.families.length > 0) {
    const forwarding = iptables.acceptWhereNeeded();
    const masquerade: Masquerade = {
      tool: "nft",
      families: byNft.families,
      remove: () => [...nft.remove(), ...iptables.remove()],
    };
    return {
      type: "active",
      masquerade,
      problems: [...leftovers, ...byNft.problems, ...forwarding, ...nft.obstacles()],
    };
  }
  const byIptables = iptables.start();
  if (byIptables.families.length > 0) {
    const masquerade: Masquerade = { tool: "iptables", families: byIptables.families, remove: () => iptables.remove() };
    return { type: "active", masquerade, problems: [...leftovers, ...byIptables.problems] };
  }
  const reasons = [...byNft.problems, ...byIptables.problems];
  return {
    type: "unavailable",
    reason:
      reasons.length === 0
        ? "neither nft nor iptables is installed: install the package nftables (or iptables)"
        : reasons.join("; "),
  };
}
