// The portal's sockets: HTTP with `/healthz`, WebSockets for the roles, and the timers of expiring tokens.

import { createServer, type IncomingMessage, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import type { Duplex } from "node:stream";
import { type WebSocket, WebSocketServer } from "ws";
import { type Duration, SECOND } from "../../base/time.js";
import type { Configuration } from "./configuration.js";
import type { PortalState, Session } from "./state.js";

/** Silence after which a socket is closed (spec 01, section 5.4): the heartbeats of its role must beat it. */
const IDLE_TIMEOUT: Readonly<Record<Session["role"], Duration>> = {
  client: 307 * SECOND,
  gateway: 37 * SECOND,
  relay: 41 * SECOND,
};

/** Largest frame accepted, bytes. */
const MAX_FRAME = 1024 * 1024;
/** Sockets at most. */
const MAX_SOCKETS = 10_000;
/** Longest time a timer is set for: Node's timers hold 31 bits. */
const MAX_TIMER: Duration = 2 ** 31 - 1;

/** What happens, for the log. */
export type PortalLogEvent =
  | { readonly type: "connected" | "disconnected" | "expired"; readonly session: Session }
  | { readonly type: "refused"; readonly role: string; readonly status: number; readonly text: string };

/** A running portal. */
export class PortalServer {
  readonly #state: PortalState;
  readonly #log: (event: PortalLogEvent) => void;
  readonly #http: Server;
  readonly #webSockets = new WebSocketServer({ noServer: true, maxPayload: MAX_FRAME, perMessageDeflate: false });
  readonly #sockets = new Map<Session, WebSocket>();
  readonly #timers = new Map<Session, NodeJS.Timeout>();

  constructor(state: PortalState, log: (event: PortalLogEvent) => void) {
    this.#state = state;
    this.#log = log;
    this.#http = createServer((request, response) => {
      if (request.method === "GET" && request.url === "/healthz") {
        response.writeHead(200, { "content-type": "application/json" }).end('{"status":"ok"}');
        return;
      }
      response.writeHead(404).end();
    });
    this.#http.on("upgrade", (request, socket, head) => this.#upgrade(request, socket, head));
  }

  /** Listens; resolves with the address. Rejects when the port is taken. */
  listen(host: string, port: number): Promise<AddressInfo> {
    return new Promise((resolve, reject) => {
      this.#http.once("error", reject);
      this.#http.listen({ host, port }, () => {
        this.#http.off("error", reject);
        resolve(this.#http.address() as AddressInfo);
      });
    });
  }

  /** Puts another configuration in force and pushes the difference. */
  setConfiguration(configuration: Configuration): void {
    this.#state.setConfiguration(configuration, Date.now());
    this.#drain();
  }

  /** Closes all sockets. */
  async stop(): Promise<void> {
    for (const timer of this.#timers.values()) clearTimeout(timer);
    for (const socket of this.#sockets.values()) socket.terminate();
    await new Promise<void>((resolve) => this.#http.close(() => resolve()));
  }

  #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    const url = new URL(request.url ?? "/", "http://portal");
    const role = /^\/(client|gateway|relay)\/websocket$/.exec(url.pathname)?.[1] as Session["role"] | undefined;
    if (role === undefined || this.#sockets.size >= MAX_SOCKETS) {
      refuse(socket, role === undefined ? 404 : 503, role === undefined ? "Not found" : "Too many sockets");
      return;
    }
    const query = (name: string) => url.searchParams.get(name) ?? undefined;
    const result = this.#state.login(
      role,
      {
        token: query("token"),
        externalId: query("external_id"),
        publicKey: query("public_key"),
        remoteIp: (request.socket.remoteAddress ?? "0.0.0.0").replace(/^::ffff:/, ""),
      },
      Date.now(),
    );
    if (result.type === "refused") {
      this.#log({ type: "refused", role, status: result.status, text: result.text });
      refuse(socket, result.status, result.text);
      return;
    }
    this.#webSockets.handleUpgrade(request, socket, head, (webSocket) => this.#accept(webSocket, result.session));
  }

  #accept(socket: WebSocket, session: Session): void {
    this.#sockets.set(session, socket);
    this.#log({ type: "connected", session });
    let idle: NodeJS.Timeout | undefined;
    const touch = () => {
      clearTimeout(idle);
      idle = setTimeout(() => socket.terminate(), IDLE_TIMEOUT[session.role]);
    };
    touch();
    this.#scheduleExpiry(session);
    socket.on("message", (data) => {
      touch();
      this.#state.handleText(session, data.toString());
      this.#drain();
    });
    // The close event follows.
    socket.on("error", () => socket.terminate());
    socket.on("close", () => {
      clearTimeout(idle);
      clearTimeout(this.#timers.get(session));
      this.#timers.delete(session);
      this.#sockets.delete(session);
      this.#state.disconnected(session);
      this.#log({ type: "disconnected", session });
      this.#drain();
    });
  }

  #scheduleExpiry(session: Session): void {
    if (session.expiresAt === undefined) return;
    const left = session.expiresAt - Date.now();
    if (left <= 0) {
      this.#log({ type: "expired", session });
      this.#state.expire(session);
      this.#drain();
      return;
    }
    this.#timers.set(
      session,
      setTimeout(() => this.#scheduleExpiry(session), Math.min(left, MAX_TIMER)),
    );
  }

  #drain(): void {
    for (let output = this.#state.pollOutput(); output !== undefined; output = this.#state.pollOutput()) {
      const socket = this.#sockets.get(output.session);
      if (output.type === "send") socket?.send(output.text);
      else socket?.close();
    }
  }
}

const STATUS_TEXTS: Readonly<Record<number, string>> = {
  401: "Unauthorized",
  404: "Not Found",
  422: "Unprocessable Entity",
  503: "Service Unavailable",
};

function refuse(socket: Duplex, status: number, text: string): void {
  socket.on("error", () => socket.destroy());
  const headers = `Content-Type: text/plain\r\nContent-Length: ${Buffer.byteLength(text)}\r\nConnection: close\r\n`;
  socket.end(`HTTP/1.1 ${status} ${STATUS_TEXTS[status] ?? "Error"}\r\n${headers}\r\n${text}`);
}
