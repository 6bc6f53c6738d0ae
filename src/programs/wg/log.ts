// The log of a WireGuard device: JSON lines on standard error. What names peers or addresses is for debugging only.

import { type Logger, pino } from "pino";
import type { DeviceEvent, PeerName } from "../../wireguard/device-events.js";

/** What is logged, from nothing to everything. `LOG_LEVEL` of all userspace WireGuard programs. */
export type LogLevel = "silent" | "error" | "verbose";

/** The level that a `LOG_LEVEL` variable asks for; errors only when it is absent or unknown. */
export function logLevel(text: string | undefined): LogLevel {
  switch (text) {
    case "verbose":
    case "debug":
      return "verbose";
    case "silent":
      return "silent";
    default:
      return "error";
  }
}

/** Standard error. */
const STDERR = 2;

/** The log. */
export class DeviceLog {
  readonly #logger: Logger;

  constructor(level: LogLevel, interfaceName: string) {
    const base = { interface: interfaceName };
    this.#logger = pino(
      { level: level === "verbose" ? "debug" : level, base },
      pino.destination({ dest: STDERR, sync: true }),
    );
  }

  error(message: string, error: unknown): void {
    this.#logger.error({ err: error }, message);
  }

  warn(message: string): void {
    this.#logger.warn(message);
  }

  info(message: string): void {
    this.#logger.info(message);
  }

  /** Logs what is news in an event. */
  deviceEvent(event: DeviceEvent): void {
    if (!this.#logger.isLevelEnabled("debug")) return;
    switch (event.type) {
      case "handshake-initiated":
        this.#logger.debug({ peer: peerLabel(event.connection), attempt: event.attempt }, "sent handshake initiation");
        return;
      case "handshake-complete":
        this.#logger.debug({ peer: peerLabel(event.connection), role: event.role }, "handshake complete");
        return;
      case "handshake-refused":
        this.#logger.debug({ from: event.from.toString(), reason: event.error }, "handshake message refused");
        return;
      case "endpoint-changed":
        this.#logger.debug(
          { peer: peerLabel(event.connection), endpoint: event.remote.toString() },
          "endpoint changed",
        );
        return;
      case "peer-expired":
        this.#logger.debug({ peer: peerLabel(event.connection), reason: event.reason }, "peer expired");
        return;
      case "connection-added":
      case "connection-removed":
      case "session-established":
      case "session-current":
      case "session-removed":
      case "path-selected":
      case "route-set":
      case "route-removed":
        this.#logger.debug({ ...("connection" in event && { peer: peerLabel(event.connection) }) }, event.type);
        return;
      case "send-keepalive":
      case "send-packet":
        return;
    }
  }
}

/** A peer as its users know it: the ends of its public key in base64. */
function peerLabel(name: PeerName): string {
  const base64 = Buffer.from(name, "hex").toString("base64");
  return `${base64.slice(0, 4)}…${base64.slice(39, 43)}`;
}
