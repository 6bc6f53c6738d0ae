// What scenarios of the laboratory have in common: a world that is connected, and things that are measured while something happens to it. The
// budgets are those of issue 5 and of spec 05, section 13.6.

import { setTimeout as sleep } from "node:timers/promises";
import type { NatWorld, NatWorldOptions } from "../../scripts/lab/nat-world.js";
import type { RunningDownload } from "../../scripts/lab/resource-traffic.js";
import type { ScenarioLab } from "./scenario.js";

/** Milliseconds. First packet to first reply, cold, without latency; what a busy machine may add to it. */
const FIRST_REPLY = 100;
const SLACK = 150;
/** From the return of the network to the first byte of a download; progress is reported every 250 ms. */
const ROAMING = 2000 + 250;
/** The file that is downloaded meanwhile: bytes, bytes per second, milliseconds that it may take (spec 05, section 13.6). */
const FILE = { bytes: 10_000_000, rate: 2 ** 20, timeout: 12_000 } as const;
/** Relay loss, relay restart, network change: curl's time limit (spec 05, section 13.5). */
export const CURL = 30_000;

/** How to make a world. */
export type WorldPlan = Parameters<ScenarioLab["world"]>[0];

/** A world with everything started, and the first packet's way through it. */
export async function started(lab: ScenarioLab, plan: WorldPlan = {}, relayed = false): Promise<NatWorld> {
  const world = await lab.step("world built", () => lab.world(plan));
  if (relayed) world.blockDirect();
  await lab.step("programs started", () => world.start());
  return world;
}

/** As {@link started}, and curl went through. */
export async function connected(lab: ScenarioLab, plan: WorldPlan = {}, relayed = false): Promise<NatWorld> {
  const world = await started(lab, plan, relayed);
  await lab.step("curl", () => world.traffic.curl());
  await lab.step(`path ${relayed ? "relayed" : "direct"}`, () =>
    world.waitForPath(relayed ? "relayed" : "direct", 10_000),
  );
  return world;
}

/** The first packet of a cold client, timed. */
export async function firstPacket(lab: ScenarioLab, plan: WorldPlan, relayed: boolean): Promise<void> {
  await firstPacketIn(lab, await started(lab, plan, relayed), relayed);
}

/** The same in a world that is started. */
export async function firstPacketIn(lab: ScenarioLab, world: NatWorld, relayed: boolean): Promise<void> {
  await sleep(500);
  const took = await lab.step("first packet", () => world.traffic.ping(5000));
  lab.note(`first packet to first reply: ${took?.toFixed(1)} ms`);
  await lab.step(`path ${relayed ? "relayed" : "direct"}`, () =>
    world.waitForPath(relayed ? "relayed" : "direct", 10_000),
  );
  lab.expect(took !== undefined, "the first ping had no reply");
  lab.expect((took ?? 0) <= FIRST_REPLY + SLACK, `${took?.toFixed(1)} ms, ${FIRST_REPLY} ms allowed`);
}

/** The client's plug is pulled for 3 s in the middle of a download, and put in elsewhere; nobody tells the program. */
export async function roam(lab: ScenarioLab, world: NatWorld, download: RunningDownload): Promise<void> {
  const [elsewhere] = world.networks.slice(2);
  if (elsewhere === undefined) throw new Error("the world has no other network");
  await lab.step("3 s of download", () => sleep(3000));
  await lab.step("3 s without network", async () => {
    world.unplugClient();
    await sleep(3000);
  });
  world.plugClient(elsewhere);
  const back = Date.now();
  const took = await lab.step("first byte", () => firstByteAfter(download, back));
  lab.note(`first byte ${took} ms after the network's return`);
  const { bytes, seconds } = await lab.step("end of the same TCP connection", () => download.done);
  lab.note(`${((bytes * 8) / seconds / 1e6).toFixed(0)} Mbit/s on average, the outage included`);
  lab.expect(took <= ROAMING, `${took} ms from the network's return to the first byte, ${ROAMING} ms allowed`);
}

/** The download of spec 05, section 13.6, while the client roams. */
export async function roamingDownload(lab: ScenarioLab, relayed: boolean): Promise<void> {
  const world = await connected(lab, { others: [{}] }, relayed);
  const expected = await world.traffic.checksum(FILE.bytes);
  const download = world.traffic.downloadFile(FILE.bytes, FILE.rate, FILE.timeout);
  await roam(lab, world, download);
  const { bytes, sha256 } = await download.done;
  lab.expect(bytes === FILE.bytes && sha256 === expected, `${bytes} bytes with the SHA-256 ${sha256}, not ${expected}`);
}

/** Waits until more bytes have arrived than before `time`. @returns the milliseconds since then. */
export async function firstByteAfter(
  { arrivals, done }: RunningDownload,
  time: number,
  timeout = CURL,
): Promise<number> {
  const before = arrivals.findLast(({ at }) => at < time)?.bytes ?? 0;
  let ended = false;
  const end = () => {
    ended = true;
  };
  done.then(end, end);
  for (;;) {
    // A download that has failed says so itself; one that is over has been silent to its end.
    if (ended) await done.then(() => Promise.reject(new Error("no byte until the end of the download")));
    const more = arrivals.find(({ at, bytes }) => at >= time && bytes > before);
    if (more !== undefined) return more.at - time;
    if (Date.now() - time > timeout) throw new Error(`no byte within ${timeout} ms`);
    await sleep(20);
  }
}

/** Pings while something happens. @returns the longest silence in milliseconds. */
export async function gapDuring(
  lab: ScenarioLab,
  world: NatWorld,
  what: string,
  action: () => Promise<void>,
): Promise<number> {
  const stop = await world.traffic.pingStream();
  await lab.step(what, action);
  const { longestGapMs, sent, answered } = await stop();
  lab.note(`${sent - answered} of ${sent} pings lost, longest silence ${longestGapMs} ms`);
  return longestGapMs;
}

/** The relay that carries most, by its number: a busy machine measures other round-trip times than the lines have. */
export async function busiestRelay(world: NatWorld): Promise<number> {
  const received = () =>
    Promise.all(
      world.relays.map(async ({ host, line }) => {
        const { stdout } = await host.run("cat", [`/proc/self/net/dev`]);
        // Columns after the interface's name: bytes and packets received, and others.
        return Number(new RegExp(`${line.interface}: *\\d+ +(\\d+)`).exec(stdout)?.[1]);
      }),
    );
  const before = await received();
  await sleep(500);
  const counts = (await received()).map((count, i) => count - (before[i] ?? 0));
  return counts.indexOf(Math.max(...counts)) + 1;
}

/** What gets through a bad line on the client's side. */
export async function badLine(lab: ScenarioLab, client: NonNullable<NatWorldOptions["client"]>): Promise<void> {
  const world = await connected(lab, { client });
  await gapDuring(lab, world, "3 s of pings", () => sleep(3000));
  const { bytes, seconds } = await lab.step("5 s of download", () => world.traffic.download(5).done);
  lab.note(`${((bytes * 8) / seconds / 1e6).toFixed(1)} Mbit/s`);
  lab.expect(bytes > 100_000, `${bytes} bytes in ${seconds.toFixed(1)} s`);
  const [emulated] = (await world.clientNetwork.line.emulator?.statistics()) ?? [];
  lab.note(`the line towards the client: ${JSON.stringify(emulated)}`);
}
