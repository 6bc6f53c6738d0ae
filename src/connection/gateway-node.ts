// SKELETON: signatures first, being filled in.

import type { Instant } from "../base/time.js";
import type { Answer, Offer } from "./events.js";
import { ConnectionNode } from "./node.js";

/** The node of a gateway: it answers offers and is the controlled side. */
export class GatewayNode extends ConnectionNode {
  /** Accepts an offer, in place of a connection with this id. */
  acceptConnection(_id: string, _offer: Offer, _remotePublicKey: Uint8Array, _now: Instant): Answer {
    throw new Error("skeleton");
  }
}
