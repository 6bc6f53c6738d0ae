// The main thread stays free while traffic flows (issue 3, "What must hold"): event-loop delay below 20 ms (p99), and exceptions that do
// not grow with the traffic. The programs report both in a record "Statistics" on SIGUSR2; the delay counts since the one before.

import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import type { LabProgram, LogRecord } from "../../scripts/lab/program.js";
import { RESOURCES } from "../../scripts/lab/world.js";
import { describeWorld, pingable, SOON, startPrograms } from "../support/world.js";

const SECONDS = 5;
const DELAY_LIMIT = 20;
/** Exceptions in that time: keepalives, STUN checks and a rekey at most, however much traffic flows. */
const EXCEPTION_LIMIT = 100;

async function statistics(program: LabProgram): Promise<LogRecord> {
  const from = program.mark;
  program.signal("SIGUSR2");
  return program.waitFor("Statistics", { timeout: SOON, from });
}

describeWorld("load", (scenario) => {
  scenario(
    "at full speed, client and gateway: event-loop delay p99 < 20 ms, exceptions do not grow with traffic",
    async (world, context) => {
      await world.startResources(["intranet"]);
      const { client, gateway } = await startPrograms(world);
      await pingable(world, RESOURCES.intranet.ipv4);
      await sleep(500);
      const programs = [client, gateway];
      const before = await Promise.all(programs.map(statistics));
      const url = `http://${RESOURCES.intranet.ipv4}/file?bytes=${1e13}`;
      const { bytes, seconds } = await world.probe(["drain", url, String(SECONDS)]);
      const after = await Promise.all(programs.map(statistics));
      context.diagnostic(`${((Number(bytes) * 8) / Number(seconds) / 1e6).toFixed(0)} Mbit/s`);
      for (const [i, program] of programs.entries()) {
        const delay = Number(after[i]?.fields["eventLoopDelayP99Ms"]);
        const exceptions = Number(after[i]?.fields["exceptions"]) - Number(before[i]?.fields["exceptions"]);
        context.diagnostic(
          `${program.name}: event-loop delay p99 ${delay} ms, ${exceptions} exceptions, dropped ${after[i]?.fields["dropped"]}`,
        );
        assert.ok(delay < DELAY_LIMIT, `${program.name}: p99 ${delay} ms`);
        assert.ok(exceptions < EXCEPTION_LIMIT, `${program.name}: ${exceptions} exceptions`);
      }
    },
  );
});
