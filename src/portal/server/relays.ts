// The relays that are online, and who was given which (spec 01, sections 11.8 and 11.9, with the later behaviour): everybody gets two
// relays, keeps those that stay, and hears of a change when one is lost or when it has fewer than two and there are more.

import { createHash } from "node:crypto";
import type { Random } from "../../base/random.js";
import { randomBelow } from "../../base/random.js";
import type { UnixTime } from "../../base/time.js";
import type { Configuration } from "./configuration.js";
import { type Coordinates, groupByDistance } from "./geography.js";
import { derivedId, uuidFromDigest } from "./identity.js";
import { type RelayCredentials, relayCredentials } from "./relay-credentials.js";

/** Relays given to a program (spec 01, section 11.8). */
const RELAYS_PER_PROGRAM = 2;
/** Until when credentials hold that no token limits: 2038-01-01 (spec 01, section 14.6). */
const FAR_FUTURE: UnixTime = Date.UTC(2038, 0, 1);

/** A relay that can be used. */
export interface Relay {
  readonly id: string;
  /** Addresses with ports, IPv4 first. */
  readonly addresses: readonly string[];
  readonly location: Coordinates | undefined;
  readonly secret:
    | { readonly type: "stamp"; readonly stampSecret: string }
    | { readonly type: "fixed"; readonly credentials: RelayCredentials };
}

/** Who relays are given to. */
export interface RelayUser {
  readonly publicKey: string;
  readonly location: Coordinates | undefined;
  readonly role: string;
  /** End of the token; absent: none. */
  readonly expiresAt: UnixTime | undefined;
}

/** A change that a program must hear of. */
export interface RelayChange<U> {
  readonly user: U;
  readonly disconnectedIds: readonly string[];
  /** Relays as the wire has them: all that the program has from now on. */
  readonly connected: readonly object[];
}

/** Id of a relay: derived from its secret, so that a relay that has restarted is another one (spec 01, section 14.6). */
export function relayId(stampSecret: string): string {
  return uuidFromDigest(createHash("sha256").update(stampSecret).digest(), 4);
}

/** The directory of relays. */
export class RelayDirectory<U extends RelayUser> {
  readonly #random: Random;
  #fixed: readonly Relay[] = [];
  /** Keyed by the relay's session. */
  readonly #online = new Map<object, Relay>();
  readonly #given = new Map<U, ReadonlySet<string>>();

  constructor(random: Random) {
    this.#random = random;
  }

  /** Replaces the relays that need no session. */
  setFixed(configuration: Configuration): void {
    this.#fixed = configuration.relays.static.map(({ address, username, password }) => ({
      // With the credentials: when they change, it is another relay.
      id: derivedId("relay", address.toString(), username, password),
      addresses: [address.toString()],
      location: undefined,
      secret: { type: "fixed", credentials: { username, password } },
    }));
  }

  /** A relay has joined. */
  add(session: object, addresses: readonly string[], location: Coordinates | undefined, stampSecret: string): void {
    this.#online.set(session, {
      id: relayId(stampSecret),
      addresses,
      location,
      secret: { type: "stamp", stampSecret },
    });
  }

  /** A relay's session has ended; whether it was online. */
  remove(session: object): boolean {
    return this.#online.delete(session);
  }

  /** Gives relays to a program that has just joined. */
  give(user: U): object[] {
    return this.#give(user, []);
  }

  /** A program has left. */
  forget(user: U): void {
    this.#given.delete(user);
  }

  /** Compares what everybody has with what is online, and gives anew where that is needed. */
  changes(): RelayChange<U>[] {
    const online = this.#all();
    const changes: RelayChange<U>[] = [];
    for (const [user, given] of this.#given) {
      const disconnectedIds = [...given].filter((id) => !online.has(id));
      const kept = [...given].flatMap((id) => online.get(id) ?? []);
      if (disconnectedIds.length === 0 && this.#select(user.location, kept).length <= kept.length) continue;
      changes.push({ user, disconnectedIds, connected: this.#give(user, kept) });
    }
    return changes;
  }

  /** By id; of several sessions of one relay the latest counts. */
  #all(): Map<string, Relay> {
    return new Map([...this.#fixed, ...this.#online.values()].map((relay) => [relay.id, relay]));
  }

  #give(user: U, kept: readonly Relay[]): object[] {
    const relays = this.#select(user.location, kept);
    this.#given.set(user, new Set(relays.map(({ id }) => id)));
    return relays.flatMap((relay) => render(relay, user));
  }

  /** `kept`, and as many others as are missing: of the nearest places, one of each; without a location any. */
  #select(here: Coordinates | undefined, kept: readonly Relay[]): Relay[] {
    const selected = kept.slice(0, RELAYS_PER_PROGRAM);
    const others = shuffle(
      [...this.#all().values()].filter(({ id }) => !kept.some((relay) => relay.id === id)),
      this.#random,
    );
    const missing = RELAYS_PER_PROGRAM - selected.length;
    if (here === undefined) return [...selected, ...others.slice(0, missing)];
    const isTaken = (location: Coordinates | undefined) =>
      location !== undefined &&
      selected.some(
        (relay) => relay.location?.latitude === location.latitude && relay.location.longitude === location.longitude,
      );
    const places = groupByDistance(
      others.filter(({ location }) => !isTaken(location)),
      here,
    );
    // Relays whose place is unknown are not taken to be at one place.
    const nearest = places.flatMap((place) => (place[0]?.location === undefined ? place : place.slice(0, 1)));
    return [...selected, ...nearest.slice(0, missing)];
  }
}

/** One entry per address (spec 01, section 6.2). */
function render(relay: Relay, user: RelayUser): object[] {
  // Gateways hold their relays for as long as they run (spec 01, section 14.6).
  const expiresAt = Math.floor(((user.role === "client" ? user.expiresAt : undefined) ?? FAR_FUTURE) / 1000);
  const { username, password } =
    relay.secret.type === "fixed"
      ? relay.secret.credentials
      : relayCredentials(relay.secret.stampSecret, expiresAt, user.publicKey);
  return relay.addresses.map((addr) => ({
    id: relay.id,
    type: "turn",
    addr,
    username,
    password,
    expires_at: expiresAt,
  }));
}

/** Every order is equally likely: each item goes to a random place among those before it. */
function shuffle<T>(items: readonly T[], random: Random): T[] {
  const shuffled: T[] = [];
  for (const item of items) {
    const place = randomBelow(random, shuffled.length + 1);
    shuffled.splice(place, 0, item);
  }
  return shuffled;
}
