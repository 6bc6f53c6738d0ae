// The Phoenix channel that every program keeps with the portal, as a state machine (spec 01, sections 4 and 5, with the later
// and recommended behaviour). A thin shell (websocket.ts) owns the socket.
//
//   waiting ──due──► connecting ──opened──► joining ──join reply──► joined
//      ▲                 │                     │                      │
//      └──── transient failure, lost socket, no join reply for 5 s, missed heartbeats ◄──┘
//   any ── 401/403/404/422, token expired, join refused, limit reached ──► failed (for good)

import { EventQueue } from "../base/event-queue.js";
import { BoundedQueue } from "../base/queue.js";
import type { Random } from "../base/random.js";
import { type Duration, earliest, type Instant, SECOND } from "../base/time.js";
import { Backoff } from "./backoff.js";

/** How often a heartbeat is sent. */
export const HEARTBEAT_INTERVAL: Duration = 10 * SECOND;
/** Unanswered heartbeats after which the socket counts as dead. */
export const MAX_UNANSWERED_HEARTBEATS = 3;
/** How long the portal may take to answer a join. */
export const JOIN_TIMEOUT: Duration = 5 * SECOND;
/** Messages kept while the channel is not joined. */
export const QUEUE_CAPACITY = 32;

/** A channel's parameters. */
export interface PhoenixChannelOptions {
  /** Topic: the role. */
  readonly topic: string;
  readonly joinPayload: unknown;
  readonly random: Random;
  /** Give up after failing for this long; absent: never. */
  readonly maxPartitionTime?: Duration | undefined;
}

/** What the channel asks of its shell or tells its owner. */
export type ChannelEvent =
  /** Open a WebSocket. Exactly one of `handleOpened` and `handleFailure` must follow. */
  | { readonly type: "connect" }
  /** Drop the socket, without farewell. */
  | { readonly type: "disconnect" }
  /** Send a text frame. */
  | { readonly type: "send"; readonly text: string }
  | { readonly type: "joined" }
  /** The connection is gone; the next attempt is made after `delay`. */
  | { readonly type: "hiccup"; readonly reason: string; readonly delay: Duration }
  | { readonly type: "push"; readonly event: string; readonly payload: unknown }
  | { readonly type: "reply"; readonly ref: number; readonly response: unknown }
  | { readonly type: "error-reply"; readonly ref: number; readonly reason: string }
  /** The end. `authentication`: the user must sign in again. */
  | { readonly type: "failed"; readonly reason: string; readonly authentication: boolean }
  /** Something of the portal's that was dropped: for the log. */
  | { readonly type: "ignored"; readonly what: string };

/** Why a connection attempt failed. */
export type ConnectFailure =
  | { readonly type: "http"; readonly status: number; readonly retryAfter?: Duration | undefined }
  | { readonly type: "transport"; readonly reason: string };

type State =
  | { readonly name: "waiting"; readonly until: Instant }
  | { readonly name: "connecting" }
  | { readonly name: "joining"; readonly ref: number; readonly deadline: Instant }
  | { readonly name: "joined" }
  | { readonly name: "failed" };

/** HTTP statuses of the upgrade that no repetition will change. */
const FATAL_STATUSES = new Set([401, 403, 404, 422]);

/** The channel client. */
export class PhoenixChannel {
  readonly #options: PhoenixChannelOptions;
  readonly #backoff: Backoff;
  readonly #queue = new BoundedQueue<string>(QUEUE_CAPACITY, "drop-oldest");
  readonly #events = new EventQueue<ChannelEvent>();
  #state: State;
  #nextRef = 0;
  #nextHeartbeat: Instant | undefined;
  readonly #heartbeats = new Set<number>();

  constructor(options: PhoenixChannelOptions, now: Instant) {
    this.#options = options;
    this.#backoff = new Backoff(options.random, options.maxPartitionTime);
    this.#state = { name: "waiting", until: now };
  }

  /** Messages that were dropped because too many were waiting. */
  get dropped(): number {
    return this.#queue.dropped;
  }

  /** Whether requests reach the portal at once. */
  get isJoined(): boolean {
    return this.#state.name === "joined";
  }

