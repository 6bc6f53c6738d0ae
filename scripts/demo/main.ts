// `npm run demo`: builds a small internet on this machine, runs wirelane's programs in it and shows what they do. What it does is
// in options.ts (the help), the steps are in story.ts, the world is in ../lab/world.ts.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { rerunInUserNamespace } from "../lab/user-namespace.js";
import { World } from "../lab/world.js";
import { type DemoOptions, HELP, parseOptions, UsageError } from "./options.js";
import { formatMilliseconds, formatRate, TextReport } from "./report.js";
import { type DemoResult, Story } from "./story.js";

/** Exit codes besides 0 and 1. */
const USAGE = 2;
const INTERRUPTED = 130;

/** Version of the JSON document: increased when a field changes its meaning. */
const DOCUMENT_VERSION = 1;

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

async function main(): Promise<number> {
  const options = parseOptions(process.argv.slice(2));
  if (options.help) {
    process.stdout.write(HELP);
    return 0;
  }
  const privilege = await rerunInUserNamespace();
  switch (privilege.type) {
    case "granted":
      return run(options);
    case "finished":
      return privilege.exitCode;
    case "denied":
      process.stderr.write(`demo: ${privilege.reason}\n`);
      return 1;
  }
}

async function run(options: DemoOptions): Promise<number> {
  const interrupted = new Promise<"interrupted">((resolve) => {
    for (const signal of SIGNALS) process.once(signal, () => resolve("interrupted"));
  });
  const directory = mkdtempSync(join(tmpdir(), "wirelane-demo-"));
  const report = new TextReport(options.json ? process.stderr : process.stdout);
  const story = new Story(report, options.seconds);
  const start = Date.now();
  let world: World | undefined;
  let keepLogs = true;
  try {
    world = World.create({ directory, handleSignals: false });
    const ending = await Promise.race([story.run(world), interrupted]);
    if (ending === "interrupted") {
      story.abandon();
      process.stderr.write(`\ndemo: interrupted during "${story.current}", cleaning up\n`);
      keepLogs = false;
      return INTERRUPTED;
    }
    const seconds = (Date.now() - start) / 1000;
    keepLogs = options.keep;
    if (options.json) printDocument({ ok: true, seconds, steps: story.steps, ...ending });
    else process.stdout.write(summary(ending, seconds));
    if (options.keep) {
      process.stderr.write(howToEnter(world));
      await interrupted;
    }
    return 0;
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    process.stderr.write(`\ndemo: the step "${story.current}" failed: ${reason}\ndemo: the logs are in ${directory}\n`);
    if (options.json) {
      const seconds = (Date.now() - start) / 1000;
      printDocument({
        ok: false,
        seconds,
        steps: story.steps,
        failedStep: story.current,
        error: reason,
        logs: directory,
      });
    }
    return 1;
  } finally {
    await world?.destroy();
    if (!keepLogs) rmSync(directory, { recursive: true, force: true });
  }
}

function printDocument(content: object): void {
  process.stdout.write(`${JSON.stringify({ version: DOCUMENT_VERSION, ...content }, undefined, 2)}\n`);
}

function summary(result: DemoResult, seconds: number): string {
  const { firstPacket, download, throughput, ping, denied, relayed } = result;
  const fastest = (roundTrips: readonly number[]) => formatMilliseconds(Math.min(...roundTrips));
  return `
Everything passed, in ${seconds.toFixed(1)} s.

  first packet   answered ${formatMilliseconds(firstPacket.roundTripMs)} after it was sent, connection set-up included
  download       100 MB in ${download.seconds.toFixed(2)} s, SHA-256 right
  ping           IPv4 ${fastest(ping.ipv4)}${ping.ipv6 === undefined ? "" : `, IPv6 ${fastest(ping.ipv6)}`} at best
  no policy      ${denied.map(({ address }) => address).join(", ")} not reachable
  throughput     ${formatRate(throughput.download)} down, ${formatRate(throughput.upload)} up${relayed === undefined ? "" : pathChanges(relayed)}
`;
}

function pathChanges({ toRelayMs, roundTripMs, toDirectMs, lost }: NonNullable<DemoResult["relayed"]>): string {
  const [toRelay, toDirect] = [formatMilliseconds(toRelayMs), formatMilliseconds(toDirectMs)];
  return `
  path           relayed ${toRelay} after the direct way was blocked (ping ${formatMilliseconds(roundTripMs)}), direct ${toDirect} after it was opened (${lost} pings lost)`;
}

/** How another terminal gets into the world. */
function howToEnter(world: World): string {
  const asUser = process.env["WIRELANE_USER_NAMESPACE"] === undefined;
  const enter = asUser ? "nsenter" : `nsenter --user --preserve-credentials --target ${process.pid}`;
  const hosts = [world.client, world.internet, world.gateway, ...Object.values(world.resources)];
  const lines = hosts.map((host) => `  ${host.name.padEnd(11)}${enter} --net=${host.namespace.path} bash`);
  return `
The world is left standing. Each of its hosts can be entered from another terminal${asUser ? " (as root)" : ""}:

${lines.join("\n")}

For example, from the client:  ping 172.20.0.10    or    curl --output /dev/null http://172.20.0.10/file
Edit ${world.configurationFile} to grant or revoke something: the portal notices.
The logs are in ${world.directory} and will stay there. Ctrl-C takes the world down.
`;
}

try {
  // What an interrupted story still waits for does not matter any more.
  process.exit(await main());
} catch (error) {
  if (!(error instanceof UsageError)) throw error;
  process.stderr.write(`demo: ${error.message}\nTry: npm run demo -- --help\n`);
  process.exitCode = USAGE;
}
