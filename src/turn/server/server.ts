// A TURN server (RFC 8656; spec 03, section 3, with the later behaviour): requests in, answers out. Data on channels goes through the
// datapath, which hears of channels by events; here is what remains, and what a relay without a datapath needs.
//
//   request ─► sound? ─► credentials? nonce? integrity? ─► known attributes? ─► allocation of this user? ─► do it
//             400, 500       401       438      401               420                  437, 441
//
// Answers are signed as soon as it is clear with what. Nothing is stored for whoever has not proved who it is.

import { type AddressFamily, type IpAddress, SocketAddress } from "../../base/address.js";
import { Deadlines } from "../../base/deadlines.js";
import { BoundedQueue } from "../../base/queue.js";
import { randomBelow } from "../../base/random.js";
import type { StateMachine, Transmit } from "../../base/state-machine.js";
import { type Instant, SECOND, type UnixTime } from "../../base/time.js";
import {
  AdditionalAddressFamily,
  ChannelNumber,
  Data,
  ErrorCodeAttribute,
  EvenPort,
  Lifetime,
  MessageIntegrity,
  Nonce,
  Realm,
  RequestedAddressFamily,
  RequestedTransport,
  ReservationToken,
  Software,
  TRANSPORT_UDP,
  UnknownAttributes,
  Username,
  XorMappedAddress,
  XorPeerAddress,
  XorRelayedAddress,
} from "../../stun/attributes.js";
import { StunBuilder } from "../../stun/builder.js";
import { encodeChannelData, mayBeClientChannelData, parseChannelData } from "../../stun/channel-data.js";
import { ErrorCode, type StunErrorCode } from "../../stun/error-code.js";
import { Method, parseHeader, TRANSACTION_ID_LENGTH } from "../../stun/header.js";
import { verifyIntegrity } from "../../stun/integrity.js";
import { parseStunMessage, type StunMessage } from "../../stun/message.js";
import { FAMILY_IPV4, FAMILY_IPV6 } from "../../stun/xor-address.js";
import { ServerAllocation, type ServerChannel } from "./allocation.js";
import type { DeletionReason, TurnQuotas, TurnServerCounters, TurnServerEvent, TurnServerOptions } from "./events.js";
import { Nonces } from "./nonces.js";
import { PeerPolicy } from "./peer-policy.js";
import { faultOf, unknownAttributes } from "./request-check.js";
import { SourceLimit } from "./source-limit.js";

/** Lifetime of an allocation whose client asks for none, in seconds (RFC 8656, section 7.2). */
export const DEFAULT_LIFETIME = 600;
/** Longest lifetime, in seconds. */
export const MAX_LIFETIME = 3600;
/** Ports that are tried for an allocation before the relay says that it has none. */
const MAX_PORT_ATTEMPTS = 64;
/** EVEN-PORT's R flag (RFC 8656, section 18.7). */
const RESERVE_NEXT_PORT = 0x80;
/** Answers that wait to be fetched; the oldest has to go first. The owner fetches after every batch. */
const MAX_QUEUED_TRANSMITS = 8192;

const DEFAULT_QUOTAS: TurnQuotas = { total: 65_536, perUser: 16_384, perSource: 16_384 };

const METHOD_NAMES: Readonly<Record<number, string>> = {
  [Method.Binding]: "binding",
  [Method.Allocate]: "allocate",
  [Method.Refresh]: "refresh",
  [Method.CreatePermission]: "createpermission",
  [Method.ChannelBind]: "channelbind",
};

/** A request and who it is from. */
interface Request {
  readonly message: StunMessage;
  readonly client: SocketAddress;
  /** The address that it came to: answers leave from there. */
  readonly local: SocketAddress;
  readonly now: Instant;
  readonly unixNow: UnixTime;
}

/** What an answer needs to know of a request. */
type Answerable = Pick<Request, "client" | "local"> & {
  readonly message: Pick<StunMessage, "method" | "transactionId">;
};

/** Whose request it is. */
interface User {
  readonly username: string;
  readonly key: Uint8Array;
  readonly isPerClient: boolean;
}

