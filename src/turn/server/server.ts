// A TURN server (RFC 8656; spec 03, section 3, with the later behaviour): requests in, answers out. Data on channels goes through the
// datapath, which hears of channels by events; here is what remains, and what a relay without a datapath needs.
//
//   request ─► sound? ─► credentials? nonce? integrity? ─► known attributes? ─► allocation of this user? ─► do it
//             400, 500       401       438      401               420                  437, 441
//
// Who asks is found out in authentication.ts, what is answered is made in answers.ts, allocations are kept in allocation-table.ts: here is what each
// method does.

import { type AddressFamily, type IpAddress, SocketAddress } from "../../base/address.js";
import { EventQueue } from "../../base/event-queue.js";
import { BoundedQueue } from "../../base/queue.js";
import type { StateMachine, Transmit } from "../../base/state-machine.js";
import { type Instant, SECOND, type UnixTime } from "../../base/time.js";
import {
  AdditionalAddressFamily,
  ChannelNumber,
  Data,
  EvenPort,
  Lifetime,
  RequestedAddressFamily,
  RequestedTransport,
  ReservationToken,
  TRANSPORT_UDP,
  XorMappedAddress,
  XorPeerAddress,
  XorRelayedAddress,
} from "../../stun/attributes.js";
import { StunBuilder } from "../../stun/builder.js";
import { encodeChannelData, mayBeClientChannelData, parseChannelData } from "../../stun/channel-data.js";
import { ErrorCode } from "../../stun/error-code.js";
import { Method, parseHeader, TRANSACTION_ID_LENGTH } from "../../stun/header.js";
import { parseStunMessage, type StunMessage } from "../../stun/message.js";
import { FAMILY_IPV4, FAMILY_IPV6 } from "../../stun/xor-address.js";
import type { ServerAllocation, ServerChannel } from "./allocation.js";
import { AllocationTable } from "./allocation-table.js";
import { type Answerable, Answers, failure, isServed, notUnderstood, type Outcome, success } from "./answers.js";
import { Authenticator, type User } from "./authentication.js";
import type { DeletionReason, TurnServerCounters, TurnServerEvent, TurnServerOptions } from "./events.js";
import { PeerPolicy } from "./peer-policy.js";
import { faultOf, unknownAttributes } from "./request-check.js";

/** Lifetime of an allocation whose client asks for none, in seconds (RFC 8656, section 7.2). */
export const DEFAULT_LIFETIME = 600;
/** Longest lifetime, in seconds. */
export const MAX_LIFETIME = 3600;
/** EVEN-PORT's R flag (RFC 8656, section 18.7). */
const RESERVE_NEXT_PORT = 0x80;
/** Answers that wait to be fetched; the oldest has to go first. The owner fetches after every batch. */
const MAX_QUEUED_TRANSMITS = 8192;

/** A request and who it is from. */
interface Request extends Answerable {
  readonly message: StunMessage;
  readonly now: Instant;
  readonly unixNow: UnixTime;
}

/** See the head of this file. */
export class TurnServer implements StateMachine<TurnServerEvent> {
  readonly counters: TurnServerCounters = { successes: {}, errors: {}, limited: 0, malformed: 0, unrelayed: 0 };
  readonly #options: TurnServerOptions;
  readonly #authenticator: Authenticator;
  readonly #policy: PeerPolicy;
  readonly #answers: Answers;
  readonly #allocations: AllocationTable;
  readonly #transmits = new BoundedQueue<Transmit>(MAX_QUEUED_TRANSMITS, "drop-oldest");
  readonly #events = new EventQueue<TurnServerEvent>();
  #channels = 0;

