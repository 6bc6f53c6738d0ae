// Watches the network of this host: notifications of the kernel and sleeps are hints for the detector, and when that wants to know, links,
// addresses and routes are listed. Notifications alone would not do: the kernel drops IPv4 routes with their link or address without a word,
// and when it has more to say than its buffer holds, the rest is lost.

import { type Duration, nextTurn } from "../../../base/time.js";
import { monotonicNow } from "../../clock.js";
import { SystemCallError } from "../errno.js";
import { ReadinessWatch } from "../readiness-watch.js";
import { listAddresses } from "../rtnetlink/addresses.js";
import { NetworkChanges } from "../rtnetlink/changes.js";
import { listLinks } from "../rtnetlink/links.js";
import { NetlinkSocket } from "../rtnetlink/netlink.js";
import { listRoutes } from "../rtnetlink/routes.js";
import { suspendedTime } from "../suspension.js";
import { type Finding, NetworkChangeDetector } from "./change-detector.js";
import { describeNetwork, mayConcern, type NetworkState } from "./state.js";

/** How often this process looks whether the host has slept, of which no descriptor tells. */
export const SLEEP_INTERVAL: Duration = 1000;

/** What to watch, and whom to tell. */
export interface NetworkMonitorOptions {
  /** Name of our own interface, which is no concern of ours. */
  readonly tunnelInterface: string;
  /** The network was looked at because something has happened. */
  readonly onFinding: (finding: Finding) => void;
  /** The kernel does not say what it should. Called once until it does; meanwhile it is asked again and again. */
  readonly onProblem: (error: Error) => void;
}

/** See the head of this file. */
export class NetworkMonitor {
  readonly #options: NetworkMonitorOptions;
  readonly #netlink: NetlinkSocket;
  readonly #changes: NetworkChanges;
  readonly #detector: NetworkChangeDetector;
  readonly #watch: ReadinessWatch;
  #timer: NodeJS.Timeout | undefined;
  #tunnelLink: number | undefined;
  #suspended = suspendedTime();
  #hasProblem = false;
  #stopped = false;

  private constructor(options: NetworkMonitorOptions, netlink: NetlinkSocket, changes: NetworkChanges) {
    this.#options = options;
    this.#netlink = netlink;
    this.#changes = changes;
    this.#detector = new NetworkChangeDetector(this.#look());
    this.#watch = new ReadinessWatch(changes.fd, () => this.#turn());
    this.#schedule();
  }

  /**
   * Watches the calling thread's network namespace.
   *
   * @throws SystemCallError when the kernel has no rtnetlink for us; nothing is left open then.
   */
  static start(options: NetworkMonitorOptions): NetworkMonitor {
    // Before the first look, so that nothing is missed between the two.
    const changes = NetworkChanges.subscribe();
    try {
      const netlink = NetlinkSocket.open();
      try {
        return new NetworkMonitor(options, netlink, changes);
      } catch (error) {
        netlink.close();
        throw error;
      }
    } catch (error) {
      changes.close();
      throw error;
    }
  }

  /** Takes the network as it is now for reported: somebody acts on it already. */
  acknowledge(): void {
    this.#attempt(() => {
      this.#readHints();
      this.#detector.handleState(this.#look());
    });
  }

  /** Ends watching. Idempotent. */
  stop(): void {
    if (this.#stopped) return;
    this.#stopped = true;
    clearTimeout(this.#timer);
    this.#watch.stop(() => this.#changes.close());
    this.#netlink.close();
  }

  #schedule(): void {
    if (this.#stopped) return;
    const now = monotonicNow();
    const next = Math.min(nextTurn(now, SLEEP_INTERVAL), this.#detector.pollTimeout() ?? Number.POSITIVE_INFINITY);
    const delay = Math.max(0, Math.ceil(next - now));
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#turn(), delay);
  }

  #turn(): void {
    const finding = this.#attempt(() => {
      this.#readHints();
      const dueAt = this.#detector.pollTimeout();
      return dueAt !== undefined && monotonicNow() >= dueAt ? this.#detector.handleState(this.#look()) : undefined;
    });
    this.#schedule();
    if (finding !== undefined) this.#options.onFinding(finding);
  }

  #readHints(): void {
    const now = monotonicNow();
    const suspended = suspendedTime();
    this.#detector.handleSleep(suspended - this.#suspended, now);
    this.#suspended = suspended;
    if (this.#changes.read().some((change) => mayConcern(change, this.#tunnelLink))) this.#detector.handleHint(now);
  }

  #look(): NetworkState {
    const { tunnelInterface } = this.#options;
    const links = listLinks(this.#netlink);
    const snapshot = { links, addresses: listAddresses(this.#netlink), routes: listRoutes(this.#netlink) };
    this.#tunnelLink = links.find(({ name }) => name === tunnelInterface)?.index;
    this.#hasProblem = false;
    return describeNetwork(snapshot, tunnelInterface);
  }

  /** What `action` returns; after a failure, which is reported, `undefined`, and another look soon. */
  #attempt<T>(action: () => T): T | undefined {
    if (this.#stopped) return undefined;
    try {
      return action();
    } catch (error) {
      if (!(error instanceof SystemCallError)) throw error;
      this.#detector.handleHint(monotonicNow());
      if (!this.#hasProblem) this.#options.onProblem(error);
      this.#hasProblem = true;
      return undefined;
    }
  }
}
