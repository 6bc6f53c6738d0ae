// Every NAT against every other, by both families: who gets a direct connection, and who a relay.

import type { NatWorld } from "../../scripts/lab/nat-world.js";
import type { NetworkPlan } from "../../scripts/lab/network.js";
import type { PathKind } from "../../scripts/lab/path-kind.js";
import type { ScenarioLab } from "./scenario.js";

const KINDS = ["open", "port-restricted", "symmetric", "double"] as const;
type Kind = (typeof KINDS)[number];

/** Time to settle on a direct path after the first reply, time in which none may be found where none should be, and for the first reply: ms. */
const SETTLE = 5000;
const STAY = 500;
const REPLY = 15_000;

/**
 * The best way between two networks. A symmetric NAT has another port for each peer: nobody can be told in advance, and a NAT that lets
 * in only whom it knows lets in neither. By IPv6 there are only firewalls, which both sides open.
 */
export function bestPath(client: Kind, gateway: Kind, family: "ipv4" | "ipv6"): PathKind {
  if (family === "ipv6" || client === "open" || gateway === "open") return "direct";
  return client === "symmetric" || gateway === "symmetric" ? "relayed" : "direct";
}

/** Runs all cells of a family, notes the matrix, and fails if a cell is not connected or not directly although it could be. */
export async function matrix(lab: ScenarioLab, family: "ipv4" | "ipv6"): Promise<void> {
  const plans = KINDS.map((nat): NetworkPlan => ({ nat, families: family }));
  // Networks 1 to 4 are the client's, 5 to 8 the gateway's.
  const [client = {}, second = {}, ...rest] = [...plans, ...plans];
  const world = await lab.world({ client, gateway: second, others: rest });
  if (family === "ipv6" && !world.internet.ipv6) {
    lab.note("no IPv6 here");
    return;
  }
  await lab.step("portal and relays", () => world.startServers());
  const failures: string[] = [];
  const rows: string[] = [];
  for (const [i, kind] of KINDS.entries()) {
    const cells: string[] = [];
    for (const [j, other] of KINDS.entries()) {
      const name = `${kind} × ${other}`;
      const best = bestPath(kind, other, family);
      const found = await lab.step(name, () => cell(world, i, KINDS.length + j, best));
      if (found.path !== best) failures.push(`${name}: ${found.path ?? "not connected"} instead of ${best}`);
      cells.push(`${found.path ?? "none"} ${found.milliseconds.toFixed(0)} ms`.padEnd(18));
    }
    rows.push(`${kind.padEnd(16)} ${cells.join(" ")}`);
  }
  lab.note(`${family}, client \\ gateway`);
  lab.note(`${"".padEnd(16)} ${KINDS.map((kind) => kind.padEnd(18)).join(" ")}`);
  for (const row of rows) lab.note(row);
  lab.expect(failures.length === 0, failures.join("\n"));
}

/** One cell: cold programs in these networks. Time until the first reply, and the path after a while. */
async function cell(
  world: NatWorld,
  client: number,
  gateway: number,
  best: PathKind,
): Promise<{ readonly path: PathKind | undefined; readonly milliseconds: number }> {
  const [clientNetwork, gatewayNetwork] = [world.networks[client], world.networks[gateway]];
  if (clientNetwork === undefined || gatewayNetwork === undefined) throw new Error("there is no such network");
  await Promise.all([world.client?.stop("SIGKILL"), world.gateway?.stop("SIGKILL")]);
  world.moveClient(clientNetwork);
  world.moveGateway(gatewayNetwork);
  await Promise.all([world.startGateway(), world.startClient()]);
  const start = performance.now();
  // The first packet waits for its connection; should it be lost, another one says when there is one.
  if (world.traffic.ping(REPLY / 2) === undefined && world.traffic.ping(REPLY / 2) === undefined)
    return { path: undefined, milliseconds: performance.now() - start };
  const milliseconds = performance.now() - start;
  try {
    await world.waitForPath("direct", best === "direct" ? SETTLE : STAY);
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    // Relayed for good, as it seems.
    return { path: world.path(), milliseconds };
  }
  return { path: "direct", milliseconds };
}
