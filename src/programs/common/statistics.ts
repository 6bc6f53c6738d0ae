// What a program has done so far, on request (SIGUSR2) and at its end: for whoever measures or hunts a fault.

import { type IntervalHistogram, monitorEventLoopDelay } from "node:perf_hooks";
import { Drop } from "../../../assembly/abi.js";
import type { TargetLog } from "./log.js";
import type { TunnelHost } from "./tunnel-host.js";

/** Resolution of the event-loop delay in milliseconds. */
const RESOLUTION = 5;
const NANOSECONDS_PER_MILLISECOND = 1e6;

/** Reports the statistics of a tunnel. Measuring the event loop starts with the first report: it would wake an idle program. */
export class StatisticsReporter {
  readonly #host: TunnelHost;
  readonly #log: TargetLog;
  #delay: IntervalHistogram | undefined;

  constructor(host: TunnelHost, log: TargetLog) {
    this.#host = host;
    this.#log = log;
  }

  /** Logs one line. The event loop's delay is that since the report before. */
  report(): void {
    const { dataplane } = this.#host;
    const drops = dataplane.drops();
    const dropped: Record<string, number> = {};
    for (const [name, reason] of Object.entries(Drop))
      if (typeof reason === "number" && (drops[reason] ?? 0) > 0) dropped[name] = drops[reason] ?? 0;
    this.#log.info("Statistics", {
      exceptions: dataplane.exceptions,
      dropped: JSON.stringify(dropped),
      ...this.#eventLoopDelay(),
    });
  }

  #eventLoopDelay(): { readonly event_loop_delay_p99_ms?: string } {
    const delay = this.#delay;
    if (delay === undefined) {
      this.#delay = monitorEventLoopDelay({ resolution: RESOLUTION });
      this.#delay.enable();
      return {};
    }
    // The histogram counts the timer's own interval too.
    const p99 = delay.percentile(99) / NANOSECONDS_PER_MILLISECOND - RESOLUTION;
    delay.reset();
    return { event_loop_delay_p99_ms: Math.max(0, p99).toFixed(2) };
  }

  /** Ends measuring. */
  stop(): void {
    this.#delay?.disable();
  }
}