  constructor(options: TurnServerOptions) {
    const { ipv4, ipv6, lowestPort, highestPort, random, crypto, software } = options;
    this.#options = options;
    this.#authenticator = new Authenticator(options.users, random, crypto);
    this.#allocations = new AllocationTable(options);
    const transmit = (answer: Transmit) => this.#transmits.push(answer);
    this.#answers = new Answers({ software, crypto, counters: this.counters, transmit });
    this.#policy = new PeerPolicy({
      own: [ipv4, ipv6].filter((address) => address !== undefined),
      lowestPort,
      highestPort,
      denyPrivate: options.denyPrivatePeers,
      allowLoopback: options.allowLoopbackPeers === true,
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
      if (message === "truncated-attribute") this.#refuseTruncated(datagram, client, local, now);
      return;
    }
    if (message.class === "indication" && message.method === Method.Send) this.#handleSend(message, client, now);
    else if (message.class === "request") this.#handleRequest({ message, client, local, now, unixNow });
  }

  /** Data of a peer that came to an allocation's port, and that no channel of the datapath explains. */
  handlePeerData(port: number, peer: SocketAddress, data: Uint8Array, now: Instant): void {
    const allocation = this.#allocations.atPort(port);
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
    for (const allocation of this.#allocations.takeDue(now)) {
      if (allocation.expiresAt <= now) {
        this.#delete(allocation, "expired");
        continue;
      }
      for (const channel of allocation.expire(now)) this.#emitChannel("channel-unbound", allocation, channel);
      this.#allocations.reschedule(allocation);
    }
  }

  pollTimeout(): Instant | undefined {
    return this.#allocations.nextDeadline();
  }

  pollTransmit(): Transmit | undefined {
    return this.#transmits.shift();
  }

  pollEvent(): TurnServerEvent | undefined {
    return this.#events.shift();
  }

  // ---- Requests

  #handleRequest(request: Request): void {
    const { message, client } = request;
    const fault = faultOf(message);
    const unknown = unknownAttributes(message);
    if (fault !== undefined) {
      this.#answerStranger(request, failure(fault));
    } else if (message.method === Method.Binding) {
      const mapped = success((answer) => answer.add(XorMappedAddress, client));
      this.#answerStranger(request, unknown.length > 0 ? notUnderstood(unknown) : mapped);
    } else if (!isServed(message.method)) {
      this.#answerStranger(request, failure(ErrorCode.BadRequest));
    } else {
      const user = this.#authenticate(request);
      if (user === undefined) return;
      const outcome = unknown.length > 0 ? notUnderstood(unknown) : this.#perform(request, user);
      this.#answers.send(request, outcome, user.key);
    }
  }

  /** Answers a request without asking whose it is. */
  #answerStranger(request: Answerable & Pick<Request, "now">, outcome: Outcome): void {
    if (this.#answers.mayAnswer(request.client, request.now)) this.#answers.send(request, outcome, undefined);
  }

  /** A request whose attributes do not fit into it, but whose header does (spec 03, section 1.8). */
  #refuseTruncated(datagram: Uint8Array, client: SocketAddress, local: SocketAddress, now: Instant): void {
    const message = parseHeader(datagram);
    if (typeof message === "string" || message.class !== "request") return;
    this.#answerStranger({ message, client, local, now }, failure(ErrorCode.ServerError));
  }

  /** Whose request it is; `undefined`: it was refused. */
  #authenticate(request: Request): User | undefined {
    const { message, client, now, unixNow } = request;
    const authentication = this.#authenticator.authenticate(message, client, now, unixNow);
    if (authentication.type === "accepted") return authentication.user;
    if (!this.#answers.mayAnswer(client, now)) return undefined;
    const { key, explain } = this.#authenticator.challenge(message, authentication.claimed, client, now);
    this.#answers.send(request, { type: "error", error: authentication.error, explain }, key);
    return undefined;
  }

  #perform(request: Request, user: User): Outcome {
    const { message, client } = request;
    const allocation = this.#allocations.ofClient(client);
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

  #allocate(request: Request, user: User, existing: ServerAllocation | undefined): Outcome {
    const { message, client, local, now } = request;
    if (existing !== undefined) {
      if (existing.transaction === message.transactionKey && existing.username === user.username) {
        // A repetition: the first answer was lost, or is still on its way. It has the same answer.
        return { type: "repeated", add: (answer) => this.#describe(existing, answer) };
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
    if (user.isPerClient) for (const other of this.#allocations.ofUser(user.username)) this.#delete(other, "replaced");
    const { username } = user;
    const transaction = message.transactionKey;
    const allocation = this.#allocations.create(
      { client, local, username, families, now, lifetime: lifetimeOf(message), transaction },
      { mustBeEven: evenPort !== undefined },
    );
    if (allocation === "quota-reached") return failure(ErrorCode.AllocationQuotaReached);
    if (allocation === "no-capacity") return failure(ErrorCode.InsufficientCapacity);
    this.#events.push({ type: "allocation-created", client, port: allocation.port, username });
    return success((answer) => this.#describe(allocation, answer));
  }

  /** What the answer to the request that makes an allocation says. */
  #describe({ client, port, families, lifetime }: ServerAllocation, answer: StunBuilder): void {
    for (const family of families) {
      const ip = this.#publicAddress(family);
      if (ip !== undefined) answer.add(XorRelayedAddress, new SocketAddress(ip, port));
    }
    answer.add(XorMappedAddress, client).add(Lifetime, lifetime);
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

  #refresh({ message, now }: Request, allocation: ServerAllocation): Outcome {
    const lifetime = lifetimeOf(message);
    if (lifetime === 0) {
      this.#delete(allocation, "refreshed-to-zero");
    } else {
      allocation.expiresAt = now + lifetime * SECOND;
      this.#allocations.reschedule(allocation);
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
    this.#allocations.reschedule(allocation);
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
    this.#allocations.reschedule(allocation);
    return success(() => undefined);
  }

  // ---- Data

  #handleChannelData(client: SocketAddress, datagram: Uint8Array): void {
    const message = parseChannelData(datagram);
    const allocation = this.#allocations.ofClient(client);
    const channel = typeof message === "string" ? undefined : allocation?.channel(message.channel);
    if (typeof message === "string" || allocation === undefined || channel === undefined) {
      this.counters.unrelayed++;
      return;
    }
    const { peer } = channel;
    this.#events.push({ type: "send-to-peer", allocationPort: allocation.port, peer, data: message.data });
  }

  #handleSend(message: StunMessage, client: SocketAddress, now: Instant): void {
    const allocation = this.#allocations.ofClient(client);
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
    const { client, port } = allocation;
    for (const channel of allocation.boundChannels) this.#emitChannel("channel-unbound", allocation, channel);
    this.#allocations.remove(allocation);
    this.#events.push({ type: "allocation-deleted", client, port, reason });
  }

  #emitChannel(type: "channel-bound" | "channel-unbound", allocation: ServerAllocation, channel: ServerChannel): void {
    const { client, local, port } = allocation;
    if (type === "channel-unbound") this.#channels--;
    this.#events.push({ type, client, local, channel: channel.number, peer: channel.peer, allocationPort: port });
  }
}

/** Whether an allocation is another user's. Portals give a client new names for its old address; that is its own then. */
function isStranger(user: User, allocation: ServerAllocation): boolean {
  return !user.isPerClient && user.username !== allocation.username;
}

/** Seconds. */
function lifetimeOf(message: StunMessage): number {
  return Math.min(message.get(Lifetime) ?? DEFAULT_LIFETIME, MAX_LIFETIME);
}
