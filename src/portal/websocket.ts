// The shell of the Phoenix channel: one WebSocket at a time (spec 01, section 3).

import type { Socket } from "node:net";
import WebSocket from "ws";
import type { Duration } from "../base/time.js";
import { SECOND } from "../base/time.js";
import type { ConnectFailure } from "./phoenix-channel.js";

/** Limit on a whole attempt: TCP, TLS and upgrade. */
const HANDSHAKE_TIMEOUT: Duration = 15 * SECOND;

/** Largest frame accepted from the portal, bytes. An `init` of ten thousand resources is about 4 MB. */
const MAX_FRAME = 16 * 1024 * 1024;

/** What becomes of a socket. `opened` or `failed` comes first, exactly once. */
export interface WebSocketHandlers {
  opened(): void;
  failed(failure: ConnectFailure): void;
  text(text: string): void;
  closed(reason: string): void;
}

/** How to open a socket. */
export interface WebSocketOptions {
  readonly userAgent: string;
  /** Makes the TCP connection (marked, so that it stays outside the tunnel); absent: Node does. */
  readonly createConnection?: ((options: { host: string; port: number }) => Socket) | undefined;
}

/** A socket to the portal. */
export class PortalSocket {
  readonly #socket: WebSocket;
  #abandoned = false;

  constructor(url: URL, options: WebSocketOptions, handlers: WebSocketHandlers) {
    const { createConnection } = options;
    this.#socket = new WebSocket(url, {
      perMessageDeflate: false,
      handshakeTimeout: HANDSHAKE_TIMEOUT,
      maxPayload: MAX_FRAME,
      // ws sends no user agent of its own.
      headers: { "user-agent": options.userAgent },
      ...(createConnection === undefined || url.protocol === "wss:"
        ? {}
        : {
            createConnection: () =>
              createConnection({ host: url.hostname.replace(/^\[|\]$/g, ""), port: Number(url.port || 80) }),
          }),
    });
    this.#listen(handlers);
  }

  /** Sends a text frame; lost when the socket is no longer open, which `closed` reports. */
  send(text: string): void {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(text);
  }

  /** Drops the socket without farewell. No handler is called any more. */
  abandon(): void {
    this.#abandoned = true;
    this.#socket.terminate();
  }

  /** Closes the socket in good order. No handler is called any more. */
  close(): void {
    this.#abandoned = true;
    this.#socket.close(1000);
  }

  #listen(handlers: WebSocketHandlers): void {
    let settled = false;
    const fail = (failure: ConnectFailure) => {
      if (settled || this.#abandoned) return;
      settled = true;
      handlers.failed(failure);
    };
    this.#socket.on("open", () => {
      if (this.#abandoned) return;
      settled = true;
      handlers.opened();
    });
    this.#socket.on("unexpected-response", (request, response) => {
      const retryAfter = Number(response.headers["retry-after"]);
      fail({
        type: "http",
        status: response.statusCode ?? 0,
        ...(Number.isFinite(retryAfter) ? { retryAfter: retryAfter * SECOND } : {}),
      });
      request.destroy();
    });
    this.#socket.on("error", (error) => fail({ type: "transport", reason: error.message }));
    this.#socket.on("message", (data) => {
      if (!this.#abandoned) handlers.text(data.toString());
    });
    this.#socket.on("close", (code) => {
      if (this.#abandoned) return;
      if (settled) handlers.closed(`the portal's socket closed (${code})`);
      else fail({ type: "transport", reason: `the portal's socket closed (${code})` });
    });
  }
}
