// A network of our own on one machine: hosts (network namespaces) connected by cables (veth pairs) and switches (bridges), for
// the demo, the interoperation tests and the benchmarks. Needs CAP_SYS_ADMIN, in the user namespace at least (user-namespace.ts),
// and no programs but those that run in it. Nothing of the machine's own network is touched, and nothing is left behind.
//
//   const lab = Lab.create();
//   const client = lab.host("client");
//   const gateway = lab.host("gateway");
//   lab.connect(client, gateway, { ipv4: ["192.0.2.1/24", "192.0.2.2/24"], ipv6: ["2001:db8::1/64", "2001:db8::2/64"] });
//   await client.run("ping", ["-c", "1", "192.0.2.2"]);
//   await lab.destroy();

import { setTimeout as sleep } from "node:timers/promises";
import { createVeth } from "../../src/system/linux/rtnetlink/links.js";
import { LabHost } from "./host.js";
import { killProcessesInside } from "./processes.js";
import { LabSwitch } from "./switch.js";

/** How to connect two hosts. The first of each pair is for the first host. */
export interface Cable {
  /** Addresses with prefix lengths, as `["192.0.2.1/24", "192.0.2.2/24"]`. */
  readonly ipv4?: readonly [string, string];
  readonly ipv6?: readonly [string, string];
  /** Interface names. Default: `eth0`, `eth1`, … in order of connection. */
  readonly names?: readonly [string, string];
  /** Bytes. Default 1500. */
  readonly mtu?: number;
}

/** How to make a lab. */
export interface LabOptions {
  /** Take the lab down on SIGINT, SIGTERM and SIGHUP, and then die of the signal. Default `true`. */
  readonly handleSignals?: boolean;
}

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/** Time that programs get to end after SIGTERM, in milliseconds. */
const TERMINATION_TIMEOUT = 3000;
/** How often, and how long apart in milliseconds, SIGKILL is sent and its effect looked at. */
const KILL_ATTEMPTS = 200;
const KILL_INTERVAL = 10;

/** A set of hosts and the cables between them. */
export class Lab {
  readonly #hosts: LabHost[] = [];
  readonly #switches: LabSwitch[] = [];
  readonly #onExit = () => this.#destroyNow();
  readonly #onSignal = (signal: NodeJS.Signals) => {
    this.#destroyNow();
    process.kill(process.pid, signal);
  };

  private constructor(options: LabOptions) {
    process.once("exit", this.#onExit);
    if (options.handleSignals !== false) for (const signal of SIGNALS) process.once(signal, this.#onSignal);
  }

  /** An empty lab. The first host throws where namespaces cannot be made. */
  static create(options: LabOptions = {}): Lab {
    return new Lab(options);
  }

  /** Adds a host with nothing but a loopback interface. @throws SystemCallError EPERM without the privilege. */
  host(name: string): LabHost {
    const host = new LabHost(name);
    this.#hosts.push(host);
    return host;
  }

  /** Adds a switch that hosts can be attached to. */
  switch(name: string): LabSwitch {
    const added = new LabSwitch(name);
    this.#switches.push(added);
    return added;
  }

  /** Connects two hosts directly. Both ends are up and their addresses usable at once. */
  connect(one: LabHost, other: LabHost, cable: Cable): void {
    const names = cable.names ?? [one.nextInterfaceName(), other.nextInterfaceName()];
    createVeth(one.netlink, { name: names[0] }, { name: names[1], namespace: { fd: other.namespace.fd } });
    for (const [end, host] of [one, other].entries()) {
      const addresses = [cable.ipv4?.[end], cable.ipv6?.[end]].filter((text) => text !== undefined);
      host.configure(names[end] ?? "", { addresses, ...(cable.mtu === undefined ? {} : { mtu: cable.mtu }) });
    }
  }

  /** Ends all programs (SIGTERM, after a while SIGKILL), waits for their end and removes all hosts. Idempotent. */
  async destroy(): Promise<void> {
    await Promise.all(this.#hosts.map((host) => host.stopPrograms(TERMINATION_TIMEOUT)));
    // What is left are descendants that left their process group.
    const namespaces = this.#hosts.map((host) => host.namespace);
    for (let i = 0; i < KILL_ATTEMPTS && killProcessesInside(namespaces) > 0; i++) await sleep(KILL_INTERVAL);
    this.#destroyNow();
  }

  /** Kills all programs and removes all hosts, without waiting for anything. Idempotent. */
  destroySoon(): void {
    this.#destroyNow();
  }

  #destroyNow(): void {
    process.removeListener("exit", this.#onExit);
    for (const signal of SIGNALS) process.removeListener(signal, this.#onSignal);
    const hosts = this.#hosts.splice(0);
    killProcessesInside(hosts.map((host) => host.namespace));
    for (const host of hosts) host.close();
    for (const entry of this.#switches.splice(0)) entry.close();
  }
}
