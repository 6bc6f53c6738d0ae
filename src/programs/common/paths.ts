// What the log says of the ways that connections take: whether over a relay, of either side, above debug, the addresses only there (spec 05, section 2.3).

import type { Path } from "../../connection/events.js";
import type { TargetLog } from "./log.js";

/** A connection has found its way, or a better one. `peer` is the name of the field for the other side's id. */
export function logPath(
  log: TargetLog,
  peer: "gateway_id" | "client_id",
  { connection, path }: { readonly connection: string; readonly path: Path },
): void {
  const { local, remote, relay, remoteIsRelay } = path;
  const isDirect = relay === undefined && remoteIsRelay !== true;
  log.info("Path selected", { [peer]: connection, path: isDirect ? "direct" : "relayed" });
  const server = relay && { relay: relay.server.toString(), channel: relay.channel };
  log.debug("Addresses of the path", {
    [peer]: connection,
    local: local.toString(),
    remote: remote.toString(),
    ...server,
  });
}
