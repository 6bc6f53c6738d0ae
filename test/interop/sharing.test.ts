// Devices whose workers share a connection (assembly/jobs.ts): what one flow carries arrives complete, and in order.

import assert from "node:assert/strict";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { afterEach, test } from "node:test";
import { MAIN, programSkip, type WireGuardProgram } from "../support/wireguard-programs.js";
import { cleanUp, configure, OUTER, PORT, ping, type Side, transfer, twoSides } from "../support/wireguard-sides.js";

afterEach(cleanUp);

const shared = (workers: number): WireGuardProgram => ({
  name: `wirelane wg --workers ${workers}`,
  file: process.execPath,
  args: (interfaceName) => [MAIN, "wg", "-f", "--workers", String(workers), interfaceName],
});

const skip = programSkip(shared(2)) || (!existsSync("/usr/bin/iperf3") && "needs iperf3");

/** Results of iperf3 as far as the test needs them. */
interface Report {
  readonly end: {
    readonly sum_received?: { readonly bytes: number };
    readonly sum?: { readonly packets: number; readonly lost_packets: number; readonly out_of_order?: number };
    readonly streams: readonly { readonly udp?: { readonly out_of_order: number } }[];
  };
}

/** One second of iperf3 from one side to the other. */
async function iperf(from: Side, to: Side, ...options: string[]): Promise<Report["end"]> {
  const server = to.host.spawn("iperf3", ["-s", "-1", "--forceflush"], { stdio: ["ignore", "pipe", "inherit"] });
  const ended = once(server, "exit");
  await new Promise((resolve) => server.stdout?.once("data", resolve));
  const { stdout } = await from.host.run("iperf3", ["-c", `10.77.0.${to.number}`, "-t", "1", "-J", ...options], {
    timeout: 20_000,
  });
  // The next one needs the port.
  await ended;
  return (JSON.parse(stdout) as Report).end;
}

// More workers than there are cores take turns in every order.
for (const workers of [2, 4])
  test(`what a busy flow carries between devices with ${workers} workers arrives complete and in order`, {
    skip,
    timeout: 90_000,
  }, async () => {
    const [one, two] = await twoSides([shared(workers), shared(workers)]);
    await configure(two, one);
    await configure(one, two, [`Endpoint = ${OUTER[4][1]}:${PORT}`]);
    await ping(one, two);
    await transfer(one, two, "10.77.0.2");
    await transfer(two, one, "2001:db8:77::1");
    for (const options of [[], ["-R"], ["-P", "4"]]) {
      const { sum_received } = await iperf(one, two, ...options);
      assert.ok((sum_received?.bytes ?? 0) > 4_000_000, `${sum_received?.bytes} bytes`);
    }
    const { sum, streams } = await iperf(one, two, "-u", "-b", "200M", "-l", "1200", "-w", "2M");
    assert.ok((sum?.packets ?? 0) > 10_000);
    for (const { udp } of streams) assert.equal(udp?.out_of_order, 0);
  });
