// The health endpoint of a gateway (spec 05, section 9.2): `GET /healthz` is answered with 200 as long as the event loop turns.

import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { SocketAddress } from "../../base/address.js";

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

  /** Listens on `address:port`. @throws HealthEndpointError when the text is no address or the port is taken. */
  static async listen(address: string): Promise<HealthEndpoint> {
    const parsed = SocketAddress.parse(address);
    if (parsed === undefined)
      throw new HealthEndpointError(`"${address}" is not an address with port, as 0.0.0.0:8080`);
    const server = createServer((request, response) => {
      const status = request.url !== "/healthz" ? 404 : request.method === "GET" ? 200 : 405;
      response.writeHead(status).end();
    });
    await new Promise<void>((resolve, reject) => {
      server.once("error", (error) => {
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
