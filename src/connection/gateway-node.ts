// The node of a gateway (spec 02, sections 2.1 and 6.3): it answers offers and is the controlled side.

import type { Instant } from "../base/time.js";
import { areUsable } from "../ice/credentials.js";
import { KEY_LENGTH } from "../wireguard/constants.js";
import type { Answer, Offer } from "./events.js";
import { ConnectionNode, type NodeOptions } from "./node.js";

/** See the head of this file. Connections are named by the client's id. */
export class GatewayNode extends ConnectionNode {
  constructor(options: NodeOptions) {
    super("controlled", options);
  }

  /**
   * Accepts an offer, in place of a connection with this id.
   *
   * @returns `undefined` when the offer cannot be used: a connection with this id, if any, stays.
   */
  acceptConnection(id: string, offer: Offer, remotePublicKey: Uint8Array, now: Instant): Answer | undefined {
    const isValid = remotePublicKey.length === KEY_LENGTH && offer.sessionKey.length === KEY_LENGTH;
    if (!isValid || !areUsable(offer.credentials)) return undefined;
    const connection = this.create(id, offer.sessionKey, now);
    connection.start(remotePublicKey, offer.credentials, now);
    this.seed(connection, now);
    return { credentials: connection.agent.localCredentials };
  }
}
