// `wirelane wg` with many peers and many allowed IPs, set by one `wg setconf`, and its life in the background.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import type { LabHost } from "../../scripts/lab/host.js";
import { Lab } from "../../scripts/lab/lab.js";
import { MAIN, programSkip } from "../support/wireguard-programs.js";

/** Longest time for a configuration with 10 000 peers or 200 000 allowed IPs, in ms: some seconds here, on a machine that is not alone. */
const LIMIT = 20_000;

const key = () => randomBytes(32).toString("base64");

describe("wirelane wg, large configurations", { skip: programSkip(), timeout: 120_000 }, () => {
  const device = `wls${process.pid % 100_000}`;
  const socket = `/var/run/wireguard/${device}.sock`;
  let directory: string;
  let lab: Lab;
  let host: LabHost;

  before(() => {
    directory = mkdtempSync(join(tmpdir(), "wirelane-scale-"));
    lab = Lab.create();
    host = lab.host("one");
  });

  after(async () => {
    await lab?.destroy();
    rmSync(directory, { recursive: true, force: true });
  });

  /** Time that `wg setconf` takes with these sections, in ms. */
  async function configure(peers: readonly string[]): Promise<number> {
    const file = join(directory, "configuration");
    const text = `[Interface]\nPrivateKey = ${key()}\nListenPort = 51820\n${peers.join("\n")}\n`;
    writeFileSync(file, text, { mode: 0o600 });
    const start = performance.now();
    await host.run("wg", ["setconf", device, file], { timeout: LIMIT });
    return performance.now() - start;
  }

  async function allowedIps(): Promise<string[]> {
    const { stdout } = await host.run("wg", ["show", device, "allowed-ips"]);
    return stdout.split(/\s+/).filter((word) => /^\d+\.\d+\./.test(word));
  }

  test("it goes to the background once it can be configured", async () => {
    const { status } = await host.run(process.execPath, [MAIN, "wg", device]);
    assert.equal(status, 0);
    assert.ok(existsSync(socket));
    await host.run("wg", ["show", device]);
  });

  test("a second one of the same name says why it cannot start, with exit code 1", async () => {
    const { status, stderr } = await host.run(process.execPath, [MAIN, "wg", device], { allowFailure: true });
    assert.equal(status, 1);
    assert.match(stderr, /^wirelane wg: .+/);
    await host.run("wg", ["show", device]);
  });

  test("200 000 allowed IPs of one peer", async (t) => {
    const addresses = Array.from({ length: 200_000 }, (_, i) => `10.${i >> 16}.${(i >> 8) & 255}.${i & 255}/32`);
    const lines = [`[Peer]\nPublicKey = ${key()}`];
    for (let i = 0; i < addresses.length; i += 1000)
      lines.push(`AllowedIPs = ${addresses.slice(i, i + 1000).join(", ")}`);
    t.diagnostic(`${(await configure(lines)).toFixed(0)} ms`);
    assert.deepEqual((await allowedIps()).sort(), addresses.sort());
  });

  test("10 000 peers", async (t) => {
    const peers = Array.from(
      { length: 10_000 },
      (_, i) =>
        `[Peer]\nPublicKey = ${key()}\nEndpoint = 127.0.0.1:${20_000 + i}\nAllowedIPs = 10.${i >> 8}.${i & 255}.0/24`,
    );
    t.diagnostic(`${(await configure(peers)).toFixed(0)} ms`);
    assert.equal((await allowedIps()).length, 10_000);
  });

  test("it ends when its interface is deleted, and takes its socket with it", async () => {
    await host.run("ip", ["link", "delete", device]);
    for (let i = 0; existsSync(socket); i++) {
      assert.ok(i < 200, "the socket is still there");
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
    const running = readFileSync("/proc/net/unix", "utf8");
    assert.ok(!running.includes(socket));
  });
});
