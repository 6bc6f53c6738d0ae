// The scenarios of the laboratory. Those of spec 05, section 13.6, bear its names ("portal" for its "api"); the budgets are
// those of issue 5 and of that section (30 s for everything that it has no other figure for).

import { setTimeout as sleep } from "node:timers/promises";
import type { NetworkPlan } from "../../scripts/lab/network.js";
import { RESOURCE } from "../../scripts/lab/resource-traffic.js";
import { matrix } from "./matrix.js";
import type { LabScenario } from "./scenario.js";
import {
  badLine,
  busiestRelay,
  CURL,
  connected,
  firstByteAfter,
  firstPacket,
  firstPacketIn,
  gapDuring,
  roam,
  roamingDownload,
  started,
  type WorldPlan,
} from "./steps.js";

/** Longest silence when a relay dies and another one is there. */
const RELAY_LOSS = 1500;
/** Longest silence that counts as none: pings are sent every 20 ms, and the machine is shared. */
const NO_GAP = 300;
const NAT: NetworkPlan = { nat: "port-restricted" };
/** The first relay is nearer: it is the one that is chosen. */
const NEAR_AND_FAR = [{}, { link: { delay: 8 } }] as const;

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
        await lab.step("curl without portal", () => world.traffic.curl());
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
          await lab.step("curl", () => world.traffic.curl());
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
      await lab.step("curl without portal and relays", () => world.traffic.curl());
    },
  },
  {
    name: "direct-curl-relay-restart",
    description: "direct connection: relay 2 is stopped, curl, started again; relay 1 is told to end, curl after 1 s",
    relays: 2,
    async run(lab) {
      const world = await connected(lab, { client: NAT, gateway: NAT });
      await lab.step("relay 2 killed", () => world.stopRelay(2));
      await lab.step("curl", () => world.traffic.curl());
      await lab.step("relay 2 started", () => world.startRelay(2));
      world.relay(1).program?.signal("SIGTERM");
      await sleep(1000);
      await lab.step("curl while relay 1 ends", () => world.traffic.curl());
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
      const took = await lab.step("curl over a new relay", () => world.traffic.curl(CURL));
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
      await lab.step("curl", () => world.traffic.curl());
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
      await lab.step("curl while relay 1 ends", () => world.traffic.curl());
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
      await lab.step("curl over relay 2", () => world.traffic.curl());
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
      await lab.step("curl", () => world.traffic.curl());
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
      await lab.step("curl to the resource by IPv6", () => world.traffic.curl(CURL, RESOURCE.ipv6));
    },
  },
  {
    name: "ipv4-only",
    description: "both networks have IPv4 only: direct, and IPv6 inside the tunnel works all the same",
    relays: 0,
    async run(lab) {
      const world = await connected(lab, { client: { families: "ipv4" }, gateway: { families: "ipv4" } });
      await lab.step("curl to the resource by IPv6", () => world.traffic.curl(CURL, RESOURCE.ipv6));
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
      await lab.step("curl", () => world.traffic.curl());
      await lab.step("path relayed", () => world.waitForPath("relayed", 10_000));
    },
  },
  {
    name: "udp-blocked",
    description: "a firewall that lets no UDP pass: the programs go on and say so, and connect once it is gone",
    relays: 0,
    async run(lab) {
      const world = await started(lab, { client: { udp: "blocked" } });
      await lab.step("no reply", () => lab.expect(world.traffic.ping(3000) === undefined, "there was a reply"));
      await lab.step("the client says that it fails, and goes on", async () => {
        const { client } = world;
        const complaint = await client?.waitFor(({ message }) => message === "Connection ended", { timeout: 30_000 });
        lab.expect(client?.running === true, "it has ended");
        const { severity, fields } = complaint ?? {};
        lab.note(`the client's words: ${severity} Connection ended, reason ${fields?.["reason"]}`);
      });
      world.clientNetwork.setUdp("open");
      const took = await lab.step("reply after the firewall's end", () => world.traffic.reach(CURL));
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
      await lab.step("curl", () => world.traffic.curl());
    },
  },
  {
    name: "roaming-between-nats",
    description: "one TCP download survives 3 s without network and a new network behind another NAT (no signal)",
    relays: 2,
    async run(lab) {
      const world = await connected(lab, { client: NAT, gateway: NAT, others: [NAT] });
      await roam(lab, world, world.traffic.download(12));
    },
  },
  {
    name: "line-cut",
    description: "the client's line is silent for 5 s, no interface goes down: the same TCP download goes on",
    relays: 0,
    async run(lab) {
      const world = await connected(lab);
      const download = world.traffic.download(14);
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
      const took = await lab.step("reply", () => world.traffic.reach(CURL));
      lab.note(`a reply ${took.toFixed(0)} ms after the gateway was ready`);
    },
  },
];

/** All scenarios. */
export const scenarios: readonly LabScenario[] = [
  ...bothWays(false),
  ...bothWays(true),
  ...relayLoss,
  ...networks,
  ...changes,
].sort((a, b) => a.name.localeCompare(b.name));
