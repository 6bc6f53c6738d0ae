// `wirelane relay`: the command line, variables and exit statuses of the reference (spec 03, section 4.1; spec 05, section 10), and a mode
// without a portal for users of TURN in general.

import { Command, InvalidArgumentError, Option } from "commander";
import { type AddressFamily, IpAddress, type SocketAddress } from "../../base/address.js";
import { portalUrl } from "../../portal/login-url.js";
import { HealthEndpoint } from "../common/health.js";
import { type ProgramName, reportFailure, runProgram } from "../common/lifecycle.js";
import { createLog, type Log } from "../common/log.js";
import { apiUrlOption, durationArgument, messageOf, socketAddressArgument, USAGE_ERROR } from "../common/options.js";
import { TokenError, takeToken } from "../common/token.js";
import { RELAY_TARGET, type RelayOptions, startRelay } from "./program.js";

const NAME: ProgramName = { program: "relay", target: RELAY_TARGET };

/** UDP port of STUN and TURN (RFC 8489, section 18.6). */
const DEFAULT_LISTEN_PORT = 3478;
/** Ports of allocations: the dynamic ones (RFC 6335, section 6). */
const DEFAULT_LOWEST_PORT = 49152;
const DEFAULT_HIGHEST_PORT = 65535;
/** Address of the health endpoint (spec 03, section 4.1). */
const DEFAULT_HEALTH_CHECK_ADDRESS = "0.0.0.0:8080";
/** How long to fail before giving up on the portal (spec 03, section 4.5, "later fixed"): tunnels live on without it. */
const DEFAULT_MAX_PARTITION_TIME = "24h";
const MAX_PORT = 65535;

const HELP = `
With a token (the argument, FIREZONE_TOKEN, or the systemd credential of that name) the relay serves those whom the portal sends; it
tells the portal its secret, and the portal makes the credentials. Without a token it serves whoever has other credentials:

  --auth-secret SECRET   passwords are Base64 of HMAC-SHA1(SECRET, user name), user names are "expiry:anything"
  --user NAME:PASSWORD   a fixed user; may be given several times

Secrets on a command line can be seen by all users of this machine: prefer RELAY_AUTH_SECRET and RELAY_USERS.

Signals:
  SIGINT, SIGTERM  leave the portal, go on relaying until no allocation is left, then end; the second one ends at once
  SIGUSR2          log statistics

Environment: RUST_LOG (filter of the log, default "info"), NO_COLOR.

Examples:
  FIREZONE_TOKEN=... wirelane relay --public-ip4-addr 203.0.113.10 --public-ip6-addr 2001:db8::10
  RELAY_USERS=alice:secret wirelane relay --public-ip4-addr 203.0.113.10 --realm example.com
`;

interface Options {
  readonly publicIp4Addr?: IpAddress;
  readonly publicIp6Addr?: IpAddress;
  readonly listenPort: number;
  readonly lowestPort: number;
  readonly highestPort: number;
  readonly apiUrl: string;
  readonly authSecret?: string;
  readonly user: readonly string[];
  readonly realm: string;
  readonly denyPrivatePeers: boolean;
  readonly allowLoopbackPeers: boolean;
  readonly rngSeed?: bigint;
  readonly healthCheckAddr: SocketAddress;
  readonly logFormat: "human" | "json" | "google-cloud";
  readonly otlpGrpcEndpoint?: string;
  readonly googleCloudProjectId?: string;
  readonly maxPartitionTime: number;
}

/** The sub-command. */
export function relayCommand(): Command {
  return new Command()
    .description("carry the traffic of those who cannot reach each other: a STUN and TURN server")
    .argument("[token]", "the relay's token (prefer FIREZONE_TOKEN)")
    .argument("[name]", "name to show in the portal", process.env["FIREZONE_NAME"])
    .addOption(
      addressOption(
        "--public-ip4-addr <address>",
        "IPv4 address that others reach this relay at",
        "PUBLIC_IP4_ADDR",
        4,
      ),
    )
    .addOption(
      addressOption("--public-ip6-addr <address>", "the same for IPv6; one of the two is needed", "PUBLIC_IP6_ADDR", 6),
    )
    .addOption(portOption("--listen-port <port>", "UDP port of STUN and TURN", "LISTEN_PORT", DEFAULT_LISTEN_PORT))
    .addOption(portOption("--lowest-port <port>", "first port of allocations", "LOWEST_PORT", DEFAULT_LOWEST_PORT))
    .addOption(portOption("--highest-port <port>", "last port of allocations", "HIGHEST_PORT", DEFAULT_HIGHEST_PORT))
    .addOption(apiUrlOption())
    .addOption(
      new Option("--auth-secret <secret>", "serve users of this shared secret (prefer the variable)").env(
        "RELAY_AUTH_SECRET",
      ),
    )
    .addOption(
      new Option("--user <name:password>", "serve this user (prefer the variable; there separated by spaces)")
        .env("RELAY_USERS")
        .argParser(userArgument)
        .default([], "none"),
    )
    .addOption(new Option("--realm <realm>", "realm of these users").default("wirelane"))
    .option("--deny-private-peers", "do not forward to private addresses", false)
    .option("--allow-loopback-peers", "forward to this host itself: for tests", false)
    .addOption(
      new Option("--health-check-addr <address:port>", "answers GET /healthz and /readyz there")
        .env("HEALTH_CHECK_ADDR")
        .argParser(socketAddressArgument)
        .default(socketAddressArgument(DEFAULT_HEALTH_CHECK_ADDRESS), DEFAULT_HEALTH_CHECK_ADDRESS),
    )
    .addOption(
      new Option("-m, --max-partition-time <duration>", "give up on the portal after this long, as 30m or 1d")
        .env("FIREZONE_MAX_PARTITION_TIME")
        .argParser(durationArgument)
        .default(durationArgument(DEFAULT_MAX_PARTITION_TIME), DEFAULT_MAX_PARTITION_TIME),
    )
    .addOption(
      new Option("--log-format <format>", "how log lines look on standard output")
        .env("LOG_FORMAT")
        .choices(["human", "json", "google-cloud"])
        .default("human"),
    )
    .addOption(
      new Option("--rng-seed <seed>", "for tests: everything random follows from it")
        .env("RNG_SEED")
        .argParser(seedArgument),
    )
    .addOption(
      new Option("--otlp-grpc-endpoint <address>", "accepted and ignored, with a warning")
        .env("OTLP_GRPC_ENDPOINT")
        .hideHelp(),
    )
    .addOption(
      new Option("--google-cloud-project-id <id>", "accepted and ignored").env("GOOGLE_CLOUD_PROJECT_ID").hideHelp(),
    )
    .addHelpText("after", HELP)
    .exitOverride(({ exitCode }) => process.exit(exitCode === 0 ? 0 : USAGE_ERROR))
    .action((token: string | undefined, name: string | undefined, options: Options) => run(token, name, options));
}

