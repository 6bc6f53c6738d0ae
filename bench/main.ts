// npm run bench: measures, prints tables, and writes the raw results as JSON and as a page of charts to bench/results/.

import { spawnSync } from "node:child_process";
import { mkdirSync, realpathSync, writeFileSync } from "node:fs";
import { cpus, homedir, release } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Command, InvalidArgumentError } from "commander";
import { findNode } from "./node-binary.js";
import { renderHtml } from "./report/html.js";
import type { AnySuiteResult, BenchReport } from "./report/report.js";
import { formatTunnel } from "./report/tunnel-table.js";
import { LOADS, type LoadName } from "./tunnel/loads.js";

const SUITES = ["crypto", "engine", "tunnel", "relay"] as const;

const cache = process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache");
process.env["WIRELANE_TEST_PEERS"] ??= join(cache, "wirelane/peers/bin");

function positive(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new InvalidArgumentError("a whole number above 0");
  return value;
}

function loadNames(text: string): LoadName[] {
  const isLoad = (name: string): name is LoadName => name in LOADS;
  const names = text.split(",");
  const loads = names.filter(isLoad);
  if (loads.length !== names.length) throw new InvalidArgumentError(`some of ${Object.keys(LOADS).join(", ")}`);
  return loads;
}

interface Options {
  readonly rounds: number;
  readonly seconds: number;
  readonly mtu: number;
  readonly loads: LoadName[];
  readonly only: string[];
  readonly node?: string;
  readonly json?: boolean;
}

const loadList = Object.entries(LOADS).map(([name, { title }]) => `  ${name.padEnd(15)} ${title}`);

const command = new Command("npm run bench --")
  .description("Measures wirelane against its peers. Figures are ratios to something measured in the same run.")
  .argument("[suites...]", `some of ${SUITES.join(", ")}; default: all`)
  .option("--rounds <n>", "tunnel, relay: rounds of alternation", positive, 3)
  .option("--seconds <n>", "tunnel, and relay between client and gateway: seconds per measurement", positive, 3)
  .option("--mtu <bytes>", "tunnel: MTU of the WireGuard tunnels", positive, 1280)
  .option("--loads <names>", "tunnel: loads, separated by commas; default: all", loadNames, Object.keys(LOADS))
  .option("--only <words...>", "tunnel: only contenders whose name contains one of the words", [])
  .option("--node <version|file>", "Node to measure on; default: tunnel and relay on 24 where this one is older")
  .option("--json", "print the results as JSON instead of tables")
  .addHelpText(
    "after",
    `
Loads of the tunnel suite:
${loadList.join("\n")}

Examples:
  npm run bench                                      everything; about ten minutes
  npm run bench -- crypto                            one suite
  npm run bench -- crypto --node 26                  one suite on another Node version
  npm run bench -- tunnel --only current --rounds 5  against current wireguard-go only
  npm run bench -- tunnel --node 26 --loads tcp-1    on another Node version, from the npm registry

bash scripts/install-test-peers.sh installs the programs to compare with.`,
  )
  .action(run);

async function run(names: string[], options: Options): Promise<void> {
  for (const name of names)
    if (!SUITES.some((suite) => suite === name))
      command.error(`there is no suite "${name}": ${SUITES.join(", ")}`, { exitCode: 2 });
  const wanted = (name: (typeof SUITES)[number]) => names.length === 0 || names.includes(name);
  const progress = (line: string) => process.stderr.write(`${line}\n`);
  // These two suites run in this process, so it has to be another one.
  if (options.node !== undefined && (wanted("crypto") || wanted("engine"))) {
    const { file = process.execPath } = findNode(options.node, progress);
    if (realpathSync(file) !== realpathSync(process.execPath)) {
      process.exitCode = spawnSync(file, process.argv.slice(1), { stdio: "inherit" }).status ?? 1;
      return;
    }
  }
  const results: AnySuiteResult[] = [];
  let tunnelNode = process.version;

  if (wanted("crypto")) {
    const { runCryptoSuite } = await import("./crypto/main.js");
    results.push(await runCryptoSuite({ print: !options.json }));
  }
  if (wanted("engine")) {
    const { runEngineSuite } = await import("./engine/main.js");
    results.push(await runEngineSuite({ progress }));
  }
  if (wanted("tunnel")) {
    const { runTunnelSuite } = await import("./tunnel/suite.js");
    const node = findNode(options.node, progress);
    tunnelNode = node.version;
    progress(`wirelane runs on Node ${node.version}`);
    const result = await runTunnelSuite({ ...options, node: node.file, progress });
    if (!options.json) process.stdout.write(`\n${formatTunnel(result)}`);
    results.push(result);
  }

  if (wanted("relay")) {
    const { formatRelay, runRelaySuite } = await import("./relay/suite.js");
    const node = findNode(options.node, progress);
    tunnelNode = node.version;
    const result = await runRelaySuite({ ...options, node: node.file, progress });
    if (!options.json) process.stdout.write(`\n${formatRelay(result)}`);
    results.push(result);
  }

  const report: BenchReport = {
    time: new Date().toISOString(),
    node: { process: process.version, tunnel: tunnelNode },
    kernel: release(),
    cpu: `${cpus().length} × ${cpus()[0]?.model ?? "unknown"}`,
    results,
  };
  const folder = fileURLToPath(new URL("../../bench/results/", import.meta.url));
  mkdirSync(folder, { recursive: true });
  const file = join(folder, report.time.replaceAll(":", "-"));
  writeFileSync(`${file}.json`, `${JSON.stringify(report, undefined, 2)}\n`);
  writeFileSync(`${file}.html`, renderHtml(report));
  if (options.json) process.stdout.write(`${JSON.stringify(report)}\n`);
  else process.stderr.write(`raw results: ${file}.json\ncharts: ${file}.html\n`);
}

try {
  await command.parseAsync();
} catch (error) {
  command.error(`error: ${error instanceof Error ? error.message : String(error)}`, { exitCode: 1 });
}
