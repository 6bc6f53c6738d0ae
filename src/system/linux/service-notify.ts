// Telling the service manager how we are: the NOTIFY_SOCKET protocol (sd_notify(3); spec 05, section 6.6). One datagram of
// `NAME=value` lines to a UNIX socket, in the file system or (leading @) in the abstract name space.
//
//   struct sockaddr_un   family u16 | path, 108 bytes; abstract: a zero byte, then the name, not terminated

import { Errno, errnoText } from "./errno.js";
import {
  AF_UNIX,
  addressOf,
  allocate,
  check,
  close,
  errno,
  MSG_NOSIGNAL,
  type NativeBuffer,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  sendto,
  socket,
} from "./libc.js";

/** How a notification ended. */
export type NotifyResult =
  | { readonly type: "sent" }
  /** No service manager asked to be told. */
  | { readonly type: "unsupervised" }
  | { readonly type: "failed"; readonly reason: string };

const SUN_PATH_OFFSET = 2;
const SUN_PATH_LENGTH = 108;

/** The service manager that started this process, if one did. */
export class ServiceNotifier {
  readonly #path: string | undefined;

  /** `path`: the value of NOTIFY_SOCKET; absent: not under a service manager. */
  constructor(path: string | undefined) {
    this.#path = path === "" ? undefined : path;
  }

  /** Takes NOTIFY_SOCKET out of `environment`, so that programs started by us do not speak for us. */
  static fromEnvironment(environment: { NOTIFY_SOCKET?: string | undefined }): ServiceNotifier {
    const { NOTIFY_SOCKET } = environment;
    delete environment.NOTIFY_SOCKET;
    return new ServiceNotifier(NOTIFY_SOCKET);
  }

  /** Start-up is complete. */
  ready(): NotifyResult {
    return this.notify("READY=1");
  }

  /** Shutting down has begun. */
  stopping(): NotifyResult {
    return this.notify("STOPPING=1");
  }

  /** A line for the administrator to read. */
  status(text: string): NotifyResult {
    return this.notify(`STATUS=${text.replaceAll("\n", " ")}`);
  }

  /** Sends assignments as of sd_notify(3), separated by line feeds. */
  notify(state: string): NotifyResult {
    if (this.#path === undefined) return { type: "unsupervised" };
    const address = unixAddress(this.#path);
    if (address === undefined) return { type: "failed", reason: `NOTIFY_SOCKET=${this.#path} is no socket path` };
    const message = new TextEncoder().encode(state);
    const fd = check(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket");
    try {
      for (;;) {
        const { target, length } = address;
        if (sendto(fd, addressOf(message), message.length, MSG_NOSIGNAL, target.address, length) !== -1)
          return { type: "sent" };
        const failure = errno();
        if (failure !== Errno.EINTR)
          return { type: "failed", reason: `NOTIFY_SOCKET=${this.#path}: ${errnoText(failure)}` };
      }
    } finally {
      close(fd);
    }
  }
}

/** `struct sockaddr_un` of a path or an `@name`; `undefined` when it is neither or too long. */
export function unixAddress(path: string): { target: NativeBuffer; length: number } | undefined {
  if (!/^[/@]./.test(path)) return undefined;
  const abstract = path.startsWith("@");
  const name = new TextEncoder().encode(abstract ? `\0${path.slice(1)}` : `${path}\0`);
  if (name.length > SUN_PATH_LENGTH) return undefined;
  const target = allocate(SUN_PATH_OFFSET + SUN_PATH_LENGTH);
  target.view.setUint16(0, AF_UNIX, true);
  target.bytes.set(name, SUN_PATH_OFFSET);
  return { target, length: SUN_PATH_OFFSET + name.length };
}
