// Network namespaces (network_namespaces(7)) as objects, for labs and tests: each has interfaces, addresses, routes, rules and
// firewall of its own. A namespace lives as long as something refers to it, here an open file descriptor: when this process ends,
// however it ends, its namespaces vanish with all interfaces in them, unless programs still run inside.

import { CLONE_NEWNET, check, close, O_CLOEXEC, O_RDONLY, open, setns, unshare } from "./libc.js";
import { changeLink, getLink } from "./rtnetlink/links.js";
import { NetlinkSocket } from "./rtnetlink/netlink.js";

/** Where a thread finds its own network namespace. */
const OWN_NAMESPACE = "/proc/thread-self/ns/net";

/** A network namespace held open by this process. */
export class NetworkNamespace {
  /** Names the namespace in requests (`LinkChanges.namespace`). */
  readonly fd: number;
  #open = true;

  private constructor(fd: number) {
    this.fd = fd;
  }

  /**
   * Creates an empty namespace; its loopback interface is up.
   *
   * @throws SystemCallError EPERM without CAP_SYS_ADMIN in the user namespace that owns the current network namespace.
   */
  static create(): NetworkNamespace {
    const namespace = new NetworkNamespace(
      away(() => {
        check(unshare(CLONE_NEWNET), "creating a network namespace", CREATE_ADVICE);
        return openNamespace(OWN_NAMESPACE);
      }),
    );
    try {
      const netlink = namespace.netlink();
      changeLink(netlink, getLink(netlink, "lo").index, { up: true });
      netlink.close();
    } catch (error) {
      namespace.close();
      throw error;
    }
    return namespace;
  }

  /** An existing namespace by a path, as `/proc/4711/ns/net` or `/run/netns/name`. */
  static open(path: string): NetworkNamespace {
    return new NetworkNamespace(openNamespace(path));
  }

  /** A path to this namespace for other programs, as in `nsenter --net=PATH ip address`; valid while this process lives. */
  get path(): string {
    return `/proc/${process.pid}/fd/${this.fd}`;
  }

  /**
   * Calls `action` with this thread inside. Sockets and devices that it opens and programs that it starts (`spawn`, `spawnSync`)
   * stay there; /proc/sys/net is the namespace's. `action` must be synchronous, and must not use what Node does on other
   * threads (files by promise or callback, name lookup): these stay outside.
   */
  enter<T>(action: () => T): T {
    return away(() => {
      check(setns(this.fd, CLONE_NEWNET), "entering a network namespace", CREATE_ADVICE);
      const result = action();
      if (result instanceof Promise) throw new Error("what runs inside a network namespace must not be asynchronous");
      return result;
    });
  }

  /** A connection to the routing subsystem of this namespace. The caller closes it. */
  netlink(): NetlinkSocket {
    return this.enter(() => NetlinkSocket.open());
  }

  /** Lets go of the namespace. Idempotent. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    close(this.fd);
  }
}

const CREATE_ADVICE = "network namespaces need CAP_SYS_ADMIN: run as root or in a user namespace";

function openNamespace(path: string): number {
  return check(open(path, O_RDONLY | O_CLOEXEC, 0), `opening network namespace ${path}`);
}

/** Calls `action`, which may move this thread to another network namespace, and brings the thread back. */
function away<T>(action: () => T): T {
  const home = openNamespace(OWN_NAMESPACE);
  try {
    // A thread that may not enter where it already is could not come back either.
    check(setns(home, CLONE_NEWNET), "setns", CREATE_ADVICE);
    try {
      return action();
    } finally {
      check(setns(home, CLONE_NEWNET), "returning to the own network namespace");
    }
  } finally {
    close(home);
  }
}
