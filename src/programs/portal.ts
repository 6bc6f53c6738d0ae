// `wirelane portal`: the portal server over a YAML file (spec 01, sections 11 and 12).

import { readFileSync } from "node:fs";
import { Command, InvalidArgumentError, Option } from "commander";
import { SocketAddress } from "../base/address.js";
import { AddressFile } from "../portal/server/address-file.js";
import { type Configuration, ConfigurationError, parseConfiguration } from "../portal/server/configuration.js";
import { EXAMPLE_CONFIGURATION } from "../portal/server/example.js";
import { FileWatcher } from "../portal/server/file-watcher.js";
import { AddressBook } from "../portal/server/identity.js";
import { type PortalLogEvent, PortalServer } from "../portal/server/server.js";
import { PortalState } from "../portal/server/state.js";
import { systemRandom } from "../system/crypto.js";
import { createLog, type Log, type TargetLog } from "./common/log.js";
import { logFormatOption, messageOf } from "./common/options.js";
import { rehearse } from "./common/rehearsal.js";

const DEFAULT_CONFIGURATION_FILE = "wirelane-portal.yaml";
const DEFAULT_LISTEN_ADDRESS = "127.0.0.1:8080";
/** What Node says of an address that cannot be had: a port that is taken or privileged, an address that is not this host's. */
const LISTEN_ERRORS: ReadonlySet<unknown> = new Set(["EADDRINUSE", "EACCES", "EADDRNOTAVAIL"]);

const HELP = `
The file names sites with gateway tokens, actors with client tokens, resources, and policies that say who may reach what:

  wirelane portal --example > wirelane-portal.yaml

It is read again when it changes, or on SIGHUP, and what has changed is pushed to connected programs. A file with an error changes
nothing; the error is logged with line and field.

There is no TLS: put a reverse proxy in front where others could listen.
`;

interface Options {
  readonly config: string;
  readonly listen: SocketAddress;
  readonly state?: string;
  readonly check: boolean;
  readonly example: boolean;
  readonly json: boolean;
  readonly logFormat: "human" | "json";
}

/** The sub-command. */
export function portalCommand(): Command {
  return new Command()
    .description("decide who may reach what, from a YAML file")
    .addOption(
      new Option("-c, --config <file>", "the YAML file")
        .env("WIRELANE_PORTAL_CONFIG")
        .default(DEFAULT_CONFIGURATION_FILE),
    )
    .addOption(
      new Option("--listen <address:port>", "where programs connect to")
        .argParser(listenArgument)
        .default(listenArgument(DEFAULT_LISTEN_ADDRESS), DEFAULT_LISTEN_ADDRESS),
    )
    .option("--state <file>", "keep the tunnel addresses of devices there (default: they change with every start)")
    .option("--check", "check the file, print what is in it, and exit", false)
    .option("--json", "print the result of --check as JSON", false)
    .option("--example", "print an example of the file, and exit", false)
    .addOption(logFormatOption())
    .addHelpText("after", HELP)
    .action((options: Options) => run(options));
}

async function run(options: Options): Promise<void> {
  if (options.example) {
    process.stdout.write(EXAMPLE_CONFIGURATION);
    return;
  }
  try {
    if (options.check) check(options);
    else await serve(options);
  } catch (error) {
    process.stderr.write(`wirelane portal: ${messageOf(error)}\n`);
    process.exitCode = 1;
  }
}

function check({ config, json }: Options): void {
  let configuration: Configuration;
  try {
    configuration = read(config);
  } catch (error) {
    if (!json || !(error instanceof ConfigurationError)) throw error;
    const problems = error.problems.length > 0 ? error.problems : [{ message: error.message }];
    process.stdout.write(`${JSON.stringify({ file: config, ok: false, problems })}\n`);
    process.exitCode = 1;
    return;
  }
  const { sites, actors, resources, policies, relays } = configuration;
  const counts = {
    sites: sites.length,
    actors: actors.length,
    resources: resources.length,
    policies: policies.length,
    relays: relays.static.length,
  };
  const text = Object.entries(counts).map(([name, count]) => `${count} ${name}`);
  process.stdout.write(
    json ? `${JSON.stringify({ file: config, ok: true, ...counts })}\n` : `${config}: ${text.join(", ")}\n`,
  );
}

