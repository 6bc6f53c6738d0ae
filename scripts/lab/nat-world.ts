// A world in which client and gateway are behind routers, with relays in the internet.
//
//    client ── network 1 ──┐                                ┌── network 2 ── gateway ── intranet 172.20.0.10, fd20::10
//                          ├── internet ── portal           │
//    network 3 (…) ────────┘          ├─── relay 1          │
//                                     └─── relay 2 (…) ─────┘
//
// Addresses are in internet.ts and network.ts. Everything is built by `create`; programs are started one by one or by `start`, and
// then things go wrong: programs are stopped, lines cut, hosts moved, UDP between the networks blocked.

import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { addAddress, deleteAddress, parseAddressWithPrefix } from "../../src/system/linux/rtnetlink/addresses.js";
import { getLink } from "../../src/system/linux/rtnetlink/links.js";
import type { LabHost } from "./host.js";
import { Internet, type Line, type LineOptions } from "./internet.js";
import { Lab } from "./lab.js";
import { whyNoRouters } from "./nat-router.js";
import { LabNetwork, type NetworkPlan } from "./network.js";
import { type PathKind, pathOf, waitForPath } from "./path-kind.js";
import { LabProgram } from "./program.js";
import { COTURN_USER, RELAY_PORT, type RelayKind, type RunningRelay, startRelay } from "./relay-program.js";
import { RESOURCE, ResourceTraffic } from "./resource-traffic.js";
import { type ProgramOverrides, programEnvironment, RESOURCE_PORT } from "./world.js";
import { defaultConfiguration, renderConfiguration, TOKENS, type WorldConfiguration } from "./world-configuration.js";

/** How to make a world. */
export interface NatWorldOptions {
  /** Where the programs' logs and the portal's file go. Made if missing, never removed. */
  readonly directory: string;
  /** The networks of client and gateway. */
  readonly client?: NetworkPlan;
  readonly gateway?: NetworkPlan;
  /** Networks that the client can move to: numbers 3 and up. */
  readonly others?: readonly NetworkPlan[];
  /** How many relays there are. Default 2, at most 14. */
  readonly relays?: number;
  /** Which program relays. Default `wirelane`. */
  readonly relayKind?: RelayKind;
  /** The relays' lines, as `{ link: { delay: 20 } }` (one for all, or each its own). */
  readonly relayLines?: LineOptions | readonly LineOptions[];
  /** As in `LabOptions`. */
  readonly handleSignals?: boolean;
}

/** A relay of the world. */
export interface WorldRelay {
  readonly name: string;
  readonly host: LabHost;
  readonly line: Line;
  readonly token: string;
  /** The running program; `undefined` before the first start. */
  program: RunningRelay | undefined;
  /** Its addresses at present. */
  ipv4: string | undefined;
  ipv6: string | undefined;
}

/** TCP port of the portal. */
export const PORTAL_PORT = 8080;

/** Time for what a program should do soon, milliseconds: two cores may be busy with other things. */
const SOON = 20_000;

const WIRELANE = fileURLToPath(new URL("../../src/programs/main.js", import.meta.url));
const RESOURCE_SERVER = fileURLToPath(new URL("../demo/resource-server.js", import.meta.url));

/** Devices' ids, so that nothing is stored on the machine. */
const GATEWAY_ID = "5a3b6e2c-0d51-4d0e-9d8b-6f2a3c1e4b70";
const CLIENT_ID = "8d7c5b1a-3f42-4c6d-8e9f-0a1b2c3d4e5f";

/** The world. */
export class NatWorld {
  readonly lab: Lab;
  readonly directory: string;
  readonly internet: Internet;
  readonly relayKind: RelayKind;
  readonly portalHost: LabHost;
  readonly clientHost: LabHost;
  readonly gatewayHost: LabHost;
  readonly resourceHost: LabHost;
  /** The relays, in order of their numbers. */
  readonly relays: readonly WorldRelay[];
  /** All networks: the client's at first, the gateway's, others. */
  readonly networks: readonly LabNetwork[];
  /** What goes from the client to the resource. */
  readonly traffic: ResourceTraffic;
  portal: LabProgram | undefined;
  gateway: LabProgram | undefined;
  client: LabProgram | undefined;
  #clientNetwork: LabNetwork;
  #gatewayNetwork: LabNetwork;

