// What a relay answers to requests (RFC 8489, section 6.3; spec 03, sections 3.3 and 3.4): every answer is counted, and signed as soon as it is clear
// with what. Whoever has not proved who it is gets only so many.
//
//   success   SOFTWARE | what the method says | MESSAGE-INTEGRITY
//   error     SOFTWARE | ERROR-CODE | what the error says | MESSAGE-INTEGRITY, if the key is known

import type { SocketAddress } from "../../base/address.js";
import type { Crypto } from "../../base/crypto.js";
import type { Transmit } from "../../base/state-machine.js";
import type { Instant } from "../../base/time.js";
import { ErrorCodeAttribute, Software, UnknownAttributes } from "../../stun/attributes.js";
import { StunBuilder } from "../../stun/builder.js";
import { ErrorCode, type StunErrorCode } from "../../stun/error-code.js";
import { Method } from "../../stun/header.js";
import type { StunMessage } from "../../stun/message.js";
import type { TurnServerCounters } from "./events.js";
import { SourceLimit } from "./source-limit.js";

/** The methods that are served, as they are counted (spec 03, section 3.3). */
const METHOD_NAMES: Readonly<Record<number, string>> = {
  [Method.Binding]: "binding",
  [Method.Allocate]: "allocate",
  [Method.Refresh]: "refresh",
  [Method.CreatePermission]: "createpermission",
  [Method.ChannelBind]: "channelbind",
};

/** Whether a method is served at all. */
export function isServed(method: number): boolean {
  return METHOD_NAMES[method] !== undefined;
}

/** What an answer needs to know of a request. */
export interface Answerable {
  readonly message: Pick<StunMessage, "method" | "transactionId">;
  readonly client: SocketAddress;
  /** The address that it came to: answers leave from there. */
  readonly local: SocketAddress;
}

/** What a request comes to. */
export type Outcome =
  /** `add` adds the attributes of the answer. */
  | { readonly type: "success"; add(answer: StunBuilder): void }
  /** A success that has been counted, since the request is a repetition. */
  | { readonly type: "repeated"; add(answer: StunBuilder): void }
  /** `explain` adds what is to be said besides ERROR-CODE. */
  | { readonly type: "error"; readonly error: StunErrorCode; explain?(answer: StunBuilder): void };

/** A success with what `add` adds. */
export function success(add: (answer: StunBuilder) => void): Outcome {
  return { type: "success", add };
}

/** An error that needs no explanation. */
export function failure(error: StunErrorCode): Outcome {
  return { type: "error", error };
}

/** These types of attributes are not understood, but would have to be (RFC 8489, section 6.3.1). */
export function notUnderstood(types: readonly number[]): Outcome {
  const explain = (answer: StunBuilder) => answer.add(UnknownAttributes, types);
  return { type: "error", error: ErrorCode.UnknownAttribute, explain };
}

/** What answers are made with, and where they go. */
export interface AnswersContext {
  /** SOFTWARE of all answers. */
  readonly software: string;
  readonly crypto: Crypto;
  readonly counters: Pick<TurnServerCounters, "successes" | "errors" | "limited">;
  transmit(transmit: Transmit): void;
}

/** See the head of this file. */
export class Answers {
  readonly #context: AnswersContext;
  readonly #limit = new SourceLimit();

  constructor(context: AnswersContext) {
    this.#context = context;
  }

  /** Whether a source that has not proved who it is may have another answer; takes it. */
  mayAnswer(client: SocketAddress, now: Instant): boolean {
    if (this.#limit.take(client.ip, now)) return true;
    this.#context.counters.limited++;
    return false;
  }

  /** Answers with what a request came to. @param key of MESSAGE-INTEGRITY; `undefined`: the answer is not signed. */
  send({ message, client, local }: Answerable, outcome: Outcome, key: Uint8Array | undefined): void {
    this.#count(message.method, outcome);
    const { software, crypto } = this.#context;
    const stunClass = outcome.type === "error" ? "error" : "success";
    const answer = new StunBuilder(stunClass, message.method, message.transactionId).add(Software, software);
    if (outcome.type === "error") {
      answer.add(ErrorCodeAttribute, outcome.error);
      outcome.explain?.(answer);
    } else {
      outcome.add(answer);
    }
    if (key !== undefined) answer.addIntegrity(key, crypto);
    this.#context.transmit({ source: local, destination: client, payload: answer.finish() });
  }

  #count(method: number, outcome: Outcome): void {
    const { successes, errors } = this.#context.counters;
    const name = METHOD_NAMES[method] ?? "";
    switch (outcome.type) {
      case "success":
        successes[name] = (successes[name] ?? 0) + 1;
        return;
      case "repeated":
        return;
      case "error":
        errors[outcome.error.code] = (errors[outcome.error.code] ?? 0) + 1;
        return;
    }
  }
}
