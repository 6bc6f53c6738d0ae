// Worlds for the end-to-end tests: each has a folder of its own for its logs, which stays when the test fails.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { LabProgram } from "../../scripts/lab/program.js";
import { World } from "../../scripts/lab/world.js";
import { labSkip } from "./lab-skip.js";

/** Time limit for what a program should log soon, milliseconds: two cores may be busy with other things. */
export const SOON = 15_000;

/** Defines a test that gets the file's world, without programs and with the ordinary configuration. */
export type Scenario = (title: string, action: (world: World, context: TestContext) => Promise<void>) => void;

/** A group of tests that share a world, one after the other; it is taken down whatever happens. */
export function describeWorld(name: string, define: (scenario: Scenario) => void): void {
  describe(name, { skip: labSkip }, () => {
    let world: World | undefined;
    let failed = false;
    before(() => {
      world = World.create({ directory: mkdtempSync(join(tmpdir(), "wirelane-e2e-")) });
    });
    after(async () => {
      await world?.destroy();
      if (world !== undefined && !failed) rmSync(world.directory, { recursive: true, force: true });
    });
    define((title, action) => {
      test(title, async (context) => {
        assert.ok(world !== undefined, "the world could not be made");
        try {
          await action(world, context);
        } catch (error) {
          failed = true;
          if (error instanceof Error) error.message += `\nlogs: ${world.directory}`;
          throw error;
        } finally {
          await world.reset();
        }
      });
    });
  });
}

/** The programs of a world. */
export interface RunningPrograms {
  readonly portal: LabProgram;
  readonly gateway: LabProgram;
  readonly client: LabProgram;
}

/** Starts portal, gateway and client and waits until all are ready. */
export async function startPrograms(world: World): Promise<RunningPrograms> {
  const portal = world.startPortal();
  await portal.waitFor("Portal is listening", { timeout: SOON });
  const gateway = world.startGateway();
  await ready(gateway);
  const client = world.startClient();
  await ready(client);
  return { portal, gateway, client };
}

/** Waits until a gateway or client has signed in and configured its interface. */
export async function ready(program: LabProgram): Promise<void> {
  await program.waitFor("Connected to portal", { timeout: SOON });
  await program.waitFor("Tunnel ready", { timeout: SOON });
}

/** Waits until `condition` holds. @returns the milliseconds it took. */
export async function eventually(
  condition: () => boolean,
  what: string,
  timeout = SOON,
  interval = 50,
): Promise<number> {
  const start = Date.now();
  while (!condition()) {
    assert.ok(Date.now() - start < timeout, `${what}: not within ${timeout} ms`);
    await sleep(interval);
  }
  return Date.now() - start;
}

/** Pings until a reply comes. @returns the milliseconds it took. */
export function pingable(world: World, address: string, timeout = SOON): Promise<number> {
  return eventually(() => world.ping(address, 300) !== undefined, `a reply of ${address}`, timeout, 20);
}

/** Pings until no reply comes any more. @returns the milliseconds it took. */
export function unreachable(world: World, address: string, timeout = SOON): Promise<number> {
  return eventually(() => world.ping(address, 300) === undefined, `no reply of ${address}`, timeout, 20);
}
