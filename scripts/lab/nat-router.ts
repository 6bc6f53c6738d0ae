// A router between a private network and the internet, with the NAT and the firewall that such routers have.
//
// How a NAT behaves has two sides (RFC 4787): mapping (does a socket inside have the same address outside towards every peer?) and
// filtering (whose datagrams does the router let in to that address?).
//
//    kind                   mapping                                        filtering
//    open                   none: inside are public addresses              none
//    endpoint-independent   one for all peers, the port is kept            none
//    port-restricted        one for all peers, the port is kept            peers that were written to, address and port
//    symmetric              another random port for each peer              peers that were written to, address and port
//
// Linux's NAT is none of these on its own. It keeps the port unless another flow has it: a datagram from outside to a mapping that does
// not exist yet is a flow of the router itself, if the router takes it, and then the socket inside that sends from the same port to that
// peer gets another one. Hence `unsolicited`: routers that drop such datagrams at once are truly port-restricted; those that
// answer them ("port unreachable") give the host inside another port when a peer was faster.
//
// A double NAT is two of them in a row: see network.ts.

import { defaultToolPath, runTool } from "../../src/system/linux/tool.js";
import type { LabHost } from "./host.js";

/** What the router does to IPv4. */
export type NatKind = "open" | "endpoint-independent" | "port-restricted" | "symmetric";

/** What the router does with datagrams from outside that nobody inside asked for. */
export type Unsolicited = "drop" | "reject";

/** What the router does to UDP from inside. */
export type UdpPolicy =
  | "open"
  /** All is dropped, as in networks that let the web through and nothing else. */
  | "blocked"
  /** Only to port 3478, and what comes back. */
  | "relay-only";

/** How the router behaves. */
export interface NatBehaviour {
  readonly kind: NatKind;
  /** Default `drop`. Without meaning for `open` and `endpoint-independent`. */
  readonly unsolicited?: Unsolicited;
  /** Default `open`. */
  readonly udp?: UdpPolicy;
  /** What comes in by IPv6 (which has no NAT here): what was asked for only, or everything. Default: as IPv4. */
  readonly ipv6?: "firewall" | "open";
}

/** How to become such a router. */
export interface NatRouterOptions extends NatBehaviour {
  /** Names of the interfaces to the internet and to the network. */
  readonly outside: string;
  readonly inside: string;
  /** The IPv4 address of the one host inside that an `endpoint-independent` NAT serves. */
  readonly insideAddress: string;
}

/** Port of STUN and TURN (RFC 8656, section 19). */
const RELAY_PORT = 3478;

/** Why there are no routers here; `undefined`: there are. */
export function whyNoRouters(host: LabHost): string | undefined {
  const result = host.enter(() =>
    runTool("nft", ["-f", "-"], defaultToolPath(), `${TRIAL}delete table ip lab_trial\n`),
  );
  switch (result.type) {
    case "ok":
      return undefined;
    case "missing":
      return "routers need nft (package nftables)";
    case "failed":
      return `the kernel or nft cannot do what routers need: ${result.reason}`;
  }
}

const TRIAL = `table ip lab_trial {
  chain source {
    type nat hook postrouting priority 100
    masquerade fully-random
  }
  chain destination {
    type nat hook prerouting priority -100
    meta l4proto udp dnat to 192.0.2.1
  }
  chain forward {
    type filter hook forward priority 0
    ct state established,related accept
  }
}
`;

/** The router's rules; they can be replaced while it runs. Connections that were let through before go on. */
export class NatRouter {
  readonly host: LabHost;
  #options: NatRouterOptions;

  /** Makes `host`, which has its interfaces and routes already, such a router. @throws Error when nft refuses. */
  constructor(host: LabHost, options: NatRouterOptions) {
    this.host = host;
    this.#options = options;
    host.enableForwarding();
    this.#load();
  }

  get behaviour(): NatBehaviour {
    return this.#options;
  }

  /** Behaves differently from now on. Mappings that exist stay. */
  change(behaviour: Partial<NatBehaviour> & { readonly insideAddress?: string }): void {
    this.#options = { ...this.#options, ...behaviour };
    this.#load();
  }

  #load(): void {
    loadRules(this.host, routerRules(this.#options));
  }
}

/** Gives a host these tables of nft in place of those it has. */
export function loadRules(host: LabHost, rules: string): void {
  const result = host.enter(() => runTool("nft", ["-f", "-"], defaultToolPath(), `flush ruleset\n${rules}`));
  if (result.type === "missing") throw new Error("nft is not installed");
  if (result.type === "failed") throw new Error(`${host.name}: ${result.reason}`);
}

/** The rules as nft reads them. */
export function routerRules(options: NatRouterOptions): string {
  return `${translation(options)}${filters(options)}`;
}

function translation({ kind, outside, insideAddress }: NatRouterOptions): string {
  if (kind === "open") return "";
  const how = kind === "symmetric" ? "masquerade fully-random" : "masquerade";
  const everythingInside = `
  chain destination {
    type nat hook prerouting priority -100
    iifname "${outside}" meta l4proto udp dnat to ${insideAddress}
  }`;
  return `table ip lab_nat {
  chain source {
    type nat hook postrouting priority 100
    oifname "${outside}" ${how}
  }${kind === "endpoint-independent" ? everythingInside : ""}
}
`;
}

function filters({ kind, outside, inside, unsolicited = "drop", udp = "open", ipv6 }: NatRouterOptions): string {
  const fromOutside = `iifname "${outside}"`;
  const open = kind === "open" || kind === "endpoint-independent";
  const openIpv6 = ipv6 === undefined ? open : ipv6 === "open";
  const forward = [
    ...udpRules(udp, inside),
    "ct state established,related accept",
    // ICMP itself is let through: neighbours, errors and pings are not what this is about.
    ...(open ? [] : [`${fromOutside} meta nfproto ipv4 meta l4proto { tcp, udp } drop`]),
    ...(openIpv6 ? [] : [`${fromOutside} meta nfproto ipv6 meta l4proto { tcp, udp } ${unsolicited}`]),
  ];
  // A datagram to an address of the router's own: dropped, it leaves no trace; taken, it is a flow and the kernel answers it.
  const input = open || unsolicited === "reject" ? [] : [`${fromOutside} ct state new meta l4proto { tcp, udp } drop`];
  return `table inet lab_filter {
  chain forward {
    type filter hook forward priority 0
    ${forward.join("\n    ")}
  }
  chain input {
    type filter hook input priority 0
    ${input.join("\n    ")}
  }
}
`;
}

function udpRules(udp: UdpPolicy, inside: string): string[] {
  switch (udp) {
    case "open":
      return [];
    case "blocked":
      return ["meta l4proto udp drop"];
    case "relay-only":
      return [`iifname "${inside}" udp dport != ${RELAY_PORT} drop`];
  }
}
