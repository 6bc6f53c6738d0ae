// The product on hosts of a lab: portal, gateway and client, with two addresses behind the gateway as resources.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { LabHost } from "../../scripts/lab/host.js";
import { LabProgram } from "../../scripts/lab/program.js";
import { ownEnvironment } from "../../scripts/lab/world.js";
import {
  ACTOR,
  renderConfiguration,
  SITE,
  TOKENS,
  type WorldConfiguration,
} from "../../scripts/lab/world-configuration.js";

const WIRELANE = fileURLToPath(new URL("../../src/programs/main.js", import.meta.url));
/** Not 8080, which is that of the gateway's health endpoint. */
const PORTAL_PORT = 8081;
/** How long a program may take to get ready, and the first packet to get through, in milliseconds. */
const START_LIMIT = 20_000;

/** What to start a portal with. */
export interface PortalPlan {
  readonly host: LabHost;
  /** Where it listens. */
  readonly address: string;
  /** Addresses behind the gateway. */
  readonly resources: { readonly ipv4: string; readonly ipv6?: string };
  readonly relays?: WorldConfiguration["relays"];
  /** Where files and logs go. */
  readonly directory: string;
  /** Node binary that runs the programs. */
  readonly node: string | undefined;
}

/** A portal, and what signs in to it. */
export interface Product {
  readonly apiUrl: string;
  /** What all programs have. */
  readonly env: NodeJS.ProcessEnv;
  startGateway(host: LabHost): LabProgram;
  startClient(host: LabHost): LabProgram;
}

/** Starts the portal. */
export function startPortal({ host: portalHost, address, resources, relays, directory, node }: PortalPlan): Product {
  const file = join(directory, "portal.yaml");
  const list = Object.values(resources).map((resource) => ({
    name: resource,
    type: "cidr" as const,
    address: `${resource}/${resource.includes(":") ? 128 : 32}`,
    sites: [SITE],
  }));
  writeFileSync(
    file,
    renderConfiguration({
      sites: [{ name: SITE, tokens: [TOKENS.gateway] }],
      actors: [{ name: ACTOR, tokens: [TOKENS.client] }],
      resources: list,
      policies: list.map((resource) => ({ actor: ACTOR, resource: resource.name })),
      ...(relays === undefined ? {} : { relays }),
    }),
  );
  const apiUrl = `ws://${address}:${PORTAL_PORT}`;
  const env = { ...ownEnvironment(), RUST_LOG: "info", FIREZONE_LOG_FORMAT: "json", NO_COLOR: "1" };
  const start = (host: LabHost, program: string, args: readonly string[], more: NodeJS.ProcessEnv) =>
    LabProgram.start(host, {
      name: program,
      script: WIRELANE,
      args: [program, ...args],
      env: { ...env, FIREZONE_API_URL: apiUrl, ...more },
      logFile: join(directory, `${program}.jsonl`),
      ...(node === undefined ? {} : { node }),
    });
  const state = join(directory, "devices.json");
  start(portalHost, "portal", ["--config", file, "--listen", `${address}:${PORTAL_PORT}`, "--state", state], {});
  return {
    apiUrl,
    env,
    startGateway: (host) =>
      start(host, "gateway", [], {
        FIREZONE_TOKEN: TOKENS.gateway,
        FIREZONE_ID: "5a3b6e2c-0d51-4d0e-9d8b-6f2a3c1e4b70",
      }),
    startClient: (host) =>
      start(host, "client", [], {
        FIREZONE_TOKEN: TOKENS.client,
        FIREZONE_ID: "8d7c5b1a-3f42-4c6d-8e9f-0a1b2c3d4e5f",
        FIREZONE_DNS_CONTROL: "disabled",
      }),
  };
}

/** Waits until an address answers. @throws Error with `log` when it does not. */
export async function reach(from: LabHost, address: string, log: () => string): Promise<void> {
  const end = performance.now() + START_LIMIT;
  for (;;) {
    const { status } = await from.run("ping", ["-n", "-c", "1", "-W", "1", address], { allowFailure: true });
    if (status === 0) return;
    if (performance.now() > end) throw new Error(`${address} does not answer\n${log()}`);
    await sleep(100);
  }
}
