// The relay in this process (spec 03, section 4): a TURN server on its sockets, and the portal that sends it users.
//
//   clients ◄─► listen sockets ◄──── datapath: channels ────► allocation sockets ◄─► peers
//                     └───── requests ──► TURN server ◄── other data ──┘
//                                             ▲
//   portal ── presence, secret ───────────────┘
//
//   running ──SIGTERM──► leaving: the portal is told; nobody new comes; what is relayed goes on ──no allocation left──► ended
//                                                                            └──SIGTERM again──► ended

import { getPriority, setPriority } from "node:os";
import type { AddressFamily, IpAddress } from "../../base/address.js";
import type { Random } from "../../base/random.js";
import { type Duration, SECOND } from "../../base/time.js";
import { RelayDatapath } from "../../datapath/relay-datapath.js";
import { relayLoginUrl } from "../../portal/login-url.js";
import { unixNow } from "../../system/clock.js";
import { nodeCrypto, systemRandom } from "../../system/crypto.js";
import { Errno, SystemCallError } from "../../system/linux/errno.js";
import { hostInfo, userAgent } from "../../system/linux/host-info.js";
import {
  type CredentialVerifier,
  fixedUsers,
  generateRelaySecret,
  portalUsers,
  sharedSecretUsers,
} from "../../turn/credentials.js";
import type { TurnServerEvent } from "../../turn/server/events.js";
import { TurnServer } from "../../turn/server/server.js";
import { Driver } from "../common/driver.js";
import type { RunningProgram } from "../common/lifecycle.js";
import type { Log, TargetLog } from "../common/log.js";
import { PortalConnection, type PortalEvent } from "../common/portal-connection.js";
import { CONNLIB_VERSION, programVersion } from "../common/version.js";
import { keepYoungGenerationSmall } from "../common/young-generation.js";
import { seededRandom } from "./seeded-random.js";
import { formatThroughput } from "./throughput.js";

/** Target of the relay's log lines. */
export const RELAY_TARGET = "relay";
/** Time between two lines of statistics (spec 03, section 4.4). */
const STATISTICS_INTERVAL: Duration = 10 * SECOND;
/** By how much nicer the thread that answers requests is than the worker: as against it, it has a quarter of a processor at least. */
const CONTROL_NICENESS = 5;
/** Greatest nice value (setpriority(2)). */
const MAX_NICENESS = 19;
/** What bind(2) says of a port that cannot be had. */
const PORT_ERRORS: ReadonlySet<number> = new Set([Errno.EADDRINUSE, Errno.EACCES]);
/** How often a relay that is leaving looks whether it may go. */
const LEAVING_INTERVAL: Duration = 100;

/** What a relay is told on its command line. */
export interface RelayOptions {
  readonly publicIpv4: IpAddress | undefined;
  readonly publicIpv6: IpAddress | undefined;
  readonly listenPort: number;
  readonly lowestPort: number;
  readonly highestPort: number;
  /** Absent: no portal. */
  readonly portal: { readonly apiUrl: string; readonly token: string; readonly name: string | undefined } | undefined;
  readonly authSecret: string | undefined;
  readonly users: readonly { readonly name: string; readonly password: string }[];
  readonly realm: string;
  readonly denyPrivatePeers: boolean;
  readonly allowLoopbackPeers: boolean;
  readonly rngSeed: bigint | undefined;
  readonly maxPartitionTime: Duration;
  readonly log: Log;
}

/** A relay, and whether it does what it is for: `/readyz`. */
export type RunningRelay = RunningProgram & { isReady(): boolean };

/** Starts a relay. @throws with words for the user; nothing is left behind then. */
export async function startRelay(options: RelayOptions): Promise<RunningRelay> {
  keepYoungGenerationSmall();
  const relay = new Relay(options);
  try {
    await relay.start();
    await relay.connect();
    return relay;
  } catch (error) {
    await relay.end();
    throw error;
  }
}

/** See the head of this file. */
class Relay implements RunningRelay {
  readonly ended: Promise<{ readonly message: string }>;
  readonly #options: RelayOptions;
  readonly #log: TargetLog;
  readonly #secret: string;
  readonly #server: TurnServer;
  readonly #driver: Driver<TurnServerEvent>;
  /** Set by {@link Relay.start}. */
  #datapath: RelayDatapath | undefined;
  /** Payload that did not go through the datapath, and all of it when the last line was logged. */
  #otherBytes = 0;
  #reportedBytes = 0;
  readonly #statistics: NodeJS.Timeout;
  readonly #end: (end: { readonly message: string }) => void;
  #portal: PortalConnection | undefined;
  #isConnected = false;

