// The laboratory's routers behave as they are named: mapping and filtering (RFC 4787), measured with sockets on both sides.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { LabHost } from "../../scripts/lab/host.js";
import { Internet } from "../../scripts/lab/internet.js";
import { Lab } from "../../scripts/lab/lab.js";
import { LabNetwork, type NetworkPlan } from "../../scripts/lab/network.js";
import type { SocketAddress } from "../../src/base/address.js";
import { routerSkip } from "./router-skip.js";
import { UdpEndpoint } from "./udp-endpoint.js";

/** Time for a datagram that must come, and for one that must not: milliseconds. */
const SOON = 3000;
const NEVER = 150;

/** The server's two addresses (connected to the internet as server 1 and 2) and the port of the socket inside. */
const SERVERS = ["203.0.113.18", "203.0.113.34"] as const;
const [SERVER, OTHER_SERVER] = SERVERS;
const PORT = 40_000;

interface Place {
  readonly network: LabNetwork;
  readonly inside: LabHost;
  readonly servers: readonly [LabHost, LabHost];
}

/** A network with one host, and two servers in the internet. */
async function withNetwork(plan: NetworkPlan, action: (place: Place) => void | Promise<void>): Promise<void> {
  const lab = Lab.create();
  try {
    const internet = new Internet(lab);
    const servers = [lab.host("server 1"), lab.host("server 2")] as const;
    await internet.connectServer(1, "server1", servers[0]);
    await internet.connectServer(2, "server2", servers[1]);
    const network = await LabNetwork.create(internet, 1, plan);
    const inside = lab.host("inside");
    network.attach(inside);
    await action({ network, inside, servers });
  } finally {
    await lab.destroy();
  }
}

/** Sends from inside to a server. @returns the source that the server sees. */
function mapping(inside: UdpEndpoint, server: UdpEndpoint, address: string): SocketAddress | undefined {
  inside.send(`${address}:${server.port}`, "out");
  return server.receive(SOON)?.source;
}

