// SKELETON: signatures first, being filled in.

import type { Instant } from "../base/time.js";
import type { Answer, Offer } from "./events.js";
import { ConnectionNode } from "./node.js";

/** The node of a client: it makes offers and is the controlling side. */
export class ClientNode extends ConnectionNode {
  /** Starts a connection, in place of one with this id. */
  newConnection(_id: string, _now: Instant): Offer {
    throw new Error("skeleton");
  }
  /** True between {@link newConnection} and {@link acceptAnswer}, timeout or removal. */
  isExpectingAnswer(_id: string): boolean {
    throw new Error("skeleton");
  }
  /** Ignored when no answer is expected. */
  acceptAnswer(_id: string, _remotePublicKey: Uint8Array, _answer: Answer, _now: Instant): void {}
}
