// Wireshark's dissector as a second opinion on our handshake messages: it finds the types, verifies mac1, and with the static private
// keys it decrypts the initiator's key and timestamp.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { programSkip, wirelane } from "../support/wireguard-programs.js";
import { cleanUp, configure, OUTER, PORT, ping, twoSides } from "../support/wireguard-sides.js";

/** Nobody listens there: RFC 863's discard. */
const MARKER_PORT = 9;
/** Initiation, response, then what confirms the session and pings. */
const MESSAGES = ["1", "2", "4", "4", "4", "4"];

afterEach(cleanUp);

function skip(): string | false {
  if (spawnSync("tshark", ["--version"]).status !== 0) return "needs tshark: bash scripts/install-test-peers.sh";
  return programSkip();
}

test("tshark decodes initiation, response and transport data of wirelane on both sides", {
  skip: skip(),
  timeout: 60_000,
}, async (context) => {
  const directory = mkdtempSync(join(tmpdir(), "wirelane-tshark-"));
  context.after(() => rmSync(directory, { recursive: true, force: true }));
  const capture = join(directory, "capture.pcap");
  const [one, two] = await twoSides([wirelane, wirelane]);
  await configure(two, one);

  // Each captured packet is a line with its port. Packets to the marker's port show when capturing has really begun: that it says so is too early.
  const filter = `udp port ${PORT} or udp port ${MARKER_PORT}`;
  const columns = ["-P", "-l", "-T", "fields", "-e", "udp.dstport"];
  const sniffer = two.host.spawn("tshark", ["-q", "-i", "eth0", "-f", filter, "-w", capture, ...columns], {
    stdio: ["ignore", "pipe", "ignore"],
  });
  const ended = new Promise((resolve) => sniffer.once("close", resolve));
  let ports = "";
  sniffer.stdout?.on("data", (chunk: Buffer) => {
    ports += chunk.toString();
  });
  const captured = (port: number) => ports.split("\n").filter((line) => line.trim() === String(port)).length;
  while (captured(MARKER_PORT) === 0) {
    await one.host.run("bash", ["-c", `echo marker > /dev/udp/${OUTER[4][1]}/${MARKER_PORT}`]);
    await sleep(50);
  }
  await configure(one, two, [`Endpoint = ${OUTER[4][1]}:${PORT}`]);
  await ping(one, two);
  while (captured(PORT) < MESSAGES.length) await sleep(50);
  sniffer.kill("SIGINT");
  await ended;

  const keys = [one, two].flatMap(({ privateKey }) => ["-o", `uat:wg_keys:"Private","${privateKey}"`]);
  const fields = ["wg.type", "wg.static.known_pubkey", "wg.timestamp.nanoseconds", "wg.receiver_pubkey.known_privkey"];
  const { stdout, stderr, status } = spawnSync(
    "tshark",
    [
      "-r",
      capture,
      "-Y",
      `udp.port == ${PORT}`,
      ...keys,
      "-T",
      "fields",
      ...fields.flatMap((field) => ["-e", field]),
      "-e",
      "_ws.malformed",
    ],
    { encoding: "utf8" },
  );
  assert.equal(status, 0, stderr);
  const rows = stdout
    .trimEnd()
    .split("\n")
    .map((line) => line.split("\t"));
  context.diagnostic(JSON.stringify(rows));
  assert.deepEqual(
    rows.slice(0, MESSAGES.length).map(([type]) => type),
    MESSAGES,
  );
  assert.ok(
    rows.every((row) => row[4] === undefined || row[4] === ""),
    "nothing is malformed",
  );
  const [initiation] = rows;
  assert.ok(initiation?.[2], "the timestamp was decrypted");
});
