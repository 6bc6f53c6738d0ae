// The node of a client (spec 02, sections 2.1, 6.1 and 6.2): it makes offers and is the controlling side.

import type { Instant } from "../base/time.js";
import { areUsable } from "../ice/credentials.js";
import { KEY_LENGTH } from "../wireguard/constants.js";
import type { Answer, Offer } from "./events.js";
import { ConnectionNode, type NodeOptions } from "./node.js";

/** See the head of this file. Connections are named by the gateway's id. */
export class ClientNode extends ConnectionNode {
  constructor(options: NodeOptions) {
    super("controlling", options);
  }

  /** Starts a connection, in place of one with this id. */
  newConnection(id: string, now: Instant): Offer {
    const sessionKey = this.random.bytes(KEY_LENGTH);
    const { agent } = this.create(id, sessionKey, now);
    return { sessionKey, credentials: agent.localCredentials };
  }

  /** True between {@link newConnection} and {@link acceptAnswer}, timeout or removal. */
  isExpectingAnswer(id: string): boolean {
    return this.connection(id)?.isExpectingAnswer === true;
  }

  /** Takes the answer to an offer; ignored when none is expected: the offer may have timed out. */
  acceptAnswer(id: string, remotePublicKey: Uint8Array, answer: Answer, now: Instant): void {
    const connection = this.connection(id);
    if (connection?.isExpectingAnswer !== true) return;
    if (remotePublicKey.length !== KEY_LENGTH || !areUsable(answer.credentials)) {
      this.fail(connection, "invalid-parameters");
      return;
    }
    connection.start(remotePublicKey, answer.credentials, now);
    this.seed(connection, now);
  }
}
