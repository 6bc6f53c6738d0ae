// What a device costs its process in the long run: full traffic makes no garbage in the workers (design, section 1: no objects on
// the packet path), and nothing is done when there is nothing to do.

import assert from "node:assert/strict";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, test } from "node:test";
import { setTimeout } from "node:timers/promises";
import { MAIN, programSkip, type WireGuardProgram } from "../support/wireguard-programs.js";
import { cleanUp, configure, OUTER, PORT, ping, type Side, twoSides } from "../support/wireguard-sides.js";

const directory = mkdtempSync(join(tmpdir(), "wirelane-steady-"));
afterEach(cleanUp);
after(() => rmSync(directory, { recursive: true, force: true }));

/** Full traffic before garbage counts: V8 compiles meanwhile, and buffers grow to their sizes. Seconds. */
const WARM_UP = 4;
/** Full traffic during which none may be collected. Seconds. */
const MEASURED = 10;

/** `wirelane wg` whose V8 tells of every garbage collection, in a file. */
const traced = (number: number): WireGuardProgram => ({
  name: "wirelane wg",
  file: "/bin/sh",
  // The process's number is the shell's.
  args: (name) => [
    "-c",
    `echo $$ > ${directory}/pid${number}; exec "$@" > ${directory}/gc${number} 2>&1`,
    "sh",
    process.execPath,
    "--trace-gc",
    MAIN,
    "wg",
    "-f",
    name,
  ],
});

const skip = programSkip(traced(1)) || (!existsSync("/usr/bin/iperf3") && "needs iperf3");

async function iperf(from: Side, to: Side, seconds: number, ...options: string[]): Promise<number> {
  const server = to.host.spawn("iperf3", ["-s", "-1", "--forceflush"], { stdio: ["ignore", "pipe", "inherit"] });
  const ended = once(server, "exit");
  await new Promise((resolve) => server.stdout?.once("data", resolve));
  const { stdout } = await from.host.run(
    "iperf3",
    ["-c", `10.77.0.${to.number}`, "-t", String(seconds), "-J", ...options],
    { timeout: (seconds + 20) * 1000 },
  );
  await ended;
  return (JSON.parse(stdout) as { end: { sum_received: { bytes: number } } }).end.sum_received.bytes;
}

/** Garbage collections in the worker so far: the lines that tell of them. */
function collections(number: number): string[] {
  const byIsolate = new Map<string, string[]>();
  for (const line of readFileSync(join(directory, `gc${number}`), "utf8").split("\n")) {
    // [pid:0xisolate:epoch] 1234 ms: Scavenge 5.1 (6.0) -> 4.7 (7.0) MB, …
    const isolate = /^\[\d+:(0x[0-9a-f]+)[^\]]*\].*(Scavenge|Mark-Compact|Minor)/.exec(line)?.[1];
    if (isolate === undefined) continue;
    byIsolate.set(isolate, [...(byIsolate.get(isolate) ?? []), line]);
  }
  // The main thread is the first that collects.
  return [...byIsolate.values()].slice(1).flat();
}

/** Processor time that a process has used, in seconds. */
function processorTime(number: number): number {
  const pid = readFileSync(join(directory, `pid${number}`), "utf8").trim();
  // Times 14 and 15, in hundredths of a second; the name before them is in parentheses.
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

test("ten seconds of full traffic in both directions collect no garbage; a device without traffic does nothing", {
  skip,
  timeout: 120_000,
}, async (t) => {
  const [one, two] = await twoSides([traced(1), traced(2)]);
  await configure(two, one);
  await configure(one, two, [`Endpoint = ${OUTER[4][1]}:${PORT}`]);
  await ping(one, two);
  await iperf(one, two, WARM_UP / 2);
  await iperf(one, two, WARM_UP / 2, "-R");
  const before = [collections(1), collections(2)];
  const bytes = (await iperf(one, two, MEASURED / 2)) + (await iperf(one, two, MEASURED / 2, "-R"));
  t.diagnostic(`${(bytes / 1e9).toFixed(2)} GB`);
  for (const [index, number] of [1, 2].entries()) {
    assert.deepEqual(collections(number).slice(before[index]?.length), [], `device ${number}`);
  }

  const used = [processorTime(1), processorTime(2)];
  const idle = 5;
  await setTimeout(idle * 1000);
  for (const [index, number] of [1, 2].entries()) {
    const perMinute = ((processorTime(number) - (used[index] ?? 0)) * 60) / idle;
    t.diagnostic(`device ${number}, idle: ${perMinute.toFixed(2)} CPU-seconds per minute`);
    assert.ok(perMinute <= 0.5, `${perMinute} CPU-seconds per minute`);
  }
});
