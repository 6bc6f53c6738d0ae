// The UNIX socket that wg(8) finds a userspace device by: /var/run/wireguard/<interface>.sock
// (https://www.wireguard.com/xplatform/, "Interface"). Whoever may open it may read the private key, so its mode is 0600.

import { chmodSync, type FSWatcher, mkdirSync, renameSync, statSync, unlinkSync, watch } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { basename, dirname, join } from "node:path";
import type { DeviceChange, DeviceConfiguration } from "../wireguard/configuration.js";
import { encodeConfiguration, encodeResult } from "./encoder.js";
import { ERRNO, type ErrorNumber } from "./errno.js";
import { type Request, RequestParser } from "./parser.js";

/** Where wg(8) looks for sockets. */
export const SOCKET_DIRECTORY = "/var/run/wireguard";

/** Connections at a time; wg(8) makes one and closes it. */
const MAX_CONNECTIONS = 64;

/** Characters of answers that a client may leave unread before it is cut off. */
const MAX_UNREAD = 64 * 1024 * 1024;

/** Longest wait for whoever listens on an existing socket to answer, in milliseconds. */
const PROBE_TIMEOUT = 2000;

/** The device behind the socket. */
export interface UapiHandler {
  /** The present configuration. */
  get(): DeviceConfiguration;
  /** Carries out a change; 0 or an error number. The server wipes the change's secrets afterwards. */
  set(change: DeviceChange): Promise<ErrorNumber>;
}

/** What to serve. */
export interface UapiServerOptions {
  readonly handler: UapiHandler;
  /** Path of the socket. */
  readonly path: string;
  /** The socket's file was deleted or replaced: the device is to end. Called at most once. */
  readonly onRemoved: () => void;
  /** A request failed unexpectedly; the client was told EIO. */
  readonly onError: (error: unknown) => void;
}

/** The path of the socket of an interface. */
export function socketPath(interfaceName: string): string {
  return `${SOCKET_DIRECTORY}/${interfaceName}.sock`;
}

/** A listening configuration socket. */
export class UapiServer {
  readonly #options: UapiServerOptions;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #watcher: FSWatcher | undefined;
  /** The inode of our socket. */
  #inode: number | undefined;
  /** The end of the last change: changes happen one after the other, whoever asks for them. */
  #lastChange: Promise<unknown> = Promise.resolve();

  private constructor(options: UapiServerOptions) {
    this.#options = options;
    this.#server = createServer({ allowHalfOpen: true }, (socket) => this.#accept(socket));
    this.#server.maxConnections = MAX_CONNECTIONS;
  }

  /**
   * Starts to listen. A socket that nobody listens on any more is replaced.
   *
   * @throws when somebody does listen on it, or the directory or socket cannot be made.
   */
  static async listen(options: UapiServerOptions): Promise<UapiServer> {
    mkdirSync(dirname(options.path), { recursive: true, mode: 0o755 });
    await checkUnused(options.path);
    const server = new UapiServer(options);
    try {
      await server.#listen();
    } catch (error) {
      await server.close();
      throw error;
    }
    return server;
  }

  /** Ends all connections and removes the socket. */
  async close(): Promise<void> {
    this.#watcher?.close();
    this.#watcher = undefined;
    if (this.#isOurs()) unlinkSync(this.#options.path);
    for (const socket of this.#sockets) socket.destroy();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  /**
   * Listens under another name and then gives the socket its own: wg(8) deletes sockets that refuse its connection, and between bind and
   * listen ours would; nor may anybody connect before the mode is set.
   */
  async #listen(): Promise<void> {
    const { path } = this.#options;
    const unfinished = join(dirname(path), `.${basename(path)}.${process.pid}`);
    await new Promise<void>((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(unfinished, resolve);
    });
    this.#server.on("error", this.#options.onError);
    chmodSync(unfinished, 0o600);
    renameSync(unfinished, path);
    this.#inode = statSync(path).ino;
    this.#watcher = watch(dirname(path), (_event, name) => {
      if (name !== null && name !== basename(path)) return;
      if (this.#isOurs()) return;
      this.#watcher?.close();
      this.#watcher = undefined;
      this.#options.onRemoved();
    });
    this.#watcher.on("error", this.#options.onError);
  }

  /** Whether the socket's name still leads to our socket. */
  #isOurs(): boolean {
    if (this.#inode === undefined) return false;
    return statSync(this.#options.path, { throwIfNoEntry: false })?.ino === this.#inode;
  }

  #accept(socket: Socket): void {
    const parser = new RequestParser();
    this.#sockets.add(socket);
    socket.setEncoding("latin1");
    let answers: Promise<unknown> = Promise.resolve();
    socket.on("data", (text: string) => {
      for (const request of parser.push(text)) answers = answers.then(() => this.#answer(socket, request));
    });
    // The client may close its side as soon as it has asked; it is still answered.
    socket.on("end", () => {
      answers = answers.then(() => socket.end());
    });
    socket.on("close", () => this.#sockets.delete(socket));
    socket.on("error", () => socket.destroy());
  }

  async #answer(socket: Socket, request: Request): Promise<void> {
    if (socket.writableLength > MAX_UNREAD) socket.destroy();
    if (socket.destroyed) return;
    try {
      switch (request.type) {
        case "get":
          socket.write(encodeConfiguration(this.#options.handler.get()), "latin1");
          return;
        case "set":
          socket.write(encodeResult(await this.#change(request.change)), "latin1");
          return;
        case "invalid":
          socket.write(encodeResult(request.errno), "latin1");
          if (request.fatal) socket.end();
          return;
      }
    } catch (error) {
      this.#options.onError(error);
      socket.end(encodeResult(ERRNO.EIO), "latin1");
    }
  }

  async #change(change: DeviceChange): Promise<ErrorNumber> {
    const result = this.#lastChange.then(() => this.#options.handler.set(change));
    // A failure is this request's, not the next one's.
    this.#lastChange = result.catch(() => undefined);
    try {
      return await result;
    } finally {
      change.privateKey?.fill(0);
      for (const peer of change.peers) peer.presharedKey?.fill(0);
    }
  }
}

/** Throws when somebody listens on the socket; one that its owner left behind does not matter. */
async function checkUnused(path: string): Promise<void> {
  if (statSync(path, { throwIfNoEntry: false }) === undefined) return;
  const outcome = await probe(path);
  if (outcome !== "ECONNREFUSED" && outcome !== "ENOENT")
    throw new Error(`${path} is in use by another process (${outcome})`);
}

/** Connects and hangs up; resolves to the error's code, or to "answered". */
function probe(path: string): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(path);
    const finish = (outcome: string) => {
      socket.destroy();
      resolve(outcome);
    };
    socket.setTimeout(PROBE_TIMEOUT, () => finish("timeout"));
    socket.on("connect", () => finish("answered"));
    socket.on("error", (error: NodeJS.ErrnoException) => finish(error.code ?? error.message));
  });
}
