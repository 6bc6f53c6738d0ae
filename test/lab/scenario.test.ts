// Running scenarios: what is reported of one that passes, fails or does not end, and that nothing of it is left. The worlds have no
// programs, so this needs no more than the laboratory itself.

import assert from "node:assert/strict";
import { existsSync, readdirSync, rmSync } from "node:fs";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { NatWorld } from "../../scripts/lab/nat-world.js";
import { processesInside } from "../../scripts/lab/processes.js";
import { routerSkip } from "./router-skip.js";
import { describeFailure, type LabScenario, runScenario, type ScenarioLab } from "./scenario.js";

function scenario(run: (lab: ScenarioLab) => Promise<void>, timeout = 20_000): LabScenario {
  return { name: "trial", description: "a trial", relays: 0, timeout, run };
}

/** What is left of a world: its logs, and its programs while its namespaces can still be named. */
function watch(world: NatWorld): () => number {
  const namespaces = world.hosts.map(({ namespace }) => namespace);
  return () => processesInside(namespaces).length;
}

describe("scenarios", { skip: routerSkip }, () => {
  test("one that passes has its steps and notes, and its folder is removed", async () => {
    const lines: string[] = [];
    let directory = "";
    const result = await runScenario(
      scenario(async (lab) => {
        const world = await lab.step("built", () => lab.world({ client: { nat: "double" } }));
        directory = world.directory;
        lab.note("something was seen");
        lab.expect(existsSync(world.configurationFile), "the portal's file is there");
      }),
      { onProgress: (line) => lines.push(line.trim()) },
    );
    assert.equal(result.outcome, "passed", result.reason);
    assert.deepEqual(
      result.steps.map(({ name }) => name),
      ["built"],
    );
    assert.deepEqual(result.notes, ["something was seen"]);
    assert.match(lines[0] ?? "", /^\d+ ms {2}built$/);
    assert.equal(lines[1], "something was seen");
    assert.ok(directory !== "" && !existsSync(directory));
  });

  test("one that fails names the step and the reason, shows the paths, and its logs stay", async () => {
    let programs = () => 0;
    let during = 0;
    const result = await runScenario(
      scenario(async (lab) => {
        const world = await lab.step("built", () => lab.world());
        programs = watch(world);
        world.clientHost.spawn("sleep", ["60"]);
        await sleep(50);
        during = programs();
        await lab.step("doomed", () => lab.expect(false, "the sky fell"));
      }),
    );
    try {
      assert.equal(result.outcome, "failed");
      assert.equal(result.failedStep, "doomed");
      assert.equal(result.reason, "the sky fell");
      assert.ok(during >= 1);
      const words = describeFailure(result);
      for (const part of ["trial", "doomed", "the sky fell", result.logs ?? "no logs"])
        assert.ok(words.includes(part), `${part}: ${words}`);
      assert.ok(readdirSync(result.logs ?? "").length > 0);
    } finally {
      if (result.logs !== undefined) rmSync(result.logs, { recursive: true, force: true });
    }
  });

  test("one that does not end is ended, and so is one that is interrupted", async () => {
    const endless = scenario(async (lab) => {
      await lab.step("for ever", () => sleep(60_000, undefined, { ref: false }));
    }, 100);
    const interrupted = Promise.reject<never>(new Error("interrupted"));
    interrupted.catch(() => undefined);
    const results = [await runScenario(endless), await runScenario({ ...endless, timeout: 20_000 }, { interrupted })];
    assert.match(results[0]?.reason ?? "", /not done within 0.1 s/);
    assert.equal(results[0]?.failedStep, "for ever");
    assert.equal(results[1]?.reason, "interrupted");
    for (const { logs } of results) if (logs !== undefined) rmSync(logs, { recursive: true, force: true });
  });

  test("one that needs wirelane's relays is skipped with coturn, and says why", async () => {
    const result = await runScenario(
      { ...scenario(() => Promise.reject(new Error("was run"))), relays: 1, ownRelays: true },
      { relayKind: "coturn" },
    );
    assert.equal(result.outcome, "skipped");
    assert.match(result.reason ?? "", /wirelane/);
  });
});
