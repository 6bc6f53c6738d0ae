// Programs that speak with a PortalState in memory: each keeps what the portal sends it.

import assert from "node:assert/strict";
import { type Configuration, parseConfiguration } from "../../src/portal/server/configuration.js";
import { AddressBook } from "../../src/portal/server/identity.js";
import { type Login, PortalState, type Session } from "../../src/portal/server/state.js";
import { encodeKey } from "../../src/portal/values.js";
import { seededRandom } from "./random.js";

/** A frame of the portal. */
export interface PortalFrame {
  readonly topic: string;
  readonly event: string;
  readonly payload: unknown;
  readonly ref: unknown;
}

/** Time at which everything happens. */
export const NOW = Date.UTC(2026, 0, 1);

/** A key of 32 equal bytes, in Base64. */
export function keyOf(byte: number): string {
  return encodeKey(new Uint8Array(32).fill(byte));
}

/** The member of a payload, whatever it is. */
export function member(value: unknown, ...names: readonly (string | number)[]): unknown {
  let current = value;
  for (const name of names)
    current =
      typeof current === "object" && current !== null ? (current as Record<string | number, unknown>)[name] : undefined;
  return current;
}

/** A portal without sockets. */
export class PortalBench {
  readonly state: PortalState;
  readonly #programs = new Map<Session, PortalProgram>();

  constructor(configuration: string | Configuration, seed = 1, addresses = new AddressBook(seededRandom(seed))) {
    this.state = new PortalState(parsed(configuration), seededRandom(seed), addresses);
  }

  /** Signs a program in; it has not joined. */
  signIn(role: Session["role"], login: Partial<Login> & { readonly token: string }): PortalProgram {
    const result = this.state.login(
      role,
      {
        externalId: `${role}-1`,
        publicKey: keyOf(1),
        remoteIp: "192.0.2.1",
        userAgent: role === "relay" ? "relay/0.1.0" : "Debian/12.0.0 connlib/1.2.1 (x86_64; 6.1)",
        ...(role === "relay" ? { ipv4: "192.0.2.50" } : {}),
        ...login,
      },
      NOW,
    );
    assert.equal(result.type, "accepted", JSON.stringify(result));
    const program = new PortalProgram(this, result.session);
    this.#programs.set(result.session, program);
    return program;
  }

  /** Signs a program in and lets it join; what it was sent is taken. */
  join(
    role: Session["role"],
    login: Partial<Login> & { readonly token: string },
    payload: unknown = null,
  ): PortalProgram {
    const program = this.signIn(role, login);
    program.send("phx_join", payload);
    program.take();
    return program;
  }

  /** Replaces the configuration. */
  configure(configuration: string | Configuration): void {
    this.state.setConfiguration(parsed(configuration), NOW);
    this.deliver();
  }

  /** Hands over what the portal has to say. */
  deliver(): void {
    for (let output = this.state.pollOutput(); output !== undefined; output = this.state.pollOutput()) {
      const program = this.#programs.get(output.session);
      if (output.type === "close") program?.close();
      else program?.frames.push(JSON.parse(output.text) as PortalFrame);
    }
  }
}

function parsed(configuration: string | Configuration): Configuration {
  return typeof configuration === "string" ? parseConfiguration(configuration, "portal.yaml") : configuration;
}

/** A program at a {@link PortalBench}. */
export class PortalProgram {
  readonly session: Session;
  /** Received and not yet taken. */
  readonly frames: PortalFrame[] = [];
  isClosed = false;
  readonly #bench: PortalBench;
  #ref = 0;

  constructor(bench: PortalBench, session: Session) {
    this.#bench = bench;
    this.session = session;
  }

  get id(): string {
    return this.session.id;
  }

  /** Sends on the program's own topic; returns the ref. */
  send(event: string, payload: unknown, topic: string = this.session.role): number {
    const ref = this.#ref++;
    this.sendText(JSON.stringify({ topic, event, payload, ref }));
    return ref;
  }

  sendText(text: string): void {
    this.#bench.state.handleText(this.session, text);
    this.#bench.deliver();
  }

  /** What the answer to this message says. */
  ask(event: string, payload: unknown): unknown {
    const ref = this.send(event, payload);
    const index = this.frames.findIndex((frame) => frame.event === "phx_reply" && frame.ref === ref);
    return index < 0 ? undefined : this.frames.splice(index, 1)[0]?.payload;
  }

  /** Everything received since the last call. */
  take(): PortalFrame[] {
    this.#bench.deliver();
    return this.frames.splice(0);
  }

  /** Names of the events received since the last call. */
  takeEvents(): string[] {
    return this.take().map(({ event }) => event);
  }

  /** Payload of the only frame with this event since the last call; others are dropped. */
  takeOnly(event: string): unknown {
    const found = this.take().filter((frame) => frame.event === event);
    assert.equal(found.length, 1, `${found.length} frames "${event}"`);
    return found[0]?.payload;
  }

  /** The socket ends. */
  close(): void {
    this.isClosed = true;
    this.#bench.state.disconnected(this.session);
  }
}
