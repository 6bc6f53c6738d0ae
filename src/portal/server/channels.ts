// The sessions that are signed in, and what the portal says to them (spec 01, sections 4 and 11.11): pushes and replies on the channel of
// the session's role, as texts for its socket.

import { EventQueue } from "../../base/event-queue.js";
import type { ConfiguredResource } from "./configuration.js";
import type { Session } from "./session.js";

/** What the shell has to do. */
export type PortalOutput =
  | { readonly type: "send"; readonly session: Session; readonly text: string }
  | { readonly type: "close"; readonly session: Session };

/** See the head of this file. A session hears of anything but its own join only once it has joined; that is for the caller to see to. */
export class Channels {
  readonly #sessions = new Set<Session>();
  readonly #byRole = { client: new Set<Session>(), gateway: new Set<Session>(), relay: new Set<Session>() } as const;
  /** By role and id of the device. */
  readonly #byDevice = new Map<string, Set<Session>>();
  readonly #outputs = new EventQueue<PortalOutput>();

  /** Sessions that are signed in, joined or not. */
  get sessions(): ReadonlySet<Session> {
    return this.#sessions;
  }

  /** A session has signed in. */
  add(session: Session): void {
    this.#sessions.add(session);
    this.#byRole[session.role].add(session);
    const key = deviceKey(session.role, session.id);
    const known = this.#byDevice.get(key);
    if (known === undefined) this.#byDevice.set(key, new Set([session]));
    else known.add(session);
  }

  /** A session's socket is gone. */
  remove(session: Session): void {
    this.#sessions.delete(session);
    this.#byRole[session.role].delete(session);
    const key = deviceKey(session.role, session.id);
    const known = this.#byDevice.get(key);
    known?.delete(session);
    if (known?.size === 0) this.#byDevice.delete(key);
  }

  /** Sessions of a role that have joined. */
  *joined(role: Session["role"]): Iterable<Session> {
    for (const session of this.#byRole[role]) if (session.joined) yield session;
  }

  /** Sessions of a device, joined or not: more than one, if one of its sockets is dead without anybody knowing (spec 01, section 11.11). */
  ofDevice(role: Session["role"], id: string): Iterable<Session> {
    return this.#byDevice.get(deviceKey(role, id)) ?? [];
  }

  /** Gateways that can reach a resource, each once: a device that is signed in twice is represented by its latest session. */
  gatewaysOf({ sites }: ConfiguredResource): Session[] {
    const byId = new Map<string, Session>();
    for (const session of this.joined("gateway")) if (sites.includes(session.owner)) byId.set(session.id, session);
    return [...byId.values()];
  }

  /** Says something unasked. */
  push(session: Session, event: string, payload: unknown): void {
    this.#send(session, { topic: session.role, event, payload, ref: null });
  }

  /** To all sessions of a device that have joined. */
  pushToDevice(role: Session["role"], id: string, event: string, payload: unknown): void {
    for (const session of this.ofDevice(role, id)) if (session.joined) this.push(session, event, payload);
  }

  /** Answers a message, `ref` being its own. */
  reply(session: Session, topic: string, ref: unknown, response: object): void {
    this.#send(session, { topic, event: "phx_reply", ref, payload: { status: "ok", response } });
  }

  /** Refuses a message. */
  refuse(session: Session, topic: string, ref: unknown, reason: string): void {
    this.#send(session, { topic, event: "phx_reply", ref, payload: { status: "error", response: { reason } } });
  }

  /** Closes the session's socket, after what was said to it. */
  close(session: Session): void {
    this.#outputs.push({ type: "close", session });
  }

  /** What to do next. */
  pollOutput(): PortalOutput | undefined {
    return this.#outputs.shift();
  }

  #send(session: Session, message: object): void {
    this.#outputs.push({ type: "send", session, text: JSON.stringify(message) });
  }
}

function deviceKey(role: Session["role"], id: string): string {
  return `${role} ${id}`;
}
