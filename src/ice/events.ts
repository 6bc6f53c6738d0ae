// What an ICE agent is made of, and what it tells its owner.

import type { SocketAddress } from "../base/address.js";
import type { Crypto } from "../base/crypto.js";
import type { Random } from "../base/random.js";
import type { IceCredentials } from "./credentials.js";
import type { IceDispatcher } from "./dispatcher.js";
import type { IceRole } from "./pair.js";

/** What an agent is made of. */
export interface IceAgentOptions {
  readonly role: IceRole;
  readonly crypto: Crypto;
  readonly random: Random;
  /** Finds the agent again; shared by all agents of a node. */
  readonly dispatcher: IceDispatcher;
  /** Credentials of this side. Absent: fresh ones, with a user fragment that no other agent of the dispatcher has. */
  readonly credentials?: IceCredentials | undefined;
}

/** Whether there is a way to the other side (spec 02, section 10.6). */
export type IceState =
  /** Nothing works yet, but there is hope. Also before any candidates are known. */
  | "checking"
  /** A pair is nominated, others are being checked. */
  | "connected"
  /** All pairs are nominated. */
  | "completed"
  /** No pair works, and none is left to try. */
  | "disconnected";

/** What an agent tells its owner. */
export type IceEvent =
  | { readonly type: "state-changed"; readonly state: IceState }
  /** An authenticated message came from this address; reported once for each. */
  | { readonly type: "source-discovered"; readonly source: SocketAddress }
  /** Send from `local` to `remote` from now on. */
  | { readonly type: "path-nominated"; readonly local: SocketAddress; readonly remote: SocketAddress }
  /** A check on the way in use was answered. */
  | { readonly type: "path-answered" }
  /** No way works at the moment: send nothing until one is nominated. */
  | { readonly type: "path-lost" };
