// Pings an address again and again until SIGTERM, to measure for how long nothing came through:
//
//   node ping-stream-main.js ADDRESS INTERVAL_MS TIMEOUT_MS
//
// Prints {"started": true} after the first reply, and at the end one line: see PingStreamResult in nat-world.ts.

import { setTimeout as sleep } from "node:timers/promises";
import { IpAddress } from "../../src/base/address.js";
import { SystemCallError } from "../../src/system/linux/errno.js";
import { ping } from "../demo/ping.js";

const [text = "", interval = "20", timeout = "200"] = process.argv.slice(2);
const address = IpAddress.parse(text);
if (address === undefined) throw new RangeError(`"${text}" is not an address`);

/** Gaps from this length on are listed, milliseconds. */
const NOTABLE = 150;

let ended = false;
process.on("SIGTERM", () => {
  ended = true;
});

let sent = 0;
let answered = 0;
let last: number | undefined;
const gaps: { readonly at: number; readonly ms: number }[] = [];

/** The time since the last reply is a gap if it is long, also at the very end. */
function note(now: number): void {
  if (last !== undefined && now - last >= NOTABLE) gaps.push({ at: last, ms: now - last });
}

while (!ended) {
  sent++;
  let reply: number | undefined;
  try {
    reply = ping(address, Number(timeout), sent & 0xffff);
  } catch (error) {
    // Without a route there is no reply either.
    if (!(error instanceof SystemCallError)) throw error;
  }
  const now = Date.now();
  if (reply !== undefined) {
    if (last === undefined) process.stdout.write(`${JSON.stringify({ started: true })}\n`);
    answered++;
    note(now);
    last = now;
  }
  await sleep(Number(interval));
}
note(Date.now());
const longestGapMs = gaps.reduce((longest, { ms }) => Math.max(longest, ms), 0);
process.stdout.write(`${JSON.stringify({ sent, answered, longestGapMs, gaps })}\n`);
