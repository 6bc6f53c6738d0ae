// Finds the agent that a STUN message is for, in constant time (spec 02, section 7, "later fixed"; field notes, section 3): a request
// names it by user fragment, a response by the transaction id of the check it answers. Shared by the agents of a node.

import type { StunMessage } from "../stun/message.js";
import type { IceAgent } from "./agent.js";
import { usernamesOf } from "./check-messages.js";

/** The agents of a node. */
export class IceDispatcher {
  readonly #byUsername = new Map<string, IceAgent>();
  readonly #byTransaction = new Map<string, IceAgent>();

  /** The agent that the message claims to be for. Whether it really is, `IceAgent.accept` knows. */
  find(message: StunMessage): IceAgent | undefined {
    switch (message.class) {
      case "request": {
        const usernames = usernamesOf(message);
        return usernames && this.#byUsername.get(usernames.receiver);
      }
      case "success":
      case "error":
        return this.#byTransaction.get(message.transactionKey);
      case "indication":
        return undefined;
    }
  }

  /** Whether an agent has this user fragment. */
  has(username: string): boolean {
    return this.#byUsername.has(username);
  }

  /** For agents only. */
  addAgent(agent: IceAgent): void {
    this.#byUsername.set(agent.localCredentials.username, agent);
  }

  /** For agents only. */
  removeAgent(agent: IceAgent): void {
    this.#byUsername.delete(agent.localCredentials.username);
  }

  /** For agents only: an answer to this transaction is expected. */
  addTransaction(transaction: string, agent: IceAgent): void {
    this.#byTransaction.set(transaction, agent);
  }

  /** For agents only. */
  removeTransaction(transaction: string): void {
    this.#byTransaction.delete(transaction);
  }
}
