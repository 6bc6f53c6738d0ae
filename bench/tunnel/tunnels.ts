// Tunnels between two hosts on one machine, each with an iperf3 server at its far end:
//
//    client 192.0.2.1 ───── veth ───── server 192.0.2.2        outer, IPv4
//    10.99.0.1, fd99::1 ── tunnel ── 10.99.0.2, fd99::2        inner, where there is a tunnel
//
// One of them is the product: portal and gateway on the server, the client on the client, and the far end a resource.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { LabHost } from "../../scripts/lab/host.js";
import type { Lab } from "../../scripts/lab/lab.js";
import type { Contender } from "./contenders.js";
import { reach, startPortal } from "./product.js";

/** A tunnel that carries packets. */
export interface Tunnel {
  readonly name: string;
  readonly client: LabHost;
  /** Where the iperf3 server is reached through the tunnel. */
  readonly ipv4: string;
  readonly ipv6: string;
  /** Processes of the tunnel at either end. */
  readonly processes: {
    readonly client: readonly number[];
    readonly server: readonly number[];
    /** What is between the ends, if anything. */
    readonly relay?: readonly number[];
  };
  /** Where the server takes handshake initiations, and for which public key (base64). */
  readonly handshakes?: { readonly address: string; readonly port: string; readonly publicKey: string };
}

const OUTER = { client: "192.0.2.1", server: "192.0.2.2" } as const;
const INNER = {
  client: { ipv4: "10.99.0.1", ipv6: "fd99::1" },
  server: { ipv4: "10.99.0.2", ipv6: "fd99::2" },
} as const;

/** No tunnel at all. */
export function bareTunnel(lab: Lab): Tunnel {
  const [client, server] = hosts(lab, "bare veth");
  const addresses = { ipv4: OUTER.server, ipv6: "2001:db8::2" };
  startIperfServers(server, addresses);
  return { name: "bare veth", client, ...addresses, processes: { client: [], server: [] } };
}

/** Port that WireGuard listens on, both ends. */
const LISTEN_PORT = "51820";

/** Two ends of a WireGuard program, configured by wg(8). @param index distinguishes the contenders. */
export async function wireguardTunnel(lab: Lab, contender: Contender, index: number, mtu: number): Promise<Tunnel> {
  const [client, server] = hosts(lab, contender.name);
  // The configuration socket is named after the interface, in a folder that all namespaces share.
  const ends = [
    { host: client, device: `wlb${index}c`, outer: OUTER.server, inner: INNER.client, peer: INNER.server },
    { host: server, device: `wlb${index}s`, outer: OUTER.client, inner: INNER.server, peer: INNER.client },
  ] as const;
  const keys = await Promise.all(
    ends.map(async ({ host }) => {
      const privateKey = (await host.run("wg", ["genkey"])).stdout.trim();
      return { privateKey, publicKey: (await host.run("wg", ["pubkey"], { input: `${privateKey}\n` })).stdout.trim() };
    }),
  );
  const pids: number[] = [];
  for (const [end, { host, device, outer, inner, peer }] of ends.entries()) {
    pids.push(await contender.start(host, device));
    const configuration = `[Interface]\nPrivateKey = ${keys[end]?.privateKey}\nListenPort = ${LISTEN_PORT}\n
[Peer]\nPublicKey = ${keys[1 - end]?.publicKey}\nEndpoint = ${outer}:${LISTEN_PORT}\nAllowedIPs = ${peer.ipv4}/32, ${peer.ipv6}/128\n`;
    await configure(host, device, configuration);
    host.configure(device, { addresses: [`${inner.ipv4}/24`, `${inner.ipv6}/64`], mtu });
  }
  startIperfServers(server, INNER.server);
  const [clientPid = 0, serverPid = 0] = pids;
  return {
    name: contender.name,
    client,
    ...INNER.server,
    processes: { client: [clientPid], server: [serverPid] },
    handshakes: { address: OUTER.server, port: LISTEN_PORT, publicKey: keys[1]?.publicKey ?? "" },
  };
}

/** What the product is called among the contenders. */
export const PRODUCT_NAME = "wirelane client, gateway";

/**
 * Client and gateway with the portal.
 *
 * @param directory where their files and logs go.
 * @param node Node binary that runs them.
 */
export async function productTunnel(lab: Lab, directory: string, node: string | undefined): Promise<Tunnel> {
  const name = PRODUCT_NAME;
  const [client, server] = hosts(lab, name);
  server.configure("lo", { addresses: [`${INNER.server.ipv4}/32`, `${INNER.server.ipv6}/128`] });
  const product = startPortal({ host: server, address: OUTER.server, resources: INNER.server, directory, node });
  const gateway = product.startGateway(server);
  const device = product.startClient(client);
  startIperfServers(server, INNER.server);
  await reach(client, INNER.server.ipv4, () => [gateway.tail, device.tail].join("\n"));
  return { name, client, ...INNER.server, processes: { client: [device.pid], server: [gateway.pid] } };
}

function hosts(lab: Lab, name: string): [LabHost, LabHost] {
  const [client, server] = [lab.host(`${name}: client`), lab.host(`${name}: server`)];
  lab.connect(client, server, {
    ipv4: [`${OUTER.client}/24`, `${OUTER.server}/24`],
    ipv6: ["2001:db8::1/64", "2001:db8::2/64"],
  });
  return [client, server];
}

/** A file and not a pipe: wg(8) opens its standard input by name, which does not work for what Node calls a pipe. */
async function configure(host: LabHost, device: string, configuration: string): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "wirelane-bench-"));
  try {
    const file = join(folder, "device.conf");
    writeFileSync(file, configuration, { mode: 0o600 });
    await host.run("wg", ["setconf", device, file]);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Bound to its addresses: over UDP it would answer from whichever address the kernel prefers. */
export function startIperfServers(host: LabHost, addresses: { readonly ipv4: string; readonly ipv6?: string }): void {
  for (const address of Object.values(addresses)) {
    host.spawn("iperf3", ["--server", "--bind", address], { stdio: "ignore" });
  }
}