/** What a request comes to: attributes of a success, or an error. */
type Outcome =
  | { readonly type: "success"; add(message: StunBuilder): void }
  | { readonly type: "error"; readonly error: StunErrorCode };

/** See the head of this file. */
export class TurnServer implements StateMachine<TurnServerEvent> {
  readonly counters: TurnServerCounters = { successes: {}, errors: {}, limited: 0, malformed: 0, unrelayed: 0 };
  readonly #options: TurnServerOptions;
  readonly #quotas: TurnQuotas;
  readonly #nonces: Nonces;
  readonly #policy: PeerPolicy;
  readonly #limit = new SourceLimit();
  /** By client. */
  readonly #allocations = new Map<string, ServerAllocation>();
  readonly #byPort = new Map<number, ServerAllocation>();
  readonly #byUser = new Map<string, Set<ServerAllocation>>();
  /** Allocations by source address. */
  readonly #bySource = new Map<string, number>();
  readonly #deadlines = new Deadlines<ServerAllocation>();
  readonly #transmits = new BoundedQueue<Transmit>(MAX_QUEUED_TRANSMITS, "drop-oldest");
  #channels = 0;
  #events: TurnServerEvent[] = [];
  #eventsRead = 0;

  constructor(options: TurnServerOptions) {
    const {
      ipv4,
      ipv6,
      lowestPort,
      highestPort,
      denyPrivatePeers,
      allowLoopbackPeers = false,
      random,
      crypto,
    } = options;
    this.#options = options;
    this.#quotas = { ...DEFAULT_QUOTAS, ...options.quotas };
    this.#nonces = new Nonces(random, crypto);
    this.#policy = new PeerPolicy({
      own: [ipv4, ipv6].filter((address) => address !== undefined),
      lowestPort,
      highestPort,
      denyPrivate: denyPrivatePeers,
      allowLoopback: allowLoopbackPeers,
    });
  }

  /** Allocations that exist. */
  get allocations(): number {
    return this.#allocations.size;
  }

  /** Channels that forward. */
  get channels(): number {
    return this.#channels;
  }

  /** A datagram of a client, which came to `local`. */
  handleInput(
    client: SocketAddress,
    local: SocketAddress,
    datagram: Uint8Array,
    now: Instant,
    unixNow: UnixTime,
  ): void {
    // Nobody can be answered there.
    if (client.port === 0) {
      this.counters.malformed++;
      return;
    }
    if (mayBeClientChannelData(datagram)) {
      this.#handleChannelData(client, datagram);
      return;
    }
    const message = parseStunMessage(datagram);
    if (typeof message === "string") {
      this.counters.malformed++;
      if (message === "truncated-attribute") this.#refuseTruncated({ datagram, client, local, now });
      return;
    }
    if (message.class === "indication" && message.method === Method.Send) this.#handleSend(message, client, now);
    else if (message.class === "request") this.#handleRequest({ message, client, local, now, unixNow });
  }

  /** Data of a peer that came to an allocation's port, and that no channel of the datapath explains. */
  handlePeerData(port: number, peer: SocketAddress, data: Uint8Array, now: Instant): void {
    const allocation = this.#byPort.get(port);
    const channel = allocation?.channelOf(peer);
    if (allocation !== undefined && channel !== undefined) {
      this.#send(allocation, encodeChannelData(channel.number, data));
    } else if (allocation?.isPermitted(peer.ip, now) === true) {
      const id = this.#options.random.bytes(TRANSACTION_ID_LENGTH);
      const message = new StunBuilder("indication", Method.Data, id).add(XorPeerAddress, peer).add(Data, data);
      this.#send(allocation, message.finish());
    } else {
      this.counters.unrelayed++;
    }
  }

  handleTimeout(now: Instant): void {
    for (const allocation of this.#deadlines.takeDue(now)) {
      if (allocation.expiresAt <= now) {
        this.#delete(allocation, "expired");
        continue;
      }
      for (const channel of allocation.expire(now)) this.#emitChannel("channel-unbound", allocation, channel);
      this.#deadlines.set(allocation, allocation.deadline);
    }
  }

  pollTimeout(): Instant | undefined {
    return this.#deadlines.next();
  }

  pollTransmit(): Transmit | undefined {
    return this.#transmits.shift();
  }

  pollEvent(): TurnServerEvent | undefined {
    const event = this.#events[this.#eventsRead];
    if (event === undefined) {
      this.#events = [];
      this.#eventsRead = 0;
      return undefined;
    }
    this.#eventsRead++;
    return event;
  }

  // ---- Requests

  #handleRequest(request: Request): void {
    const { message, client } = request;
    const fault = faultOf(message);
    if (fault !== undefined) {
      if (this.#mayAnswer(request)) this.#refuse(request, fault);
      return;
    }
    if (message.method === Method.Binding) {
      if (!this.#mayAnswer(request)) return;
      const unknown = unknownAttributes(message);
      if (unknown.length > 0) this.#refuseUnknown(request, unknown);
      else this.#succeed(request, undefined, (answer) => answer.add(XorMappedAddress, client));
      return;
    }
    const user = this.#authenticate(request);
    if (user === undefined) return;
    const unknown = unknownAttributes(message);
    if (unknown.length > 0) {
      this.#refuseUnknown(request, unknown, user);
      return;
    }
    const outcome = this.#perform(request, user);
    if (outcome === undefined) return;
    if (outcome.type === "error") this.#refuse(request, outcome.error, user);
    else this.#succeed(request, user, (answer) => outcome.add(answer));
  }

  /** Whose request it is; `undefined`: it was refused. */
  #authenticate(request: Request): User | undefined {
    const { message, client, now, unixNow } = request;
    if (METHOD_NAMES[message.method] === undefined) {
      if (this.#mayAnswer(request)) this.#refuse(request, ErrorCode.BadRequest);
      return undefined;
    }
    const username = message.get(Username);
    const found = username === undefined ? undefined : this.#user(username, unixNow);
    const challenge = (error: StunErrorCode) => {
      if (!this.#mayAnswer(request)) return undefined;
      // Whoever has another key than ours would take an answer signed with ours for a forgery, and never learn that its key is wrong.
      const isOther =
        found !== undefined &&
        message.has(MessageIntegrity) &&
        !verifyIntegrity(message, found.key, this.#options.crypto);
      this.#challenge(request, error, isOther ? undefined : found);
      return undefined;
    };
    const nonce = message.get(Nonce);
    if (!message.has(MessageIntegrity) || username === undefined || nonce === undefined)
      return challenge(ErrorCode.Unauthorized);
    const state = this.#nonces.check(nonce, client, now);
    if (state === "malformed") return challenge(ErrorCode.Unauthorized);
    if (state === "stale") return challenge(ErrorCode.StaleNonce);
    if (found === undefined || !verifyIntegrity(message, found.key, this.#options.crypto)) {
      if (this.#mayAnswer(request)) this.#challenge(request, ErrorCode.Unauthorized, undefined);
      return undefined;
    }
    return found;
  }

  #user(username: string, unixNow: UnixTime): User | undefined {
    for (const verifier of this.#options.users) {
      const key = verifier.key(username, unixNow);
      if (typeof key !== "string") return { username, key, isPerClient: verifier.isPerClient };
    }
    return undefined;
  }

  #perform(request: Request, user: User): Outcome | undefined {
    const { message, client } = request;
    const allocation = this.#allocations.get(client.key);
    if (message.method === Method.Allocate) return this.#allocate(request, user, allocation);
    if (allocation === undefined) return failure(ErrorCode.AllocationMismatch);
    if (isStranger(user, allocation)) return failure(ErrorCode.WrongCredentials);
    switch (message.method) {
      case Method.Refresh:
        return this.#refresh(request, allocation);
      case Method.ChannelBind:
        return this.#bindChannel(request, allocation);
      default:
        return this.#createPermissions(request, allocation);
    }
  }

  #allocate(request: Request, user: User, existing: ServerAllocation | undefined): Outcome | undefined {
    const { message, client, local, now } = request;
    if (existing !== undefined) {
      if (existing.transaction === message.transactionKey && existing.username === user.username) {
        // A repetition: the first answer was lost, or is still on its way. It has the same answer.
        this.#grant(request, user, existing);
        return undefined;
      }
      return failure(isStranger(user, existing) ? ErrorCode.WrongCredentials : ErrorCode.AllocationMismatch);
    }
    if (message.get(RequestedTransport) !== TRANSPORT_UDP) return failure(ErrorCode.BadRequest);
    // One port at a time: an even one, but none reserved beside it (RFC 8656, section 7.2, items 6 and 7).
    const evenPort = message.get(EvenPort);
    const isReserved = evenPort !== undefined && (evenPort & RESERVE_NEXT_PORT) !== 0;
    if (isReserved || message.has(ReservationToken)) return failure(ErrorCode.InsufficientCapacity);
    const families = this.#families(message);
    if (!Array.isArray(families)) return families;
    if (user.isPerClient)
      for (const other of [...(this.#byUser.get(user.username) ?? [])]) this.#delete(other, "replaced");
    const { total, perUser, perSource } = this.#quotas;
    const ofUser = this.#byUser.get(user.username)?.size ?? 0;
    const ofSource = this.#bySource.get(client.ip.key) ?? 0;
    if (ofUser >= perUser || ofSource >= perSource) return failure(ErrorCode.AllocationQuotaReached);
    const port = this.#allocations.size < total ? this.#openPort(families, evenPort !== undefined) : undefined;
    if (port === undefined) return failure(ErrorCode.InsufficientCapacity);

    const allocation = new ServerAllocation({
      client,
      local,
      username: user.username,
      port,
      families,
      now,
      lifetime: lifetimeOf(message),
      transaction: message.transactionKey,
    });
    this.#allocations.set(client.key, allocation);
    this.#byPort.set(port, allocation);
    this.#byUser.set(user.username, (this.#byUser.get(user.username) ?? new Set()).add(allocation));
    this.#bySource.set(client.ip.key, ofSource + 1);
    this.#deadlines.set(allocation, allocation.deadline);
    this.#events.push({ type: "allocation-created", client, port, username: user.username });
    this.#count("allocate");
    this.#grant(request, user, allocation);
    return undefined;
  }

  /** Answers the request that has made an allocation. */
  #grant(request: Request, user: User, { client, port, families, lifetime }: ServerAllocation): void {
    const answer = this.#answer(request, "success", user, (message) => {
      for (const family of families) {
        const ip = this.#publicAddress(family);
        if (ip !== undefined) message.add(XorRelayedAddress, new SocketAddress(ip, port));
      }
      message.add(XorMappedAddress, client).add(Lifetime, lifetime);
    });
    this.#transmit(request, answer);
  }

  /** The IP versions of an allocation (spec 03, section 3.6, item 4), or why there is none. */
  #families(message: StunMessage): AddressFamily[] | Outcome {
    const requested = message.get(RequestedAddressFamily);
    const additional = message.get(AdditionalAddressFamily);
    const serves = (family: AddressFamily) => this.#publicAddress(family) !== undefined;
    if (additional !== undefined && (requested !== undefined || additional !== FAMILY_IPV6))
      return failure(ErrorCode.BadRequest);
    if (additional !== undefined) return ([4, 6] as const).filter(serves);
    const family = requested === FAMILY_IPV6 ? 6 : 4;
    if (requested !== undefined && requested !== FAMILY_IPV6 && requested !== FAMILY_IPV4)
      return failure(ErrorCode.BadRequest);
    return serves(family) ? [family] : failure(ErrorCode.AddressFamilyNotSupported);
  }

  #publicAddress(family: AddressFamily): IpAddress | undefined {
    return family === 4 ? this.#options.ipv4 : this.#options.ipv6;
  }

  /** Opens a port that was drawn by lot: whoever guesses ports learns nothing from those that it knows. */
  #openPort(families: readonly AddressFamily[], mustBeEven: boolean): number | undefined {
    const { lowestPort, highestPort, random, ports } = this.#options;
    const count = highestPort - lowestPort + 1;
    if (this.#byPort.size >= count) return undefined;
    const first = randomBelow(random, count);
    for (let i = 0, attempts = 0; i < count && attempts < MAX_PORT_ATTEMPTS; i++) {
      const port = lowestPort + ((first + i) % count);
      if (this.#byPort.has(port) || (mustBeEven && port % 2 !== 0)) continue;
      attempts++;
      if (ports.open(port, families)) return port;
    }
    return undefined;
  }

  #refresh({ message, now }: Request, allocation: ServerAllocation): Outcome {
    const lifetime = lifetimeOf(message);
    if (lifetime === 0) {
      this.#delete(allocation, "refreshed-to-zero");
    } else {
      allocation.expiresAt = now + lifetime * SECOND;
      this.#deadlines.set(allocation, allocation.deadline);
    }
    return success((answer) => answer.add(Lifetime, lifetime));
  }

  #bindChannel({ message, now }: Request, allocation: ServerAllocation): Outcome {
    const number = message.get(ChannelNumber);
    const peer = message.get(XorPeerAddress);
    if (number === undefined || peer === undefined) return failure(ErrorCode.BadRequest);
    if (!allocation.families.includes(peer.family)) return failure(ErrorCode.PeerAddressFamilyMismatch);
    if (!this.#policy.allows(peer)) return failure(ErrorCode.Forbidden);
    const isNew = allocation.channelOf(peer) === undefined;
    // Before anything changes: a channel comes with a permission, or not at all.
    if (!allocation.hasRoomFor(peer.ip)) return failure(ErrorCode.InsufficientCapacity);
    const channel = allocation.bind(number, peer, now);
    if (channel === "conflict") return failure(ErrorCode.BadRequest);
    allocation.permit(peer.ip, now);
    this.#deadlines.set(allocation, allocation.deadline);
    if (isNew) this.#channels++;
    this.#emitChannel("channel-bound", allocation, channel);
    return success(() => undefined);
  }

  #createPermissions({ message, now }: Request, allocation: ServerAllocation): Outcome {
    const peers = message.getAll(XorPeerAddress);
    if (peers.length === 0) return failure(ErrorCode.BadRequest);
    if (peers.some(({ family }) => !allocation.families.includes(family)))
      return failure(ErrorCode.PeerAddressFamilyMismatch);
    // All or none (RFC 8656, section 10.2).
    if (!peers.every(({ ip }) => this.#policy.allowsAddress(ip))) return failure(ErrorCode.Forbidden);
    for (const { ip } of peers) if (!allocation.permit(ip, now)) return failure(ErrorCode.InsufficientCapacity);
    this.#deadlines.set(allocation, allocation.deadline);
    return success(() => undefined);
  }

  // ---- Data

  #handleChannelData(client: SocketAddress, datagram: Uint8Array): void {
    const message = parseChannelData(datagram);
    const allocation = this.#allocations.get(client.key);
    const channel = typeof message === "string" ? undefined : allocation?.channel(message.channel);
    if (typeof message === "string" || allocation === undefined || channel === undefined) {
      this.counters.unrelayed++;
      return;
    }
    const { peer } = channel;
    this.#events.push({ type: "send-to-peer", allocationPort: allocation.port, peer, data: message.data });
  }

  #handleSend(message: StunMessage, client: SocketAddress, now: Instant): void {
    const allocation = this.#allocations.get(client.key);
    const peer = message.get(XorPeerAddress);
    const data = message.get(Data);
    const isFine = peer !== undefined && data !== undefined && unknownAttributes(message).length === 0;
    if (!isFine || allocation?.isPermitted(peer.ip, now) !== true || !this.#policy.allows(peer)) {
      this.counters.unrelayed++;
      return;
    }
    this.#events.push({ type: "send-to-peer", allocationPort: allocation.port, peer, data });
  }

  #send({ local, client }: ServerAllocation, payload: Uint8Array): void {
    this.#transmits.push({ source: local, destination: client, payload });
  }

  // ---- Ends

  #delete(allocation: ServerAllocation, reason: DeletionReason): void {
    const { client, port, username } = allocation;
    for (const channel of allocation.boundChannels) this.#emitChannel("channel-unbound", allocation, channel);
    this.#allocations.delete(client.key);
    this.#byPort.delete(port);
    const ofUser = this.#byUser.get(username);
    ofUser?.delete(allocation);
    if (ofUser?.size === 0) this.#byUser.delete(username);
    const ofSource = (this.#bySource.get(client.ip.key) ?? 1) - 1;
    if (ofSource === 0) this.#bySource.delete(client.ip.key);
    else this.#bySource.set(client.ip.key, ofSource);
    this.#deadlines.set(allocation, undefined);
    this.#options.ports.close(port);
    this.#events.push({ type: "allocation-deleted", client, port, reason });
  }

  #emitChannel(type: "channel-bound" | "channel-unbound", allocation: ServerAllocation, channel: ServerChannel): void {
    const { client, local, port } = allocation;
    if (type === "channel-unbound") this.#channels--;
    this.#events.push({ type, client, local, channel: channel.number, peer: channel.peer, allocationPort: port });
  }

  // ---- Answers

  /** Whether a source that has not proved who it is may have another answer. */
  #mayAnswer({ client, now }: Pick<Request, "client" | "now">): boolean {
    if (this.#limit.take(client.ip, now)) return true;
    this.counters.limited++;
    return false;
  }

  #succeed(request: Request, user: User | undefined, add: (answer: StunBuilder) => void): void {
    this.#count(METHOD_NAMES[request.message.method] ?? "");
    this.#transmit(request, this.#answer(request, "success", user, add));
  }

  #refuse(request: Request, error: StunErrorCode, user?: User): void {
    this.#fail(request, error, user, () => undefined);
  }

  #refuseUnknown(request: Request, types: readonly number[], user?: User): void {
    this.#fail(request, ErrorCode.UnknownAttribute, user, (answer) => answer.add(UnknownAttributes, types));
  }

  /** A request whose attributes do not fit into it, but whose header does (spec 03, section 1.8). */
  #refuseTruncated(request: Omit<Request, "message" | "unixNow"> & { readonly datagram: Uint8Array }): void {
    const header = parseHeader(request.datagram);
    if (typeof header === "string" || header.class !== "request" || !this.#mayAnswer(request)) return;
    this.#fail({ ...request, message: header }, ErrorCode.ServerError, undefined, () => undefined);
  }

  /** Asks for credentials, or for newer ones. */
  #challenge(request: Request, error: StunErrorCode, user: User | undefined): void {
    const [verifier] = this.#options.users;
    this.#fail(request, error, user, (answer) => {
      if (verifier !== undefined) answer.add(Realm, verifier.realm);
      answer.add(Nonce, this.#nonces.create(request.client, request.now));
    });
  }

  #fail(request: Answerable, error: StunErrorCode, user: User | undefined, add: (answer: StunBuilder) => void): void {
    this.counters.errors[error.code] = (this.counters.errors[error.code] ?? 0) + 1;
    const answer = this.#answer(request, "error", user, (message) => {
      message.add(ErrorCodeAttribute, error);
      add(message);
    });
    this.#transmit(request, answer);
  }

  #answer(
    { message }: Pick<Answerable, "message">,
    stunClass: "success" | "error",
    user: User | undefined,
    add: (answer: StunBuilder) => void,
  ): Uint8Array {
    const { software, crypto } = this.#options;
    const answer = new StunBuilder(stunClass, message.method, message.transactionId).add(Software, software);
    add(answer);
    if (user !== undefined) answer.addIntegrity(user.key, crypto);
    return answer.finish();
  }

  #transmit({ local, client }: Answerable, payload: Uint8Array): void {
    this.#transmits.push({ source: local, destination: client, payload });
  }

  #count(method: string): void {
    this.counters.successes[method] = (this.counters.successes[method] ?? 0) + 1;
  }
}

/** Whether an allocation is another user's. Portals give a client new names for its old address; that is its own then. */
function isStranger(user: User, allocation: ServerAllocation): boolean {
  return !user.isPerClient && user.username !== allocation.username;
}

function success(add: (message: StunBuilder) => void): Outcome {
  return { type: "success", add };
}

function failure(error: StunErrorCode): Outcome {
  return { type: "error", error };
}

/** Seconds. */
function lifetimeOf(message: StunMessage): number {
  return Math.min(message.get(Lifetime) ?? DEFAULT_LIFETIME, MAX_LIFETIME);
}
