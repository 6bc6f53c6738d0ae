// `wirelane wg INTERFACE`: a plain WireGuard device with the command line that all userspace implementations share
// (https://www.wireguard.com/xplatform/, "Interface"). For wg-quick(8), WG_QUICK_USERSPACE_IMPLEMENTATION names a script that runs
// `exec wirelane wg "$@"`.

import { Command } from "commander";
import { workersOption } from "../common/options.js";
import { FOREGROUND_VARIABLE, reportStart, startInBackground } from "./background.js";
import { DeviceProgram } from "./device-program.js";
import { DeviceLog, logLevel } from "./log.js";

const HELP = `
Environment:
  WG_PROCESS_FOREGROUND=1   the same as --foreground
  LOG_LEVEL                 silent, error (default), verbose or debug
  WG_TUN_NAME_FILE          file to write the interface's name to

The device ends on SIGINT and SIGTERM, when the interface is deleted, and when its socket in
/var/run/wireguard is. Example:

  wirelane wg wg0
  wg set wg0 private-key ./private listen-port 51820 peer ... allowed-ips 10.0.0.2/32
  ip address add 10.0.0.1/24 dev wg0
  ip link set wg0 up
`;

interface Options {
  readonly foreground?: boolean;
  readonly workers: number;
}

/** The sub-command. */
export function wgCommand(): Command {
  return new Command()
    .description("a plain WireGuard device, to be configured with wg(8)")
    .argument("<interface>", "name of the interface to create")
    .option("-f, --foreground", "stay in the foreground")
    .addOption(workersOption())
    .addHelpText("after", HELP)
    .action((interfaceName: string, options: Options) => run(interfaceName, options));
}

async function run(interfaceName: string, options: Options): Promise<void> {
  const level = logLevel(process.env["LOG_LEVEL"]);
  if (options.foreground !== true && process.env[FOREGROUND_VARIABLE] !== "1") {
    const report = await startInBackground(process.env["LOG_LEVEL"] !== undefined && level !== "silent");
    if (report.type === "failed") fail(report.message);
    return;
  }

  const log = new DeviceLog(level, interfaceName);
  let program: DeviceProgram;
  try {
    const nameFile = process.env["WG_TUN_NAME_FILE"];
    program = await DeviceProgram.start({ interfaceName, workers: options.workers, log, nameFile });
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    reportStart({ type: "failed", message });
    fail(message);
    return;
  }
  const signalled = new Promise<void>((resolve) => {
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => resolve());
  });
  reportStart({ type: "ready" });

  const end = await Promise.race([signalled, program.ended]);
  await program.stop();
  switch (end?.type) {
    case "failed":
      log.error("the device failed", end.error);
      fail(end.error.message);
      return;
    case "interface-removed":
    case "socket-removed":
    case undefined:
      log.info(`device ended: ${end?.type ?? "signal"}`);
      return;
  }
}

function fail(message: string): void {
  process.stderr.write(`wirelane wg: ${message}\n`);
  process.exitCode = 1;
}
