// A program's connection to the portal: the channel's state machine with its socket and its clock.

import { lookup } from "node:dns/promises";
import type { Socket } from "node:net";
import { IpAddress } from "../../base/address.js";
import type { Duration } from "../../base/time.js";
import type { Role } from "../../portal/login-url.js";
import { type ChannelEvent, PhoenixChannel } from "../../portal/phoenix-channel.js";
import { PortalSocket } from "../../portal/websocket.js";
import { monotonicNow } from "../../system/clock.js";
import { systemRandom } from "../../system/crypto.js";
import { connectMarked } from "../../system/linux/marked-socket.js";

/** Events for the program: everything that the connection does not settle itself. */
export type PortalEvent = Exclude<ChannelEvent, { type: "connect" | "disconnect" | "send" }>;

/** What to connect to. */
export interface PortalConnectionOptions {
  /** With token: never logged. */
  readonly url: URL;
  readonly userAgent: string;
  readonly topic: Role;
  /** What the portal is told when the channel is joined; absent: nothing. */
  readonly joinPayload?: unknown;
  /** Mark of the TCP socket; absent: none. */
  readonly mark: number | undefined;
  /** Give up after failing for this long; absent: never. */
  readonly maxPartitionTime?: Duration | undefined;
  readonly onEvent: (event: PortalEvent) => void;
}

/** The portal's host name cannot be resolved. */
export class PortalHostError extends Error {
  override readonly name = "PortalHostError";
}

/** A connection that comes back until it fails for good. */
export class PortalConnection {
  readonly #options: PortalConnectionOptions;
  readonly #channel: PhoenixChannel;
  #addresses: readonly IpAddress[];
  /** Which address the next attempt uses: they take turns. */
  #attempt = 0;
  #socket: PortalSocket | undefined;
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;

  private constructor(options: PortalConnectionOptions, addresses: readonly IpAddress[]) {
    this.#options = options;
    this.#addresses = addresses;
    this.#channel = new PhoenixChannel(
      {
        topic: options.topic,
        joinPayload: options.joinPayload ?? null,
        random: systemRandom,
        maxPartitionTime: options.maxPartitionTime,
      },
      monotonicNow(),
    );
  }

  /** Resolves the portal's host once and starts connecting. @throws PortalHostError when it does not resolve. */
  static async start(options: PortalConnectionOptions): Promise<PortalConnection> {
    const addresses = await resolveHost(options.url);
    const connection = new PortalConnection(options, addresses);
    connection.#drain();
    return connection;
  }

  /** Sends a message; returns the ref that a reply carries. */
  send(message: { readonly event: string; readonly payload: unknown }): number {
    const ref = this.#channel.send(message.event, message.payload);
    this.#drain();
    return ref;
  }

  /** Connects anew at once: the network has changed. */
  reconnect(): void {
    this.#channel.reconnect(monotonicNow());
    this.#drain();
  }

  /** Ends the connection in good order. */
  close(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
    this.#socket?.close();
  }

  #drain(): void {
    if (this.#stopped) return;
    // What an event handler sends is drained by the call that it makes; the loop then finds nothing more.
    for (let event = this.#channel.pollEvent(); event !== undefined; event = this.#channel.pollEvent()) {
      switch (event.type) {
        case "connect":
          this.#connect();
          break;
        case "disconnect":
          this.#socket?.abandon();
          this.#socket = undefined;
          break;
        case "send":
          this.#socket?.send(event.text);
          break;
        default:
          this.#options.onEvent(event);
      }
      if (this.#stopped) return;
    }
    this.#schedule();
  }

  #schedule(): void {
    clearTimeout(this.#timer);
    const deadline = this.#channel.pollTimeout();
    if (deadline === undefined) return;
    const delay = Math.max(0, Math.ceil(deadline - monotonicNow()));
    this.#timer = setTimeout(() => {
      this.#channel.handleTimeout(monotonicNow());
      this.#drain();
    }, delay);
  }

  #connect(): void {
    const { url, userAgent, mark } = this.#options;
    const input = (feed: (now: number) => void) => {
      feed(monotonicNow());
      this.#drain();
    };
    this.#socket = new PortalSocket(
      url,
      { userAgent, createConnection: ({ port }) => this.#openTcp(port, mark) },
      {
        opened: () => input((now) => this.#channel.handleOpened(now)),
        failed: (failure) => {
          // The name may lead elsewhere by now; the answer is used by the attempt after the next.
          this.#attempt++;
          this.#resolveAgain();
          input((now) => this.#channel.handleFailure(failure, now));
        },
        text: (text) => input((now) => this.#channel.handleText(text, now)),
        closed: (reason) => input((now) => this.#channel.handleClosed(reason, now)),
      },
    );
  }

  #openTcp(port: number, mark: number | undefined): Socket {
    const address = this.#addresses[this.#attempt % this.#addresses.length];
    if (address === undefined) throw new Error("a portal without addresses");
    return connectMarked(address, port, mark);
  }

  #resolveAgain(): void {
    resolveHost(this.#options.url).then(
      (addresses) => {
        this.#addresses = addresses;
      },
      (error: unknown) => {
        // Known addresses stay in use: name resolution may be what is broken.
        if (!(error instanceof PortalHostError)) throw error;
      },
    );
  }
}

/** The addresses of a URL's host; literal addresses are not looked up. @throws PortalHostError */
async function resolveHost(url: URL): Promise<IpAddress[]> {
  const host = url.hostname.replace(/^\[|\]$/g, "");
  const literal = IpAddress.parse(host);
  if (literal !== undefined) return [literal];
  try {
    const found = await lookup(host, { all: true, verbatim: true });
    return found.map(({ address }) => IpAddress.parse(address)).filter((address) => address !== undefined);
  } catch (error) {
    const code = error instanceof Error && "code" in error ? String(error.code) : String(error);
    throw new PortalHostError(`the portal's host name "${host}" cannot be resolved (${code})`, { cause: error });
  }
}
