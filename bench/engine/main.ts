// The packet engine in memory: how long one packet takes from a TUN frame to a sealed datagram and from there to a TUN frame at
// the other end, without system calls. Ratios are to the bare AEAD over the same bytes, and to a single connection, in the same
// run: the cost per packet must not grow with the number of connections.

import { chooseBuild } from "../../src/engine/builds.js";
import type { EngineBuild } from "../../src/engine/module.js";
import { median, medianRatio } from "../statistics.js";
import { CHURN_CONNECTIONS, type Direction, LOADS, type Load, Pair } from "./pair.js";

/** What a load cost. */
export interface EngineFigure {
  readonly load: Load;
  readonly direction: Direction;
  readonly connections: number;
  /** Threads that share the work of the connection. */
  readonly workers: number;
  /** Median over the rounds. */
  readonly nanosecondsPerPacket: number;
  readonly packetsPerSecond: number;
  /** Gigabits of IP packets per second that one thread would move if nothing else took time. */
  readonly gigabitsPerSecond: number;
  /** Time per packet as a multiple of what sealing or opening the same bytes takes. */
  readonly timesBareAead: number;
  /** Time per packet as a multiple of that with one connection and one worker. */
  readonly timesOneConnection: number;
}

/** Results of the suite. */
export interface EngineSuiteResult {
  readonly suite: "engine";
  /** Build of the engine: the faster one here. */
  readonly build: EngineBuild;
  readonly rounds: number;
  readonly figures: readonly EngineFigure[];
}

/** Options of the suite. */
export interface EngineSuiteOptions {
  /** Told about every load as it is measured. */
  readonly progress?: (line: string) => void;
  /** Rounds in which all loads take turns; default 9. */
  readonly rounds?: number;
}

/** Measures every load with 1, 1000 and 10 000 connections, and with one connection that two threads share. Takes some seconds. */
export async function runEngineSuite(options: EngineSuiteOptions = {}): Promise<EngineSuiteResult> {
  const rounds = options.rounds ?? 9;
  const progress = options.progress ?? (() => undefined);
  const { build, reason } = await chooseBuild();
  progress(`engine: ${build} (${reason})`);
  const pairs: Pair[] = [];
  for (const connections of CHURN_CONNECTIONS) {
    progress(`engine: setting up ${connections} connection${connections === 1 ? "" : "s"}`);
    pairs.push(await Pair.create(connections, build));
  }
  progress("engine: setting up two workers");
  pairs.push(await Pair.create(1, build, 2));
  // V8 optimises after some calls.
  for (const load of LOADS) for (const pair of pairs) pair.measure(load, 40);

  const figures: EngineFigure[] = [];
  for (const load of LOADS) {
    const samples = pairs.map(() => ({ outbound: [] as number[], inbound: [] as number[] }));
    const bare = { outbound: [] as number[], inbound: [] as number[] };
    for (let round = 0; round < rounds; round++) {
      for (const [i, pair] of pairs.entries()) {
        const { outbound, inbound } = pair.measure(load, 20);
        samples[i]?.outbound.push(outbound);
        samples[i]?.inbound.push(inbound);
      }
      const { seal, open } = (pairs[0] as Pair).measureAead(load, 5);
      bare.outbound.push(seal);
      bare.inbound.push(open);
    }
    for (const direction of ["outbound", "inbound"] as const) {
      const single = samples[0]?.[direction] ?? [];
      for (const [i, pair] of pairs.entries()) {
        const times = samples[i]?.[direction] ?? [];
        const nanoseconds = median(times);
        figures.push({
          load,
          direction,
          connections: pair.connections,
          workers: pair.workers,
          nanosecondsPerPacket: nanoseconds,
          packetsPerSecond: 1e9 / nanoseconds,
          gigabitsPerSecond: (8 * load.packetLength) / nanoseconds,
          timesBareAead: medianRatio(times, bare[direction]),
          timesOneConnection: medianRatio(times, single),
        });
        progress(describe(figures.at(-1) as EngineFigure));
      }
    }
  }
  for (const pair of pairs) await pair.stop();
  return { suite: "engine", build, rounds, figures };
}

function describe(figure: EngineFigure): string {
  return (
    `engine: ${figure.load.name.padEnd(26)} ${figure.direction.padEnd(8)} ${String(figure.connections).padStart(6)} connections ${figure.workers} worker${figure.workers === 1 ? " " : "s"}` +
    `${figure.nanosecondsPerPacket.toFixed(0).padStart(7)} ns/packet${figure.gigabitsPerSecond.toFixed(2).padStart(7)} Gbit/s` +
    `  ${figure.timesBareAead.toFixed(2)} x AEAD  ${figure.timesOneConnection.toFixed(2)} x one connection`
  );
}
