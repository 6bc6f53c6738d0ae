// Field notes, section 4.3: what strangers send to a relay does not slow down those whom it serves, and costs it no memory.
//
//    attacker 203.0.113.2 ────── relay 203.0.113.1, 192.0.2.1 ────── client and peer 192.0.2.2
//
// The attacker has this machine's processors too. So the transfer is limited to a speed that leaves room for all of them on two, and compared with itself while the same packets go to another port of the
// same host, where nobody is.

import assert from "node:assert/strict";
import type { ChildProcess } from "node:child_process";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { residentBytes } from "../../bench/tunnel/processes.js";
import type { LabHost } from "../../scripts/lab/host.js";
import { Lab } from "../../scripts/lab/lab.js";
import { startTurnServer, TURN_USER, type TurnServerProcess } from "../../scripts/lab/turn-programs.js";
import { labSkip } from "../support/lab-skip.js";

const FLOOD = fileURLToPath(new URL("../support/turn-flood-main.js", import.meta.url));
const TRANSFER = fileURLToPath(new URL("../support/turn-transfer-main.js", import.meta.url));

const RELAY = "192.0.2.1";
/** Datagrams of 1200 bytes per second of the transfer, each relayed in both directions: 77 Mbit/s each way. */
const TRANSFER_RATE = 8_000;
/** Packets per second, and seconds of each flood. */
const RATE = 20_000;
const SECONDS = 3;
const ROUNDS = 3;
/** A port where nobody is. */
const OTHER_PORT = 3479;
/** What the transfer keeps of its speed. */
const AT_LEAST = 0.9;
/** Growth of the relay's memory: its heap between two collections, and the budgets of 65 536 sources. */
const MEMORY_LIMIT = 64e6;

describe("a relay under floods", { skip: labSkip, timeout: 60_000 }, () => {
  let lab: Lab;
  let relay: TurnServerProcess;
  let attacker: LabHost;
  let transfer: ChildProcess;
  /** Bytes of each interval since the start of the transfer. */
  const intervals: number[] = [];

  before(async () => {
    lab = Lab.create();
    const host = lab.host("relay");
    const client = lab.host("client");
    attacker = lab.host("attacker");
    lab.connect(host, client, { ipv4: [`${RELAY}/24`, "192.0.2.2/24"] });
    lab.connect(host, attacker, { ipv4: ["203.0.113.1/24", "203.0.113.2/24"] });
    // Answers to forged addresses go somewhere.
    host.route("10.66.0.0/16", { via: "203.0.113.2" });
    attacker.route("default", { via: "203.0.113.1" });
    relay = await startTurnServer("wirelane", host, { ipv4: RELAY, args: ["--auth-secret", "shared"] });
    const { name, password } = TURN_USER;
    const args = [`${RELAY}:3478`, "192.0.2.2", name, password, String(TRANSFER_RATE)];
    transfer = client.spawn(process.execPath, [TRANSFER, ...args], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    transfer.stdout?.setEncoding("utf8").on("data", (text: string) => {
      for (const line of text.split("\n")) if (line !== "") intervals.push(Number(line));
    });
    for (const end = Date.now() + 10_000; intervals.length < 8; await sleep(50))
      assert.ok(Date.now() < end, "the transfer does not begin");
  });

  after(async () => {
    await relay?.stop();
    await lab?.destroy();
  });

  /** Speed of the transfer, in bytes per interval, while a flood goes to a port. */
  async function speedDuring(port: number): Promise<number> {
    const first = intervals.length;
    await attacker.run(process.execPath, [FLOOD, `${RELAY}:${port}`, String(RATE), String(SECONDS)]);
    // Without the intervals in which it began and ended: Node takes a while to start.
    const whole = intervals.slice(first + 2, -1);
    assert.ok(whole.length >= 6);
    return whole.reduce((sum, bytes) => sum + bytes, 0) / whole.length;
  }

  test(`requests without and with wrong credentials, forged sources, no STUN, a huge expiry, port 0: ${RATE} a second`, async (t) => {
    await speedDuring(3478);
    const memory = residentBytes(relay.pid);
    const ratios: number[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      const other = await speedDuring(OTHER_PORT);
      ratios.push((await speedDuring(3478)) / other);
      t.diagnostic(`${((other * 4 * 8) / 1e6).toFixed(0)} Mbit/s, under flood ${ratios.at(-1)?.toFixed(2)} of it`);
    }
    const growth = residentBytes(relay.pid) - memory;
    t.diagnostic(`memory grew by ${(growth / 1e6).toFixed(1)} MB`);
    const [, median = 0] = ratios.sort((a, b) => a - b);
    assert.ok(median >= AT_LEAST, `${median.toFixed(2)} of the speed is left`);
    assert.ok(growth < MEMORY_LIMIT, `${growth} bytes`);
    assert.equal(transfer.exitCode, null);
  });
});
