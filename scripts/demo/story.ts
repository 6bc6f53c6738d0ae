// The demo's steps, in order. Each either passes and is reported with its time, or throws: then `Story.current` names it.

import { setTimeout as sleep } from "node:timers/promises";
import { type PathKind, waitForPath } from "../lab/path-kind.js";
import type { LabProgram, LogRecord } from "../lab/program.js";
import {
  PORTAL_URL,
  RELAY,
  RESOURCE_PORT,
  RESOURCES,
  type ResourceFile,
  type ResourceName,
  type World,
} from "../lab/world.js";
import { formatMilliseconds, formatRate, type Report, type Step } from "./report.js";

/** What came out. Times in milliseconds, rates in bits per second. */
export interface DemoResult {
  readonly firstPacket: {
    /** From the first echo request to its reply. */
    readonly roundTripMs: number;
    readonly intentMs: number;
    readonly routingDetailsMs: number;
    readonly handshakeMs: number;
    /** The first echo request to the second resource over the same connection. */
    readonly secondResourceMs: number;
  };
  readonly download: {
    readonly bytes: number;
    readonly seconds: number;
    readonly sha256: string;
    readonly bitsPerSecond: number;
  };
  /** Round trips in the established tunnel; `ipv6` is absent where the kernel has none. */
  readonly ping: { readonly ipv4: readonly number[]; readonly ipv6?: readonly number[] };
  /** Addresses that must not be reachable, and how the attempt ended. */
  readonly denied: readonly { readonly address: string; readonly outcome: string }[];
  readonly throughput: { readonly download: number; readonly upload: number };
  /** The connection without UDP between the networks, and with it again; absent where that cannot be blocked. */
  readonly relayed?: {
    /** From the block until the connection goes over the relay, and until pings come through again. */
    readonly toRelayMs: number;
    readonly gapMs: number;
    /** Median round trip over the relay. */
    readonly roundTripMs: number;
    /** From the end of the block until the connection is direct, and pings lost by that. */
    readonly toDirectMs: number;
    readonly lost: number;
    readonly sent: number;
  };
}

/** Time limits in milliseconds: generous, for slow machines; what takes long is shown, not hidden. */
const PROGRAM_TIMEOUT = 20_000;
const FIRST_PACKET_TIMEOUT = 5000;
const PING_TIMEOUT = 2000;
const DENIED_TIMEOUT = 700;
const DOWNLOAD_TIMEOUT = 300_000;

/** How long the client has been up, without a connection, when the first packet is sent: start-up work is over then. */
const SETTLE_TIME = 2000;

const PING_COUNT = 5;

/** How long a path may take to change, and how long it is looked at then. */
const PATH_TIMEOUT = 30_000;
const PATH_TIME = 1500;

/** The steps. */
export class Story {
  #current = "building the world";
  #abandoned = false;
  readonly steps: Step[] = [];
  readonly #report: Report;
  readonly #seconds: number;

  /** @param seconds how long to measure throughput per direction. */
  constructor(report: Report, seconds: number) {
    this.#report = report;
    this.#seconds = seconds;
  }

  /** Title of the step that is going on. */
  get current(): string {
    return this.#current;
  }

  /** Runs all steps in `world`. @throws Error when one fails. */
  async run(world: World): Promise<DemoResult> {
    const { client, file } = await this.#start(world);
    const firstPacket = await this.#firstPacket(world, client);
    this.#report.heading("Traffic");
    const download = await this.#download(world, file);
    const ping = this.#pings(world);
    const denied = await this.#denied(world);
    const throughput = await this.#throughput(world);
    const relayed = await this.#relayed(world, client);
    return { firstPacket, download, ping, denied, throughput, ...(relayed === undefined ? {} : { relayed }) };
  }

  /** Lets the step that is going on be the last. */
  abandon(): void {
    this.#abandoned = true;
  }

  async #start(world: World): Promise<{ client: LabProgram; file: ResourceFile }> {
    this.#report.heading("Start");
    const resources = world.startResources(["intranet"]);
    // Its failure is that of the step that awaits it.
    resources.catch(() => undefined);

    this.#begin("portal up");
    let start = Date.now();
    const portal = world.startPortal();
    await portal.waitFor("Portal is listening", { timeout: PROGRAM_TIMEOUT });
    this.#passed("portal-up", Date.now() - start, PORTAL_URL);

    this.#begin("relay online");
    start = Date.now();
    await world.startRelay().ready(PROGRAM_TIMEOUT);
    this.#passed("relay-online", Date.now() - start, RELAY.ipv4);

    this.#begin("gateway online");
    start = Date.now();
    const gateway = world.startGateway();
    await gateway.waitFor("Connected to portal", { timeout: PROGRAM_TIMEOUT });
    await gateway.waitFor("Tunnel ready", { timeout: PROGRAM_TIMEOUT });
    this.#passed("gateway-online", Date.now() - start);
    if (world.routeBackReason !== undefined) {
      this.#report.note(`no masquerading here (${world.routeBackReason}): the resources got a route back`);
    }

