// Many clients of a TURN server in one process: each has an allocation, which it refreshes. A few sockets stand for all of them, because a
// client is a source address and a port: 127.1.0.0/16 are addresses of every Linux host.
//
//    arguments: server's address and port, user, password, clients, new ones per second, seconds to refresh for, lifetime to ask for
//    prints a line of JSON when all have an allocation, and one at the end: ClientsReport
//
// No client waits for its refresh to be due: all are refreshed in turn, at an even rate, twice per lifetime.

import { IpAddress, SocketAddress } from "../../src/base/address.js";
import { toHex } from "../../src/base/bytes.js";
import { ErrorCodeAttribute, Lifetime, Nonce, Realm, RequestedTransport, Username } from "../../src/stun/attributes.js";
import { StunBuilder } from "../../src/stun/builder.js";
import { Method } from "../../src/stun/header.js";
import { longTermKey } from "../../src/stun/integrity.js";
import { parseStunMessage, type StunMessage } from "../../src/stun/message.js";
import { nodeCrypto, systemRandom } from "../../src/system/crypto.js";
import { allocate, MSG_DONTWAIT, POLLIN, recvfrom } from "../../src/system/linux/libc.js";
import { PollSet } from "../../src/system/linux/poll.js";
import { bindUdp } from "../../src/system/linux/udp.js";
import { UdpSender } from "../../src/system/linux/udp-message.js";

/** What the clients say. */
export interface ClientsReport {
  /** Clients that have an allocation. */
  readonly allocated: number;
  readonly refreshes: number;
  /** Requests that were answered by an error other than the first 401, by code. */
  readonly errors: Readonly<Record<number, number>>;
  /** Requests that had no answer in time and were repeated. */
  readonly repeated: number;
  /** Seconds since the start. */
  readonly seconds: number;
}

/** Sockets; the clients are spread over them. */
const SOCKETS = 16;
/** Time after which a request is repeated, in milliseconds (RFC 8489, section 6.2.1: 500). */
const REPEAT_AFTER = 500;
const MAX_DATAGRAM = 2048;

interface Client {
  readonly fd: number;
  readonly source: SocketAddress;
  allocated: boolean;
}

interface Pending {
  readonly client: Client;
  readonly method: number;
  readonly sentAt: number;
}

const [address = "", user = "", password = "", ...numbers] = process.argv.slice(2);
const [count = 0, rate = 0, duration = 0, lifetime = 0] = numbers.map(Number);
const server = SocketAddress.parse(address);
if (server === undefined) throw new RangeError(`"${address}" is no address`);

const sockets = Array.from({ length: SOCKETS }, () => {
  const binding = bindUdp({ port: 0, families: [4], offloads: false });
  return { fd: binding.ipv4?.fds[0] ?? -1, port: binding.ipv4?.port ?? 0 };
});
const pollSet = new PollSet(SOCKETS);
for (const [i, { fd }] of sockets.entries()) pollSet.set(i, fd, POLLIN);
const clients = Array.from({ length: count }, (_, i): Client => {
  const { fd, port } = sockets[i % SOCKETS] ?? { fd: -1, port: 0 };
  const number = Math.floor(i / SOCKETS);
  const ip = IpAddress.fromBytes(Uint8Array.of(127, 1, number >> 8, number & 255));
  return { fd, source: new SocketAddress(ip, port), allocated: false };
});

const sender = new UdpSender();
const buffer = allocate(MAX_DATAGRAM);
const pending = new Map<string, Pending>();
const nonces = new Map<Client, string>();
const errors: Record<number, number> = {};
let realm = "";
let key: Uint8Array = new Uint8Array();
let allocated = 0;
let refreshes = 0;
let repeated = 0;

function request(client: Client, method: number, now: number): void {
  if (server === undefined) return;
  const id = systemRandom.bytes(12);
  const message = new StunBuilder("request", method, id);
  if (method === Method.Allocate) message.add(RequestedTransport, 17);
  message.add(Lifetime, lifetime);
  const nonce = nonces.get(client);
  if (nonce !== undefined)
    message.add(Username, user).add(Realm, realm).add(Nonce, nonce).addIntegrity(key, nodeCrypto);
  pending.set(toHex(id), { client, method, sentAt: now });
  sender.send(client.fd, { source: client.source, destination: server, payload: message.finish() });
}

function handle(message: StunMessage, now: number): void {
  const known = pending.get(message.transactionKey);
  if (known === undefined) return;
  pending.delete(message.transactionKey);
  const { client, method } = known;
  if (message.class === "success") {
    if (method === Method.Refresh) refreshes++;
    else if (!client.allocated) {
      client.allocated = true;
      allocated++;
    }
    return;
  }
  const code = message.get(ErrorCodeAttribute)?.code ?? 0;
  const nonce = message.get(Nonce);
  if (code === 401 && nonce !== undefined && !nonces.has(client)) {
    nonces.set(client, nonce);
    if (realm === "") {
      realm = message.get(Realm) ?? "";
      key = longTermKey(user, realm, password, nodeCrypto);
    }
    request(client, method, now);
    return;
  }
  errors[code] = (errors[code] ?? 0) + 1;
}

function receive(now: number): void {
  for (let i = 0; i < SOCKETS; i++) {
    if ((pollSet.ready(i) & POLLIN) === 0) continue;
    for (;;) {
      const length = recvfrom(sockets[i]?.fd ?? -1, buffer.address, MAX_DATAGRAM, MSG_DONTWAIT, 0, 0);
      if (length < 0) break;
      const message = parseStunMessage(buffer.bytes.slice(0, length));
      if (typeof message !== "string") handle(message, now);
    }
  }
}

/** Repeats what has had no answer; the oldest come first. */
function repeat(now: number): void {
  for (const [id, { client, method, sentAt }] of pending) {
    if (now - sentAt < REPEAT_AFTER) return;
    pending.delete(id);
    repeated++;
    request(client, method, now);
  }
}

function report(now: number): void {
  const line: ClientsReport = { allocated, refreshes, errors, repeated, seconds: (now - start) / 1000 };
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

const start = performance.now();
let created = 0;
let refreshed = 0;
let allAt = 0;
for (;;) {
  pollSet.wait(1);
  const now = performance.now();
  receive(now);
  repeat(now);
  for (const due = Math.min(count, ((now - start) * rate) / 1000); created < due; created++) {
    const client = clients[created];
    if (client !== undefined) request(client, Method.Allocate, now);
  }
  // As soon as there are clients, each is refreshed after half of its lifetime, in the order in which they came.
  const halves = ((now - start) * 2) / (lifetime * 1000);
  const perHalf = Math.min(count, (rate * lifetime) / 2);
  for (const due = (halves - 1) * perHalf; refreshed < due && created > 0; refreshed++) {
    const client = clients[refreshed % count];
    if (client?.allocated === true) request(client, Method.Refresh, now);
  }
  if (allocated === count && allAt === 0) {
    allAt = now;
    report(now);
  }
  if (allAt > 0 && now - allAt >= duration * 1000) break;
}
report(performance.now());
