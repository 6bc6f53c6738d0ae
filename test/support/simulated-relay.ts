// A relay in simulated time that does what programs of others' relays do (spec 03, section 3): nonces, allocations, channels. It knows one
// secret password for everybody, and counts what goes through.

import { IpAddress, SocketAddress } from "../../src/base/address.js";
import type { Instant } from "../../src/base/time.js";
import type { Relay } from "../../src/connection/events.js";
import {
  ChannelNumber,
  ErrorCodeAttribute,
  Lifetime,
  Nonce,
  Realm,
  Username,
  XorMappedAddress,
  XorPeerAddress,
  XorRelayedAddress,
} from "../../src/stun/attributes.js";
import { StunBuilder } from "../../src/stun/builder.js";
import { encodeChannelData, mayBeChannelData, parseChannelData } from "../../src/stun/channel-data.js";
import { Method } from "../../src/stun/header.js";
import { longTermKey, verifyIntegrity } from "../../src/stun/integrity.js";
import { parseStunMessage, type StunMessage } from "../../src/stun/message.js";
import { nodeCrypto } from "../../src/system/crypto.js";
import type { NetworkService, SimulatedNetwork } from "./simulated-network.js";

const REALM = "firezone";
const FIRST_PORT = 49152;
/** Seconds. */
const LIFETIME = 600;

interface SimulatedAllocation {
  readonly client: SocketAddress;
  readonly server: SocketAddress;
  readonly port: number;
  readonly peers: Map<number, SocketAddress>;
  readonly channels: Map<string, number>;
}

/** See the head of this file. */
export class SimulatedRelay implements NetworkService {
  readonly id: string;
  readonly addresses: readonly SocketAddress[];
  password = "secret";
  /** A relay that is down takes nothing; what it knew is lost. */
  isDown = false;
  /** Datagrams relayed, either way. */
  relayed = 0;
  /** Requests, with the code of the error that was the answer. */
  readonly requests: { readonly method: number; readonly at: Instant; readonly error: number | undefined }[] = [];
  readonly #network: SimulatedNetwork;
  /** By client. */
  readonly #allocations = new Map<string, SimulatedAllocation>();
  #nextPort = FIRST_PORT;
  #nonce = 0;

  constructor(network: SimulatedNetwork, id: string, ...addresses: readonly SocketAddress[]) {
    this.id = id;
    this.addresses = addresses;
    this.#network = network;
    network.services.push(this);
  }

  /** As the portal describes it. */
  get description(): Relay {
    return {
      id: this.id,
      ipv4: this.addresses.find(({ family }) => family === 4),
      ipv6: this.addresses.find(({ family }) => family === 6),
      username: "4102444800:salt",
      password: this.password,
      realm: REALM,
    };
  }

  get allocations(): number {
    return this.#allocations.size;
  }

  /** Forgets everything, as a restart does. */
  restart(): void {
    this.#allocations.clear();
    this.#nonce += 100;
    this.isDown = false;
  }

  serves({ ip }: SocketAddress): boolean {
    return this.addresses.some((address) => address.ip.equals(ip));
  }

  receive(source: SocketAddress, destination: SocketAddress, payload: Uint8Array, now: Instant): void {
    if (this.isDown) return;
    if (!this.addresses.some((address) => address.equals(destination))) this.#fromPeer(source, destination, payload);
    else if (mayBeChannelData(payload)) this.#fromClient(source, payload);
    else {
      const message = parseStunMessage(payload);
      if (typeof message === "string" || message.class !== "request") return;
      const answer = this.#answer(message, source, destination);
      const parsed = parseStunMessage(answer);
      const error = typeof parsed === "string" ? undefined : parsed.get(ErrorCodeAttribute)?.code;
      this.requests.push({ method: message.method, at: now, error });
      this.#network.transmit(destination, source, answer);
    }
  }

  #fromPeer(peer: SocketAddress, { port }: SocketAddress, payload: Uint8Array): void {
    const allocation = [...this.#allocations.values()].find((candidate) => candidate.port === port);
    const channel = allocation?.channels.get(peer.key);
    if (allocation === undefined || channel === undefined) return;
    this.relayed++;
    this.#network.transmit(allocation.server, allocation.client, encodeChannelData(channel, payload));
  }

  #fromClient(client: SocketAddress, datagram: Uint8Array): void {
    const allocation = this.#allocations.get(client.key);
    const message = parseChannelData(datagram);
    if (allocation === undefined || typeof message === "string") return;
    const peer = allocation.peers.get(message.channel);
    if (peer === undefined) return;
    this.relayed++;
    const own = this.addresses.find(({ family }) => family === peer.family);
    if (own !== undefined) this.#network.transmit(new SocketAddress(own.ip, allocation.port), peer, message.data);
  }

  #answer(request: StunMessage, client: SocketAddress, server: SocketAddress): Uint8Array {
    const { method, transactionId } = request;
    const success = () => new StunBuilder("success", method, transactionId);
    if (method === Method.Binding) return success().add(XorMappedAddress, client).finish();
    const username = request.get(Username);
    const error = (code: number) =>
      new StunBuilder("error", method, transactionId).add(ErrorCodeAttribute, { code, reason: "" });
    const challenge = (code: number) => error(code).add(Nonce, `nonce-${this.#nonce}`).add(Realm, REALM).finish();
    const nonce = request.get(Nonce);
    if (username === undefined || nonce === undefined) return challenge(401);
    if (nonce !== `nonce-${this.#nonce}`) return challenge(438);
    const key = longTermKey(username, REALM, this.password, nodeCrypto);
    if (!verifyIntegrity(request, key, nodeCrypto)) return challenge(401);
    const allocation = this.#allocations.get(client.key);
    const refuse = (code: number) => error(code).addIntegrity(key, nodeCrypto).finish();
    switch (method) {
      case Method.Allocate: {
        if (allocation !== undefined) return refuse(437);
        const port = this.#nextPort++;
        this.#allocations.set(client.key, { client, server, port, peers: new Map(), channels: new Map() });
        const message = success();
        for (const { ip } of this.addresses) message.add(XorRelayedAddress, new SocketAddress(ip, port));
        return message.add(XorMappedAddress, client).add(Lifetime, LIFETIME).addIntegrity(key, nodeCrypto).finish();
      }
      case Method.Refresh: {
        if (allocation === undefined) return refuse(437);
        const lifetime = request.get(Lifetime) ?? LIFETIME;
        if (lifetime === 0) this.#allocations.delete(client.key);
        return success().add(Lifetime, lifetime).addIntegrity(key, nodeCrypto).finish();
      }
      case Method.ChannelBind: {
        const peer = request.get(XorPeerAddress);
        const channel = request.get(ChannelNumber);
        if (allocation === undefined) return refuse(437);
        if (peer === undefined || channel === undefined) return refuse(400);
        allocation.peers.set(channel, peer);
        allocation.channels.set(peer.key, channel);
        return success().addIntegrity(key, nodeCrypto).finish();
      }
      default:
        return refuse(400);
    }
  }
}

/** An address of a relay, with TURN's port. */
export function relayAddress(ip: string): SocketAddress {
  const parsed = IpAddress.parse(ip);
  if (parsed === undefined) throw new Error(ip);
  return new SocketAddress(parsed, 3478);
}