    this.#begin("client signed in");
    start = Date.now();
    const client = world.startClient();
    await client.waitFor("Connected to portal", { timeout: PROGRAM_TIMEOUT });
    await client.waitFor("Tunnel ready", { timeout: PROGRAM_TIMEOUT });
    this.#passed("client-signed-in", Date.now() - start);

    this.#begin("resource server");
    const file = await resources;
    this.#begin("letting the programs settle");
    await sleep(SETTLE_TIME);
    return { client, file };
  }

  async #firstPacket(world: World, client: LabProgram): Promise<DemoResult["firstPacket"]> {
    const { ipv4: address } = RESOURCES.intranet;
    this.#begin("first packet sent");
    this.#report.heading("First packet (times count from the moment it was sent)");
    // The first call into the system library is slow: not the tunnel's fault.
    world.ping("127.0.0.1", PING_TIMEOUT);

    const sent = performance.timeOrigin + performance.now();
    const roundTripMs = world.ping(address, FIRST_PACKET_TIMEOUT);
    this.#passed("first-packet-sent", 0, `echo request to ${address}`, true);

    const since = async (title: string, name: string, message: string): Promise<number> => {
      this.#begin(title);
      const record: LogRecord = await client.waitFor(message, { timeout: PROGRAM_TIMEOUT });
      // Two clocks read the same time, one of them in milliseconds.
      const milliseconds = Math.max(0, record.time - sent);
      this.#passed(name, milliseconds, undefined, true);
      return milliseconds;
    };
    const intentMs = await since("intent", "intent", "Sent connection intent");
    const routingDetailsMs = await since("routing details", "routing-details", "Received routing details");
    const handshakeMs = await since("handshake", "handshake", "Connection established");

    this.#begin("first byte");
    if (roundTripMs === undefined) throw new Error(`no reply to the first ping within ${FIRST_PACKET_TIMEOUT} ms`);
    this.#passed("first-byte", roundTripMs, "reply to that very packet", true);

    this.#begin("second resource");
    const secondResourceMs = world.ping(RESOURCES.second.ipv4, FIRST_PACKET_TIMEOUT);
    if (secondResourceMs === undefined)
      throw new Error(`no reply to the first ping to ${RESOURCES.second.ipv4} within ${FIRST_PACKET_TIMEOUT} ms`);
    this.#passed("second-resource", secondResourceMs, "its first ping, over the same connection");
    return { roundTripMs, intentMs, routingDetailsMs, handshakeMs, secondResourceMs };
  }

  async #download(world: World, file: ResourceFile): Promise<DemoResult["download"]> {
    this.#begin("download 100 MB");
    const url = resourceUrl("intranet", "/file");
    const show = (bytes: number) =>
      this.#report.progress(this.current, bytes / file.bytes, `${megabytes(bytes)} of ${megabytes(file.bytes)}`);
    show(0);
    const result = await world.probe(["download", url], { timeout: DOWNLOAD_TIMEOUT, onProgress: show });
    const { bytes, seconds, sha256 } = result as { bytes: number; seconds: number; sha256: string };
    if (bytes !== file.bytes) throw new Error(`${url}: ${bytes} bytes came, ${file.bytes} were sent`);
    if (sha256 !== file.sha256) throw new Error(`${url}: SHA-256 is ${sha256}, the server's file has ${file.sha256}`);
    const bitsPerSecond = (bytes * 8) / seconds;
    this.#passed("download", seconds * 1000, `${formatRate(bitsPerSecond)}, SHA-256 ${sha256.slice(0, 16)}… matches`);
    return { bytes, seconds, sha256, bitsPerSecond };
  }

  #pings(world: World): DemoResult["ping"] {
    const ipv4 = this.#ping(world, "ipv4", "ping over IPv4");
    if (world.ipv6) return { ipv4, ipv6: this.#ping(world, "ipv6", "ping over IPv6") };
    this.#report.note("this kernel has no IPv6: not tried");
    return { ipv4 };
  }

  #ping(world: World, family: "ipv4" | "ipv6", title: string): number[] {
    this.#begin(title);
    const address = RESOURCES.intranet[family];
    const roundTrips = this.#roundTrips(world, address);
    this.#passed(`ping-${family}`, median(roundTrips), `median of ${PING_COUNT}, ${address}`);
    return roundTrips;
  }

  #roundTrips(world: World, address: string): number[] {
    const roundTrips: number[] = [];
    for (let i = 1; i <= PING_COUNT; i++) {
      const roundTrip = world.ping(address, PING_TIMEOUT);
      if (roundTrip === undefined) throw new Error(`${address}: no reply to ping ${i} within ${PING_TIMEOUT} ms`);
      roundTrips.push(roundTrip);
    }
    return roundTrips;
  }

  async #denied(world: World): Promise<DemoResult["denied"]> {
    this.#begin("no policy, no way");
    const start = Date.now();
    const addresses = [RESOURCES.forbidden.ipv4, ...(world.ipv6 ? [RESOURCES.forbidden.ipv6] : [])];
    const denied: { address: string; outcome: string }[] = [];
    for (const address of addresses) {
      if (world.ping(address, PING_TIMEOUT, world.gateway) === undefined)
        throw new Error(`${address} does not answer its own gateway: this shows nothing`);
      if (world.ping(address, DENIED_TIMEOUT) !== undefined)
        throw new Error(`${address} answered the client, although no policy grants it`);
      const attempt = await world.probe(["connect", address, String(RESOURCE_PORT), String(DENIED_TIMEOUT)]);
      const { connected, error } = attempt as { connected: boolean; error?: string };
      // A reset would come from the host itself: it was reached.
      if (connected || error?.includes("ECONNREFUSED") === true)
        throw new Error(`${address} accepted or reset the client's TCP connection, although no policy grants it`);
      denied.push({ address, outcome: `ping: no reply; TCP: ${error ?? "failed"}` });
    }
    this.#passed("denied", Date.now() - start, `${addresses.join(", ")}: not reachable from the client`);
    return denied;
  }

  async #throughput(world: World): Promise<DemoResult["throughput"]> {
    this.#report.heading(`Throughput (one TCP stream, ${this.#seconds} s each way)`);
    // More than any tunnel carries meanwhile; the probe stops when the time is up.
    const endless = Math.ceil(this.#seconds * 1e11);
    const download = await this.#rate(world, "download", "drain", `/file?bytes=${endless}`);
    const upload = await this.#rate(world, "upload", "upload", "/sink");
    return { download, upload };
  }

  async #rate(world: World, name: string, probe: "drain" | "upload", path: string): Promise<number> {
    this.#begin(`${name} rate`);
    const start = Date.now();
    const show = (bytes: number) =>
      this.#report.progress(this.current, (Date.now() - start) / (this.#seconds * 1000), megabytes(bytes));
    show(0);
    const result = await world.probe([probe, resourceUrl("intranet", path), String(this.#seconds)], {
      timeout: this.#seconds * 1000 + DOWNLOAD_TIMEOUT,
      onProgress: show,
    });
    const { bytes, seconds } = result as { bytes: number; seconds: number };
    if (bytes === 0) throw new Error("no data came through");
    const rate = (bytes * 8) / seconds;
    this.#passed(`throughput-${name}`, seconds * 1000, formatRate(rate));
    return rate;
  }

  /** The way between the networks is closed to UDP, and opened again. */
  async #relayed(world: World, client: LabProgram): Promise<DemoResult["relayed"]> {
    this.#report.heading("Relayed, and direct again (the same connection)");
    this.#begin("blocking the direct way");
    const problem = world.whyNotBlock();
    if (problem !== undefined) {
      this.#report.note(`not shown: ${problem}`);
      return undefined;
    }
    const { ipv4: address } = RESOURCES.intranet;
    await waitForPath(client, "direct", PATH_TIMEOUT);

    this.#begin("relayed");
    const stopFirst = await world.pingStream(address);
    const toRelayMs = await this.#until(client, "relayed", () => world.blockDirect(true));
    const { longestGapMs: gapMs } = await stopFirst();
    const roundTripMs = median(this.#roundTrips(world, address));
    const silence = `without UDP between the networks: ${formatMilliseconds(gapMs)} of silence, then over the relay`;
    this.#passed("relayed", toRelayMs, silence);

    this.#begin("direct again");
    const stopSecond = await world.pingStream(address);
    const toDirectMs = await this.#until(client, "direct", () => world.blockDirect(false));
    const { sent, answered } = await stopSecond();
    const lost = sent - answered;
    this.#passed("direct-again", toDirectMs, `UDP gets through: ${lost} of ${sent} pings lost meanwhile`);
    return { toRelayMs, gapMs, roundTripMs, toDirectMs, lost, sent };
  }

  /** Does something that changes the client's path. @returns the milliseconds that it took. */
  async #until(client: LabProgram, path: PathKind, action: () => void): Promise<number> {
    const start = Date.now();
    action();
    await waitForPath(client, path, PATH_TIMEOUT);
    const took = Date.now() - start;
    await sleep(PATH_TIME);
    return took;
  }

  #begin(title: string): void {
    if (this.#abandoned) throw new Error("abandoned");
    this.#current = title;
  }

  /** Reports a step of which the name, the title and the start are known. */
  #passed(name: string, milliseconds: number, detail?: string, sinceFirstPacket?: true): void {
    if (this.#abandoned) return;
    const step: Step = {
      name,
      title: this.current,
      milliseconds,
      ...(sinceFirstPacket === undefined ? {} : { sinceFirstPacket }),
      ...(detail === undefined ? {} : { detail }),
    };
    this.steps.push(step);
    this.#report.step(step);
  }
}

function resourceUrl(name: ResourceName, path: string): string {
  const port = RESOURCE_PORT === 80 ? "" : `:${RESOURCE_PORT}`;
  return `http://${RESOURCES[name].ipv4}${port}${path}`;
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(0)} MB`;
}