async function serve(options: Options): Promise<void> {
  const configuration = read(options.config);
  const log: Log = createLog({ format: options.logFormat, directives: process.env["RUST_LOG"] });
  const target = log.target("portal");
  const file =
    options.state === undefined
      ? undefined
      : new AddressFile(options.state, systemRandom, (error) =>
          target.error("Cannot keep the tunnel addresses", { reason: messageOf(error) }),
        );
  const addresses = file?.addresses ?? new AddressBook(systemRandom);
  const server = new PortalServer(new PortalState(configuration, systemRandom, addresses), (event) =>
    logEvent(target, event),
  );
  const { ip, port } = options.listen;
  try {
    const bound = await server.listen(ip.toString(), port);
    target.info("Portal is listening", { address: new SocketAddress(ip, bound.port).toString() });
  } catch (error) {
    file?.close();
    throw explainListen(error);
  }

  let isStopped = false;
  rehearse(() => isStopped).catch((error: unknown) =>
    target.error("The rehearsal failed", { reason: messageOf(error) }),
  );
  const reload = () => reloadFile(options.config, server, target);
  const watcher = new FileWatcher(options.config, reload);
  process.on("SIGHUP", reload);
  const signal = await new Promise<NodeJS.Signals>((settle) => {
    for (const name of ["SIGINT", "SIGTERM"] as const) process.once(name, () => settle(name));
  });
  target.info("Shutting down", { signal });
  isStopped = true;
  process.off("SIGHUP", reload);
  watcher.close();
  await server.stop();
  file?.close();
  log.close();
}

/** What the user can do about an address that cannot be listened on. */
function explainListen(error: unknown): unknown {
  const isRefused = error instanceof Error && "code" in error && LISTEN_ERRORS.has(error.code);
  return isRefused ? new Error(`${error.message}; --listen chooses another address or port`) : error;
}

/** @throws ConfigurationError, with the file's name also when it cannot be read. */
function read(file: string): Configuration {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    const isMissing = error instanceof Error && "code" in error && error.code === "ENOENT";
    const advice = isMissing ? "; --config names another file, --example prints one to start with" : "";
    throw new ConfigurationError(`cannot read ${file}: ${messageOf(error)}${advice}`, { cause: error });
  }
  return parseConfiguration(text, file);
}

function reloadFile(file: string, server: PortalServer, log: TargetLog): void {
  try {
    const configuration = read(file);
    const changes = server.setConfiguration(configuration);
    const { resources, policies } = configuration;
    log.info("Configuration is in force", {
      resources: resources.length,
      policies: policies.length,
      pushed: changes.created_or_updated,
      deleted: changes.deleted,
      rejected: changes.rejected,
      closed: changes.closed,
    });
  } catch (error) {
    if (!(error instanceof ConfigurationError)) throw error;
    log.error("The configuration stays as it was", { reason: error.message });
  }
}

function logEvent(log: TargetLog, event: PortalLogEvent): void {
  switch (event.type) {
    case "connected":
      log.info("Signed in", { role: event.session.role, id: event.session.id });
      return;
    case "disconnected":
      log.info("Signed out", { role: event.session.role, id: event.session.id });
      return;
    case "expired":
      log.info("A token has expired", { role: event.session.role, id: event.session.id });
      return;
    case "dropped":
      log.warn("Closed a socket", { role: event.session.role, id: event.session.id, reason: event.reason });
      return;
    case "refused":
      log.warn("Refused a sign-in", { role: event.role, status: event.status, reason: event.text.trim() });
      return;
  }
}

function listenArgument(text: string): SocketAddress {
  const address = SocketAddress.parse(text);
  if (address === undefined) throw new InvalidArgumentError('not an address with port: write it as "127.0.0.1:8080".');
  return address;
}