  /** Sends a message, or keeps it until the channel is joined. Returns the ref that a reply will carry. */
  send(event: string, payload: unknown): number {
    const ref = this.#takeRef();
    const text = this.#encode(this.#options.topic, event, payload, ref);
    if (this.#state.name === "joined") this.#events.push({ type: "send", text });
    else this.#queue.push(text);
    return ref;
  }

  /** Abandons the connection or a running delay, and connects at once. */
  reconnect(now: Instant): void {
    if (this.#state.name === "failed") return;
    this.#backoff.reset();
    if (this.#state.name !== "waiting") this.#events.push({ type: "disconnect" });
    this.#leave({ name: "waiting", until: now });
  }

  /** The socket is open. */
  handleOpened(now: Instant): void {
    if (this.#state.name !== "connecting") return;
    this.#backoff.reset();
    this.#join(now);
    this.#nextHeartbeat = now + HEARTBEAT_INTERVAL;
  }

  /** The socket could not be opened. */
  handleFailure(failure: ConnectFailure, now: Instant): void {
    if (this.#state.name !== "connecting") return;
    if (failure.type === "transport") {
      this.#hiccup(failure.reason, now);
      return;
    }
    const reason = `HTTP ${failure.status}`;
    if (FATAL_STATUSES.has(failure.status)) this.#fail(reason, failure.status === 401 || failure.status === 403);
    else this.#hiccup(reason, now, failure.retryAfter);
  }

  /** The socket is gone. */
  handleClosed(reason: string, now: Instant): void {
    if (this.#state.name === "joining" || this.#state.name === "joined") this.#hiccup(reason, now);
  }

  /** A text frame arrived. */
  handleText(text: string, now: Instant): void {
    if (this.#state.name !== "joining" && this.#state.name !== "joined") return;
    const message = parseEnvelope(text);
    if (message === undefined && isTruncated(text)) {
      // Whatever cut it may have cut more: the connection is not to be trusted.
      this.#restart("the portal sent half a message", now);
      return;
    }
    if (message === undefined) {
      this.#events.push({ type: "ignored", what: "a frame that is no Phoenix message" });
      return;
    }
    const { event, payload, ref } = message;
    switch (event) {
      case "phx_reply":
        this.#handleReply(ref, payload, now);
        return;
      case "phx_close":
        this.#restart("the portal closed the channel", now);
        return;
      case "phx_error":
        // The channel crashed at the portal: requests are answered "unmatched topic" until the next join.
        this.#join(now);
        return;
      case "disconnect":
        if (isRecord(payload) && payload["reason"] === "token_expired") this.#fail("token expired", true);
        else this.#events.push({ type: "ignored", what: "a disconnect message with an unknown reason" });
        return;
      default:
        this.#events.push({ type: "push", event, payload });
    }
  }

  handleTimeout(now: Instant): void {
    const state = this.#state;
    if (state.name === "waiting" && now >= state.until) {
      this.#state = { name: "connecting" };
      this.#events.push({ type: "connect" });
      return;
    }
    if (state.name === "joining" && now >= state.deadline) {
      this.#restart("the portal did not answer the join", now);
      return;
    }
    if (this.#nextHeartbeat === undefined || now < this.#nextHeartbeat) return;
    if (this.#heartbeats.size >= MAX_UNANSWERED_HEARTBEATS) {
      this.#restart("the portal missed its heartbeats", now);
      return;
    }
    this.#nextHeartbeat = now + HEARTBEAT_INTERVAL;
    const ref = this.#takeRef();
    this.#heartbeats.add(ref);
    this.#events.push({ type: "send", text: this.#encode("phoenix", "heartbeat", {}, ref) });
  }

  pollTimeout(): Instant | undefined {
    switch (this.#state.name) {
      case "waiting":
        return this.#state.until;
      case "joining":
        return earliest(this.#state.deadline, this.#nextHeartbeat);
      case "joined":
        return this.#nextHeartbeat;
      case "connecting":
      case "failed":
        return undefined;
    }
  }

  pollEvent(): ChannelEvent | undefined {
    return this.#events.shift();
  }

  #takeRef(): number {
    return this.#nextRef++;
  }

  #encode(topic: string, event: string, payload: unknown, ref: number): string {
    return JSON.stringify({ topic, event, payload, ref });
  }

  #join(now: Instant): void {
    // One join at a time: a second one on the same socket makes the portal close the first channel.
    if (this.#state.name === "joining") return;
    const ref = this.#takeRef();
    this.#state = { name: "joining", ref, deadline: now + JOIN_TIMEOUT };
    this.#events.push({
      type: "send",
      text: this.#encode(this.#options.topic, "phx_join", this.#options.joinPayload, ref),
    });
  }

  #handleReply(ref: number | undefined, payload: unknown, now: Instant): void {
    const reply = parseReply(payload);
    if (ref === undefined || reply === undefined) {
      this.#events.push({ type: "ignored", what: "a reply that answers nothing" });
      return;
    }
    if (this.#heartbeats.has(ref)) {
      // Any answer proves that the portal is there, and earlier ones are answered with it.
      this.#heartbeats.clear();
      return;
    }
    const state = this.#state;
    if (state.name === "joining" && ref === state.ref) {
      if (reply.status === "ok") this.#joined();
      else this.#fail(`login failed: ${reply.reason}`, false);
      return;
    }
    if (reply.status === "ok") {
      this.#events.push({ type: "reply", ref, response: reply.response });
      return;
    }
    if (reply.reason === "unmatched topic") this.#join(now);
    this.#events.push({ type: "error-reply", ref, reason: reply.reason });
  }

  #joined(): void {
    this.#state = { name: "joined" };
    this.#events.push({ type: "joined" });
    for (const text of this.#queue.drain()) this.#events.push({ type: "send", text });
  }

  #restart(reason: string, now: Instant): void {
    this.#events.push({ type: "disconnect" });
    this.#hiccup(reason, now);
  }

  #hiccup(reason: string, now: Instant, retryAfter?: Duration): void {
    const delay = this.#backoff.next(now);
    if (delay === undefined) {
      this.#fail(`max retries reached: ${reason}`, false);
      return;
    }
    const wait = Math.max(delay, retryAfter ?? 0);
    this.#leave({ name: "waiting", until: now + wait });
    this.#events.push({ type: "hiccup", reason, delay: wait });
  }

  #fail(reason: string, authentication: boolean): void {
    if (this.#state.name !== "waiting") this.#events.push({ type: "disconnect" });
    this.#leave({ name: "failed" });
    this.#events.push({ type: "failed", reason, authentication });
  }

  #leave(state: State): void {
    this.#state = state;
    this.#nextHeartbeat = undefined;
    this.#heartbeats.clear();
  }
}

interface Envelope {
  readonly event: string;
  readonly payload: unknown;
  readonly ref: number | undefined;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function parseEnvelope(text: string): Envelope | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    // Not JSON: the sender's mistake, hence a value.
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
  if (!isRecord(value) || typeof value["event"] !== "string") return undefined;
  const { event, payload, ref } = value;
  if (typeof event !== "string" || (ref !== null && ref !== undefined && typeof ref !== "number")) return undefined;
  return { event, payload, ref: typeof ref === "number" ? ref : undefined };
}

/** Whether a text that is no JSON ends too early: inside a string, an object or a list, or before anything. */
function isTruncated(text: string): boolean {
  let depth = 0;
  // Strings with their escapes count as one; what is left of a quotation mark has no end.
  for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"|["{}[\]]/gs)) {
    if (token === '"') return true;
    if (token === "{" || token === "[") depth++;
    if (token === "}" || token === "]") depth--;
  }
  return depth > 0 || text.trim() === "";
}

type Reply =
  | { readonly status: "ok"; readonly response: unknown }
  | { readonly status: "error"; readonly reason: string };

function parseReply(payload: unknown): Reply | undefined {
  if (!isRecord(payload)) return undefined;
  const { status, response } = payload;
  if (status === "ok") return { status, response };
  if (status !== "error" || !isRecord(response) || typeof response["reason"] !== "string") return undefined;
  return { status, reason: response["reason"] };
}
