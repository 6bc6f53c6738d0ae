// Wireshark's dissector as a second opinion on our handshake messages: it finds the types, verifies mac1, and with the static private
// keys it decrypts the initiator's key and timestamp.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, test } from "node:test";
import { programSkip, wirelane } from "../support/wireguard-programs.js";
import { cleanUp, configure, OUTER, PORT, ping, twoSides } from "../support/wireguard-sides.js";

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

  const sniffer = two.host.spawn("tshark", ["-q", "-i", "eth0", "-f", `udp port ${PORT}`, "-c", "6", "-w", capture], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  const ended = new Promise((resolve) => sniffer.once("close", resolve));
  await new Promise<void>((resolve) => {
    sniffer.stderr?.on("data", (chunk: Buffer) => {
      if (chunk.toString().includes("Capturing")) resolve();
    });
  });
  await configure(one, two, [`Endpoint = ${OUTER[4][1]}:${PORT}`]);
  await ping(one, two);
  await ended;

  const keys = [one, two].flatMap(({ privateKey }) => ["-o", `uat:wg_keys:"Private","${privateKey}"`]);
  const fields = ["wg.type", "wg.static.known_pubkey", "wg.timestamp.nanoseconds", "wg.receiver_pubkey.known_privkey"];
  const { stdout, stderr, status } = spawnSync(
    "tshark",
    ["-r", capture, ...keys, "-T", "fields", ...fields.flatMap((field) => ["-e", field]), "-e", "_ws.malformed"],
    { encoding: "utf8" },
  );
  assert.equal(status, 0, stderr);
  const rows = stdout
    .trimEnd()
    .split("\n")
    .map((line) => line.split("\t"));
  context.diagnostic(JSON.stringify(rows));
  assert.deepEqual(
    rows.map(([type]) => type),
    ["1", "2", "4", "4", "4", "4"],
  );
  assert.ok(
    rows.every((row) => row[4] === undefined || row[4] === ""),
    "nothing is malformed",
  );
  const [initiation] = rows;
  assert.ok(initiation?.[2], "the timestamp was decrypted");
});
