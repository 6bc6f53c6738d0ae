// `wirelane gateway`: the command line, variables and exit statuses of the reference (spec 05, section 9).

import { Command, Option } from "commander";
import type { SocketAddress } from "../../base/address.js";
import { hostInfo } from "../../system/linux/host-info.js";
import { ServiceNotifier } from "../../system/linux/service-notify.js";
import { gatewayDeviceId } from "../common/device-id.js";
import { HealthEndpoint } from "../common/health.js";
import { type ProgramName, reportFailure, runProgram } from "../common/lifecycle.js";
import { createLog, type Log } from "../common/log.js";
import {
  apiUrlOption,
  durationArgument,
  firezoneIdOption,
  firezoneNameOption,
  logFormatOption,
  messageOf,
  socketAddressArgument,
  USAGE_ERROR,
  workersOption,
} from "../common/options.js";
import { createSignIn } from "../common/sign-in.js";
import { takeToken } from "../common/token.js";
import type { TunnelOptions } from "../common/tunnel-runner.js";
import { programVersion } from "../common/version.js";
import { GATEWAY_TARGET, startGateway } from "./program.js";

const NAME: ProgramName = { program: "gateway", target: GATEWAY_TARGET };

/** Address of the health endpoint (spec 05, section 9.1). */
const DEFAULT_HEALTH_CHECK_ADDRESS = "0.0.0.0:8080";
/** How long to fail before giving up on the portal (spec 05, section 16). */
const DEFAULT_MAX_PARTITION_TIME = "24h";

const HELP = `
The token is the argument, or FIREZONE_TOKEN, or the systemd credential of that name. An argument can be seen by all users of
this machine: prefer the others.

The gateway switches IP forwarding on and masquerades its clients with nft or iptables; when it ends, it takes back what it did.

Signals:
  SIGINT, SIGTERM  end; interface, routes, rules and masquerading are removed
  SIGUSR2          log statistics

Environment: RUST_LOG (filter of the log, default "info"), NO_COLOR, NOTIFY_SOCKET.

Example:
  FIREZONE_TOKEN=... wirelane gateway --api-url wss://portal.example.com
`;

interface Options {
  readonly apiUrl: string;
  readonly firezoneName?: string;
  readonly firezoneId?: string;
  readonly healthCheckAddr: SocketAddress;
  readonly logFormat: "human" | "json";
  readonly maxPartitionTime?: number;
  readonly workers: number;
}

/** The sub-command. */
export function gatewayCommand(): Command {
  return new Command()
    .description("carry clients' traffic into the network that this machine is in")
    .argument("[token]", "the site's token (prefer FIREZONE_TOKEN)")
    .addOption(apiUrlOption())
    .addOption(firezoneNameOption().default(undefined))
    .addOption(firezoneIdOption())
    .addOption(
      new Option("--health-check-addr <address:port>", "answers GET /healthz there")
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
    .addOption(logFormatOption())
    .addOption(workersOption())
    .addHelpText("after", HELP)
    .exitOverride(({ exitCode }) => process.exit(exitCode === 0 ? 0 : USAGE_ERROR))
    .action((token: string | undefined, options: Options) => run(token, options));
}

async function run(argument: string | undefined, options: Options): Promise<void> {
  let log: Log | undefined;
  let health: HealthEndpoint | undefined;
  try {
    const environment = process.env;
    const notifier = ServiceNotifier.fromEnvironment(environment);
    const token = takeToken(environment, { argument, credential: true });
    log = createLog({ format: options.logFormat, directives: environment["RUST_LOG"] });
    const target = log.target(GATEWAY_TARGET);
    const info = hostInfo();
    target.info("Starting", { arch: info.architecture, git_version: `gateway-${programVersion()}` });
    const signIn = createSignIn({
      role: "gateway",
      host: info,
      apiUrl: options.apiUrl,
      token,
      deviceId: gatewayDeviceId(options.firezoneId),
      name: options.firezoneName,
    });
    try {
      health = await HealthEndpoint.listen(options.healthCheckAddr.toString());
    } catch (error) {
      // Without it the gateway does its work all the same.
      target.warn("The health endpoint is unavailable", { reason: messageOf(error) });
    }
    const start: TunnelOptions = {
      ...signIn,
      maxPartitionTime: options.maxPartitionTime,
      workers: options.workers,
      notifier,
      log,
    };
    await runProgram(NAME, log, () => startGateway(start));
  } catch (error) {
    reportFailure(NAME, log, messageOf(error));
  }
  await health?.close();
  await log?.close();
}
