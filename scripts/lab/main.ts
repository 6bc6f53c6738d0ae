// `npm run lab`: lists the laboratory's scenarios (test/lab/scenarios.ts) and runs one by its name.

import { parseArgs } from "node:util";
import {
  describeFailure,
  type LabScenario,
  runScenario,
  type ScenarioResult,
  whyNot,
} from "../../test/lab/scenario.js";
import { scenarios } from "../../test/lab/scenarios.js";
import type { NatWorld } from "./nat-world.js";
import type { RelayKind } from "./relay-program.js";
import { rerunInUserNamespace } from "./user-namespace.js";

const HELP = `npm run lab -- [NAME… | --all] [--json] [--keep] [--relay wirelane|coturn]

Without a name: lists the scenarios. With names: builds for each a small internet out of network namespaces, with the routers,
firewalls and bad lines that the scenario is about, runs wirelane's programs in it, and says step by step what happens.

Nothing of this machine's own network is touched, and everything is gone afterwards. Exit code: 0 if all passed (or were skipped because
something is not installed, which is said), 1 if one failed (its step, the connections' paths and where the logs are is printed), 2 for
a wrong command line, 130 after Ctrl-C.

Options:
      --all     run all scenarios, one after the other
      --json    print one JSON document instead (progress goes to standard error)
      --keep    leave the last world standing when the scenario has ended, print how to enter it, and wait for Ctrl-C; the logs stay
      --relay   which relays to use (default wirelane; coturn needs Debian's package)
  -h, --help    print this

Needs Linux, Node 20, /dev/net/tun and nft. Root, or a kernel that lets users make user namespaces.
RUST_LOG sets how much the programs log, as RUST_LOG=debug.
`;

/** Exit codes besides 0 and 1. */
const USAGE = 2;
const INTERRUPTED = 130;

/** Version of the JSON document: increased when a field changes its meaning. */
const DOCUMENT_VERSION = 1;

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

interface Options {
  readonly help: boolean;
  readonly chosen: readonly LabScenario[];
  readonly json: boolean;
  readonly keep: boolean;
  readonly relayKind: RelayKind;
}

class UsageError extends Error {
  override readonly name = "UsageError";
}

class Interruption extends Error {
  override readonly name = "Interruption";
}

function parseOptions(args: readonly string[]): Options {
  try {
    const { values, positionals } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        help: { type: "boolean", short: "h", default: false },
        all: { type: "boolean", default: false },
        json: { type: "boolean", default: false },
        keep: { type: "boolean", default: false },
        relay: { type: "string", default: "wirelane" },
      },
    });
    const { relay } = values;
    if (relay !== "wirelane" && relay !== "coturn") throw new UsageError(`--relay ${relay}: wirelane or coturn`);
    const chosen = positionals.map((name) => {
      const scenario = scenarios.find((candidate) => candidate.name === name);
      if (scenario === undefined) throw new UsageError(`there is no scenario "${name}"`);
      return scenario;
    });
    const { help, json, keep } = values;
    return { help, json, keep, relayKind: relay, chosen: values.all ? scenarios : chosen };
  } catch (error) {
    // parseArgs names the argument that it does not know.
    if (error instanceof TypeError) throw new UsageError(error.message);
    throw error;
  }
}

async function main(): Promise<number> {
  const options = parseOptions(process.argv.slice(2));
  if (options.help) {
    process.stdout.write(HELP);
    return 0;
  }
  if (options.chosen.length === 0) {
    list(options);
    return 0;
  }
  const privilege = await rerunInUserNamespace();
  switch (privilege.type) {
    case "granted":
      return run(options);
    case "finished":
      return privilege.exitCode;
    case "denied":
      process.stderr.write(`lab: ${privilege.reason}\n`);
      return 1;
  }
}

function list({ json, relayKind }: Options): void {
  const entries = scenarios.map((scenario) => {
    const skipped = whyNot(scenario, relayKind);
    const { name, description } = scenario;
    return { name, description, ...(skipped === undefined ? {} : { skipped }) };
  });
  if (json) {
    printDocument({ scenarios: entries });
    return;
  }
  const width = Math.max(...entries.map(({ name }) => name.length));
  for (const { name, description, skipped } of entries) {
    const remark = skipped === undefined ? "" : ` (not here: ${skipped})`;
    process.stdout.write(`${name.padEnd(width)}  ${description}${remark}\n`);
  }
  process.stdout.write("\nRun one:  npm run lab -- NAME    (npm run lab -- --help)\n");
}

async function run({ chosen, json, keep, relayKind }: Options): Promise<number> {
  const interrupted = new Promise<never>((_, reject) => {
    for (const signal of SIGNALS) process.once(signal, () => reject(new Interruption("interrupted")));
  });
  let wasInterrupted = false;
  interrupted.catch(() => {
    wasInterrupted = true;
  });
  const output = json ? process.stderr : process.stdout;
  const results: ScenarioResult[] = [];
  for (const scenario of chosen) {
    output.write(`${scenario.name}: ${scenario.description}\n`);
    const isLast = scenario === chosen.at(-1);
    const result = await runScenario(scenario, {
      relayKind,
      interrupted,
      keepLogs: keep,
      onProgress: (line) => output.write(`  ${line}\n`),
      ...(keep && isLast ? { beforeEnd: (world, directory) => hold(world, directory, interrupted) } : {}),
    });
    results.push(result);
    output.write(`  ${verdict(result)}\n\n`);
    if (wasInterrupted && !keep) break;
  }
  const ok = results.every(({ outcome }) => outcome !== "failed");
  if (json) printDocument({ ok, results });
  if (wasInterrupted && !keep) return INTERRUPTED;
  return ok ? 0 : 1;
}

function verdict(result: ScenarioResult): string {
  switch (result.outcome) {
    case "passed":
      return `passed in ${result.seconds.toFixed(1)} s${result.logs === undefined ? "" : `, logs: ${result.logs}`}`;
    case "skipped":
      return `skipped: ${result.reason}`;
    case "failed":
      return `FAILED after ${result.seconds.toFixed(1)} s\n${describeFailure(result)}`;
  }
}

/** Leaves the world standing until a signal comes. */
async function hold(world: NatWorld | undefined, directory: string, interrupted: Promise<never>): Promise<void> {
  if (world === undefined) return;
  const asUser = process.env["WIRELANE_USER_NAMESPACE"] === undefined;
  const enter = asUser ? "nsenter" : `nsenter --user --preserve-credentials --target ${process.pid}`;
  const lines = world.hosts.map(({ name, namespace }) => `  ${name.padEnd(16)}${enter} --net=${namespace.path} bash`);
  process.stderr.write(`
The world is left standing. Each of its hosts can be entered from another terminal${asUser ? " (as root)" : ""}:

${lines.join("\n")}

The logs are in ${directory} and will stay there. Ctrl-C takes the world down.
`);
  try {
    await interrupted;
  } catch (error) {
    if (!(error instanceof Interruption)) throw error;
  }
}

function printDocument(content: object): void {
  process.stdout.write(`${JSON.stringify({ version: DOCUMENT_VERSION, ...content }, undefined, 2)}\n`);
}

try {
  // What an interrupted scenario still waits for does not matter any more.
  process.exit(await main());
} catch (error) {
  if (!(error instanceof UsageError)) throw error;
  process.stderr.write(`lab: ${error.message}\nTry: npm run lab -- --help\n`);
  process.exitCode = USAGE;
}
