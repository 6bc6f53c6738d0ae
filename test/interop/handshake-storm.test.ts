// Many peers that want a session at the same moment, as after a restart of the device, over real sockets.

import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { afterEach, test } from "node:test";
import { fileURLToPath } from "node:url";
import { Lab } from "../../scripts/lab/lab.js";
import { initiatorIdentity } from "../support/handshake-storm-main.js";
import { generateKeys, programSkip, startDevice, wg, wirelane } from "../support/wireguard-programs.js";

const STORM = fileURLToPath(new URL("../support/handshake-storm-main.js", import.meta.url));
const PEERS = 64;
const PORT = "51820";

let lab: Lab | undefined;
afterEach(() => lab?.destroy());

test("64 peers that come at once are all answered at the first try, most of them with the help of a thread", {
  skip: programSkip(),
  timeout: 60_000,
}, async () => {
  lab = Lab.create();
  const [one, two] = [lab.host("one"), lab.host("two")];
  lab.connect(one, two, { ipv4: ["192.0.2.1/24", "192.0.2.2/24"] });
  const device = `wlh${process.pid % 100_000}`;
  const { pid } = await startDevice(one, wirelane, device);
  const threads = () => readdirSync(`/proc/${pid}/task`).length;
  const { privateKey, publicKey } = await generateKeys(one);
  const peers = Array.from({ length: PEERS }, (_, i) => Buffer.from(initiatorIdentity(i).publicKey).toString("base64"));
  const sections = peers.map((key) => `[Peer]\nPublicKey = ${key}\n`).join("");
  const configuration = `[Interface]\nPrivateKey = ${privateKey}\nListenPort = ${PORT}\n${sections}`;
  await wg(one, ["setconf", device, "-"], configuration);

  const before = threads();
  const { stdout } = await two.run(process.execPath, [STORM, "192.0.2.1", PORT, publicKey, String(PEERS)]);
  assert.equal(stdout.trim(), String(PEERS));
  assert.ok(threads() > before, "a thread has helped");
  const endpoints = await wg(one, ["show", device, "endpoints"]);
  assert.equal(endpoints.match(/\t192\.0\.2\.2:/g)?.length, PEERS, "each peer is where its initiation came from");
});