async function run(argument: string | undefined, name: string | undefined, options: Options): Promise<void> {
  let log: Log | undefined;
  let health: HealthEndpoint | undefined;
  try {
    const token = findToken(argument);
    // Google's format is ours: a JSON line with a severity.
    const format = options.logFormat === "google-cloud" ? "json" : options.logFormat;
    log = createLog({ format, directives: process.env["RUST_LOG"] });
    const target = log.target(RELAY_TARGET);
    checkAddressesAndPorts(options);
    portalUrl(options.apiUrl, "relay");
    if (options.otlpGrpcEndpoint !== undefined)
      target.warn("Exporting traces and metrics over OTLP is not supported; the log has the statistics");
    const start: RelayOptions = {
      publicIpv4: options.publicIp4Addr,
      publicIpv6: options.publicIp6Addr,
      listenPort: options.listenPort,
      lowestPort: options.lowestPort,
      highestPort: options.highestPort,
      portal: token === undefined ? undefined : { apiUrl: options.apiUrl, token, name },
      authSecret: options.authSecret,
      users: options.user.map(parseUser),
      realm: options.realm,
      denyPrivatePeers: options.denyPrivatePeers,
      allowLoopbackPeers: options.allowLoopbackPeers,
      rngSeed: options.rngSeed,
      maxPartitionTime: options.maxPartitionTime,
      log,
    };
    let isReady = () => false;
    try {
      health = await HealthEndpoint.listen(options.healthCheckAddr.toString(), () => isReady());
    } catch (error) {
      // Without it the relay does its work all the same.
      target.warn("The health endpoint is unavailable", { reason: messageOf(error) });
    }
    await runProgram(NAME, log, async () => {
      const relay = await startRelay(start);
      isReady = () => relay.isReady();
      return relay;
    });
  } catch (error) {
    reportFailure(NAME, log, messageOf(error));
  }
  await health?.close();
  await log?.close();
}

/** The portal's token; `undefined` where there is none at all: that is the mode without a portal. @throws TokenError */
function findToken(argument: string | undefined): string | undefined {
  try {
    return takeToken(process.env, { argument, credential: true }).reveal();
  } catch (error) {
    if (error instanceof TokenError && error.problem === "absent") return undefined;
    throw error;
  }
}

/** Options that contradict each other. */
class RelayOptionsError extends Error {
  override readonly name = "RelayOptionsError";
}

function checkAddressesAndPorts({ publicIp4Addr, publicIp6Addr, listenPort, lowestPort, highestPort }: Options): void {
  if (publicIp4Addr === undefined && publicIp6Addr === undefined)
    throw new RelayOptionsError(
      "Must listen on at least one of IPv4 or IPv6: give --public-ip4-addr or --public-ip6-addr",
    );
  if (lowestPort > highestPort)
    throw new RelayOptionsError(`--lowest-port ${lowestPort} is above --highest-port ${highestPort}`);
  if (listenPort >= lowestPort && listenPort <= highestPort)
    throw new RelayOptionsError(
      `--listen-port ${listenPort} lies among the ports of allocations, ${lowestPort} to ${highestPort}`,
    );
}

function addressOption(flags: string, description: string, variable: string, family: AddressFamily): Option {
  return new Option(flags, description).env(variable).argParser((text) => {
    const address = IpAddress.parse(text);
    if (address?.family !== family) throw new InvalidArgumentError(`not an IPv${family} address.`);
    return address;
  });
}

function portOption(flags: string, description: string, variable: string, fallback: number): Option {
  return new Option(flags, description)
    .env(variable)
    .argParser((text) => {
      const port = /^\d{1,5}$/.test(text) ? Number(text) : 0;
      if (port < 1 || port > MAX_PORT) throw new InvalidArgumentError(`not a port from 1 to ${MAX_PORT}.`);
      return port;
    })
    .default(fallback);
}

function seedArgument(text: string): bigint {
  if (!/^\d{1,20}$/.test(text)) throw new InvalidArgumentError("not a number of 64 bits.");
  return BigInt.asUintN(64, BigInt(text));
}

/** Several on one variable are separated by spaces. */
function userArgument(text: string, before: readonly string[]): readonly string[] {
  const users = text.split(" ").filter((user) => user !== "");
  for (const user of users)
    if (!/^[^:]+:.+$/.test(user)) throw new InvalidArgumentError('write a user as "name:password".');
  return [...before, ...users];
}

function parseUser(text: string): { readonly name: string; readonly password: string } {
  const colon = text.indexOf(":");
  return { name: text.slice(0, colon), password: text.slice(colon + 1) };
}