  private constructor(parts: {
    readonly options: NatWorldOptions;
    readonly internet: Internet;
    readonly portalHost: LabHost;
    readonly relays: readonly WorldRelay[];
    readonly networks: readonly LabNetwork[];
    readonly clientNetwork: LabNetwork;
    readonly gatewayNetwork: LabNetwork;
  }) {
    const { options, internet } = parts;
    this.lab = internet.lab;
    this.internet = internet;
    this.directory = options.directory;
    this.relayKind = options.relayKind ?? "wirelane";
    this.portalHost = parts.portalHost;
    this.relays = parts.relays;
    this.networks = parts.networks;
    this.#clientNetwork = parts.clientNetwork;
    this.#gatewayNetwork = parts.gatewayNetwork;
    this.clientHost = this.lab.host("client");
    this.gatewayHost = this.lab.host("gateway");
    this.resourceHost = this.lab.host("intranet");
    this.#clientNetwork.attach(this.clientHost);
    this.#gatewayNetwork.attach(this.gatewayHost);
    this.lab.connect(this.gatewayHost, this.resourceHost, {
      ipv4: ["172.20.0.1/24", `${RESOURCE.ipv4}/24`],
      ...(internet.ipv6 ? { ipv6: ["fd20::1/64", `${RESOURCE.ipv6}/64`] as const } : {}),
    });
    const { clientHost, gatewayHost, directory } = this;
    this.traffic = new ResourceTraffic({ clientHost, gatewayHost, directory });
    this.#writeConfiguration();
  }

  /**
   * Builds a world, without programs.
   *
   * @throws SystemCallError EPERM without the privilege to make namespaces: see `rerunInUserNamespace`; Error when routers cannot be made.
   */
  static async create(options: NatWorldOptions): Promise<NatWorld> {
    const { relays = 2, relayLines = {}, client = {}, gateway = {}, others = [] } = options;
    mkdirSync(options.directory, { recursive: true });
    const lab = Lab.create(options.handleSignals === undefined ? {} : { handleSignals: options.handleSignals });
    try {
      const internet = new Internet(lab);
      const problem = whyNoRouters(internet.host);
      if (problem !== undefined) throw new Error(problem);
      const portalHost = lab.host("portal");
      await internet.connectServer(0, "portal", portalHost);
      const networks: LabNetwork[] = [];
      for (const [i, plan] of [client, gateway, ...others].entries())
        networks.push(await LabNetwork.create(internet, i + 1, plan));
      const [clientNetwork, gatewayNetwork] = networks;
      if (clientNetwork === undefined || gatewayNetwork === undefined) throw new RangeError("two networks at least");
      const isOne = (value: typeof relayLines): value is LineOptions => !Array.isArray(value);
      const made: WorldRelay[] = [];
      for (let number = 1; number <= relays; number++) {
        const host = lab.host(`relay-${number}`);
        const options = isOne(relayLines) ? relayLines : (relayLines[number - 1] ?? {});
        const line = await internet.connectServer(number, `relay${number}`, host, options);
        const token = `lab-relay-token-${number}`;
        made.push({ name: host.name, host, line, token, program: undefined, ipv4: line.ipv4, ipv6: line.ipv6 });
      }
      return new NatWorld({ options, internet, portalHost, relays: made, networks, clientNetwork, gatewayNetwork });
    } catch (error) {
      lab.destroySoon();
      throw error;
    }
  }

  /** The network that the client is in. */
  get clientNetwork(): LabNetwork {
    return this.#clientNetwork;
  }

  /** The network that the gateway is in. */
  get gatewayNetwork(): LabNetwork {
    return this.#gatewayNetwork;
  }

  /** Starts relays, portal, HTTP server, gateway and client, and waits until all are ready. */
  async start(): Promise<void> {
    await Promise.all([this.startServers(), this.startResource()]);
    await this.startGateway();
    await this.startClient();
  }

  /** Starts portal and relays, until all of them serve. */
  async startServers(): Promise<void> {
    await this.startPortal();
    await Promise.all(this.relays.map((_, i) => this.startRelay(i + 1)));
  }

  /** `wirelane portal`, until it listens. */
  async startPortal(): Promise<void> {
    const listen = `${this.internet.ipv6 ? "[::]" : "0.0.0.0"}:${PORTAL_PORT}`;
    const state = join(this.directory, "devices.json");
    const args = ["--config", this.configurationFile, "--listen", listen, "--state", state];
    this.portal = this.#startProgram("portal", this.portalHost, args, {});
    await this.portal.waitFor("Portal is listening", { timeout: SOON });
  }

