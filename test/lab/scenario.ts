// A scenario of the laboratory: a world, what happens to it, and what must hold; run by `npm run lab` (scripts/lab/main.ts) and as a test
// (scenarios.test.ts). A failure says in which step it was, which way each connection went and where the logs are.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { NatWorld, type NatWorldOptions } from "../../scripts/lab/nat-world.js";
import { type RelayKind, whyNoRelay } from "../../scripts/lab/relay-program.js";

/** A scenario. */
export interface LabScenario {
  /** In lower case with hyphens. */
  readonly name: string;
  /** What happens and what must hold, one sentence. */
  readonly description: string;
  /** How many relays its worlds have. */
  readonly relays: number;
  /** `true`: the relays must be wirelane's own, for what they do besides relaying. Default: any will do. */
  readonly ownRelays?: boolean;
  /** Milliseconds. Default 90 s. */
  readonly timeout?: number;
  run(lab: ScenarioLab): Promise<void>;
}

/** What a scenario works with. */
export interface ScenarioLab {
  /** A world with the scenario's relays, without programs; the one before, if there was one, is taken down. */
  world(options?: Omit<NatWorldOptions, "directory" | "relays" | "relayKind" | "handleSignals">): Promise<NatWorld>;
  /** Does something under a name, which is reported with its time, or with its failure. */
  step<T>(name: string, action: () => T | Promise<T>): Promise<T>;
  /** Reports a measurement or an observation. */
  note(text: string): void;
  /** @throws Error `what` if it does not hold. */
  expect(holds: boolean, what: string): void;
}

/** A step that was done. */
export interface ScenarioStep {
  readonly name: string;
  readonly milliseconds: number;
}

/** How a scenario ended. */
export interface ScenarioResult {
  readonly name: string;
  readonly outcome: "passed" | "failed" | "skipped";
  readonly seconds: number;
  readonly steps: readonly ScenarioStep[];
  readonly notes: readonly string[];
  /** Why it was skipped or failed. */
  readonly reason?: string;
  readonly failedStep?: string;
  /** Paths of the connections and ends of the logs. */
  readonly details?: string;
  /** The folder with the logs; they stay when it fails, and on request. */
  readonly logs?: string;
}

/** How to run a scenario. */
export interface RunOptions {
  /** Which relays to use. Default `wirelane`. */
  readonly relayKind?: RelayKind;
  /** Hears of every step and note. */
  readonly onProgress?: (line: string) => void;
  /** Called when it has passed or failed, before the world is taken down. */
  readonly beforeEnd?: (world: NatWorld | undefined, directory: string) => Promise<void>;
  /** Keep the logs of a scenario that passes. */
  readonly keepLogs?: boolean;
  /** Rejects when the run is to end early; the scenario has failed then. */
  readonly interrupted?: Promise<never>;
}

const DEFAULT_TIMEOUT = 90_000;

/** Why a scenario cannot be run here; `undefined`: it can. */
export function whyNot(scenario: LabScenario, relayKind: RelayKind = "wirelane"): string | undefined {
  if (scenario.relays === 0) return undefined;
  if (scenario.ownRelays === true && relayKind !== "wirelane") return "needs wirelane's own relays";
  return whyNoRelay(relayKind);
}

/** Runs a scenario. Never rejects for what happens in it: see the result. */
export async function runScenario(scenario: LabScenario, options: RunOptions = {}): Promise<ScenarioResult> {
  const { relayKind = "wirelane", onProgress = () => undefined } = options;
  const reason = whyNot(scenario, relayKind);
  const { name } = scenario;
  if (reason !== undefined) return { name, outcome: "skipped", seconds: 0, steps: [], notes: [], reason };

  const directory = mkdtempSync(join(tmpdir(), `wirelane-lab-${name}-`));
  const start = performance.now();
  const steps: ScenarioStep[] = [];
  const notes: string[] = [];
  let current: string | undefined;
  let world: NatWorld | undefined;
  let worlds = 0;
  let over = false;
  const lab: ScenarioLab = {
    async world(worldOptions = {}) {
      await world?.destroy();
      if (over) throw new Error("the scenario is over");
      world = await NatWorld.create({
        ...worldOptions,
        relays: scenario.relays,
        relayKind,
        directory: join(directory, `world-${++worlds}`),
        handleSignals: false,
      });
      return world;
    },
    async step(step, action) {
      current = step;
      const begin = performance.now();
      const result = await action();
      const milliseconds = performance.now() - begin;
      steps.push({ name: step, milliseconds });
      onProgress(`${milliseconds.toFixed(0).padStart(7)} ms  ${step}`);
      current = undefined;
      return result;
    },
    note(text) {
      notes.push(text);
      onProgress(`            ${text}`);
    },
    expect(holds, what) {
      if (!holds) throw new Error(what);
    },
  };
  const timeout = scenario.timeout ?? DEFAULT_TIMEOUT;
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not done within ${timeout / 1000} s`)), timeout);
  });
  const seconds = () => (performance.now() - start) / 1000;
  let keepLogs = options.keepLogs === true;
  try {
    const run = scenario.run(lab);
    await Promise.race([run, late, ...(options.interrupted === undefined ? [] : [options.interrupted])]);
    await options.beforeEnd?.(world, directory);
    const logs = keepLogs ? { logs: directory } : {};
    return { name, outcome: "passed", seconds: seconds(), steps, notes, ...logs };
  } catch (error) {
    keepLogs = true;
    const details = await world?.describe();
    await options.beforeEnd?.(world, directory);
    return {
      name,
      outcome: "failed",
      seconds: seconds(),
      steps,
      notes,
      reason: error instanceof Error ? error.message : String(error),
      failedStep: current ?? (steps.length === 0 ? "building the world" : `after "${steps.at(-1)?.name}"`),
      logs: directory,
      ...(details === undefined ? {} : { details }),
    };
  } finally {
    over = true;
    clearTimeout(timer);
    await world?.destroy();
    if (!keepLogs) rmSync(directory, { recursive: true, force: true });
  }
}

/** A failed run in words. */
export function describeFailure(result: ScenarioResult): string {
  const { name, failedStep, reason, details, logs } = result;
  const tail = details === undefined ? "" : `\n${details}`;
  return `${name}: the step "${failedStep}" failed: ${reason}${tail}\nthe logs are in ${logs}`;
}
