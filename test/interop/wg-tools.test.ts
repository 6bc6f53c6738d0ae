// `wirelane wg` as wg(8) and service managers use it: configuration, start in the background, and all the ways to end.

import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, unlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, test } from "node:test";
import type { LabHost } from "../../scripts/lab/host.js";
import { Lab } from "../../scripts/lab/lab.js";
import { processesInside } from "../../scripts/lab/processes.js";
import { findLink } from "../../src/system/linux/rtnetlink/links.js";
import { generateKeys, MAIN, programSkip, startDevice, wg, wirelane } from "../support/wireguard-programs.js";

const skip = programSkip();
const options = { skip, timeout: 60_000 };

const cleanups: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

let devices = 0;

function newHost(): { host: LabHost; device: string } {
  const lab = Lab.create();
  cleanups.push(() => lab.destroy());
  const device = `wlu${process.pid % 10_000}x${devices++}`;
  return { host: lab.host("host"), device };
}

const socketOf = (device: string) => `/var/run/wireguard/${device}.sock`;

/** Waits until `condition` holds; fails after five seconds. */
async function eventually(condition: () => boolean, what: string): Promise<void> {
  const end = Date.now() + 5000;
  while (!condition()) {
    assert.ok(Date.now() < end, what);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

test("wg set, show, setconf, syncconf, addconf: what goes in comes out", options, async () => {
  const { host, device } = newHost();
  await startDevice(host, wirelane, device);
  const run = (args: readonly string[], content?: string) => wg(host, args, content);
  const dump = async () =>
    (await run(["show", device, "dump"]))
      .trim()
      .split("\n")
      .map((line) => line.split("\t"));
  const own = await generateKeys(host);
  const [one, two] = [await generateKeys(host), await generateKeys(host)];

  await run(["set", device, "private-key", "-", "listen-port", "51900", "fwmark", "0xca6c"], own.privateKey);
  assert.deepEqual(await dump(), [[own.privateKey, own.publicKey, "51900", "0xca6c"]]);

  const peerOne = ["peer", one.publicKey, "endpoint", "192.0.2.7:1234", "allowed-ips", "10.1.2.3/16,2001:db8:5::/48"];
  await run(["set", device, ...peerOne, "persistent-keepalive", "25"]);
  await run(["set", device, "peer", two.publicKey, "preshared-key", "-", "allowed-ips", "10.0.0.0/8"], own.privateKey);
  assert.deepEqual(
    (await dump()).slice(1).map((fields) => [...fields.slice(0, 4), fields[7]]),
    [
      [one.publicKey, "(none)", "192.0.2.7:1234", "10.1.0.0/16,2001:db8:5::/48", "25"],
      [two.publicKey, own.privateKey, "(none)", "10.0.0.0/8", "off"],
    ],
  );

  // An allowed IP moves to the peer that it is given to last.
  await run(["set", device, "peer", two.publicKey, "allowed-ips", "10.1.0.0/16,10.0.0.0/8"]);
  assert.deepEqual(
    (await dump()).slice(1).map((fields) => fields[3]),
    ["2001:db8:5::/48", "10.0.0.0/8,10.1.0.0/16"],
  );

  const configuration = `[Interface]\nPrivateKey = ${own.privateKey}\nListenPort = 51901\n[Peer]\nPublicKey = ${two.publicKey}\nAllowedIPs = 10.9.0.0/16\n`;
  await run(["syncconf", device, "-"], configuration);
  assert.deepEqual(
    (await dump()).map((fields) => [fields[0], fields[2], fields[3]]),
    [
      [own.privateKey, "51901", "off"],
      [two.publicKey, "(none)", "10.9.0.0/16"],
    ],
  );
  await run(["addconf", device, "-"], `[Peer]\nPublicKey = ${one.publicKey}\nAllowedIPs = 10.8.0.0/16\n`);
  assert.equal((await dump()).length, 3);
  await run(["setconf", device, "-"], configuration);
  assert.equal((await dump()).length, 2);
  assert.match(await run(["showconf", device]), /AllowedIPs = 10\.9\.0\.0\/16/);
  await run(["set", device, "peer", two.publicKey, "remove"]);
  assert.equal((await dump()).length, 1);
  assert.match(await run(["show", "interfaces"]), new RegExp(device));
});

test("issue 4: a new interface has WireGuard's usual MTU and a queue that bursts fit in", options, async () => {
  const { host, device } = newHost();
  await startDevice(host, wirelane, device);
  const link = findLink(host.netlink, device);
  assert.equal(link?.mtu, 1420);
  assert.equal(link?.transmitQueueLength, 10_000);
});

test("a port that is taken is refused, and the device goes on with the old one", options, async () => {
  const { host, device } = newHost();
  await startDevice(host, wirelane, device);
  await startDevice(host, wirelane, `${device}b`);
  await host.run("wg", ["set", device, "listen-port", "52001"]);
  const refused = await host.run("wg", ["set", `${device}b`, "listen-port", "52001"], { allowFailure: true });
  assert.notEqual(refused.status, 0);
  assert.match(refused.stderr, /in use/);
  const { stdout } = await host.run("wg", ["show", `${device}b`, "listen-port"]);
  assert.notEqual(stdout.trim(), "52001");
  assert.ok(Number(stdout) > 0);
});

test("without -f it goes to the background when it is usable, and SIGTERM ends it", options, async () => {
  const { host, device } = newHost();
  const directory = mkdtempSync(join(tmpdir(), "wirelane-wg-"));
  cleanups.push(() => rmSync(directory, { recursive: true, force: true }));
  const nameFile = join(directory, "name");
  const env = { ...process.env, WG_TUN_NAME_FILE: nameFile };
  await host.run(process.execPath, [MAIN, "wg", device], { env });
  // At once, without waiting.
  await host.run("wg", ["show", device]);
  assert.equal(statSync(socketOf(device)).mode & 0o777, 0o600);
  assert.equal(readFileSync(nameFile, "utf8"), `${device}\n`);
  const [pid, ...others] = processesInside([host.namespace]);
  assert.ok(pid !== undefined && others.length === 0);
  process.kill(pid, "SIGTERM");
  await eventually(() => !existsSync(`/proc/${pid}`), "it ends");
  assert.equal(existsSync(socketOf(device)), false);
  assert.equal(findLink(host.netlink, device), undefined);
});

test("what goes wrong at the start is said, with exit code 1, also by the background process", options, async () => {
  const { host, device } = newHost();
  await startDevice(host, wirelane, device);
  for (const flags of [["-f"], []]) {
    const second = await host.run(process.execPath, [MAIN, "wg", ...flags, device], { allowFailure: true });
    assert.equal(second.status, 1, `flags ${flags}`);
    assert.match(second.stderr, /another process|EBUSY|in use|busy/i);
  }
  await host.run("wg", ["show", device]);
  const usage = await host.run(process.execPath, [MAIN, "wg"], { allowFailure: true });
  assert.notEqual(usage.status, 0);
  assert.match(usage.stderr, /missing required argument/);
});

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  test(`${signal} ends the device cleanly`, options, async () => {
    const { host, device } = newHost();
    const child = await startDevice(host, wirelane, device);
    assert.ok(child.pid);
    child.kill(signal);
    await eventually(() => child.exitCode !== null, "it ends");
    assert.equal(child.exitCode, 0);
    assert.equal(existsSync(socketOf(device)), false);
    assert.equal(findLink(host.netlink, device), undefined);
  });
}

test("deleting the interface, or the socket, ends the device", options, async () => {
  const { host, device } = newHost();
  const first = await startDevice(host, wirelane, device);
  await host.run("ip", ["link", "delete", device]);
  await eventually(() => first.exitCode !== null, "it ends when the interface is gone");
  assert.equal(first.exitCode, 0);
  assert.equal(existsSync(socketOf(device)), false);

  const second = await startDevice(host, wirelane, device);
  unlinkSync(socketOf(device));
  await eventually(() => second.exitCode !== null, "it ends when the socket is gone");
  assert.equal(second.exitCode, 0);
  assert.equal(findLink(host.netlink, device), undefined);
});

test("a socket that a killed device left behind does not stop the next one", options, async () => {
  const { host, device } = newHost();
  const first = await startDevice(host, wirelane, device);
  first.kill("SIGKILL");
  await eventually(() => first.signalCode !== null, "it is killed");
  assert.equal(existsSync(socketOf(device)), true);
  await startDevice(host, wirelane, device);
});