  /** Starts relay `number` (from 1 on), until it serves. */
  async startRelay(number: number, args: readonly string[] = []): Promise<void> {
    const relay = this.relay(number);
    relay.program = startRelay(this.relayKind, relay.host, {
      name: relay.name,
      ipv4: relay.ipv4,
      ipv6: relay.ipv6,
      apiUrl: this.#portalUrl(relay.line.ipv4 !== undefined),
      token: relay.token,
      logFile: join(this.directory, `${relay.name}.jsonl`),
      env: programEnvironment(),
      args,
    });
    await relay.program.ready(SOON);
  }

  /** `wirelane gateway`, until it is signed in and ready. */
  async startGateway(overrides: ProgramOverrides = {}): Promise<void> {
    const env = { FIREZONE_TOKEN: TOKENS.gateway, FIREZONE_ID: GATEWAY_ID, FIREZONE_NAME: "lab-gateway" };
    this.gateway = this.#startProgram("gateway", this.gatewayHost, [], env, overrides);
    await ready(this.gateway);
  }

  /** `wirelane client`, until it is signed in and ready. */
  async startClient(overrides: ProgramOverrides = {}): Promise<void> {
    const identity = { FIREZONE_TOKEN: TOKENS.client, FIREZONE_ID: CLIENT_ID, FIREZONE_NAME: "lab-client" };
    const env = { ...identity, FIREZONE_DNS_CONTROL: "disabled" };
    this.client = this.#startProgram("client", this.clientHost, [], env, overrides);
    await ready(this.client);
  }

  /** The HTTP server of the resource, until it serves. */
  async startResource(): Promise<void> {
    const server = LabProgram.start(this.resourceHost, {
      name: "HTTP server",
      script: RESOURCE_SERVER,
      args: [String(RESOURCE_PORT)],
      env: process.env,
      logFile: join(this.directory, "resource.log"),
    });
    await server.waitFor((record) => "sha256" in record.fields, { timeout: SOON });
  }

  /** Relay `number`, from 1 on. */
  relay(number: number): WorldRelay {
    const relay = this.relays[number - 1];
    if (relay === undefined) throw new RangeError(`there is no relay ${number}`);
    return relay;
  }

  /** Ends relay `number` (default: at once, without a word) and waits for its end. */
  async stopRelay(number: number, signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
    await this.relay(number).program?.stop(signal);
  }

  /** Gives relay `number` other addresses in place of those it has (another machine took its place). It must not run. */
  readdressRelay(number: number): void {
    const relay = this.relay(number);
    const { netlink } = relay.host;
    const { index } = getLink(netlink, relay.line.interface);
    for (const family of ["ipv4", "ipv6"] as const) {
      const old = relay[family];
      if (old === undefined) continue;
      // The last number is 2 at first: the next machine in the same network.
      const fresh = old.replace(/\d+$/, (last) => String(Number(last) + 1));
      const length = family === "ipv4" ? 28 : 64;
      const parse = (text: string) => {
        const address = parseAddressWithPrefix(`${text}/${length}`);
        if (address === undefined) throw new RangeError(`"${text}" is not an address`);
        return address;
      };
      deleteAddress(netlink, index, parse(old));
      addAddress(netlink, index, parse(fresh), { noDuplicateDetection: true });
      relay[family] = fresh;
      // The default route of IPv4 went with its source address.
      if (family === "ipv4") {
        const gateway = old.replace(/\d+$/, (last) => String(Number(last) - 1));
        relay.host.route("default", { via: gateway, dev: relay.line.interface });
      }
    }
  }

  /** Blocks all UDP between the networks, or no more: what is left are relays. */
  blockDirect(blocked = true): void {
    this.internet.blockDirect(blocked);
  }

  /** Pulls the client's plug. */
  unplugClient(): void {
    this.#clientNetwork.detach(this.clientHost);
  }

  /** Plugs the client in, in a network (one of `networks`; default: where it was) as host `number`. */
  plugClient(network = this.#clientNetwork, number = 2): void {
    this.#clientNetwork = network;
    network.attach(this.clientHost, number);
  }

  /** Moves the client to another network, with nothing in between. */
  moveClient(network: LabNetwork, number = 2): void {
    this.unplugClient();
    this.plugClient(network, number);
  }

