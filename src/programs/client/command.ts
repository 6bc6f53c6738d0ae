// `wirelane client`: the headless client with the command line, variables and exit statuses of the reference (spec 05, section 6).

import { Command, Option } from "commander";
import { hostInfo } from "../../system/linux/host-info.js";
import { ServiceNotifier } from "../../system/linux/service-notify.js";
import { clientDeviceId } from "../common/device-id.js";
import { type ProgramName, reportFailure, runProgram } from "../common/lifecycle.js";
import { createLog, type Log } from "../common/log.js";
import {
  apiUrlOption,
  durationArgument,
  firezoneIdOption,
  firezoneNameOption,
  logFormatOption,
  messageOf,
  workersOption,
} from "../common/options.js";
import { createSignIn } from "../common/sign-in.js";
import { takeToken } from "../common/token.js";
import type { TunnelOptions } from "../common/tunnel-runner.js";
import { programVersion } from "../common/version.js";
import { CLIENT_TARGET, startClient } from "./program.js";

const NAME: ProgramName = { program: "client", target: CLIENT_TARGET };

/** Where the token is when nobody says otherwise (spec 05, section 1.6). */
const DEFAULT_TOKEN_PATH = "/etc/dev.firezone.client/token";

/** Methods of `--dns-control` (spec 05, section 4). */
const DNS_CONTROL_METHODS = ["disabled", "etc-resolv-conf", "systemd-resolved"] as const;

const HELP = `
The token comes from FIREZONE_TOKEN, or from the token file, which must belong to root with mode 0400 or 0600.

Signals:
  SIGINT, SIGTERM  end; interface, routes and rules are removed
  SIGHUP           start all connections anew: the network has changed
  SIGUSR2          log statistics

Environment: RUST_LOG (filter of the log, default "info"), NO_COLOR, NOTIFY_SOCKET.

Example:
  FIREZONE_TOKEN=... wirelane client --api-url wss://portal.example.com
`;

interface Options {
  readonly apiUrl: string;
  readonly check: boolean;
  readonly exit: boolean;
  readonly firezoneName?: string;
  readonly firezoneId?: string;
  readonly tokenPath: string;
  readonly dnsControl: (typeof DNS_CONTROL_METHODS)[number];
  readonly logDir?: string;
  readonly logFormat: "human" | "json";
  readonly maxPartitionTime?: number;
  readonly workers: number;
}

/** The sub-command. */
export function clientCommand(): Command {
  return new Command()
    .description("connect this machine to the resources that the portal grants it")
    .argument("[standalone]", "for compatibility; changes nothing", checkStandalone)
    .addOption(apiUrlOption())
    .option("--check", "validate the configuration, then exit before connecting", false)
    .option("--exit", "exit as soon as the tunnel is up for the first time", false)
    .addOption(firezoneNameOption())
    .addOption(firezoneIdOption())
    .addOption(new Option("--token-path <path>", "token file").env("FIREZONE_TOKEN_PATH").default(DEFAULT_TOKEN_PATH))
    .addOption(
      new Option("--dns-control <method>", "how names of resources get into the host's DNS (CIDR resources need none)")
        .env("FIREZONE_DNS_CONTROL")
        .choices(DNS_CONTROL_METHODS)
        .default("systemd-resolved"),
    )
    .addOption(new Option("-l, --log-dir <dir>", "also log to files there").env("LOG_DIR"))
    .addOption(
      new Option(
        "-m, --max-partition-time <duration>",
        "give up on the portal after this long, as 30m or 1d (default: never)",
      )
        .env("MAX_PARTITION_TIME")
        .argParser(durationArgument),
    )
    .addOption(logFormatOption())
    .addOption(workersOption())
    .addHelpText("after", HELP)
    .action((_standalone: unknown, options: Options) => run(options));
}

async function run(options: Options): Promise<void> {
  let log: Log | undefined;
  try {
    // First of all: what is started by us later must not see it.
    const environment = process.env;
    const notifier = ServiceNotifier.fromEnvironment(environment);
    const token = takeToken(environment, { path: options.tokenPath });
    log = createLog({
      format: options.logFormat,
      directives: environment["RUST_LOG"],
      ...(options.logDir !== undefined && { logDir: options.logDir }),
    });
    const target = log.target(CLIENT_TARGET);
    const info = hostInfo();
    target.info("Starting", { arch: info.architecture, git_version: `headless-client-${programVersion()}` });
    const signIn = createSignIn({
      role: "client",
      host: info,
      apiUrl: options.apiUrl,
      token,
      deviceId: clientDeviceId(options.firezoneId),
      name: options.firezoneName,
    });
    if (options.check) {
      target.info("Check passed");
      await log.close();
      return;
    }
    const start: TunnelOptions = {
      ...signIn,
      maxPartitionTime: options.maxPartitionTime,
      workers: options.workers,
      notifier,
      log,
    };
    await runProgram(NAME, log, () => startClient(start, options.exit));
  } catch (error) {
    reportFailure(NAME, log, messageOf(error));
  }
  await log?.close();
}

function checkStandalone(argument: string): string {
  if (argument !== "standalone") throw new Error(`unexpected argument "${argument}"`);
  return argument;
}