describe("NAT laboratory", { skip: routerSkip }, () => {
  test("open: the host inside is seen with its own public address, and reached unasked, by both families", async () => {
    await withNetwork({}, ({ inside, servers, network }) => {
      const [host, server] = [new UdpEndpoint(inside, PORT), new UdpEndpoint(servers[0])];
      assert.equal(mapping(host, server, SERVER)?.toString(), `192.0.2.18:${PORT}`);
      const stranger = new UdpEndpoint(servers[1]);
      stranger.send(`${network.addresses().ipv4}:${PORT}`, "in");
      assert.equal(host.receive(SOON)?.text, "in");
      if (network.line.ipv6 === undefined) return;
      const [host6, stranger6] = [new UdpEndpoint(inside, PORT, 6), new UdpEndpoint(servers[1], 0, 6)];
      stranger6.send(`[${network.addresses().ipv6}]:${PORT}`, "in by IPv6");
      assert.equal(host6.receive(SOON)?.text, "in by IPv6");
      for (const endpoint of [host, server, stranger, host6, stranger6]) endpoint.close();
    });
  });

  test("endpoint-independent: one mapping for all peers, and strangers are let in to it", async () => {
    await withNetwork({ nat: "endpoint-independent" }, ({ inside, servers }) => {
      const host = new UdpEndpoint(inside, PORT);
      const [one, other] = [new UdpEndpoint(servers[0]), new UdpEndpoint(servers[1])];
      const first = mapping(host, one, SERVER);
      assert.equal(first?.toString(), `198.51.100.18:${PORT}`);
      other.send(`${first}`, "unasked");
      const got = host.receive(SOON);
      assert.equal(got?.text, "unasked");
      assert.equal(got.source.toString(), `${OTHER_SERVER}:${other.port}`);
      assert.equal(mapping(host, other, OTHER_SERVER)?.toString(), `${first}`, "the same towards the stranger");
      for (const endpoint of [host, one, other]) endpoint.close();
    });
  });

  for (const nat of ["port-restricted", "double"] as const)
    test(`${nat}: one mapping for all peers, only peers that were written to are let in`, async () => {
      await withNetwork({ nat }, ({ inside, servers }) => {
        const host = new UdpEndpoint(inside, PORT);
        const [one, sameHost] = [new UdpEndpoint(servers[0]), new UdpEndpoint(servers[0])];
        const other = new UdpEndpoint(servers[1]);
        // A check that arrives early is dropped and changes nothing.
        other.send(`198.51.100.18:${PORT}`, "early");
        const first = mapping(host, one, SERVER);
        assert.equal(first?.toString(), `198.51.100.18:${PORT}`);
        one.send(`${first}`, "answer");
        assert.equal(host.receive(SOON)?.text, "answer");
        sameHost.send(`${first}`, "another port");
        other.send(`${first}`, "another host");
        assert.equal(host.receive(NEVER), undefined, "strangers are kept out");
        assert.equal(mapping(host, other, OTHER_SERVER)?.toString(), `${first}`);
        other.send(`${first}`, "no stranger any more");
        assert.equal(host.receive(SOON)?.text, "no stranger any more");
        for (const endpoint of [host, one, sameHost, other]) endpoint.close();
      });
    });

  test("symmetric: another port for each peer, and only that peer is let in to it", async () => {
    await withNetwork({ nat: "symmetric" }, ({ inside, servers }) => {
      const host = new UdpEndpoint(inside, PORT);
      const peers = [
        ...Array.from({ length: 3 }, () => ({ address: SERVER, socket: new UdpEndpoint(servers[0]) })),
        { address: OTHER_SERVER, socket: new UdpEndpoint(servers[1]) },
      ];
      const seen = peers.map(({ address, socket }) => mapping(host, socket, address));
      assert.ok(seen.every((source) => source?.ip.toString() === "198.51.100.18"));
      // Ports are drawn at random: four of them are all different but for 1 case in 10 000.
      assert.ok(new Set(seen.map((source) => source?.port)).size >= 3, seen.join(" "));
      peers.at(-1)?.socket.send(`${seen[0]}`, "stranger");
      assert.equal(host.receive(NEVER), undefined);
      peers[0]?.socket.send(`${seen[0]}`, "answer");
      assert.equal(host.receive(SOON)?.text, "answer");
      for (const { socket } of peers) socket.close();
      host.close();
    });
  });

  test("unsolicited datagrams are dropped in silence or answered; answered ones cost the host inside its port", async () => {
    await withNetwork({ nat: "port-restricted", unsolicited: "drop" }, ({ servers }) => {
      const stranger = new UdpEndpoint(servers[0]);
      assert.equal(stranger.isRefused("198.51.100.18:50000", NEVER), false);
      stranger.close();
    });
    await withNetwork({ nat: "port-restricted", unsolicited: "reject" }, ({ inside, servers }) => {
      const stranger = new UdpEndpoint(servers[0]);
      assert.equal(stranger.isRefused(`198.51.100.18:${PORT}`, SOON), true);
      stranger.close();
      const host = new UdpEndpoint(inside, PORT);
      // The same address and port, but a socket that hears everybody.
      const peer = new UdpEndpoint(servers[0], stranger.port);
      const seen = mapping(host, peer, SERVER);
      assert.ok(seen !== undefined && seen.port !== PORT, `${seen}: the router's own flow with this peer has the port`);
      for (const endpoint of [host, peer]) endpoint.close();
    });
  });

  test("IPv6 has no NAT but a firewall: answers come in, strangers do not", async (context) => {
    await withNetwork({ nat: "port-restricted" }, ({ inside, servers, network }) => {
      const { ipv6 } = network.addresses();
      if (ipv6 === undefined) {
        context.skip("the kernel has no IPv6");
        return;
      }
      const [host, server] = [new UdpEndpoint(inside, PORT, 6), new UdpEndpoint(servers[0], 0, 6)];
      assert.equal(mapping(host, server, "[2001:db8:f1::2]")?.toString(), `[${ipv6}]:${PORT}`);
      server.send(`[${ipv6}]:${PORT}`, "answer");
      assert.equal(host.receive(SOON)?.text, "answer");
      const stranger = new UdpEndpoint(servers[1], 0, 6);
      stranger.send(`[${ipv6}]:${PORT}`, "unasked");
      assert.equal(host.receive(NEVER), undefined);
      for (const endpoint of [host, server, stranger]) endpoint.close();
    });
  });

  test("networks of one family have nothing of the other", async (context) => {
    await withNetwork({ nat: "symmetric", families: "ipv4" }, ({ network }) => {
      assert.equal(network.addresses().ipv6, undefined);
    });
    await withNetwork({ nat: "port-restricted", families: "ipv6" }, ({ network, inside, servers }) => {
      if (network.line.ipv6 === undefined) {
        context.skip("the kernel has no IPv6");
        return;
      }
      assert.equal(network.addresses().ipv4, undefined);
      const [host, server] = [new UdpEndpoint(inside, PORT, 6), new UdpEndpoint(servers[0], 0, 6)];
      assert.ok(mapping(host, server, "[2001:db8:f1::2]") !== undefined);
      const host4 = new UdpEndpoint(inside, PORT);
      assert.throws(() => host4.send(`${SERVER}:3478`, "no way"), /ENETUNREACH/);
      for (const endpoint of [host, server, host4]) endpoint.close();
    });
  });

  test("a UDP-hostile firewall lets no datagram out, or those to relays only; TCP passes", async () => {
    await withNetwork({ nat: "port-restricted", udp: "blocked" }, async ({ inside, servers, network }) => {
      const host = new UdpEndpoint(inside, PORT);
      const [relay, other] = [new UdpEndpoint(servers[0], 3478), new UdpEndpoint(servers[0])];
      host.send(`${SERVER}:3478`, "to the relay");
      host.send(`${SERVER}:${other.port}`, "elsewhere");
      assert.equal(relay.receive(NEVER), undefined);
      assert.equal(other.receive(NEVER), undefined);
      const connect = `require('net').connect(9, '${SERVER}').on('error', (e) => console.log(e.code))`;
      const { stdout } = await inside.run(process.execPath, ["-e", connect], { timeout: 10_000 });
      assert.match(stdout, /ECONNREFUSED/, "the server itself answers");

      network.setUdp("relay-only");
      host.send(`${SERVER}:3478`, "to the relay");
      host.send(`${SERVER}:${other.port}`, "elsewhere");
      const got = relay.receive(SOON);
      assert.equal(got?.text, "to the relay");
      relay.send(got.source, "answer of the relay");
      assert.equal(host.receive(SOON)?.text, "answer of the relay");
      assert.equal(other.receive(NEVER), undefined);
      for (const endpoint of [host, relay, other]) endpoint.close();
    });
  });

  test("lines are cut and restored, UDP between networks is blocked while servers are reached", async () => {
    const lab = Lab.create();
    try {
      const internet = new Internet(lab);
      const server = lab.host("server");
      await internet.connectServer(1, "server1", server);
      const networks = [await LabNetwork.create(internet, 1), await LabNetwork.create(internet, 2)] as const;
      const hosts = networks.map((network, i) => {
        const host = lab.host(`host ${i}`);
        network.attach(host);
        return host;
      });
      const [one, other] = hosts.map((host) => new UdpEndpoint(host, PORT));
      const atServer = new UdpEndpoint(server);
      assert.ok(one !== undefined && other !== undefined);
      const reach = (to: string, at: UdpEndpoint, timeout: number) => {
        one.send(to, "hello");
        return at.receive(timeout) !== undefined;
      };
      const [toOther, toServer] = [`${networks[1].addresses().ipv4}:${PORT}`, `${SERVER}:${atServer.port}`];
      assert.ok(reach(toOther, other, SOON));
      internet.blockDirect(true);
      assert.ok(!reach(toOther, other, NEVER));
      assert.ok(reach(toServer, atServer, SOON));
      internet.blockDirect(false);
      assert.ok(reach(toOther, other, SOON));
      networks[0].cut();
      assert.ok(!reach(toServer, atServer, NEVER));
      networks[0].restore();
      assert.ok(reach(toServer, atServer, SOON));
      for (const endpoint of [one, other, atServer]) endpoint.close();
    } finally {
      await lab.destroy();
    }
  });
});