  /** Moves the gateway to another network. */
  moveGateway(network: LabNetwork, number = 2): void {
    this.#gatewayNetwork.detach(this.gatewayHost);
    this.#gatewayNetwork = network;
    network.attach(this.gatewayHost, number);
  }

  /** Which way a program's connection goes; `undefined` when it has none yet. */
  path(program = this.client): PathKind | undefined {
    return program && pathOf(program);
  }

  /** Waits until a program's connection goes this way, and says when it does not. */
  async waitForPath(path: PathKind, timeout: number, program = this.client): Promise<void> {
    if (program === undefined) throw new Error("the program was not started");
    await waitForPath(program, path, timeout);
  }

  /** What the programs did last and which way their connections went: for the message of a failure. */
  async describe(): Promise<string> {
    const programs = [this.client, this.gateway].filter((program) => program !== undefined);
    const paths = programs.map((program) => {
      const selected = program.records.filter(({ message }) => message === "Path selected");
      const list = selected.map(({ fields }) => fields["path"]).join(", ");
      return `${program.name}: path ${list === "" ? "none" : list}${program.running ? "" : " (ended)"}`;
    });
    for (const program of programs) program.signal("SIGUSR2");
    await sleep(200);
    const relays = this.relays.map(({ name, program }) => ({ name, tail: program?.tail ?? "not started" }));
    const all = [this.portal, ...programs].filter((program) => program !== undefined);
    return [...paths, ...[...relays, ...all].map(({ name, tail }) => `--- ${name}\n${tail}`)].join("\n");
  }

  /** Hosts by name and path of their namespaces, for people who look around in a world that is left standing. */
  get hosts(): readonly LabHost[] {
    const routers = this.networks.flatMap((network) => network.routers.map(({ host }) => host));
    const relays = this.relays.map(({ host }) => host);
    const ends = [this.clientHost, this.gatewayHost, this.resourceHost];
    return [...ends, this.portalHost, ...relays, ...routers, this.internet.host];
  }

  /** Names of the files with logs. */
  get logs(): string[] {
    return readdirSync(this.directory).map((name) => join(this.directory, name));
  }

  /** Ends all programs and removes everything but the directory. Idempotent. */
  destroy(): Promise<void> {
    return this.lab.destroy();
  }

  /** The portal's file. */
  get configurationFile(): string {
    return join(this.directory, "portal.yaml");
  }

  #writeConfiguration(): void {
    const base: WorldConfiguration = defaultConfiguration(this.internet.ipv6);
    const tokens = this.relays.map(({ token }) => token);
    const addresses = this.relays.flatMap(({ ipv4, ipv6 }) => [
      ...(ipv4 === undefined ? [] : [`${ipv4}:${RELAY_PORT}`]),
      ...(ipv6 === undefined ? [] : [`[${ipv6}]:${RELAY_PORT}`]),
    ]);
    const relays =
      this.relayKind === "wirelane"
        ? { tokens }
        : { static: addresses.map((address) => ({ address, ...COTURN_USER })) };
    writeFileSync(this.configurationFile, renderConfiguration({ ...base, relays }));
  }

  #portalUrl(ipv4: boolean): string {
    return ipv4 ? `ws://203.0.113.2:${PORTAL_PORT}` : `ws://[2001:db8:f0::2]:${PORTAL_PORT}`;
  }

  #startProgram(
    name: "portal" | "gateway" | "client",
    host: LabHost,
    args: readonly string[],
    env: Readonly<Record<string, string>>,
    overrides: ProgramOverrides = {},
  ): LabProgram {
    const network = name === "client" ? this.#clientNetwork : this.#gatewayNetwork;
    const url = name === "portal" ? {} : { FIREZONE_API_URL: this.#portalUrl(network.line.ipv4 !== undefined) };
    return LabProgram.start(host, {
      name,
      script: WIRELANE,
      args: [name, ...args, ...(overrides.args ?? [])],
      env: { ...programEnvironment(), ...url, ...env, ...overrides.env },
      logFile: join(this.directory, `${name}.jsonl`),
    });
  }
}

/** Waits until a gateway or client has signed in and configured its interface. */
async function ready(program: LabProgram): Promise<void> {
  await program.waitFor("Connected to portal", { timeout: SOON });
  await program.waitFor("Tunnel ready", { timeout: SOON });
}