  constructor(options: RelayOptions) {
    this.#options = options;
    this.#log = options.log.target(RELAY_TARGET);
    const { publicIpv4, publicIpv6, lowestPort, highestPort, rngSeed } = options;
    const random: Random = rngSeed === undefined ? systemRandom : seededRandom(rngSeed);
    if (rngSeed !== undefined) this.#log.warn("Everything random follows from --rng-seed: for tests only");
    let end: (end: { readonly message: string }) => void = () => undefined;
    this.ended = new Promise((resolve) => {
      end = resolve;
    });
    this.#end = end;
    // First of all that is drawn (spec 03, section 3.1).
    this.#secret = generateRelaySecret(random);
    this.#server = new TurnServer({
      ipv4: publicIpv4,
      ipv6: publicIpv6,
      lowestPort,
      highestPort,
      users: this.#users(),
      ports: {
        open: (port, families) => this.#open(port, families),
        close: (port) => this.#datapath?.closePort(port),
      },
      random,
      crypto: nodeCrypto,
      software: `wirelane/${programVersion()}`,
      denyPrivatePeers: options.denyPrivatePeers,
      allowLoopbackPeers: options.allowLoopbackPeers,
    });
    this.#driver = new Driver(this.#server, {
      transmit: ({ source, destination, payload }) => {
        if (source !== undefined) this.#datapath?.sendToClient(source, destination, payload);
      },
      event: (event) => this.#handleEvent(event),
    });
    this.#statistics = setInterval(() => this.#reportThroughput(), STATISTICS_INTERVAL);
  }

  /** Starts the datapath and listens. @throws with words for the user. */
  async start(): Promise<void> {
    const { publicIpv4, publicIpv6, listenPort } = this.#options;
    const datapath = await RelayDatapath.start({
      relayedIps: [publicIpv4, publicIpv6].filter((address) => address !== undefined),
      handler: {
        fromClient: (client, local, data) =>
          this.#driver.input((now) => this.#server.handleInput(client, local, data, now, unixNow())),
        fromPeer: (port, peer, data) => {
          this.#otherBytes += data.length;
          this.#driver.input((now) => this.#server.handlePeerData(port, peer, data, now));
        },
      },
      onFailure: (error) => this.#end({ message: error.message }),
    });
    this.#datapath = datapath;
    keepYoungGenerationSmall();
    // Of this thread alone: the worker has begun with the priority of the process, and goes first when there are not enough processors. Requests
    // may wait, what is relayed may not, and who sends requests only to keep the relay busy takes from others' requests and not from their data.
    setPriority(Math.min(MAX_NICENESS, getPriority() + CONTROL_NICENESS));
    try {
      if (publicIpv4 !== undefined) datapath.listen(4, listenPort);
      if (publicIpv6 !== undefined) datapath.listen(6, listenPort);
    } catch (error) {
      throw withPortAdvice(error);
    }
    this.#log.info(`Listening for incoming traffic on UDP port ${listenPort}`);
    this.#reportThroughput();
  }

  /** Signs in, if there is a portal. */
  async connect(): Promise<void> {
    const { portal, maxPartitionTime, publicIpv4, publicIpv6, listenPort } = this.#options;
    if (portal === undefined) {
      this.#log.warn("No portal token: standalone mode");
      return;
    }
    const { token, name, apiUrl } = portal;
    this.#portal = await PortalConnection.start({
      url: relayLoginUrl(apiUrl, { token, name, ipv4: publicIpv4, ipv6: publicIpv6, port: listenPort }),
      userAgent: userAgent(hostInfo(), "relay", CONNLIB_VERSION),
      topic: "relay",
      joinPayload: { stamp_secret: this.#secret },
      mark: undefined,
      maxPartitionTime,
      onEvent: (event) => this.#handlePortalEvent(event),
    });
  }

  isReady(): boolean {
    return this.#options.portal === undefined || this.#isConnected;
  }

  reportStatistics(): void {
    const { successes, errors, limited, malformed, unrelayed } = this.#server.counters;
    this.#log.info("Statistics", {
      allocations: this.#server.allocations,
      successes: JSON.stringify(successes),
      errors: JSON.stringify(errors),
      limited,
      malformed,
      unrelayed,
      refused: this.#datapath?.refused,
      relayed_bytes: this.#relayedBytes,
    });
  }

  /** Leaves in good order: who is relayed may go on until it has found another way. */
  async stop(): Promise<void> {
    this.#log.info("Leaving", { allocations: this.#server.allocations });
    this.#portal?.close();
    let isForced = false;
    const force = () => {
      isForced = true;
      this.#log.warn("Forcing shutdown on repeated signal");
    };
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, force);
    while (!isForced && this.#server.allocations > 0)
      await new Promise((resolve) => setTimeout(resolve, LEAVING_INTERVAL));
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.off(signal, force);
    await this.end();
    this.#log.info("Goodbye!");
  }

  /** Ends at once. */
  async end(): Promise<void> {
    clearInterval(this.#statistics);
    this.#portal?.close();
    this.#driver.stop();
    await this.#datapath?.stop();
  }

  get #relayedBytes(): number {
    return this.#otherBytes + (this.#datapath?.relayedBytes ?? 0);
  }

  #users(): CredentialVerifier[] {
    const { portal, authSecret, users, realm } = this.#options;
    // One realm for all: clients are asked for one.
    if (portal !== undefined) return [portalUsers(this.#secret, nodeCrypto)];
    return [
      ...(authSecret === undefined ? [] : [sharedSecretUsers(authSecret, realm, nodeCrypto)]),
      fixedUsers(users, realm, nodeCrypto),
    ];
  }

  #open(port: number, families: readonly AddressFamily[]): boolean {
    try {
      this.#datapath?.openPort(port, families);
      return this.#datapath !== undefined;
    } catch (error) {
      if (!(error instanceof SystemCallError)) throw error;
      if (error.errno !== Errno.EADDRINUSE)
        this.#log.warn("Cannot open a port for an allocation", { port, reason: error.message });
      return false;
    }
  }

  #handleEvent(event: TurnServerEvent): void {
    switch (event.type) {
      case "send-to-peer": {
        const { allocationPort, peer, data } = event;
        this.#otherBytes += data.length;
        this.#datapath?.sendToPeer(allocationPort, peer, data);
        return;
      }
      case "allocation-created":
        if (this.#datapath?.admitClient(event.port, event.client) === false)
          this.#log.warn("The channel table is full: a client is treated as a stranger", {
            allocation: event.port,
          });
        this.#log.info("Created new allocation", { allocation: event.port });
        this.#log.debug("Client of the allocation", { allocation: event.port, client: event.client.toString() });
        return;
      case "allocation-deleted":
        this.#log.info("Deleted allocation", { allocation: event.port, reason: event.reason });
        return;
      case "channel-bound":
      case "channel-unbound":
        if (event.type === "channel-unbound") this.#datapath?.unbindChannel(event);
        else if (this.#datapath?.bindChannel(event) === false)
          this.#log.warn("The channel table is full: a channel is slower than others", {
            allocation: event.allocationPort,
          });
        this.#log.debug(event.type === "channel-bound" ? "Bound channel" : "Channel is now expired", {
          allocation: event.allocationPort,
          channel: event.channel,
          peer: event.peer.toString(),
        });
        return;
    }
  }

  #handlePortalEvent(event: PortalEvent): void {
    switch (event.type) {
      case "joined":
        this.#isConnected = true;
        this.#log.info("Connected to portal");
        return;
      case "hiccup":
        this.#isConnected = false;
        this.#log.warn("Lost the portal, will try again", { reason: event.reason, delay_ms: Math.round(event.delay) });
        return;
      case "failed":
        this.#end({
          message: `Firezone disconnected: ${event.reason}${event.authentication ? " (check the token)" : ""}`,
        });
        return;
      case "ignored":
        this.#log.debug("Ignored something of the portal", { what: event.what });
        return;
      // `init` tells a relay nothing.
      case "push":
      case "reply":
      case "error-reply":
        return;
    }
  }

  #reportThroughput(): void {
    const bytes = this.#relayedBytes - this.#reportedBytes;
    this.#reportedBytes = this.#relayedBytes;
    const throughput = formatThroughput((bytes * SECOND) / STATISTICS_INTERVAL);
    const channels = this.#server.channels;
    this.#log.info(`Allocations = ${this.#server.allocations} Channels = ${channels} Throughput = ${throughput}`);
  }
}

/** What is wrong with the port of the command line can be helped there: it is taken, or only root may have it. */
function withPortAdvice(error: unknown): unknown {
  if (!(error instanceof SystemCallError) || !PORT_ERRORS.has(error.errno)) return error;
  return new SystemCallError(error.call, error.errno, "--listen-port or LISTEN_PORT chooses another port");
}
