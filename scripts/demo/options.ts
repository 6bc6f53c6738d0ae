// The demo's command line.

import { parseArgs } from "node:util";

/** What was asked for. */
export interface DemoOptions {
  readonly help: boolean;
  readonly keep: boolean;
  readonly json: boolean;
  readonly seconds: number;
}

/** A command line that cannot be followed. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

export const HELP = `npm run demo -- [--keep] [--json] [--seconds N]

Builds a small internet out of network namespaces on this machine, runs wirelane's programs in it, and moves real traffic:

    client ───────────── internet ───────────── gateway ─┬─ intranet   172.20.0.10  fd20::10   policy: allowed
    192.0.2.2          203.0.113.10         198.51.100.2 ├─ second     172.22.0.10  fd22::10   policy: allowed
                      (portal, relay)                    └─ forbidden  172.21.0.10  fd21::10   no policy: denied

  1. The portal starts; it reads from a YAML file who may reach what. A relay signs in.
  2. The gateway connects to the portal and waits for clients.
  3. The client signs in. It learns which resources it may use, but no connection exists yet.
  4. A ping from the client to the intranet is the first packet. The client holds it back, tells the portal its intent, gets
     routing details, finds a path to the gateway (ICE), shakes hands (WireGuard), and sends the packet. The times that are shown
     for these steps count from the moment the ping was sent; "first byte" is its reply.
  5. 100 MB are downloaded over HTTP through the tunnel, and their SHA-256 is compared with the server's.
  6. The intranet host is pinged over IPv4 and IPv6.
  7. The network "forbidden" is right behind the same gateway, but no policy grants it: it must not be reachable.
  8. Throughput both ways, over one TCP stream. Programs, resource and measurement share this machine's processors.
  9. The networks of client and gateway stop carrying UDP between each other: the connection goes on over the relay. Then they do again: it
     becomes direct, and nothing is lost. Pings every 20 ms watch both.

Nothing of this machine's own network is touched, and everything is gone afterwards. Exit code: 0 if all steps passed, 1 if one
failed (which one and where the logs are is printed), 2 for a wrong command line, 130 after Ctrl-C.

Options:
      --keep       leave the world standing after the last step, print how to enter it, and wait for Ctrl-C; the logs stay
      --json       print one JSON document instead: steps, times, throughput (progress goes to standard error)
      --seconds N  how long to measure throughput per direction, 1 to 600 (default 3)
  -h, --help       print this

Needs Linux, Node 20 and /dev/net/tun. Root, or a kernel that lets users make user namespaces (then the demo runs itself again with
unshare, of util-linux). Without nft and iptables the gateway cannot masquerade, and the resources get a route back instead; step 9 needs nft.
RUST_LOG sets how much the programs log, as RUST_LOG=debug.
`;

/** Reads the command line. @throws UsageError */
export function parseOptions(args: readonly string[]): DemoOptions {
  try {
    const { values } = parseArgs({
      args: [...args],
      options: {
        help: { type: "boolean", short: "h", default: false },
        keep: { type: "boolean", default: false },
        json: { type: "boolean", default: false },
        seconds: { type: "string", default: "3" },
      },
    });
    const seconds = Number(values.seconds);
    if (!(seconds >= 1 && seconds <= 600)) throw new UsageError(`--seconds ${values.seconds}: a number from 1 to 600`);
    return { help: values.help, keep: values.keep, json: values.json, seconds };
  } catch (error) {
    // parseArgs names the argument that it does not know.
    if (error instanceof TypeError) throw new UsageError(error.message);
    throw error;
  }
}
