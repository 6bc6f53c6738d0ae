#!/usr/bin/env node
// The one executable: a sub-command per program. Each program's module is loaded only when it runs, so that `wirelane --help`
// answers at once and the portal does not load the system layer.

import type { Command } from "commander";
import { programVersion } from "./common/version.js";

/** Name → one line for the overview, and the module that holds the command. */
const PROGRAMS = {
  client: {
    summary: "connect this machine to the resources that the portal grants it",
    load: async () => (await import("./client/command.js")).clientCommand(),
  },
  gateway: {
    summary: "carry clients' traffic into the network that this machine is in",
    load: async () => (await import("./gateway/command.js")).gatewayCommand(),
  },
  portal: {
    summary: "decide who may reach what, from a YAML file",
    load: async () => (await import("./portal.js")).portalCommand(),
  },
  relay: {
    summary: "carry the traffic of those who cannot reach each other: a STUN and TURN server",
    load: async () => (await import("./relay/command.js")).relayCommand(),
  },
  wg: {
    summary: "a plain WireGuard device for wg(8) and wg-quick(8)",
    load: async () => (await import("./wg/command.js")).wgCommand(),
  },
} as const satisfies Record<string, { summary: string; load: () => Promise<Command> }>;

const OVERVIEW = `Usage: wirelane <program> [options]

The data plane of a zero-trust network.

Programs:
${Object.entries(PROGRAMS)
  .map(([name, { summary }]) => `  ${name.padEnd(10)}${summary}`)
  .join("\n")}

Options:
  -V, --version  print the version
  -h, --help     print this; "wirelane <program> --help" explains a program

A first tunnel on one machine: npm run demo
`;

async function main(args: readonly string[]): Promise<void> {
  const [name = "--help"] = args;
  if (name === "--help" || name === "-h" || name === "help") {
    process.stdout.write(OVERVIEW);
    return;
  }
  if (name === "--version" || name === "-V") {
    process.stdout.write(`${programVersion()}\n`);
    return;
  }
  const program = Object.entries(PROGRAMS).find(([program]) => program === name)?.[1];
  if (program === undefined) {
    process.stderr.write(`wirelane: there is no program "${name}"\n\n${OVERVIEW}`);
    process.exitCode = 2;
    return;
  }
  const command = await program.load();
  command.name(`wirelane ${name}`).version(programVersion(), "-V, --version", "print the version");
  await command.parseAsync(args.slice(1), { from: "user" });
}

await main(process.argv.slice(2));
