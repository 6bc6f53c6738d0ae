// The health endpoint of gateways and relays (spec 05, section 9.2; spec 03, section 4.6): `GET /healthz` is answered with 200 and nothing as
// long as the event loop turns, `GET /readyz` with 200 or 503 where a program has an opinion on that; other paths with 404, other
// methods with 405.

import { createServer, type IncomingMessage, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { SocketAddress } from "../../base/address.js";

/** Most probes at once; more are turned away. */
const MAX_CONNECTIONS = 64;
/** How long a probe may take to send its request (milliseconds). */
const REQUEST_TIMEOUT = 5000;
const TIMEOUTS = { requestTimeout: REQUEST_TIMEOUT, connectionsCheckingInterval: REQUEST_TIMEOUT };

/** The endpoint cannot be opened. */
export class HealthEndpointError extends Error {
  override readonly name = "HealthEndpointError";
}

/** A listening endpoint. */
export class HealthEndpoint {
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
  }

  /**
   * Listens on `address:port`.
   *
   * @param isReady what `/readyz` asks; absent: that path does not exist.
   * @throws HealthEndpointError when the text is no address or the port is taken.
   */
  static async listen(address: string, isReady?: () => boolean): Promise<HealthEndpoint> {
    const parsed = SocketAddress.parse(address);
    if (parsed === undefined)
      throw new HealthEndpointError(`"${address}" is not an address with port, as 0.0.0.0:8080`);
    const server = createServer(TIMEOUTS, (request, response) => {
      response.writeHead(statusOf(request, isReady), { Connection: "close" }).end();
    });
    server.maxConnections = MAX_CONNECTIONS;
    await new Promise<void>((resolve, reject) => {
      // It stays: an error after this moment concerns one probe, and that one sees it.
      server.on("error", (error) => {
        reject(new HealthEndpointError(`cannot listen on ${address}: ${error.message}`, { cause: error }));
      });
      server.listen({ host: parsed.ip.toString(), port: parsed.port }, resolve);
    });
    return new HealthEndpoint(server);
  }

  /** The port that it listens on. */
  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Closes it, with all connections. */
  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#server.closeAllConnections();
    await closed;
  }
}

function statusOf({ url = "", method }: IncomingMessage, isReady: (() => boolean) | undefined): number {
  const path = url.replace(/\?.*$/, "");
  const isKnown = path === "/healthz" || (path === "/readyz" && isReady !== undefined);
  if (!isKnown) return 404;
  if (method !== "GET" && method !== "HEAD") return 405;
  return path === "/readyz" && isReady?.() === false ? 503 : 200;
}
