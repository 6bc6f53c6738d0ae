// `wirelane portal`: the portal server over a YAML file (spec 01, sections 11 and 12).

import { existsSync, readFileSync, renameSync, watch, writeFileSync } from "node:fs";
import { basename, dirname, resolve } from "node:path";
import { Command, InvalidArgumentError, Option } from "commander";
import { SocketAddress } from "../base/address.js";
import { type Configuration, ConfigurationError, parseConfiguration } from "../portal/server/configuration.js";
import { EXAMPLE_CONFIGURATION } from "../portal/server/example.js";
import { AddressBook } from "../portal/server/identity.js";
import { type PortalLogEvent, PortalServer } from "../portal/server/server.js";
import { PortalState } from "../portal/server/state.js";
import { systemRandom } from "../system/crypto.js";
import { createLog, type Log, type TargetLog } from "./common/log.js";
import { logFormatOption, messageOf } from "./common/options.js";
import { rehearse } from "./common/rehearsal.js";

const DEFAULT_CONFIGURATION_FILE = "wirelane-portal.yaml";
const DEFAULT_LISTEN_ADDRESS = "127.0.0.1:8080";
/** Editors write a file in several steps: it is read when nothing has happened to it for this long (milliseconds). */
const SETTLE_TIME = 100;
/** How often the address book is looked at for something to keep (milliseconds). */
const SAVE_INTERVAL = 1000;

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
  const { sites, actors, resources, policies, relays } = read(config);
  const counts = {
    sites: sites.length,
    actors: actors.length,
    resources: resources.length,
    policies: policies.length,
    relays: relays.static.length,
  };
  const text = Object.entries(counts).map(([name, count]) => `${count} ${name}`);
  process.stdout.write(json ? `${JSON.stringify({ file: config, ...counts })}\n` : `${config}: ${text.join(", ")}\n`);
}

async function serve(options: Options): Promise<void> {
  const configuration = read(options.config);
  const addresses = new AddressBook(systemRandom, options.state === undefined ? {} : readState(options.state));
  const log: Log = createLog({ format: options.logFormat, directives: process.env["RUST_LOG"] });
  const target = log.target("portal");
  const server = new PortalServer(new PortalState(configuration, systemRandom, addresses), (event) =>
    logEvent(target, event),
  );
  const { ip, port } = options.listen;
  const bound = await server.listen(ip.toString(), port);
  target.info("Portal is listening", { address: `${bound.address}:${bound.port}` });

  let isStopped = false;
  rehearse(() => isStopped).catch((error: unknown) =>
    target.error("The rehearsal failed", { reason: messageOf(error) }),
  );
  const reload = () => reloadFile(options.config, server, target);
  const watcher = watchFile(options.config, reload);
  process.on("SIGHUP", reload);
  const saver = options.state === undefined ? undefined : new StateFile(options.state, addresses, target);
  const signal = await new Promise<NodeJS.Signals>((settle) => {
    for (const name of ["SIGINT", "SIGTERM"] as const) process.once(name, () => settle(name));
  });
  target.info("Shutting down", { signal });
  isStopped = true;
  process.off("SIGHUP", reload);
  watcher.close();
  saver?.stop();
  await server.stop();
  log.close();
}

/** @throws ConfigurationError, with the file's name also when it cannot be read. */
function read(file: string): Configuration {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    throw new ConfigurationError(`cannot read ${file}: ${messageOf(error)}`, { cause: error });
  }
  return parseConfiguration(text, file);
}

function reloadFile(file: string, server: PortalServer, log: TargetLog): void {
  try {
    const configuration = read(file);
    server.setConfiguration(configuration);
    const { resources, policies } = configuration;
    log.info("Configuration is in force", { resources: resources.length, policies: policies.length });
  } catch (error) {
    if (!(error instanceof ConfigurationError)) throw error;
    log.error("The configuration stays as it was", { reason: error.message });
  }
}

/** Calls `onChange` once whatever happens to the file has come to rest. The directory is watched: editors replace files. */
function watchFile(file: string, onChange: () => void): { close(): void } {
  const path = resolve(file);
  let timer: NodeJS.Timeout | undefined;
  const watcher = watch(dirname(path), (_event, name) => {
    if (name !== basename(path)) return;
    clearTimeout(timer);
    timer = setTimeout(onChange, SETTLE_TIME);
  });
  return {
    close: () => {
      clearTimeout(timer);
      watcher.close();
    },
  };
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
    case "refused":
      log.warn("Refused a sign-in", { role: event.role, status: event.status, reason: event.text.trim() });
      return;
  }
}

/** The address book on disk: written when it has changed, at once as a whole. */
class StateFile {
  readonly #path: string;
  readonly #addresses: AddressBook;
  readonly #log: TargetLog;
  readonly #timer: NodeJS.Timeout;
  #saved: string;

  constructor(path: string, addresses: AddressBook, log: TargetLog) {
    this.#path = path;
    this.#addresses = addresses;
    this.#log = log;
    this.#saved = JSON.stringify(addresses.snapshot());
    this.#timer = setInterval(() => this.#save(), SAVE_INTERVAL);
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#save();
  }

  #save(): void {
    const text = JSON.stringify(this.#addresses.snapshot());
    if (text === this.#saved) return;
    try {
      writeFileSync(`${this.#path}.new`, text, { mode: 0o600 });
      renameSync(`${this.#path}.new`, this.#path);
      this.#saved = text;
    } catch (error) {
      this.#log.error("Cannot keep the tunnel addresses", { reason: messageOf(error) });
    }
  }
}

/** @throws ConfigurationError when the file is there but not ours: it must not be overwritten. */
function readState(path: string): Record<string, number> {
  if (!existsSync(path)) return {};
  const problem = new ConfigurationError(
    `${path} does not hold the state of a portal: name another file, or remove it`,
  );
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(path, "utf8"));
  } catch (error) {
    if (error instanceof SyntaxError) throw problem;
    throw error;
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw problem;
  const state: Record<string, number> = {};
  for (const [owner, offset] of Object.entries(value)) {
    if (typeof offset !== "number" || !Number.isInteger(offset) || offset < 0) throw problem;
    state[owner] = offset;
  }
  return state;
}

function listenArgument(text: string): SocketAddress {
  const address = SocketAddress.parse(text);
  if (address === undefined) throw new InvalidArgumentError('not an address with port: write it as "127.0.0.1:8080".');
  return address;
}
