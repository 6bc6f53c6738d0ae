// npm run bench: measures, prints a table, and writes the raw results as JSON to bench/results/.
//
//   npm run bench                     every suite that this machine can run
//   npm run bench -- crypto           one suite
//   npm run bench -- tunnel --rounds 5 --seconds 5 --only current

import { mkdirSync, writeFileSync } from "node:fs";
import { cpus, homedir, release } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Command, InvalidArgumentError } from "commander";
import { LOADS, type LoadName } from "./tunnel/measure.js";
import { runTunnelSuite, type TunnelSuiteResult } from "./tunnel/suite.js";

const SUITES = ["crypto", "engine", "tunnel"] as const;

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

const command = new Command("npm run bench --")
  .description("Measures wirelane against its peers. Figures are ratios to something measured in the same run.")
  .argument("[suites...]", `some of ${SUITES.join(", ")}; default: all`)
  .option("--rounds <n>", "tunnel: rounds of alternation", positive, 3)
  .option("--seconds <n>", "tunnel: seconds per measurement", positive, 3)
  .option("--mtu <bytes>", "tunnel: MTU of the tunnels", positive, 1280)
  .option("--loads <names>", "tunnel: loads, separated by commas", loadNames, ["tcp-1", "tcp-1-reverse"])
  .option("--only <words...>", "tunnel: only contenders whose name contains one of the words", [])
  .option("--node <file>", "tunnel: node binary that runs wirelane")
  .option("--json", "print the results as JSON instead of tables")
  .action(run);

async function run(names: string[], options: Options): Promise<void> {
  for (const name of names)
    if (!SUITES.some((suite) => suite === name))
      command.error(`there is no suite "${name}": ${SUITES.join(", ")}`, { exitCode: 2 });
  const wanted = (name: (typeof SUITES)[number]) => names.length === 0 || names.includes(name);
  const progress = (line: string) => process.stderr.write(`${line}\n`);
  const results: unknown[] = [];

  if (wanted("crypto")) {
    const { runCryptoSuite } = await import("./crypto/main.js");
    results.push(await runCryptoSuite({ print: !options.json }));
  }
  if (wanted("engine")) {
    const { runEngineSuite } = await import("./engine/main.js");
    results.push(await runEngineSuite({ progress }));
  }
  if (wanted("tunnel")) {
    const result = await runTunnelSuite({ ...options, progress });
    if (!options.json) printTunnelTable(result);
    results.push(result);
  }

  const report = {
    time: new Date().toISOString(),
    node: process.version,
    kernel: release(),
    cpu: `${cpus().length} × ${cpus()[0]?.model ?? "unknown"}`,
    results,
  };
  const folder = fileURLToPath(new URL("../../bench/results/", import.meta.url));
  mkdirSync(folder, { recursive: true });
  const file = join(folder, `${report.time.replaceAll(":", "-")}.json`);
  writeFileSync(file, `${JSON.stringify(report, undefined, 2)}\n`);
  if (options.json) process.stdout.write(`${JSON.stringify(report)}\n`);
  else process.stderr.write(`raw results: ${file}\n`);
}

function printTunnelTable(result: TunnelSuiteResult): void {
  const { mtu, rounds, seconds } = result.options;
  process.stdout.write(`\nTunnel, MTU ${mtu}, medians of ${rounds} alternating rounds of ${seconds} s\n`);
  for (const load of result.options.loads) {
    process.stdout.write(
      `\n${LOADS[load].name.padEnd(30)}${"Gbit/s".padStart(8)}${"CPU-s/GB".padStart(10)}${"lost".padStart(8)}  wirelane is\n`,
    );
    for (const { name, loads } of result.contenders) {
      const figures = loads[load];
      if (figures === undefined) continue;
      const lost = figures.samples[0]?.lost;
      process.stdout.write(
        `  ${name.padEnd(28)}${figures.gigabitsPerSecond.toFixed(2).padStart(8)}${figures.cpuSecondsPerGigabyte.toFixed(2).padStart(10)}` +
          `${(lost === undefined ? "" : `${(100 * lost).toFixed(1)} %`).padStart(8)}` +
          `${figures.wirelaneRatio === undefined ? "" : `  ${figures.wirelaneRatio.toFixed(2)} times`}\n`,
      );
    }
  }
  for (const { name, advice } of result.missing) process.stdout.write(`not on this machine: ${name} (${advice})\n`);
}

await command.parseAsync();
