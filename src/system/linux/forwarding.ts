// Lets a gateway's kernel forward packets between the tunnel and the resources (spec 05, sections 9.3 and 11.1: done by a start
// script there, by the program here): kernel parameters, remembered and taken back.

import { Sysctls } from "./sysctl.js";

const IPV4_FORWARDING = "net/ipv4/ip_forward";
const IPV6_FORWARDING = "net/ipv6/conf/all/forwarding";

/** Forwarding switched on, to be switched off again where it was off. */
export class Forwarding {
  /** What could not be set, in words. Without it some packets to resources are not forwarded; the gateway can go on. */
  readonly problems: readonly string[];
  readonly #sysctls: Sysctls;
  /** Interfaces that forwarded IPv4 although the host as a whole did not. */
  readonly #singleForwarders: readonly string[];

  private constructor(sysctls: Sysctls, singleForwarders: readonly string[], problems: readonly string[]) {
    this.#sysctls = sysctls;
    this.#singleForwarders = singleForwarders;
    this.problems = problems;
  }

  /** Switches forwarding on in the thread's network namespace, for the families that the host has. */
  static enable(sysctls = new Sysctls()): Forwarding {
    const problems: string[] = [];
    const set = (name: string, value: string, consequence: string) => {
      const result = sysctls.set(name, value);
      if (result.type === "failed")
        problems.push(`cannot set ${name} to ${value}: ${consequence} (${result.error.message})`);
    };

    const singleForwarders = sysctls.get(IPV4_FORWARDING) === "0" ? forwardingInterfaces(sysctls) : [];
    set(IPV4_FORWARDING, "1", "IPv4 resources are not reachable");
    // Reverse path filtering looks at the mark, where a firewall restores marks of connections.
    set("net/ipv4/conf/all/src_valid_mark", "1", "strict reverse path filtering may drop packets");

    if (sysctls.get(IPV6_FORWARDING) !== undefined) {
      if (sysctls.get(IPV6_FORWARDING) === "0") keepRouterAdvertisements(sysctls, set);
      set(IPV6_FORWARDING, "1", "IPv6 resources are not reachable");
      set("net/ipv6/conf/default/forwarding", "1", "interfaces that appear later do not forward IPv6");
    }
    return new Forwarding(sysctls, singleForwarders, problems);
  }

  /** Takes back what was changed and nobody has changed since. @returns what could not be taken back, in words. */
  restore(): string[] {
    const failures = this.#sysctls.restore().map((error) => error.message);
    // Switching the host's forwarding off switched these off too.
    if (this.#sysctls.get(IPV4_FORWARDING) === "0") {
      for (const name of this.#singleForwarders) {
        const result = this.#sysctls.set(`net/ipv4/conf/${name}/forwarding`, "1");
        if (result.type === "failed") failures.push(result.error.message);
      }
    }
    return failures;
  }
}

function forwardingInterfaces(sysctls: Sysctls): string[] {
  return sysctls
    .list("net/ipv4/conf")
    .filter((name) => name !== "all" && sysctls.get(`net/ipv4/conf/${name}/forwarding`) === "1");
}

/**
 * A host that forwards IPv6 ignores router advertisements and forgets its default route, unless the interface says 2: "accept even
 * if forwarding". Without this, becoming a gateway would cut the host off.
 */
function keepRouterAdvertisements(
  sysctls: Sysctls,
  set: (name: string, value: string, consequence: string) => void,
): void {
  for (const interfaceName of sysctls.list("net/ipv6/conf")) {
    const name = `net/ipv6/conf/${interfaceName}/accept_ra`;
    if (sysctls.get(name) === "1") set(name, "2", `${interfaceName} may lose its IPv6 default route`);
  }
}
