// The internet of a laboratory with routers: one host that forwards between all who are connected to it, by public addresses from the
// ranges for documentation. What is wrong with the internet happens here: lines that are cut, datagrams that are not carried.
//
//    198.51.100.16k/28   2001:db8:k::/48     line to network k     192.0.2.16k/28: public addresses inside it
//    203.0.113.16n/28    2001:db8:fn::/64    line to server n      (n = 0: the portal, from 1 on: relays)

import { existsSync } from "node:fs";
import type { LabHost } from "./host.js";
import type { Lab } from "./lab.js";
import { LinkEmulator, type LinkProperties } from "./link-emulator.js";
import { loadRules } from "./nat-router.js";

/** The IP versions of a network. */
export type Families = "dual" | "ipv4" | "ipv6";

/** A line to the internet. */
export interface LineOptions {
  /** Default `dual`. */
  readonly families?: Families;
  /** Makes the line an emulated one with these properties. */
  readonly link?: LinkProperties;
  /** Of the emulated line. */
  readonly seed?: number;
}

/** A line's end, away from the internet. */
export interface Line {
  /** Name of the line's interface on the internet's host. */
  readonly name: string;
  /** Name of the interface at the other end. */
  readonly interface: string;
  readonly ipv4: string | undefined;
  readonly ipv6: string | undefined;
  readonly emulator: LinkEmulator | undefined;
}

/** Networks and servers that fit into the address ranges. */
const MOST = 15;

/** The internet. */
export class Internet {
  readonly lab: Lab;
  readonly host: LabHost;
  /** Whether the kernel has IPv6. */
  readonly ipv6: boolean;
  readonly #cut = new Set<string>();
  #directBlocked = false;

  constructor(lab: Lab) {
    this.lab = lab;
    this.host = lab.host("internet");
    this.host.enableForwarding();
    this.ipv6 = existsSync("/proc/sys/net/ipv6");
  }

  /** A line to network `number`, from 1 on; `router` gets the default routes. Everything in 2001:db8:NUMBER::/48 is sent there. */
  async connectNetwork(number: number, router: LabHost, options: LineOptions = {}): Promise<Line> {
    const line = await this.#connect(`net${number}`, router, options, {
      ipv4: subnet("198.51.100", number),
      ipv6: `2001:db8:${number}`,
    });
    if (line.ipv6 !== undefined) this.host.route(`2001:db8:${number}::/48`, { via: line.ipv6, dev: line.name });
    return line;
  }

  /** A line to server `number`, from 0 on, which gets an address and the default routes. */
  connectServer(number: number, name: string, server: LabHost, options: LineOptions = {}): Promise<Line> {
    return this.#connect(name, server, options, {
      ipv4: subnet("203.0.113", number),
      ipv6: `2001:db8:f${number.toString(16)}`,
    });
  }

  /** Sends an IPv4 prefix down a line. */
  route(prefix: string, line: Line): void {
    if (line.ipv4 !== undefined) this.host.route(prefix, { via: line.ipv4, dev: line.name });
  }

  /** Carries nothing on a line any more. Its interfaces stay up. */
  cut(line: Line): void {
    this.#cut.add(line.name);
    this.#load();
  }

  /** Carries again what {@link Internet.cut} ended. */
  restore(line: Line): void {
    this.#cut.delete(line.name);
    this.#load();
  }

  /** Carries no UDP between two networks any more (or does again); servers are reached. What is left are relays. */
  blockDirect(blocked: boolean): void {
    this.#directBlocked = blocked;
    this.#load();
  }

  #load(): void {
    const names = [...this.#cut].map((name) => `"${name}"`).join(", ");
    const cut = names === "" ? [] : [`iifname { ${names} } drop`, `oifname { ${names} } drop`];
    const direct = this.#directBlocked ? ['iifname "net*" oifname "net*" meta l4proto udp drop'] : [];
    loadRules(
      this.host,
      `table inet lab_internet {
  chain forward {
    type filter hook forward priority 0
    ${[...cut, ...direct].join("\n    ")}
  }
}
`,
    );
  }

  async #connect(
    name: string,
    host: LabHost,
    options: LineOptions,
    prefixes: { readonly ipv4: (host: number) => string; readonly ipv6: string },
  ): Promise<Line> {
    const { families = "dual", link, seed } = options;
    const hasIpv4 = families !== "ipv6";
    const hasIpv6 = families !== "ipv4" && this.ipv6;
    const end = host.nextInterfaceName();
    const [near, far] = [prefixes.ipv4(1), prefixes.ipv4(2)];
    const [near6, far6] = [`${prefixes.ipv6}::1`, `${prefixes.ipv6}::2`];
    const cable = {
      names: [name, end] as const,
      ...(hasIpv4 ? { ipv4: [`${near}/28`, `${far}/28`] as const } : {}),
      ...(hasIpv6 ? { ipv6: [`${near6}/64`, `${far6}/64`] as const } : {}),
    };
    let emulator: LinkEmulator | undefined;
    if (link === undefined) this.lab.connect(this.host, host, cable);
    else
      emulator = await LinkEmulator.connect(this.lab, this.host, host, {
        ...cable,
        link,
        ...(seed === undefined ? {} : { seed }),
      });
    if (hasIpv4) host.route("default", { via: near, dev: end });
    if (hasIpv6) host.route("default6", { via: near6, dev: end });
    return {
      name,
      interface: end,
      ipv4: hasIpv4 ? far : undefined,
      ipv6: hasIpv6 ? far6 : undefined,
      emulator,
    };
  }
}

/** The /28 with this number: its addresses by host number. */
export function subnet(network: string, number: number): (host: number) => string {
  if (!(number >= 0 && number <= MOST)) throw new RangeError(`there is no line with the number ${number}`);
  return (host) => `${network}.${16 * number + host}`;
}
