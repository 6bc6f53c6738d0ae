// Which of a resource's gateways a client is sent to (spec 01, section 11.6).

import { type Random, randomBelow } from "../../base/random.js";
import type { ConfiguredResource } from "./configuration.js";
import { groupByDistance } from "./geography.js";
import { renderForGateway } from "./rendering.js";
import type { Session } from "./session.js";
import { compareVersions, isCompatible } from "./versions.js";

/** Whether client, gateway and resource go together (spec 01, sections 11.5 and 11.6). */
export function isUsable(client: Session, gateway: Session, resource: ConfiguredResource): boolean {
  return isCompatible(client.version, gateway.version) && renderForGateway(resource, gateway.version).length > 0;
}

/**
 * The first of those that the client is connected to; else, of those at the nearest place, one of the newest. Without the client's
 * location any.
 *
 * @param connected ids, in the client's order.
 */
export function selectGateway(
  candidates: readonly Session[],
  client: Session,
  connected: readonly string[],
  random: Random,
): Session | undefined {
  for (const id of connected) {
    const gateway = candidates.find((candidate) => candidate.id === id);
    if (gateway !== undefined) return gateway;
  }
  const best =
    client.location === undefined ? candidates : newest(groupByDistance(candidates, client.location)[0] ?? []);
  return best.length === 0 ? undefined : best[randomBelow(random, best.length)];
}

/** Those with the greatest version; all, if none has a version. */
function newest(gateways: readonly Session[]): readonly Session[] {
  const greatest = gateways
    .flatMap(({ version }) => version ?? [])
    .sort(compareVersions)
    .at(-1);
  if (greatest === undefined) return gateways;
  return gateways.filter(({ version }) => version !== undefined && compareVersions(version, greatest) === 0);
}
