// A host of a lab: a network namespace with what one does on a host (addresses, routes, kernel parameters, programs).

import { type ChildProcess, type SpawnOptions, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { IpAddress, IpPrefix } from "../../src/base/address.js";
import { NetworkNamespace } from "../../src/system/linux/namespace.js";
import {
  type AddressWithPrefix,
  addAddress,
  listAddresses,
  parseAddressWithPrefix,
} from "../../src/system/linux/rtnetlink/addresses.js";
import { changeLink, getLink, type LinkChanges, listLinks } from "../../src/system/linux/rtnetlink/links.js";
import type { NetlinkSocket } from "../../src/system/linux/rtnetlink/netlink.js";
import { addRoute, RouteScope, type RouteTypeName } from "../../src/system/linux/rtnetlink/routes.js";
import { Sysctls } from "../../src/system/linux/sysctl.js";
import { signalProcess } from "./processes.js";

/** How to run a program to its end. */
export interface RunOptions {
  /** Written to its standard input. */
  readonly input?: string;
  /** Milliseconds until it is killed. Default 60 s. */
  readonly timeout?: number;
  readonly env?: NodeJS.ProcessEnv;
  readonly cwd?: string;
  /** Return also when it fails, rather than throw. */
  readonly allowFailure?: boolean;
}

/** How a program ended. */
export interface RunResult {
  /** Exit code; `null` when a signal ended it. */
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** What a route leads to. */
export interface RouteTarget {
  /** Address of the next hop. */
  readonly via?: string;
  /** Name of the outgoing interface. */
  readonly dev?: string;
  readonly type?: RouteTypeName;
  readonly table?: number;
}

/** How to set up an interface. */
export interface InterfaceConfiguration {
  /** With prefix lengths, as `192.0.2.1/24`. */
  readonly addresses?: readonly string[];
  /** Bytes. */
  readonly mtu?: number;
}

/** Most bytes of output that `run` keeps of a program. */
const OUTPUT_LIMIT = 16 * 1024 * 1024;

/** A host. Made by `Lab.host`. */
export class LabHost {
  readonly name: string;
  readonly namespace: NetworkNamespace;
  /** A connection to the host's routing subsystem. */
  readonly netlink: NetlinkSocket;
  readonly #programs = new Set<ChildProcess>();

  constructor(name: string) {
    this.name = name;
    this.namespace = NetworkNamespace.create();
    this.netlink = this.namespace.netlink();
  }

  /** Calls `action` with this thread on the host: see `NetworkNamespace.enter`. */
  enter<T>(action: () => T): T {
    return this.namespace.enter(action);
  }

  /**
   * Starts a program on the host, in a process group of its own. It ends with the lab at the latest, and where setpriv(1) is
   * installed also when this process is killed (what it started itself may then go on).
   */
  spawn(program: string, args: readonly string[] = [], options: SpawnOptions = {}): ChildProcess {
    const [command, ...rest] = [...dieWithParent(), program, ...args];
    const child = this.enter(() => spawn(command ?? program, rest, { ...options, detached: true }));
    this.#programs.add(child);
    child.once("exit", () => this.#programs.delete(child));
    child.once("error", () => this.#programs.delete(child));
    return child;
  }

  /** Runs a program on the host to its end. @throws Error with its output when it fails or does not end in time. */
  async run(program: string, args: readonly string[] = [], options: RunOptions = {}): Promise<RunResult> {
    const child = this.spawn(program, args, {
      stdio: ["pipe", "pipe", "pipe"],
      ...(options.env === undefined ? {} : { env: options.env }),
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    });
    const timeout = options.timeout ?? 60_000;
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      endGroup(child, "SIGKILL");
    }, timeout);
    const stdout = collect(child.stdout);
    const stderr = collect(child.stderr);
    // A program that does not read its input closes it: that is its business.
    child.stdin?.on("error", () => undefined);
    child.stdin?.end(options.input ?? "");
    try {
      const { status, signal } = await ended(child);
      const result = { status, signal, stdout: stdout(), stderr: stderr() };
      if (status !== 0 && options.allowFailure !== true) {
        const why = late ? `did not end within ${timeout} ms` : `ended with ${signal ?? `exit code ${status}`}`;
        const output = [result.stdout, result.stderr].filter((text) => text !== "").join("\n");
        throw new Error(`${this.name}: ${[program, ...args].join(" ")} ${why}\n${output}`);
      }
      return result;
    } finally {
      clearTimeout(timer);
    }
  }

  /** `eth` with the lowest number that is free. */
  nextInterfaceName(): string {
    const names = new Set(listLinks(this.netlink).map((link) => link.name));
    let number = 0;
    while (names.has(`eth${number}`)) number++;
    return `eth${number}`;
  }

  /** Gives an interface addresses, usable at once, and brings it up. */
  configure(interfaceName: string, configuration: InterfaceConfiguration): void {
    const { index, hardwareAddress } = getLink(this.netlink, interfaceName);
    const { mtu, addresses = [] } = configuration;
    const wanted = addresses.map((text) => {
      const address = parseAddressWithPrefix(text);
      if (address === undefined) throw new RangeError(`"${text}" is not an address with a prefix length`);
      return address;
    });
    if (existsSync("/proc/sys/net/ipv6")) {
      // The kernel's own link-local address would be tentative for a second, and without any a router cannot ask for its neighbours.
      changeLink(this.netlink, index, { addressGeneration: "none" });
      const present = listAddresses(this.netlink, { link: index, family: 6 });
      const isEthernet = hardwareAddress.length === ETHERNET_ADDRESS_LENGTH;
      if (isEthernet && !present.some(({ address }) => address.isLinkLocal))
        wanted.push(linkLocalAddress(hardwareAddress));
    }
    changeLink(this.netlink, index, { up: true, ...(mtu === undefined ? {} : { mtu }) });
    for (const address of wanted) addAddress(this.netlink, index, address, { noDuplicateDetection: true });
  }

  /** Changes an interface, as `{ up: false }`. */
  changeLink(interfaceName: string, changes: LinkChanges): void {
    changeLink(this.netlink, getLink(this.netlink, interfaceName).index, changes);
  }

  /** Adds a route to a prefix, or to everything: `default` (IPv4), `default6`. */
  route(destination: string, target: RouteTarget): void {
    const prefix = IpPrefix.parse(defaultRoutes[destination] ?? destination);
    if (prefix === undefined) throw new RangeError(`"${destination}" is not a prefix`);
    const gateway = target.via === undefined ? undefined : IpAddress.parse(target.via);
    if (target.via !== undefined && gateway === undefined) throw new RangeError(`"${target.via}" is not an address`);
    const onLink = gateway === undefined && target.type === undefined;
    addRoute(this.netlink, {
      destination: prefix,
      scope: onLink ? RouteScope.link : RouteScope.universe,
      ...(gateway === undefined ? {} : { gateway }),
      ...(target.dev === undefined ? {} : { link: getLink(this.netlink, target.dev).index }),
      ...(target.type === undefined ? {} : { type: target.type }),
      ...(target.table === undefined ? {} : { table: target.table }),
    });
  }

  /** Sets a kernel parameter of the host, named as in `net/ipv4/ip_forward`. @throws Error when it cannot be set. */
  sysctl(name: string, value: string): void {
    const result = this.enter(() => new Sysctls().set(name, value));
    if (result.type === "failed") throw result.error;
  }

  /** Lets the host forward packets of both families. */
  enableForwarding(): void {
    this.sysctl("net/ipv4/ip_forward", "1");
    if (existsSync("/proc/sys/net/ipv6")) this.sysctl("net/ipv6/conf/all/forwarding", "1");
  }

  /** Ends the programs that were started here: SIGTERM, after `timeout` milliseconds SIGKILL. */
  async stopPrograms(timeout: number): Promise<void> {
    await Promise.all([...this.#programs].map((child) => this.stop(child, timeout)));
  }

  /** Ends one program that was started here with its process group; resolves when it has ended. */
  async stop(child: ChildProcess, timeout = 3000): Promise<void> {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const timer = setTimeout(() => endGroup(child, "SIGKILL"), timeout);
    const end = ended(child);
    endGroup(child, "SIGTERM");
    await end;
    clearTimeout(timer);
  }

  /** Lets go of the namespace. `Lab.destroy` does it. */
  close(): void {
    this.netlink.close();
    this.namespace.close();
  }
}

const defaultRoutes: Readonly<Record<string, string>> = { default: "0.0.0.0/0", default6: "::/0" };

/** Bytes of an Ethernet address; other devices, as tunnels, have none or longer ones. */
const ETHERNET_ADDRESS_LENGTH = 6;

/** The link-local address of an Ethernet interface (RFC 4291, appendix A). */
function linkLocalAddress(hardwareAddress: Uint8Array): AddressWithPrefix {
  const [first = 0, ...rest] = hardwareAddress;
  const identifier = [first ^ 2, ...rest.slice(0, 2), 0xff, 0xfe, ...rest.slice(2)];
  const bytes = Uint8Array.of(0xfe, 0x80, 0, 0, 0, 0, 0, 0, ...identifier);
  return { address: IpAddress.fromBytes(bytes), prefixLength: 64 };
}

/** Words in front of a command that let the program die with this process, where setpriv(1) is installed. */
function dieWithParent(): string[] {
  const { PATH = "" } = process.env;
  const installed = PATH.split(delimiter).some((folder) => existsSync(join(folder, "setpriv")));
  return installed ? ["setpriv", "--pdeathsig", "KILL", "--"] : [];
}

/** Signals a program and its descendants: `spawn` made it the leader of a process group. */
function endGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.pid !== undefined) signalProcess(-child.pid, signal);
}

/** Resolves when a program has ended and its output is complete; rejects when it could not be started. */
function ended(child: ChildProcess): Promise<{ status: number | null; signal: NodeJS.Signals | null }> {
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (status, signal) => resolve({ status, signal }));
  });
}

/** Collects a stream; the result returns what came so far. */
function collect(stream: NodeJS.ReadableStream | null): () => string {
  const chunks: Buffer[] = [];
  let length = 0;
  stream?.on("data", (chunk: Buffer) => {
    if (length < OUTPUT_LIMIT) chunks.push(chunk);
    length += chunk.length;
  });
  return () => Buffer.concat(chunks).toString("utf8");
}
