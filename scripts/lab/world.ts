// The world of the demo and of the end-to-end tests: an internet, a client and a gateway in it, and the networks behind the gateway.
//
//    client ───────────── internet ───────────── gateway ─┬─ intranet   172.20.0.10  fd20::10   policy
//    192.0.2.2          203.0.113.10         198.51.100.2 ├─ forbidden  172.21.0.10  fd21::10   no policy
//    2001:db8:1::2     (portal, port 8080)  2001:db8:2::2 └─ second     172.22.0.10  fd22::10   policy
//                             │
//                       relay (if started)   203.0.113.18  2001:db8:3::2
//
// The internet knows no way to the networks behind the gateway: what reaches them came through the tunnel.

import { existsSync, mkdirSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { IpAddress } from "../../src/base/address.js";
import { SystemCallError } from "../../src/system/linux/errno.js";
import { startMasquerade } from "../../src/system/linux/masquerade.js";
import { addAddress } from "../../src/system/linux/rtnetlink/addresses.js";
import { deleteLink, getLink } from "../../src/system/linux/rtnetlink/links.js";
import { ping } from "../demo/ping.js";
import type { LabHost } from "./host.js";
import { Lab } from "./lab.js";
import { loadRules, whyNoRouters } from "./nat-router.js";
import { type PingStreamResult, startPingStream } from "./ping-stream.js";
import { LabProgram } from "./program.js";
import { type RunningRelay, startRelay } from "./relay-program.js";
import { defaultConfiguration, renderConfiguration, TOKENS, type WorldConfiguration } from "./world-configuration.js";

/** Where the portal listens, and how the programs name it. */
export const PORTAL_ADDRESS = "203.0.113.10";
export const PORTAL_PORT = 8080;
export const PORTAL_URL = `ws://${PORTAL_ADDRESS}:${PORTAL_PORT}`;

/** The relay's addresses. */
export const RELAY = { ipv4: "203.0.113.18", ipv6: "2001:db8:3::2" } as const;
/** The internet's ends of its line. */
const RELAY_ROUTER = { ipv4: "203.0.113.17", ipv6: "2001:db8:3::1" } as const;

/** The networks of client and gateway, by family. */
const CLIENT_NETWORK = { ip: "192.0.2.0/24", ip6: "2001:db8:1::/64" } as const;
const GATEWAY_NETWORK = { ip: "198.51.100.0/24", ip6: "2001:db8:2::/64" } as const;

/** Port of the HTTP server of every resource host. */
export const RESOURCE_PORT = 80;

/** Interface that client and gateway make (spec 05, section 1.2). */
export const TUNNEL_INTERFACE = "tun-firezone";

/** The networks behind the gateway: their hosts' addresses. */
export const RESOURCES = {
  intranet: { ipv4: "172.20.0.10", ipv6: "fd20::10" },
  forbidden: { ipv4: "172.21.0.10", ipv6: "fd21::10" },
  second: { ipv4: "172.22.0.10", ipv6: "fd22::10" },
} as const;

/** Name of a network behind the gateway. */
export type ResourceName = keyof typeof RESOURCES;

/** How to make a world. */
export interface WorldOptions {
  /** Where the programs' logs and the portal's file go. Made if missing, never removed. */
  readonly directory: string;
  /** As in `LabOptions`. */
  readonly handleSignals?: boolean;
}

/** What to start a program with besides the ordinary. */
export interface ProgramOverrides {
  readonly args?: readonly string[];
  /** `undefined` takes a variable away. */
  readonly env?: Readonly<Record<string, string | undefined>>;
}

/** What a resource host serves. */
export interface ResourceFile {
  readonly bytes: number;
  readonly sha256: string;
}

const WIRELANE = fileURLToPath(new URL("../../src/programs/main.js", import.meta.url));
const RESOURCE_SERVER = fileURLToPath(new URL("../demo/resource-server.js", import.meta.url));
const PROBE = fileURLToPath(new URL("../demo/probe.js", import.meta.url));

/** Devices' ids, so that nothing is stored on the machine. */
const GATEWAY_ID = "5a3b6e2c-0d51-4d0e-9d8b-6f2a3c1e4b70";
const CLIENT_ID = "8d7c5b1a-3f42-4c6d-8e9f-0a1b2c3d4e5f";

/** Time for a resource host's server to start, in milliseconds: it hashes 100 MB first. */
const SERVER_START_TIMEOUT = 20_000;

/** The world. Made whole; programs are started one by one. */
export class World {
  readonly lab: Lab;
  readonly directory: string;
  /** Whether the kernel has IPv6. */
  readonly ipv6: boolean;
  readonly internet: LabHost;
  readonly client: LabHost;
  readonly gateway: LabHost;
  readonly resources: Readonly<Record<ResourceName, LabHost>>;
  /** Why the gateway cannot masquerade here, so that the resource hosts have a route back; `undefined`: it can. */
  readonly routeBackReason: string | undefined;
  configuration: WorldConfiguration;
  #relay: LabHost | undefined;
  #sequence = 0;

  private constructor(lab: Lab, options: WorldOptions) {
    this.lab = lab;
    this.directory = options.directory;
    mkdirSync(this.directory, { recursive: true });
    this.ipv6 = existsSync("/proc/sys/net/ipv6");

    this.internet = lab.host("internet");
    this.client = lab.host("client");
    this.gateway = lab.host("gateway");
    this.internet.enableForwarding();
    const portal = IpAddress.parse(PORTAL_ADDRESS);
    if (portal === undefined) throw new RangeError(`"${PORTAL_ADDRESS}" is not an address`);
    const { netlink } = this.internet;
    addAddress(netlink, getLink(netlink, "lo").index, { address: portal, prefixLength: 32 });
    this.attachClient(2);
    this.#connect(this.internet, this.gateway, "198.51.100", "2001:db8:2:", true);

    this.routeBackReason = this.gateway.enter(whyNoMasquerade);
    const hosts = {
      intranet: lab.host("intranet"),
      forbidden: lab.host("forbidden"),
      second: lab.host("second"),
    };
    this.resources = hosts;
    const routed = this.routeBackReason !== undefined;
    this.#connect(this.gateway, hosts.intranet, "172.20.0", "fd20:", routed, 10);
    this.#connect(this.gateway, hosts.forbidden, "172.21.0", "fd21:", routed, 10);
    this.#connect(this.gateway, hosts.second, "172.22.0", "fd22:", routed, 10);

    this.configuration = defaultConfiguration(this.ipv6);
    this.writeConfiguration();
  }

  /** @throws SystemCallError EPERM without the privilege to make namespaces: see `rerunInUserNamespace`. */
  static create(options: WorldOptions): World {
    const lab = Lab.create(options.handleSignals === undefined ? {} : { handleSignals: options.handleSignals });
    try {
      return new World(lab, options);
    } catch (error) {
      lab.destroySoon();
      throw error;
    }
  }

  /** The portal's file. */
  get configurationFile(): string {
    return join(this.directory, "portal.yaml");
  }

  /** Changes the portal's file, as an administrator would: the new file takes the old one's place at once. */
  configure(change: (configuration: WorldConfiguration) => void): void {
    change(this.configuration);
    this.writeConfiguration();
  }

  /** Writes the portal's file. */
  writeConfiguration(): void {
    const draft = `${this.configurationFile}.new`;
    writeFileSync(draft, renderConfiguration(this.configuration));
    renameSync(draft, this.configurationFile);
  }

  /** Plugs the client in, as host `number` of its network: eth0, addresses, default routes. */
  attachClient(number: number): void {
    this.#connect(this.internet, this.client, "192.0.2", "2001:db8:1:", true, number);
  }

  /** Pulls the client's plug: eth0 is gone. */
  detachClient(): void {
    const { netlink } = this.client;
    deleteLink(netlink, getLink(netlink, "eth0").index);
  }

  /** `wirelane portal`. */
  startPortal(overrides: ProgramOverrides = {}): LabProgram {
    const listen = `${PORTAL_ADDRESS}:${PORTAL_PORT}`;
    const args = [
      "--config",
      this.configurationFile,
      "--listen",
      listen,
      "--state",
      join(this.directory, "devices.json"),
    ];
    return this.#start("portal", this.internet, args, {}, overrides);
  }

  /** `wirelane relay`, on a host of its own. Wait for it with `ready`. */
  startRelay(): RunningRelay {
    this.#relay ??= this.#addRelay();
    return startRelay("wirelane", this.#relay, {
      name: "relay",
      ipv4: RELAY.ipv4,
      ipv6: this.ipv6 ? RELAY.ipv6 : undefined,
      apiUrl: PORTAL_URL,
      token: TOKENS.relay,
      logFile: join(this.directory, "relay.jsonl"),
      env: programEnvironment(),
    });
  }

  /** Why {@link World.blockDirect} cannot be done here; `undefined`: it can. */
  whyNotBlock(): string | undefined {
    return whyNoRouters(this.internet);
  }

  /** Carries no UDP between the networks of client and gateway any more, or does again: what is left is the relay. */
  blockDirect(blocked: boolean): void {
    const rules = (["ip", "ip6"] as const).flatMap((family) => {
      const [client, gateway] = [CLIENT_NETWORK[family], GATEWAY_NETWORK[family]];
      return [
        `${family} saddr ${client} ${family} daddr ${gateway} meta l4proto udp drop`,
        `${family} saddr ${gateway} ${family} daddr ${client} meta l4proto udp drop`,
      ];
    });
    loadRules(
      this.internet,
      `table inet lab_internet {
  chain forward {
    type filter hook forward priority 0
    ${blocked ? rules.join("\n    ") : ""}
  }
}
`,
    );
  }

  /** Pings an address from the client every 20 ms, from the first reply on until the returned function is called. */
  pingStream(address: string): Promise<() => Promise<PingStreamResult>> {
    return startPingStream(this.client, address, join(this.directory, "probe.log"));
  }

  /** `wirelane gateway`. */
  startGateway(overrides: ProgramOverrides = {}): LabProgram {
    const env = { FIREZONE_TOKEN: TOKENS.gateway, FIREZONE_ID: GATEWAY_ID, FIREZONE_NAME: "demo-gateway" };
    return this.#start("gateway", this.gateway, [], { ...env, FIREZONE_API_URL: PORTAL_URL }, overrides);
  }

  /** `wirelane client`. */
  startClient(overrides: ProgramOverrides = {}): LabProgram {
    const env = { FIREZONE_TOKEN: TOKENS.client, FIREZONE_ID: CLIENT_ID, FIREZONE_NAME: "demo-client" };
    const fixed = { FIREZONE_API_URL: PORTAL_URL, FIREZONE_DNS_CONTROL: "disabled" };
    return this.#start("client", this.client, [], { ...env, ...fixed }, overrides);
  }

  /** Starts the HTTP servers of the resource hosts. @returns what each serves under /file. */
  async startResources(names: readonly ResourceName[] = ["intranet"]): Promise<ResourceFile> {
    const files = await Promise.all(
      names.map(async (name) => {
        const server = LabProgram.start(this.resources[name], {
          name: `HTTP server of ${name}`,
          script: RESOURCE_SERVER,
          args: [String(RESOURCE_PORT)],
          env: process.env,
          logFile: join(this.directory, `${name}.log`),
        });
        const { fields } = await server.waitFor((record) => "sha256" in record.fields, {
          timeout: SERVER_START_TIMEOUT,
        });
        return { bytes: Number(fields["bytes"]), sha256: String(fields["sha256"]) };
      }),
    );
    return files[0] ?? { bytes: 0, sha256: "" };
  }

  /**
   * Sends one echo request from the client, or another host, and waits for its reply; this thread waits with it.
   *
   * @param timeout milliseconds.
   * @returns milliseconds of the round trip; `undefined` without a reply, and when the host has no route there.
   */
  ping(address: string, timeout: number, from = this.client): number | undefined {
    const ip = IpAddress.parse(address);
    if (ip === undefined) throw new RangeError(`"${address}" is not an address`);
    this.#sequence = (this.#sequence + 1) & 0xffff;
    return from.enter(() => {
      try {
        return ping(ip, timeout, this.#sequence);
      } catch (error) {
        if (error instanceof SystemCallError && /unreach/i.test(error.message)) return undefined;
        throw error;
      }
    });
  }

  /**
   * Runs scripts/demo/probe.ts on a host, the client if none is named. @returns the result that it prints.
   *
   * @param onProgress called now and then with the bytes carried so far.
   * @param timeout milliseconds.
   */
  async probe(
    args: readonly string[],
    options: { readonly from?: LabHost; readonly timeout?: number; readonly onProgress?: (bytes: number) => void } = {},
  ): Promise<Readonly<Record<string, unknown>>> {
    const { from = this.client, timeout = 120_000, onProgress } = options;
    const [command = "probe"] = args;
    const run = LabProgram.start(from, {
      name: `${command} on ${from.name}`,
      script: PROBE,
      args,
      env: process.env,
      logFile: join(this.directory, "probe.log"),
    });
    const isProgress = ({ fields }: { fields: Readonly<Record<string, unknown>> }) => {
      if (!("progress" in fields)) return false;
      onProgress?.(Number(fields["progress"]));
      return true;
    };
    try {
      const result = await run.waitFor((record) => !isProgress(record), { timeout });
      return result.fields;
    } finally {
      await run.stop("SIGKILL");
    }
  }

  /** Ends all programs (SIGTERM, after 3 s SIGKILL) and puts the ordinary configuration in the portal's file. */
  async reset(): Promise<void> {
    const relay = this.#relay === undefined ? [] : [this.#relay];
    const hosts = [this.internet, this.client, this.gateway, ...Object.values(this.resources), ...relay];
    await Promise.all(hosts.map((host) => host.stopPrograms(3000)));
    this.configuration = defaultConfiguration(this.ipv6);
    this.writeConfiguration();
  }

  /** Ends all programs and removes everything but the directory. Idempotent. */
  destroy(): Promise<void> {
    return this.lab.destroy();
  }

  /** Connects two hosts by /24 and /64; the first gets the host number 1 and may be the other's way to everywhere. */
  #connect(one: LabHost, other: LabHost, ipv4: string, ipv6: string, defaultRoute: boolean, number = 2): void {
    const name = other.nextInterfaceName();
    this.lab.connect(one, other, {
      ipv4: [`${ipv4}.1/24`, `${ipv4}.${number}/24`],
      ...(this.ipv6 ? { ipv6: [`${ipv6}:1/64`, `${ipv6}:${number}/64`] as const } : {}),
      names: [one.nextInterfaceName(), name],
    });
    if (!defaultRoute) return;
    other.route("default", { via: `${ipv4}.1`, dev: name });
    if (this.ipv6) other.route("default6", { via: `${ipv6}:1`, dev: name });
  }

  #addRelay(): LabHost {
    const host = this.lab.host("relay");
    const name = host.nextInterfaceName();
    this.lab.connect(this.internet, host, {
      ipv4: [`${RELAY_ROUTER.ipv4}/28`, `${RELAY.ipv4}/28`],
      ...(this.ipv6 ? { ipv6: [`${RELAY_ROUTER.ipv6}/64`, `${RELAY.ipv6}/64`] as const } : {}),
      names: [this.internet.nextInterfaceName(), name],
    });
    host.route("default", { via: RELAY_ROUTER.ipv4, dev: name });
    if (this.ipv6) host.route("default6", { via: RELAY_ROUTER.ipv6, dev: name });
    return host;
  }

  #start(
    program: "portal" | "gateway" | "client",
    host: LabHost,
    args: readonly string[],
    env: Readonly<Record<string, string>>,
    overrides: ProgramOverrides,
  ): LabProgram {
    return LabProgram.start(host, {
      name: program,
      script: WIRELANE,
      args: [program, ...args, ...(overrides.args ?? [])],
      env: { ...programEnvironment(), ...env, ...overrides.env },
      logFile: join(this.directory, `${program}.jsonl`),
    });
  }
}

/** This process's environment without what wirelane's programs would take for theirs. */
export function ownEnvironment(): NodeJS.ProcessEnv {
  const foreign = /^(FIREZONE_|HEALTH_CHECK_|LOG_DIR$|MAX_PARTITION_TIME$|NOTIFY_SOCKET$|NODE_TEST)/;
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !foreign.test(name)));
}

/** What all of wirelane's programs are started with. */
export function programEnvironment(): NodeJS.ProcessEnv {
  const level = process.env["RUST_LOG"] ?? "info";
  return { ...ownEnvironment(), RUST_LOG: level, FIREZONE_LOG_FORMAT: "json", NO_COLOR: "1" };
}

/** Whether this network namespace can masquerade: tried and taken back. @returns why not. */
function whyNoMasquerade(): string | undefined {
  const result = startMasquerade({ tunnelInterface: TUNNEL_INTERFACE });
  if (result.type === "unavailable") return result.reason;
  result.masquerade.remove();
  return undefined;
}
