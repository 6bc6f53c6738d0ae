// The portal's sockets: HTTP with `/healthz`, WebSockets for the roles, and the timers of silence, expiring tokens and relays.

import { createServer, type IncomingHttpHeaders, type IncomingMessage, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import type { Duplex } from "node:stream";
import { WebSocket, WebSocketServer } from "ws";
import { IpAddress } from "../../base/address.js";
import { type Duration, SECOND } from "../../base/time.js";
import type { Configuration } from "./configuration.js";
import { parseCoordinates } from "./geography.js";
import { type ConfigurationChanges, type PortalState, RELAY_QUIET_TIME, type Session } from "./state.js";

/** Silence after which a socket is closed (spec 01, section 5.4): the heartbeats of its role must beat it. */
const IDLE_TIMEOUT: Readonly<Record<Session["role"], Duration>> = {
  client: 307 * SECOND,
  gateway: 37 * SECOND,
  relay: 41 * SECOND,
};

/** Longest time a timer is set for: Node's timers hold 31 bits. */
const MAX_TIMER: Duration = 2 ** 31 - 1;
/** Time for the head of a request. */
const HEADERS_TIMEOUT: Duration = 10 * SECOND;
/** Time for programs to close their sockets when the portal stops. */
const STOP_TIMEOUT: Duration = 500;
/** WebSocket close code: the server goes away (RFC 6455, section 7.4.1). */
const GOING_AWAY = 1001;

/** Connections beyond the limit that are told so; further ones are closed. */
const SPARE_CONNECTIONS = 100;
/** What request targets are relative to; only path and query count. */
const BASE = "http://portal";

/** Bounds of a server; each has a default. */
export interface PortalLimits {
  /** Sockets at most, signed in or about to. */
  readonly maxSockets: number;
  /** Largest frame accepted, bytes. */
  readonly maxFrame: number;
  /** Most that waits to be sent to one program, bytes. Who does not read is disconnected. */
  readonly maxBuffered: number;
  /** Silence after which a socket is closed. */
  readonly idleTimeout: Readonly<Record<Session["role"], Duration>>;
  /** How long a relay may be away before others hear of it. */
  readonly relayQuietTime: Duration;
}

const DEFAULT_LIMITS: PortalLimits = {
  maxSockets: 10_000,
  maxFrame: 1024 * 1024,
  maxBuffered: 16 * 1024 * 1024,
  idleTimeout: IDLE_TIMEOUT,
  relayQuietTime: RELAY_QUIET_TIME,
};

/** What happens, for the log. No tokens. */
export type PortalLogEvent =
  | { readonly type: "connected" | "disconnected" | "expired"; readonly session: Session }
  /** Closed by the portal for its behaviour. */
  | { readonly type: "dropped"; readonly session: Session; readonly reason: string }
  | { readonly type: "refused"; readonly role: string; readonly status: number; readonly text: string };

/** A running portal. */
export class PortalServer {
  readonly #state: PortalState;
  readonly #log: (event: PortalLogEvent) => void;
  readonly #limits: PortalLimits;
  readonly #http: Server;
  readonly #webSockets: WebSocketServer;
  readonly #sockets = new Map<Session, WebSocket>();
  readonly #expiryTimers = new Map<Session, NodeJS.Timeout>();
  #relaysRevision = 0;
  #relayTimer: NodeJS.Timeout | undefined;

  constructor(state: PortalState, log: (event: PortalLogEvent) => void, limits: Partial<PortalLimits> = {}) {
    this.#state = state;
    this.#log = log;
    this.#limits = { ...DEFAULT_LIMITS, ...limits };
    this.#webSockets = new WebSocketServer({
      noServer: true,
      maxPayload: this.#limits.maxFrame,
      perMessageDeflate: false,
    });
    this.#http = createServer({ headersTimeout: HEADERS_TIMEOUT }, (request, response) => {
      if (request.method === "GET" && request.url === "/healthz") {
        response.writeHead(200, { "content-type": "application/json" }).end('{"status":"ok"}');
        return;
      }
      response.writeHead(404).end();
    });
    this.#http.maxConnections = this.#limits.maxSockets + SPARE_CONNECTIONS;
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
  setConfiguration(configuration: Configuration): ConfigurationChanges {
    const changes = this.#state.setConfiguration(configuration, Date.now());
    this.#drain();
    return changes;
  }

  /** Closes all sockets. */
  async stop(): Promise<void> {
    clearTimeout(this.#relayTimer);
    for (const timer of this.#expiryTimers.values()) clearTimeout(timer);
    const closed = new Promise<void>((resolve) => this.#http.close(() => resolve()));
    for (const socket of this.#sockets.values()) socket.close(GOING_AWAY);
    const forced = setTimeout(() => {
      for (const socket of this.#sockets.values()) socket.terminate();
      this.#http.closeAllConnections();
    }, STOP_TIMEOUT);
    await closed;
    clearTimeout(forced);
    clearTimeout(this.#relayTimer);
  }

  #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    // Until the WebSocket takes over, an error (a reset, say) has no other listener; the socket's end is all there is to know.
    socket.on("error", () => socket.destroy());
    const target = request.url ?? "/";
    const url = URL.canParse(target, BASE) ? new URL(target, BASE) : undefined;
    const role = /^\/(client|gateway|relay)\/websocket$/.exec(url?.pathname ?? "")?.[1] as Session["role"] | undefined;
    if (url === undefined || role === undefined) {
      refuse(socket, 404, "Not found");
      return;
    }
    const refused = (status: number, text: string) => {
      this.#log({ type: "refused", role, status, text });
      refuse(socket, status, text);
    };
    if (this.#sockets.size >= this.#limits.maxSockets) {
      refused(503, "Too many sockets");
      return;
    }
    const query = (name: string) => url.searchParams.get(name) ?? undefined;
    const result = this.#state.login(
      role,
      {
        token: query("token"),
        externalId: query("external_id"),
        publicKey: query("public_key"),
        ipv4: query("ipv4"),
        ipv6: query("ipv6"),
        port: query("port"),
        userAgent: request.headers["user-agent"] ?? "",
        ...this.#origin(request),
      },
      Date.now(),
    );
    if (result.type === "refused") {
      refused(result.status, result.text);
      return;
    }
    const { session } = result;
    let isAccepted = false;
    this.#webSockets.handleUpgrade(request, socket, head, (webSocket) => {
      isAccepted = true;
      this.#accept(webSocket, session);
    });
    // A handshake that is none: ws has answered 400 or 405.
    if (!isAccepted) this.#state.disconnected(session);
  }

  /** Where a program connects from. What a proxy says of it counts if the proxy is trusted (spec 01, section 11.1). */
  #origin({ socket, headers }: IncomingMessage): Pick<Parameters<PortalState["login"]>[1], "remoteIp" | "location"> {
    const trusted = this.#state.configuration.trusted_proxies;
    const isTrusted = (ip: IpAddress) => trusted.some((prefix) => prefix.contains(ip));
    const peer = parseIp(socket.remoteAddress ?? "");
    if (peer === undefined) return { remoteIp: "0.0.0.0" };
    if (!isTrusted(peer)) return { remoteIp: peer.toString() };
    // Each proxy appends whom it heard from: the last one that is no proxy of ours is who it is.
    const hops = headerText(headers, "x-forwarded-for").split(",").map(parseIp).reverse();
    const origin = hops.find((hop) => hop === undefined || !isTrusted(hop)) ?? peer;
    return {
      remoteIp: origin.toString(),
      location: parseCoordinates(headerText(headers, "x-geo-location-coordinates")),
    };
  }

  #accept(socket: WebSocket, session: Session): void {
    this.#sockets.set(session, socket);
    this.#log({ type: "connected", session });
    const idle = setTimeout(
      () => this.#drop(session, socket, "it has been silent"),
      this.#limits.idleTimeout[session.role],
    );
    this.#scheduleExpiry(session);
    socket.on("message", (data) => {
      idle.refresh();
      this.#state.handleText(session, data.toString());
      this.#drain();
    });
    // The close event follows.
    socket.on("error", (error) => this.#drop(session, socket, error.message));
    socket.on("close", () => {
      clearTimeout(idle);
      clearTimeout(this.#expiryTimers.get(session));
      this.#expiryTimers.delete(session);
      this.#sockets.delete(session);
      this.#state.disconnected(session);
      this.#log({ type: "disconnected", session });
      this.#drain();
    });
  }

  #drop(session: Session, socket: WebSocket, reason: string): void {
    this.#log({ type: "dropped", session, reason });
    socket.terminate();
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
    this.#expiryTimers.set(
      session,
      setTimeout(() => this.#scheduleExpiry(session), Math.min(left, MAX_TIMER)),
    );
  }

  #drain(): void {
    for (let output = this.#state.pollOutput(); output !== undefined; output = this.#state.pollOutput()) {
      const socket = this.#sockets.get(output.session);
      if (socket?.readyState !== WebSocket.OPEN) continue;
      if (output.type === "close") socket.close();
      else if (socket.bufferedAmount > this.#limits.maxBuffered)
        this.#drop(output.session, socket, "it does not read what it is sent");
      else socket.send(output.text);
    }
    if (this.#relaysRevision === this.#state.relaysRevision) return;
    this.#relaysRevision = this.#state.relaysRevision;
    clearTimeout(this.#relayTimer);
    this.#relayTimer = setTimeout(() => {
      this.#state.announceRelays();
      this.#drain();
    }, this.#limits.relayQuietTime);
  }
}

const STATUS_TEXTS: Readonly<Record<number, string>> = {
  401: "Unauthorized",
  404: "Not Found",
  422: "Unprocessable Entity",
  503: "Service Unavailable",
};

function refuse(socket: Duplex, status: number, text: string): void {
  const headers = `Content-Type: text/plain\r\nContent-Length: ${Buffer.byteLength(text)}\r\nConnection: close\r\n`;
  socket.end(`HTTP/1.1 ${status} ${STATUS_TEXTS[status] ?? "Error"}\r\n${headers}\r\n${text}`);
}

/** An address; IPv4 addresses that a dual-stack socket writes as IPv6 are IPv4. */
function parseIp(text: string): IpAddress | undefined {
  return IpAddress.parse(text.trim().replace(/^::ffff:(?=[\d.]+$)/i, ""));
}

function headerText(headers: IncomingHttpHeaders, name: string): string {
  const value = headers[name];
  return Array.isArray(value) ? value.join(",") : (value ?? "");
}
