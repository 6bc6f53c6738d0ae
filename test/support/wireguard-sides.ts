// Two hosts with a WireGuard device each, ours or others', for interoperation tests.

import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { LabHost } from "../../scripts/lab/host.js";
import { Lab } from "../../scripts/lab/lab.js";
import { generateKeys, startDevice, type WireGuardProgram, wg, wirelane } from "./wireguard-programs.js";

/** Port that both devices listen on. */
export const PORT = 51820;
/** Addresses of the hosts, by IP version. */
export const OUTER = { 4: ["192.0.2.1", "192.0.2.2"], 6: ["[2001:db8::1]", "[2001:db8::2]"] } as const;

const cleanups: (() => Promise<void> | void)[] = [];

/** Ends what the functions below have started; for `afterEach`. */
export async function cleanUp(): Promise<void> {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
}

let devices = 0;

/** A device on a host, and what the other side needs to know of it. */
export interface Side {
  readonly host: LabHost;
  readonly device: string;
  readonly privateKey: string;
  readonly publicKey: string;
  /** Number of the side: 1 or 2. */
  readonly number: number;
}

/** Two hosts with a cable between them and a device on each, without peers. */
export async function twoSides(programs: readonly [WireGuardProgram, WireGuardProgram]): Promise<[Side, Side]> {
  const lab = Lab.create();
  cleanups.push(() => lab.destroy());
  const hosts = [lab.host("one"), lab.host("two")] as const;
  lab.connect(hosts[0], hosts[1], {
    ipv4: ["192.0.2.1/24", "192.0.2.2/24"],
    ipv6: ["2001:db8::1/64", "2001:db8::2/64"],
  });
  const sides = [];
  for (const [index, host] of hosts.entries()) {
    const program = programs[index] ?? wirelane;
    // Sockets of all namespaces are in one directory: names must differ.
    const device = `wlt${process.pid % 10_000}x${devices++}`;
    await startDevice(host, program, device);
    const number = index + 1;
    const keys = await generateKeys(host);
    for (const address of [`10.77.0.${number}/24`, `2001:db8:77::${number}/64`])
      await host.run("ip", ["address", "add", address, "dev", device, "nodad"]);
    await host.run("ip", ["link", "set", device, "up"]);
    sides.push({ host, device, number, ...keys });
  }
  const [one, two] = sides;
  assert.ok(one && two);
  return [one, two];
}

/** Configures `side` with the other as its only peer. */
export function configure(side: Side, other: Side, lines: readonly string[] = []): Promise<string> {
  const configuration = `
[Interface]
PrivateKey = ${side.privateKey}
ListenPort = ${PORT}
[Peer]
PublicKey = ${other.publicKey}
PresharedKey = MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI=
AllowedIPs = 10.77.0.${other.number}/32, 2001:db8:77::${other.number}/128
${lines.join("\n")}
`;
  return wg(side.host, ["setconf", side.device, "-"], configuration);
}

/** Three echo requests to each of the other side's addresses; all are answered, or it throws. */
export async function ping(from: Side, to: Side, ...options: string[]): Promise<void> {
  const targets = [`10.77.0.${to.number}`, `2001:db8:77::${to.number}`];
  for (const target of targets) await from.host.run("ping", ["-c", "3", "-i", "0.05", "-W", "5", ...options, target]);
}

/** `wg show` of a field: one line per peer, tab-separated. */
export async function show(side: Side, field: string): Promise<string[]> {
  return (await wg(side.host, ["show", side.device, field])).trim().split(/[\t\n]/);
}

const RECEIVE = `
  const { createServer } = require("node:net");
  const { createHash } = require("node:crypto");
  createServer((socket) => {
    const hash = createHash("sha256");
    socket.on("data", (data) => hash.update(data));
    socket.on("end", () => { socket.end(hash.digest("hex")); process.exitCode = 0; setTimeout(() => process.exit(), 200); });
  }).listen(9999, "::", () => console.log("listening"));`;

const SEND = `
  const socket = require("node:net").connect(9999, process.argv[1]);
  socket.end(require("node:fs").readFileSync(process.argv[2]));
  socket.pipe(process.stdout);`;

/** Sends megabytes of random bytes over TCP through the tunnel and checks that they arrive as they were. */
export async function transfer(from: Side, to: Side, address: string): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "wirelane-interop-"));
  cleanups.push(() => rmSync(directory, { recursive: true, force: true }));
  const file = join(directory, "data");
  const data = randomBytes(4 * 1024 * 1024);
  writeFileSync(file, data);
  const server = to.host.spawn(process.execPath, ["-e", RECEIVE], { stdio: ["ignore", "pipe", "inherit"] });
  await new Promise((resolve) => server.stdout?.once("data", resolve));
  const { stdout } = await from.host.run(process.execPath, ["-e", SEND, address, file], { timeout: 30_000 });
  assert.equal(stdout, createHash("sha256").update(readFileSync(file)).digest("hex"));
}
