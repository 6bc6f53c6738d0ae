// A stream of pings from a host of a lab, to see for how long nothing comes through while something happens.

import { fileURLToPath } from "node:url";
import type { LabHost } from "./host.js";
import { LabProgram } from "./program.js";

/** What a stream of pings saw. */
export interface PingStreamResult {
  readonly sent: number;
  readonly answered: number;
  /** Longest time without a reply, milliseconds; 0 when there was none of at least 150 ms. */
  readonly longestGapMs: number;
  /** Times without reply of at least 150 ms, and when each began (milliseconds since 1970). */
  readonly gaps: readonly { readonly at: number; readonly ms: number }[];
}

const PING_STREAM = fileURLToPath(new URL("./ping-stream-main.js", import.meta.url));

/** Time between two pings, and for the first reply and for the result to come: milliseconds. */
const INTERVAL = 20;
const SOON = 20_000;

/** Pings an address every 20 ms, from the first reply on until the returned function is called. */
export async function startPingStream(
  host: LabHost,
  address: string,
  logFile: string,
): Promise<() => Promise<PingStreamResult>> {
  const program = LabProgram.start(host, {
    name: "ping stream",
    script: PING_STREAM,
    args: [address, String(INTERVAL)],
    env: process.env,
    logFile,
  });
  await program.waitFor(({ fields }) => "started" in fields, { timeout: SOON });
  return async () => {
    program.signal("SIGTERM");
    const { fields } = await program.waitFor((record) => "longestGapMs" in record.fields, { timeout: SOON });
    return fields as unknown as PingStreamResult;
  };
}
