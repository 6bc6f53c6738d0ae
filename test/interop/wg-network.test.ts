// `wirelane wg` while the network around it changes: MTU, network namespace, source addresses, port and mark, and with wg-quick(8).

import assert from "node:assert/strict";
import { chmodSync, existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, test } from "node:test";
import { Lab } from "../../scripts/lab/lab.js";
import { generateKeys, MAIN, programSkip, wg, wirelane } from "../support/wireguard-programs.js";
import {
  cleanUp,
  configure,
  OUTER,
  PORT,
  ping,
  type Side,
  show,
  transfer,
  twoSides,
} from "../support/wireguard-sides.js";

const directory = mkdtempSync(join(tmpdir(), "wirelane-network-"));
after(() => rmSync(directory, { recursive: true, force: true }));
afterEach(cleanUp);

const options = { skip: programSkip(), timeout: 90_000 };

async function connectedSides(): Promise<[Side, Side]> {
  const [one, two] = await twoSides([wirelane, wirelane]);
  await configure(two, one);
  await configure(one, two, [`Endpoint = ${OUTER[4][1]}:${PORT}`]);
  await ping(one, two);
  return [one, two];
}

const link = (side: Side, ...args: string[]) => side.host.run("ip", ["link", "set", ...args]);

/** Starts echo requests from `from` to `to` for `seconds`; resolves with how many of them were lost. */
function pingMeanwhile(from: Side, to: Side, seconds: number): Promise<number> {
  const count = String(seconds * 100);
  return from.host
    .run("ping", ["-q", "-i", "0.01", "-c", count, "-W", "1", `10.77.0.${to.number}`], { allowFailure: true })
    .then(({ stdout }) => {
      const [, sent, received] = /(\d+) packets transmitted, (\d+) received/.exec(stdout) ?? [];
      return Number(sent) - Number(received);
    });
}

test("the interface's MTU may be changed up to 65 000 bytes", options, async () => {
  const [one, two] = await connectedSides();
  for (const side of [one, two]) await link(side, "eth0", "mtu", "65535");
  for (const mtu of [9000, 65_000, 1280]) {
    for (const side of [one, two]) await link(side, side.device, "mtu", String(mtu));
    const size = String(mtu - 28);
    await one.host.run("ping", ["-c", "3", "-i", "0.05", "-W", "5", "-M", "do", "-s", size, "10.77.0.2"]);
    await transfer(one, two, "10.77.0.2");
  }
});

