// Pings an address every so many milliseconds until SIGTERM, to measure for how long nothing came through; nobody waits for replies, as in
// ping(8):
//
//   node ping-stream-main.js ADDRESS INTERVAL_MS
//
// Prints {"started": true} after the first reply, and at the end one line: see PingStreamResult in ping-stream.ts.

import { setTimeout as sleep } from "node:timers/promises";
import { IpAddress } from "../../src/base/address.js";
import { monotonicNow } from "../../src/system/clock.js";
import { SystemCallError } from "../../src/system/linux/errno.js";
import { EchoSocket } from "../demo/ping.js";

const [text = "", intervalText = "20"] = process.argv.slice(2);
const address = IpAddress.parse(text);
if (address === undefined) throw new RangeError(`"${text}" is not an address`);
const interval = Number(intervalText);

/** Gaps from this length on are listed, milliseconds. */
const NOTABLE = 150;
/** How long a reply may take when no more pings are sent, milliseconds; less than a notable gap. */
const LAST_WAIT = 120;

let ended = false;
process.on("SIGTERM", () => {
  ended = true;
});

const echo = new EchoSocket(address);
let sent = 0;
let answered = 0;
let last: number | undefined;
const gaps: { readonly at: number; readonly ms: number }[] = [];

/** The time since the last reply is a gap if it is long, also at the very end. */
function note(now: number): void {
  if (last !== undefined && now - last >= NOTABLE) gaps.push({ at: last, ms: now - last });
}

function handleReply(): void {
  const now = Date.now();
  if (last === undefined) process.stdout.write(`${JSON.stringify({ started: true })}\n`);
  answered++;
  note(now);
  last = now;
}

function send(): void {
  sent++;
  try {
    echo.send(sent & 0xffff);
  } catch (error) {
    // Without a route there is no reply either.
    if (!(error instanceof SystemCallError)) throw error;
  }
}

let next = monotonicNow();
while (!ended) {
  send();
  next = Math.max(next + interval, monotonicNow());
  do {
    if (echo.receive(next - monotonicNow()) !== undefined) handleReply();
  } while (monotonicNow() < next);
  // Lets a signal in.
  await sleep(0);
}
// What is under way is not lost.
while (answered < sent && echo.receive(LAST_WAIT) !== undefined) handleReply();
note(Date.now());
echo.close();
const longestGapMs = gaps.reduce((longest, { ms }) => Math.max(longest, ms), 0);
process.stdout.write(`${JSON.stringify({ sent, answered, longestGapMs, gaps })}\n`);
