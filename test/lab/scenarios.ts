// The scenarios of the laboratory. Those of spec 05, section 13.6, bear its names ("portal" for its "api"); the budgets are
// those of issue 5 and of that section (30 s for everything that it has no other figure for).

import { setTimeout as sleep } from "node:timers/promises";
import type { NatWorld, NatWorldOptions, RunningDownload } from "../../scripts/lab/nat-world.js";
import { RESOURCE } from "../../scripts/lab/nat-world.js";
import type { NetworkPlan } from "../../scripts/lab/network.js";
import { matrix } from "./matrix.js";
import type { LabScenario, ScenarioLab } from "./scenario.js";

/** Milliseconds. First packet to first reply, cold, without latency; what a busy machine may add to it. */
const FIRST_REPLY = 100;
const SLACK = 150;
/** Longest silence when a relay dies and another one is there. */
const RELAY_LOSS = 1500;
/** From the return of the network to the first byte of a download; progress is reported every 250 ms. */
const ROAMING = 2000 + 250;
/** The file that is downloaded meanwhile: bytes, bytes per second, milliseconds that it may take (spec 05, section 13.6). */
const FILE = { bytes: 10_000_000, rate: 2 ** 20, timeout: 12_000 } as const;
/** Longest silence that counts as none: pings are sent every 20 ms, and the machine is shared. */
const NO_GAP = 300;
/** Relay loss, relay restart, network change: curl's time limit (spec 05, section 13.5). */
const CURL = 30_000;

const NAT: NetworkPlan = { nat: "port-restricted" };
/** The first relay is nearer: it is the one that is chosen. */
const NEAR_AND_FAR = [{}, { link: { delay: 8 } }] as const;

type WorldPlan = Parameters<ScenarioLab["world"]>[0];

/** A world with everything started, and the first packet's way through it. */
async function started(lab: ScenarioLab, plan: WorldPlan = {}, relayed = false): Promise<NatWorld> {
  const world = await lab.step("world built", () => lab.world(plan));
  if (relayed) world.blockDirect();
  await lab.step("programs started", () => world.start());
  return world;
}

/** As {@link started}, and curl went through. */
async function connected(lab: ScenarioLab, plan: WorldPlan = {}, relayed = false): Promise<NatWorld> {
  const world = await started(lab, plan, relayed);
  await lab.step("curl", () => world.curl());
  await lab.step(`path ${relayed ? "relayed" : "direct"}`, () =>
    world.waitForPath(relayed ? "relayed" : "direct", 10_000),
  );
  return world;
}

/** The first packet of a cold client, timed. */
async function firstPacket(lab: ScenarioLab, plan: WorldPlan, relayed: boolean): Promise<void> {
  await firstPacketIn(lab, await started(lab, plan, relayed), relayed);
}

async function firstPacketIn(lab: ScenarioLab, world: NatWorld, relayed: boolean): Promise<void> {
  await sleep(500);
  const took = await lab.step("first packet", () => world.ping(5000));
  lab.note(`first packet to first reply: ${took?.toFixed(1)} ms`);
  await lab.step(`path ${relayed ? "relayed" : "direct"}`, () =>
    world.waitForPath(relayed ? "relayed" : "direct", 10_000),
  );
  lab.expect(took !== undefined, "the first ping had no reply");
  lab.expect((took ?? 0) <= FIRST_REPLY + SLACK, `${took?.toFixed(1)} ms, ${FIRST_REPLY} ms allowed`);
}

