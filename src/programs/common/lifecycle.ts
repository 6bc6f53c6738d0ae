// From a started program to its end: signals, the end by itself, and the exit status (spec 05, sections 6.5 and 9.2).

import type { Log } from "./log.js";
import { messageOf } from "./options.js";

/** A started program. */
export interface RunningProgram {
  /** Resolves with the reason when the program has to end by itself. */
  readonly ended: Promise<{ readonly message: string }>;
  /** Resolves when the program has reached what it was started for; absent: never. */
  readonly done?: Promise<void> | undefined;
  /** SIGHUP; absent: the signal is ignored. */
  reset?(): Promise<void>;
  /** SIGUSR2. */
  reportStatistics(): void;
  stop(): Promise<void>;
}

/** Name of a program for people, and target of its log lines. */
export interface ProgramName {
  readonly program: string;
  readonly target: string;
}

/** Starts a program, runs it until SIGINT, SIGTERM or its own end, and stops it. Sets the exit status. */
export async function runProgram(name: ProgramName, log: Log, start: () => Promise<RunningProgram>): Promise<void> {
  const target = log.target(name.target);
  // Before the start: a signal meanwhile is obeyed after it, in good order.
  const signalled = new Promise<NodeJS.Signals>((resolve) => {
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => resolve(signal));
  });
  const program = await start();
  const onReset = () => {
    program.reset?.().catch((error: unknown) => target.error("Cannot reset", { reason: messageOf(error) }));
  };
  const onStatistics = () => program.reportStatistics();
  process.on("SIGHUP", onReset);
  process.on("SIGUSR2", onStatistics);
  const { done } = program;
  const end = await Promise.race([
    signalled.then((signal) => ({ type: "signal", signal }) as const),
    program.ended.then(({ message }) => ({ type: "failed", message }) as const),
    ...(done === undefined ? [] : [done.then(() => ({ type: "done" }) as const)]),
  ]);
  process.off("SIGHUP", onReset);
  switch (end.type) {
    case "signal":
      target.info("Shutting down", { signal: end.signal });
      break;
    case "done":
      target.info("Done");
      break;
    case "failed":
      reportFailure(name, log, end.message);
      break;
  }
  await program.stop();
  process.off("SIGUSR2", onStatistics);
}

/** Tells log and standard error why a program ends, on one line, and sets the exit status. */
export function reportFailure(name: ProgramName, log: Log | undefined, message: string): void {
  const line = message.replaceAll("\n", ": ");
  // Where there is a log, the reason belongs there as well: standard error may lead nowhere.
  log?.target(name.target).error("Ended by an error", { reason: line });
  process.stderr.write(`wirelane ${name.program}: ${line}\n`);
  process.exitCode = 1;
}
