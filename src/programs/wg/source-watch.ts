// Tells when local addresses, routes or links of the sockets' network namespace have changed or gone: the source address that a peer's
// datagrams came to may be none any more, and must be chosen anew (the kernel's WireGuard looks at each packet, we have no such moment).

import { SystemCallError } from "../../system/linux/errno.js";
import { ReadinessWatch } from "../../system/linux/readiness-watch.js";
import { type NetworkChange, NetworkChanges } from "../../system/linux/rtnetlink/changes.js";

/** Watches the network namespace that it was made in. */
export class SourceWatch {
  readonly #changes: NetworkChanges;
  readonly #watch: ReadinessWatch;
  #stopped = false;

  /**
   * @param onGone called when such a change was found
   * @param onProblem the kernel does not say any more what changes; called once
   * @throws SystemCallError when the kernel has no rtnetlink for us
   */
  constructor(onGone: () => void, onProblem: (error: SystemCallError) => void) {
    this.#changes = NetworkChanges.subscribe();
    this.#watch = new ReadinessWatch(this.#changes.fd, () => {
      try {
        if (this.#changes.read().some(mayTakeSource)) onGone();
      } catch (error) {
        if (!(error instanceof SystemCallError)) throw error;
        this.stop();
        onProblem(error);
      }
    });
  }

  /** Ends watching. Idempotent. */
  stop(): void {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#watch.stop(() => this.#changes.close());
  }
}

/** Whether a source address may be unusable after a change. New addresses and routes take none away. */
function mayTakeSource(change: NetworkChange): boolean {
  return change.type === "overrun" || change.type === "link" || !change.present;
}