/** The client's plug is pulled for 3 s in the middle of a download, and put in elsewhere; nobody tells the program. */
async function roam(lab: ScenarioLab, world: NatWorld, download: RunningDownload): Promise<void> {
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
async function roamingDownload(lab: ScenarioLab, relayed: boolean): Promise<void> {
  const world = await connected(lab, { others: [{}] }, relayed);
  const expected = await world.checksum(FILE.bytes);
  const download = world.downloadFile(FILE.bytes, FILE.rate, FILE.timeout);
  await roam(lab, world, download);
  const { bytes, sha256 } = await download.done;
  lab.expect(bytes === FILE.bytes && sha256 === expected, `${bytes} bytes with the SHA-256 ${sha256}, not ${expected}`);
}

/** Waits until more bytes have arrived than before `time`. @returns the milliseconds since then. */
async function firstByteAfter({ arrivals, done }: RunningDownload, time: number, timeout = CURL): Promise<number> {
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
async function gapDuring(
  lab: ScenarioLab,
  world: NatWorld,
  what: string,
  action: () => Promise<void>,
): Promise<number> {
  const stop = await world.pingStream();
  await lab.step(what, action);
  const { longestGapMs, sent, answered } = await stop();
  lab.note(`${sent - answered} of ${sent} pings lost, longest silence ${longestGapMs} ms`);
  return longestGapMs;
}

/** The pairs of scenarios that exist for direct and relayed connections. */
function bothWays(relayed: boolean): LabScenario[] {
  const way = relayed ? "relayed" : "direct";
  const relays = relayed ? 2 : 0;
  return [
    {
      name: `${way}-curl-portal-down`,
      description: `${way} connection: curl; the portal is killed; curl`,
      relays,
      async run(lab) {
        const world = await connected(lab, {}, relayed);
        await lab.step("portal killed", () => world.portal?.stop("SIGKILL"));
        await lab.step("curl without portal", () => world.curl());
      },
    },
    {
      name: `${way}-curl-portal-restart`,
      description: `${way} connection: the portal is restarted; curl; restarted again; curl`,
      relays,
      async run(lab) {
        const world = await connected(lab, {}, relayed);
        for (const time of ["first", "second"]) {
          await lab.step(`${time} restart of the portal`, async () => {
            await world.portal?.stop();
            await world.startPortal();
          });
          await lab.step("curl", () => world.curl());
        }
      },
    },
    {
      name: `${way}-portal-absent-no-gap`,
      description: `${way} connection: nothing is lost while the portal is away for 5 s and when it comes back`,
      relays,
      async run(lab) {
        const world = await connected(lab, {}, relayed);
        const gap = await gapDuring(lab, world, "portal away for 5 s and back", async () => {
          await world.portal?.stop("SIGKILL");
          await sleep(5000);
          await world.startPortal();
          await sleep(3000);
        });
        lab.expect(gap <= NO_GAP, `${gap} ms of silence`);
      },
    },
    {
      name: `${way}-download-roaming-network`,
      description: `${way} connection: one download of 12 s at most survives 3 s without network and a new network (no signal), both families`,
      relays,
      run: (lab) => roamingDownload(lab, relayed),
    },
  ];
}

/** The relay that carries most, by its number: a busy machine measures other round-trip times than the lines have. */
async function busiestRelay(world: NatWorld): Promise<number> {
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

/** Scenarios around the loss of relays. */
const relayLoss: LabScenario[] = [
  {
    name: "direct-curl-portal-relay-down",
    description: "direct connection: curl; portal and relays are killed; curl",
    relays: 2,
    async run(lab) {
      const world = await connected(lab, { client: NAT, gateway: NAT });
      await lab.step("portal and relays killed", () =>
        Promise.all([world.portal?.stop("SIGKILL"), world.stopRelay(1), world.stopRelay(2)]),
      );
      await lab.step("curl without portal and relays", () => world.curl());
    },
  },
  {
    name: "direct-curl-relay-restart",
    description: "direct connection: relay 2 is stopped, curl, started again; relay 1 is told to end, curl after 1 s",
    relays: 2,
    async run(lab) {
      const world = await connected(lab, { client: NAT, gateway: NAT });
      await lab.step("relay 2 killed", () => world.stopRelay(2));
      await lab.step("curl", () => world.curl());
      await lab.step("relay 2 started", () => world.startRelay(2));
      world.relay(1).program?.signal("SIGTERM");
      await sleep(1000);
      await lab.step("curl while relay 1 ends", () => world.curl());
    },
  },
  {
    name: "relayed-curl-relay-restart",
    description: "relayed connection: both relays are replaced by new ones with other addresses; curl after 1 s",
    relays: 2,
    ownRelays: true,
    async run(lab) {
      const world = await connected(lab, {}, true);
      await lab.step("relays replaced", async () => {
        await Promise.all([world.stopRelay(1), world.stopRelay(2)]);
        for (const number of [1, 2]) world.readdressRelay(number);
        await Promise.all([world.startRelay(1), world.startRelay(2)]);
      });
      await sleep(1000);
      const took = await lab.step("curl over a new relay", () => world.curl(CURL));
      lab.note(`curl took ${took.toFixed(0)} ms`);
    },
  },
  {
    name: "relay-killed",
    description: "relayed connection: the relay in use is killed, another one is there: silence of at most 1.5 s",
    relays: 2,
    async run(lab) {
      const world = await connected(lab, { relayLines: NEAR_AND_FAR }, true);
      await sleep(2000);
      const gap = await gapDuring(lab, world, "relay killed, 4 s", async () => {
        const used = await busiestRelay(world);
        lab.note(`relay ${used} is in use`);
        await world.stopRelay(used);
        await sleep(4000);
      });
      lab.expect(gap >= 100, `${gap} ms of silence: it was not in use`);
      lab.expect(gap <= RELAY_LOSS, `${gap} ms of silence, ${RELAY_LOSS} ms allowed`);
      await lab.step("curl", () => world.curl());
    },
  },
  {
    name: "relay-graceful-shutdown",
    description: "relayed connection: SIGTERM lets a relay go on without the portal, the second one ends it",
    relays: 2,
    ownRelays: true,
    async run(lab) {
      const world = await connected(lab, { relayLines: NEAR_AND_FAR }, true);
      const relay = world.relay(1);
      relay.program?.signal("SIGTERM");
      await sleep(2000);
      await lab.step("curl while relay 1 ends", () => world.curl());
      await lab.step("relay 1 has left the portal", async () => {
        const { stdout } = await relay.host.run("cat", ["/proc/self/net/tcp", "/proc/self/net/tcp6"]);
        // Columns: number, local, remote address:port, state; 1F90 is port 8080, state 01 ESTABLISHED.
        lab.expect(!/:1F90 01 /.test(stdout), `it has a connection to the portal:\n${stdout}`);
      });
      relay.program?.signal("SIGTERM");
      await lab.step("relay 1 has ended", async () => {
        for (let i = 0; i < 50 && relay.program?.running === true; i++) await sleep(100);
        lab.expect(relay.program?.running !== true, "it still runs 5 s after the second SIGTERM");
      });
      await lab.step("curl over relay 2", () => world.curl());
    },
  },
];

/** Scenarios of networks that are difficult in some way. */
const networks: LabScenario[] = [
  {
    name: "direct-port-restricted",
    description: "two port-restricted NATs: direct, first reply within 100 ms",
    relays: 2,
    run: (lab) => firstPacket(lab, { client: NAT, gateway: NAT }, false),
  },
  {
    name: "direct-port-restricted-ipv4",
    description:
      "the same without IPv6, and the gateway's interface towards the internet is not its first: direct, first reply within 100 ms",
    relays: 2,
    async run(lab) {
      const ipv4: NetworkPlan = { ...NAT, families: "ipv4" };
      const world = await lab.step("world built", () => lab.world({ client: ipv4, gateway: ipv4 }));
      // Plugged in once more, it comes after the one towards the resource.
      world.moveGateway(world.gatewayNetwork);
      await lab.step("programs started", () => world.start());
      await firstPacketIn(lab, world, false);
    },
  },
  {
    name: "relayed-curl",
    description: "no UDP between the networks: relayed, first reply within 100 ms",
    relays: 2,
    run: (lab) => firstPacket(lab, { client: NAT, gateway: NAT }, true),
  },
  {
    name: "endpoint-independent-symmetric",
    description: "an endpoint-independent NAT is reached directly from behind a symmetric one",
    relays: 2,
    async run(lab) {
      const ipv4 = { families: "ipv4" } as const;
      const plan: WorldPlan = {
        client: { ...ipv4, nat: "symmetric" },
        gateway: { ...ipv4, nat: "endpoint-independent" },
      };
      await connected(lab, plan);
    },
  },
  {
    name: "early-checks",
    description:
      "port-restricted NATs that answer unsolicited datagrams, and so change ports: connected, whichever way",
    relays: 2,
    async run(lab) {
      const answering: NetworkPlan = { nat: "port-restricted", unsolicited: "reject", families: "ipv4" };
      const world = await started(lab, { client: answering, gateway: answering });
      await lab.step("curl", () => world.curl());
      lab.note(`path ${world.path()}`);
    },
  },
  ...(["ipv4", "ipv6"] as const).map(
    (family): LabScenario => ({
      name: `matrix-${family}`,
      description: `every NAT against every NAT, ${family === "ipv4" ? "IPv4" : "IPv6"}: connected, direct wherever both allow it`,
      relays: 2,
      timeout: 200_000,
      run: (lab) => matrix(lab, family),
    }),
  ),
  {
    name: "ipv6-only",
    description: "both networks have IPv6 only: direct",
    relays: 0,
    async run(lab) {
      const world = await connected(lab, { client: { families: "ipv6" }, gateway: { families: "ipv6" } });
      await lab.step("curl to the resource by IPv6", () => world.curl(CURL, RESOURCE.ipv6));
    },
  },
  {
    name: "ipv4-only",
    description: "both networks have IPv4 only: direct, and IPv6 inside the tunnel works all the same",
    relays: 0,
    async run(lab) {
      const world = await connected(lab, { client: { families: "ipv4" }, gateway: { families: "ipv4" } });
      await lab.step("curl to the resource by IPv6", () => world.curl(CURL, RESOURCE.ipv6));
    },
  },
  {
    name: "ipv6-to-ipv4",
    description: "the client has IPv6 only, the gateway IPv4 only: relayed from one to the other",
    relays: 2,
    run: async (lab) => {
      await connected(lab, { client: { families: "ipv6" }, gateway: { families: "ipv4" } }, true);
    },
  },
  {
    name: "latency-and-loss",
    description: "50 ms of latency and 1 % loss on the client's line: curl works, pings get through, TCP moves",
    relays: 0,
    run: (lab) => badLine(lab, { link: { delay: 25, loss: 0.01 } }),
  },
  {
    name: "jitter-and-duplicates",
    description: "reordering by 10 ms of jitter and 2 % duplicates on the client's line: curl works, TCP moves",
    relays: 0,
    run: (lab) => badLine(lab, { link: { delay: 5, jitter: 10, duplicate: 0.02, loss: 0.001 } }),
  },
  {
    name: "udp-relay-only",
    description: "a firewall that lets UDP to port 3478 pass and nothing else: relayed",
    relays: 2,
    run: async (lab) => {
      const plan: WorldPlan = { client: { ...NAT, udp: "relay-only" }, gateway: NAT };
      const world = await started(lab, plan);
      await lab.step("curl", () => world.curl());
      await lab.step("path relayed", () => world.waitForPath("relayed", 10_000));
    },
  },
  {
    name: "udp-blocked",
    description: "a firewall that lets no UDP pass: the programs go on and say so, and connect once it is gone",
    relays: 0,
    async run(lab) {
      const world = await started(lab, { client: { udp: "blocked" } });
      await lab.step("no reply", () => lab.expect(world.ping(3000) === undefined, "there was a reply"));
      await lab.step("the client says that it fails, and goes on", async () => {
        const { client } = world;
        const complaint = await client?.waitFor(({ message }) => message === "Connection ended", { timeout: 30_000 });
        lab.expect(client?.running === true, "it has ended");
        const { severity, fields } = complaint ?? {};
        lab.note(`the client's words: ${severity} Connection ended, reason ${fields?.["reason"]}`);
      });
      world.clientNetwork.setUdp("open");
      const took = await lab.step("reply after the firewall's end", () => world.reach(CURL));
      lab.note(`a reply ${took.toFixed(0)} ms after the firewall's end`);
    },
  },
];

/** Scenarios in which a connection changes its way. */
const changes: LabScenario[] = [
  {
    name: "relayed-becomes-direct",
    description: "a relayed connection becomes direct when UDP gets through, without losing anything",
    relays: 2,
    async run(lab) {
      const world = await connected(lab, { client: NAT, gateway: NAT }, true);
      const gap = await gapDuring(lab, world, "direct once it is possible", async () => {
        world.blockDirect(false);
        await world.waitForPath("direct", CURL);
        await sleep(2000);
      });
      lab.expect(gap <= NO_GAP, `${gap} ms of silence`);
    },
  },
  {
    name: "direct-becomes-relayed",
    description: "a direct connection becomes relayed when UDP does not get through any more",
    relays: 2,
    async run(lab) {
      const world = await connected(lab, { client: NAT, gateway: NAT });
      await gapDuring(lab, world, "relayed when it is necessary", async () => {
        world.blockDirect();
        await world.waitForPath("relayed", CURL);
        await sleep(1000);
      });
      await lab.step("curl", () => world.curl());
    },
  },
  {
    name: "roaming-between-nats",
    description: "one TCP download survives 3 s without network and a new network behind another NAT (no signal)",
    relays: 2,
    async run(lab) {
      const world = await connected(lab, { client: NAT, gateway: NAT, others: [NAT] });
      await roam(lab, world, world.download(12));
    },
  },
  {
    name: "line-cut",
    description: "the client's line is silent for 5 s, no interface goes down: the same TCP download goes on",
    relays: 0,
    async run(lab) {
      const world = await connected(lab);
      const download = world.download(14);
      await lab.step("2 s of download", () => sleep(2000));
      await lab.step("5 s of silence", async () => {
        world.clientNetwork.cut();
        await sleep(5000);
      });
      world.clientNetwork.restore();
      const took = await lab.step("first byte", () => firstByteAfter(download, Date.now()));
      lab.note(`first byte ${took} ms after the line's return`);
      await lab.step("end of the same TCP connection", () => download.done);
    },
  },
  {
    name: "gateway-killed",
    description: "the gateway is killed and started again: the client finds it within 30 s",
    relays: 0,
    async run(lab) {
      const world = await connected(lab);
      await lab.step("gateway killed and started", async () => {
        await world.gateway?.stop("SIGKILL");
        await world.startGateway();
      });
      const took = await lab.step("reply", () => world.reach(CURL));
      lab.note(`a reply ${took.toFixed(0)} ms after the gateway was ready`);
    },
  },
];

async function badLine(lab: ScenarioLab, client: NonNullable<NatWorldOptions["client"]>): Promise<void> {
  const world = await connected(lab, { client });
  await gapDuring(lab, world, "3 s of pings", () => sleep(3000));
  const { bytes, seconds } = await lab.step("5 s of download", () => world.download(5).done);
  lab.note(`${((bytes * 8) / seconds / 1e6).toFixed(1)} Mbit/s`);
  lab.expect(bytes > 100_000, `${bytes} bytes in ${seconds.toFixed(1)} s`);
  const [emulated] = (await world.clientNetwork.line.emulator?.statistics()) ?? [];
  lab.note(`the line towards the client: ${JSON.stringify(emulated)}`);
}

/** All scenarios. */
export const scenarios: readonly LabScenario[] = [
  ...bothWays(false),
  ...bothWays(true),
  ...relayLoss,
  ...networks,
  ...changes,
].sort((a, b) => a.name.localeCompare(b.name));
