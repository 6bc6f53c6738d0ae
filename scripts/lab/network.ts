// A network with hosts in it, behind one router or two, with a line to the internet.
//
//    internet ──line── router ── switch ── hosts        double: internet ──line── outer router ── inner router ── switch ── hosts
//
//    inside, private    10.k.0.0/24        2001:db8:k:1::/64      the router is 1, hosts have the numbers that they are attached with
//    inside, public     192.0.2.16k/28     2001:db8:k:1::/64      (kind `open`)
//    between routers    192.168.k.0/24     2001:db8:k:2::/64

import { deleteLink, findLink } from "../../src/system/linux/rtnetlink/links.js";
import type { LabHost } from "./host.js";
import { type Internet, type Line, type LineOptions, subnet } from "./internet.js";
import { type NatBehaviour, type NatKind, NatRouter, type UdpPolicy, type Unsolicited } from "./nat-router.js";
import type { LabSwitch } from "./switch.js";

/** What a network is like. */
export interface NetworkPlan extends LineOptions {
  /** What its router does, or `double`: two port-restricted ones in a row. Default `open`. */
  readonly nat?: NatKind | "double";
  /** Default `drop`. */
  readonly unsolicited?: Unsolicited;
  /** Default `open`. */
  readonly udp?: UdpPolicy;
  /** Default: as IPv4 (`open` lets everything in). */
  readonly ipv6?: "firewall" | "open";
}

/** Addresses of a host in a network. */
export interface HostAddresses {
  readonly ipv4: string | undefined;
  readonly ipv6: string | undefined;
}

/** Number of the host that an endpoint-independent NAT serves until another one is attached. */
const FIRST_HOST = 2;

/** The interface by which hosts are attached. */
const HOST_INTERFACE = "eth0";

/** A network. */
export class LabNetwork {
  readonly number: number;
  readonly plan: NetworkPlan;
  /** The line of the (outer) router. */
  readonly line: Line;
  /** From the internet inwards. */
  readonly routers: readonly NatRouter[];
  readonly #internet: Internet;
  readonly #switch: LabSwitch;

  private constructor(internet: Internet, number: number, plan: NetworkPlan, line: Line, outer: LabHost) {
    this.#internet = internet;
    this.number = number;
    this.plan = plan;
    this.line = line;
    const { lab } = internet;
    this.#switch = lab.switch(`network ${number}`);
    const { nat = "open" } = plan;
    const routers: NatRouter[] = [];
    let router = outer;
    let outside = line.interface;
    if (nat === "double") {
      const inner = lab.host(`inner router ${number}`);
      const names = [router.nextInterfaceName(), inner.nextInterfaceName()] as const;
      lab.connect(router, inner, {
        names,
        ...(this.#hasIpv4 ? { ipv4: [`192.168.${number}.1/24`, `192.168.${number}.2/24`] as const } : {}),
        ...(this.#hasIpv6 ? { ipv6: [`2001:db8:${number}:2::1/64`, `2001:db8:${number}:2::2/64`] as const } : {}),
      });
      if (this.#hasIpv4) inner.route("default", { via: `192.168.${number}.1`, dev: names[1] });
      if (this.#hasIpv6) {
        inner.route("default6", { via: `2001:db8:${number}:2::1`, dev: names[1] });
        router.route(`2001:db8:${number}:1::/64`, { via: `2001:db8:${number}:2::2`, dev: names[0] });
      }
      const insideAddress = `192.168.${number}.2`;
      routers.push(
        new NatRouter(router, {
          ...this.#behaviour,
          kind: "port-restricted",
          outside,
          inside: names[0],
          insideAddress,
        }),
      );
      [router, outside] = [inner, names[1]];
    }
    const inside = this.#switch.attach(router, { addresses: this.#cidrs(1) });
    const kind = nat === "double" ? "port-restricted" : nat;
    const insideAddress = this.#ipv4(FIRST_HOST);
    routers.push(new NatRouter(router, { ...this.#behaviour, kind, outside, inside, insideAddress }));
    this.routers = routers;
    if (nat === "open") internet.route(`${subnet("192.0.2", number)(0)}/28`, line);
  }

  /** Builds a network; numbers from 1 on, each once. */
  static async create(internet: Internet, number: number, plan: NetworkPlan = {}): Promise<LabNetwork> {
    const router = internet.lab.host(`router ${number}`);
    const line = await internet.connectNetwork(number, router, plan);
    return new LabNetwork(internet, number, plan, line, router);
  }

  /** Attaches a host by its interface eth0, usable at once, with default routes. Numbers 2 to 14. */
  attach(host: LabHost, number = FIRST_HOST): HostAddresses {
    this.#switch.attach(host, { name: HOST_INTERFACE, addresses: this.#cidrs(number) });
    if (this.#hasIpv4) host.route("default", { via: this.#ipv4(1), dev: HOST_INTERFACE });
    if (this.#hasIpv6) host.route("default6", { via: this.#ipv6(1), dev: HOST_INTERFACE });
    const { nat } = this.plan;
    if (nat === "endpoint-independent" && number !== FIRST_HOST)
      for (const router of this.routers) router.change({ insideAddress: this.#ipv4(number) });
    return this.addresses(number);
  }

  /** Pulls a host's plug: eth0 is gone. */
  detach(host: LabHost): void {
    const link = findLink(host.netlink, HOST_INTERFACE);
    if (link !== undefined) deleteLink(host.netlink, link.index);
  }

  /** The addresses of the host with this number. */
  addresses(number = FIRST_HOST): HostAddresses {
    return {
      ipv4: this.#hasIpv4 ? this.#ipv4(number) : undefined,
      ipv6: this.#hasIpv6 ? this.#ipv6(number) : undefined,
    };
  }

  /** What the routers do with UDP from now on. */
  setUdp(udp: UdpPolicy): void {
    for (const router of this.routers) router.change({ udp });
  }

  /** Cuts the line to the internet, without any interface going down. */
  cut(): void {
    this.#internet.cut(this.line);
  }

  /** Ends what {@link LabNetwork.cut} began. */
  restore(): void {
    this.#internet.restore(this.line);
  }

  get #behaviour(): Omit<NatBehaviour, "kind"> {
    const { unsolicited, udp, ipv6 } = this.plan;
    return {
      ...(unsolicited === undefined ? {} : { unsolicited }),
      ...(udp === undefined ? {} : { udp }),
      ...(ipv6 === undefined ? {} : { ipv6 }),
    };
  }

  get #hasIpv4(): boolean {
    return this.line.ipv4 !== undefined;
  }

  get #hasIpv6(): boolean {
    return this.line.ipv6 !== undefined;
  }

  #ipv4(host: number): string {
    return this.plan.nat === undefined || this.plan.nat === "open"
      ? subnet("192.0.2", this.number)(host)
      : `10.${this.number}.0.${host}`;
  }

  #ipv6(host: number): string {
    return `2001:db8:${this.number}:1::${host.toString(16)}`;
  }

  #cidrs(host: number): string[] {
    const { nat = "open" } = this.plan;
    return [
      ...(this.#hasIpv4 ? [`${this.#ipv4(host)}/${nat === "open" ? 28 : 24}`] : []),
      ...(this.#hasIpv6 ? [`${this.#ipv6(host)}/64`] : []),
    ];
  }
}