test("the interface may be moved to another network namespace, the sockets stay", options, async () => {
  const [one, two] = await connectedSides();
  const lab = Lab.create();
  try {
    const inside = lab.host("inside");
    const keeper = inside.spawn("sleep", ["60"], { stdio: "ignore" });
    await link(one, one.device, "netns", String(keeper.pid));
    await inside.run("ip", ["address", "add", "10.77.0.1/24", "dev", one.device]);
    await inside.run("ip", ["link", "set", one.device, "up", "mtu", "1400"]);
    await inside.run("ping", ["-c", "3", "-i", "0.05", "-W", "5", "-s", "1300", "10.77.0.2"]);
    // The configuration socket is found by its name, wherever the interface is.
    assert.equal((await show(one, "endpoints"))[1], `${OUTER[4][1]}:${PORT}`);
    assert.equal((await show(two, "endpoints"))[1], `${OUTER[4][0]}:${PORT}`);
    await inside.run("ip", ["link", "delete", one.device]);
    for (let i = 0; existsSync(`/var/run/wireguard/${one.device}.sock`); i++) {
      assert.ok(i < 200, "it did not end with its interface");
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
  } finally {
    await lab.destroy();
  }
});

test(
  "answers leave from the address that the peer has written to; when it goes, another is chosen",
  options,
  async () => {
    const [one, two] = await twoSides([wirelane, wirelane]);
    await one.host.run("ip", ["address", "add", "192.0.2.11/24", "dev", "eth0"]);
    await configure(one, two);
    await configure(two, one, [`Endpoint = 192.0.2.11:${PORT}`]);
    await ping(two, one);
    await ping(one, two);
    assert.equal((await show(two, "endpoints"))[1], `192.0.2.11:${PORT}`);
    await one.host.run("ip", ["address", "delete", "192.0.2.11/24", "dev", "eth0"]);
    // At once, long before WireGuard's timers would notice.
    const start = performance.now();
    await one.host.run("ping", ["-c", "1", "-w", "3", "-i", "0.1", "10.77.0.2"]);
    assert.ok(performance.now() - start < 3000);
    assert.equal((await show(two, "endpoints"))[1], `${OUTER[4][0]}:${PORT}`);
    await ping(two, one);
  },
);

test("port and mark are changed under traffic", options, async () => {
  const [one, two] = await connectedSides();
  const lost = pingMeanwhile(one, two, 2);
  for (const change of [
    ["fwmark", "77"],
    ["fwmark", "0"],
  ]) {
    await new Promise((resolve) => setTimeout(resolve, 300));
    await wg(one.host, ["set", one.device, ...change]);
  }
  assert.equal(await lost, 0, "another mark costs nothing");
  const lostWithPorts = pingMeanwhile(one, two, 2);
  for (const port of ["50001", "50002"]) {
    await new Promise((resolve) => setTimeout(resolve, 300));
    await wg(one.host, ["set", one.device, "listen-port", port]);
  }
  // Those on their way to a port that is none any more, at 100 per second.
  assert.ok((await lostWithPorts) <= 30);
  assert.equal((await show(two, "endpoints"))[1], `${OUTER[4][0]}:50002`);
  await ping(two, one);
});

test("wg-quick up and down with it, all traffic into the tunnel", {
  ...options,
  skip: options.skip || (!existsSync("/usr/bin/wg-quick") && "needs wg-quick: bash scripts/install-test-peers.sh"),
}, async () => {
  const [, two] = await twoSides([wirelane, wirelane]);
  const lab = Lab.create();
  try {
    const laptop = lab.host("laptop");
    lab.connect(laptop, two.host, { ipv4: ["198.51.100.1/24", "198.51.100.2/24"] });
    await laptop.run("ip", ["route", "add", "default", "via", "198.51.100.2"]);
    const keys = await generateKeys(laptop);
    await configure(two, { ...two, host: laptop, number: 3, publicKey: keys.publicKey });
    const name = `wlq${process.pid % 10_000}`;
    const file = join(directory, `${name}.conf`);
    const implementation = join(directory, "wirelane-wg");
    writeFileSync(implementation, `#!/bin/sh\nexec "${process.execPath}" "${MAIN}" wg "$@"\n`);
    chmodSync(implementation, 0o755);
    writeFileSync(
      file,
      `[Interface]
PrivateKey = ${keys.privateKey}
Address = 10.77.0.3/24
MTU = 1400
[Peer]
PublicKey = ${two.publicKey}
PresharedKey = MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI=
AllowedIPs = 0.0.0.0/0
Endpoint = 198.51.100.2:${PORT}
`,
      { mode: 0o600 },
    );
    const env = { ...process.env, WG_QUICK_USERSPACE_IMPLEMENTATION: implementation };
    await laptop.run("wg-quick", ["up", file], { env });
    await laptop.run("ping", ["-c", "3", "-i", "0.05", "-W", "5", "10.77.0.2"]);
    const { stdout } = await laptop.run("ip", ["route", "get", "203.0.113.9"]);
    assert.match(stdout, new RegExp(`dev ${name} `));
    await laptop.run("wg-quick", ["down", file], { env });
    const { status } = await laptop.run("ip", ["link", "show", name], { allowFailure: true });
    assert.notEqual(status, 0);
    for (let i = 0; existsSync(`/var/run/wireguard/${name}.sock`); i++) {
      assert.ok(i < 200, "it did not end");
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
  } finally {
    await lab.destroy();
  }
});
