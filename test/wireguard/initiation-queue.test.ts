// Initiations that are opened elsewhere: when, in which order, and what becomes of them. The thread is simulated.

import assert from "node:assert/strict";
import { test } from "node:test";
import { IpAddress, SocketAddress } from "../../src/base/address.js";
import { toHex } from "../../src/base/bytes.js";
import type { Crypto } from "../../src/base/crypto.js";
import { SECOND } from "../../src/base/time.js";
import { nodeCrypto } from "../../src/system/crypto.js";
import { CookieGenerator } from "../../src/wireguard/cookie.js";
import { WireGuardDevice } from "../../src/wireguard/device.js";
import type { DeviceEvent } from "../../src/wireguard/device-events.js";
import { LocalIdentity } from "../../src/wireguard/identity.js";
import { type BatchResult, InitiationBlock } from "../../src/wireguard/initiation-block.js";
import {
  ALONE_BURST,
  ALONE_INTERVAL,
  BATCH_SIZE,
  type InitiationBatch,
  InitiationQueue,
  MAX_BATCHES,
  WAITING_CAPACITY,
} from "../../src/wireguard/initiation-queue.js";
import { encodeInitiation, INITIATION_LENGTH, parseMessage } from "../../src/wireguard/messages.js";
import { createInitiation, openInitiation } from "../../src/wireguard/noise.js";
import { HANDSHAKE_LIMIT } from "../../src/wireguard/rate-limit.js";
import { Tai64nClock } from "../../src/wireguard/tai64n.js";
import { repeated } from "../support/hex.js";
import { seededRandom } from "../support/random.js";

const START = 10_000;
const UNIX_TIME = 1_724_716_800_000;
const random = seededRandom(3);

const address = (a: number, b: number, port: number) =>
  new SocketAddress(IpAddress.fromBytes(Uint8Array.of(198, 18, a, b)), port);
const LOCAL = address(0, 1, 51820);

const identity = new LocalIdentity(repeated(100, 32), nodeCrypto);

/** Computes as the thread does, in memory of its own. */
function compute({ identity, initiations }: InitiationBatch): BatchResult[] {
  return initiations.map(({ message }) => openInitiation(nodeCrypto, identity, message));
}

/** A device that lets batches be computed, with peers; it counts the Diffie-Hellman computations that it does itself. */
class Responder {
  computations = 0;
  readonly device: WireGuardDevice;
  readonly peers: readonly LocalIdentity[];

  constructor(peers: number) {
    const crypto: Crypto = {
      ...nodeCrypto,
      x25519: (privateKey, publicKey) => {
        this.computations++;
        return nodeCrypto.x25519(privateKey, publicKey);
      },
    };
    this.device = new WireGuardDevice({
      crypto,
      random: seededRandom(1),
      clock: new Tai64nClock(START, UNIX_TIME),
      maxPeers: 1000,
      maxAllowedIps: 10,
      batches: true,
    });
    this.peers = Array.from({ length: peers }, () => LocalIdentity.generate(random, nodeCrypto));
    const changes = this.peers.map(({ publicKey }) => ({ publicKey, allowedIps: [] }));
    this.device.configure({ privateKey: identity.privateKey, peers: changes }, START);
    this.device.handleBound(LOCAL.port);
    this.events();
    this.computations = 0;
  }

  /** An initiation of peer `i`, from an address of its own. */
  handleInitiationOf(i: number, now: number): void {
    const peer = this.peers[i];
    assert.ok(peer);
    this.device.handleDatagram(LOCAL, addressOf(i), initiationOf(peer, now), now);
  }

  batches(): InitiationBatch[] {
    const batches: InitiationBatch[] = [];
    for (let batch = this.device.pollBatch(); batch !== undefined; batch = this.device.pollBatch()) batches.push(batch);
    return batches;
  }

  events(): DeviceEvent[] {
    const events: DeviceEvent[] = [];
    for (let event = this.device.pollEvent(); event !== undefined; event = this.device.pollEvent()) events.push(event);
    return events;
  }

  /** Whose initiations have been answered since the last call, in order. */
  answered(): number[] {
    const names = this.events().flatMap((event) => (event.type === "session-established" ? [event.connection] : []));
    return names.map((name) => this.peers.findIndex(({ publicKey }) => toHex(publicKey) === name));
  }

  refused(): string[] {
    return this.events().flatMap((event) => (event.type === "handshake-refused" ? [event.error] : []));
  }
}

const addressOf = (i: number) => address(1 + (i >> 8), i & 0xff, 4000);

function initiationOf(peer: LocalIdentity, now: number): Uint8Array {
  const staticStatic = nodeCrypto.x25519(peer.privateKey, identity.publicKey);
  assert.ok(staticStatic);
  const initiation = createInitiation(nodeCrypto, {
    identity: peer,
    remotePublicKey: identity.publicKey,
    staticStatic,
    ephemeralPrivateKey: random.bytes(32),
    localIndex: 7,
    timestamp: new Tai64nClock(START, UNIX_TIME).stamp(now),
  });
  assert.ok(initiation);
  new CookieGenerator(identity.publicKey, nodeCrypto).addMacs(initiation.message, 7, now);
  return initiation.message;
}

/** What whoever knows the public key can send. */
function strangersInitiation(): Uint8Array {
  const message = encodeInitiation({
    senderIndex: 7,
    ephemeral: random.bytes(32),
    encryptedStatic: random.bytes(48),
    encryptedTimestamp: random.bytes(28),
  });
  new CookieGenerator(identity.publicKey, nodeCrypto).addMacs(message, 7, START);
  return message;
}

const count = (length: number, from = 0) => Array.from({ length }, (_, i) => from + i);

test("initiations that come alone are answered at once; of many together the first ones are, the others in batches", () => {
  const responder = new Responder(10);
  for (const i of count(4)) responder.handleInitiationOf(i, START + i * ALONE_INTERVAL);
  assert.deepEqual(responder.answered(), [0, 1, 2, 3]);
  assert.deepEqual(responder.batches(), []);

  const later = START + SECOND;
  for (const i of count(6, 4)) responder.handleInitiationOf(i, later);
  assert.deepEqual(responder.answered(), count(ALONE_BURST, 4));
  const [batch, ...others] = responder.batches();
  assert.ok(batch);
  assert.deepEqual([batch.initiations.length, others], [6 - ALONE_BURST, []]);
  responder.computations = 0;
  responder.handleInitiationOf(0, later + SECOND);
  assert.deepEqual(responder.answered(), [], "while a batch is in flight, none is opened at once");
  responder.device.handleBatch(batch.id, compute(batch), later + SECOND);
  assert.deepEqual(responder.answered(), count(6 - ALONE_BURST, 4 + ALONE_BURST));
  assert.equal(responder.computations, 2 * (6 - ALONE_BURST), "of each answer the two with our ephemeral key");
  const transmits = count(10).map(() => responder.device.pollTransmit()?.destination.toString());
  assert.deepEqual(
    transmits,
    count(10).map((i) => addressOf(i).toString()),
  );
});

test("order is kept: nothing is opened at once while some wait or are in flight, and batches are bounded in size and number", () => {
  const peers = ALONE_BURST + MAX_BATCHES * BATCH_SIZE + 3;
  const responder = new Responder(peers + 1);
  for (const i of count(peers)) responder.handleInitiationOf(i, START);
  const batches = responder.batches();
  assert.deepEqual(
    batches.map(({ initiations }) => initiations.length),
    Array(MAX_BATCHES).fill(BATCH_SIZE),
  );
  responder.handleInitiationOf(peers, START + SECOND);
  assert.deepEqual(responder.answered(), count(ALONE_BURST));
  for (let batch = batches.shift(); batch !== undefined; batch = batches.shift()) {
    responder.device.handleBatch(batch.id, compute(batch), START + SECOND);
    batches.push(...responder.batches());
  }
  assert.deepEqual(responder.answered(), count(peers + 1 - ALONE_BURST, ALONE_BURST));
  assert.equal(responder.device.batchCounters.batched, peers + 1 - ALONE_BURST);
});

test("initiations that find too many waiting are dropped and counted", () => {
  const queue = new InitiationQueue();
  const message = parseMessage(strangersInitiation());
  assert.ok(message?.type === "initiation");
  const waiting = (port: number) => ({ message, local: LOCAL, from: address(9, 9, port), length: INITIATION_LENGTH });
  for (const port of count(WAITING_CAPACITY)) assert.equal(queue.push(waiting(port)), true);
  assert.equal(queue.push(waiting(65_000)), false);
  assert.equal(queue.counters.full, 1);
  const ports = [];
  for (let batch = queue.poll(identity); batch !== undefined; batch = queue.poll(identity))
    ports.push(...queue.complete(batch.id).map(({ from }) => from.port));
  assert.deepEqual(ports, count(WAITING_CAPACITY), "those that came first stay, in order");

  // The device says so: senders that prove their address by cookies could fill the queue, those without one do not get so far.
  const responder = new Responder(0);
  const generators = new Map<number, CookieGenerator>();
  for (let source = 0; responder.device.batchCounters.full === 0; source++) {
    assert.ok(source < 3000);
    const generator = generators.get(source % 1000) ?? new CookieGenerator(identity.publicKey, nodeCrypto);
    generators.set(source % 1000, generator);
    const datagram = strangersInitiation();
    generator.addMacs(datagram, 7, START);
    responder.device.handleDatagram(LOCAL, addressOf(source % 1000), datagram, START);
    const reply = parseMessage(responder.device.pollTransmit()?.payload ?? new Uint8Array());
    if (reply?.type === "cookie-reply") generator.consumeReply(reply, START);
  }
  assert.ok(responder.refused().includes("UnderLoad"));
});

test("a flood of strangers costs the control plane no more computations than a few at once", () => {
  const responder = new Responder(1);
  for (const i of count(5000)) {
    responder.device.handleDatagram(LOCAL, addressOf(i % 40), strangersInitiation(), START + i / 5);
    if (i % 40 === 0)
      for (const batch of responder.batches()) responder.device.handleBatch(batch.id, compute(batch), START + i / 5);
  }
  assert.ok(responder.computations < 10, `${responder.computations}`);
  const { batched } = responder.device.batchCounters;
  assert.ok(
    batched > HANDSHAKE_LIMIT - 10 && batched <= HANDSHAKE_LIMIT,
    `${batched}: the others have been asked for cookies`,
  );
  assert.deepEqual(new Set(responder.refused()), new Set(["InvalidAeadTag"]));
  responder.handleInitiationOf(0, START + 2 * SECOND);
  for (const batch of responder.batches()) responder.device.handleBatch(batch.id, compute(batch), START + 2 * SECOND);
  assert.deepEqual(responder.answered(), [0], "a peer is served afterwards");
});

test("another private key drops what waits and what is in flight, counted; a late result is wiped and changes nothing", () => {
  const responder = new Responder(20);
  for (const i of count(20)) responder.handleInitiationOf(i, START);
  const [first] = responder.batches();
  assert.ok(first);
  const results = compute(first);
  responder.events();
  responder.device.configure({ privateKey: repeated(101, 32), peers: [] }, START + 1);
  assert.equal(responder.device.batchCounters.outdated, 20 - ALONE_BURST);
  assert.deepEqual(responder.batches(), []);
  responder.events();
  responder.device.handleBatch(first.id, results, START + 2);
  assert.deepEqual(responder.events(), []);
  for (const result of results)
    assert.ok(typeof result === "object" && result.symmetric.chainingKey.every((byte) => byte === 0));
  assert.ok(
    identityOf(first).every((byte) => byte === 0),
    "the device has wiped its copy of the old key",
  );
});

const identityOf = (batch: InitiationBatch) => batch.identity.privateKey;

test("results are wiped after use; a peer that was removed meanwhile is a stranger", () => {
  const responder = new Responder(6);
  for (const i of count(6)) responder.handleInitiationOf(i, START);
  const [batch] = responder.batches();
  const removed = responder.peers[3];
  assert.ok(batch && removed);
  responder.device.configure({ peers: [{ publicKey: removed.publicKey, remove: true, allowedIps: [] }] }, START);
  responder.events();
  const results = compute(batch);
  responder.device.handleBatch(batch.id, results, START + 1);
  const events = responder.events();
  assert.deepEqual(
    events.filter(({ type }) => type === "handshake-refused"),
    [{ type: "handshake-refused", from: addressOf(3), error: "WrongKey" }],
  );
  assert.equal(events.filter(({ type }) => type === "session-established").length, 3);
  for (const result of results)
    assert.ok(typeof result === "object" && result.symmetric.chainingKey.every((byte) => byte === 0));
});

test("a batch that could not be computed is counted, and the next initiation is answered", () => {
  const responder = new Responder(6);
  for (const i of count(6)) responder.handleInitiationOf(i, START);
  const [batch] = responder.batches();
  assert.ok(batch);
  responder.answered();
  responder.device.handleBatch(batch.id, undefined, START + 1);
  assert.equal(responder.device.batchCounters.failed, 6 - ALONE_BURST);
  responder.device.handleBatch(batch.id, compute(batch), START + 2);
  assert.deepEqual(responder.answered(), [], "a second answer means nothing");
  responder.handleInitiationOf(5, START + SECOND);
  assert.deepEqual(responder.answered(), [5]);
});

test("whitepaper, 2.1: an answer in a batch leaves from where the initiation came to, unless that may be gone", () => {
  for (const change of [false, true]) {
    const responder = new Responder(4);
    for (const i of count(4)) responder.handleInitiationOf(i, START);
    const [batch] = responder.batches();
    assert.ok(batch);
    if (change) responder.device.handleNetworkChange();
    while (responder.device.pollTransmit() !== undefined);
    responder.device.handleBatch(batch.id, compute(batch), START + 1);
    const sources = count(2).map(() => responder.device.pollTransmit()?.source?.toString());
    assert.deepEqual(sources, Array(2).fill(change ? undefined : LOCAL.toString()));
  }
});

test("shared memory: answers are those of the same function in line, and nothing secret is left in it", () => {
  const queue = new InitiationQueue();
  const peer = LocalIdentity.generate(random, nodeCrypto);
  const lowOrder = strangersInitiation();
  lowOrder.fill(0, 8, 40);
  for (const datagram of [initiationOf(peer, START), strangersInitiation(), lowOrder]) {
    const message = parseMessage(datagram);
    assert.ok(message?.type === "initiation");
    queue.push({ message, local: LOCAL, from: LOCAL, length: datagram.length });
  }
  const batch = queue.poll(identity);
  assert.ok(batch);
  const block = new InitiationBlock();
  block.write(batch);
  assert.equal(block.read(0), undefined, "nothing is computed yet");
  const memory = new Uint8Array(block.memory);
  const holds = (secret: Uint8Array) => toHex(memory.slice()).includes(toHex(secret));
  assert.ok(holds(identity.privateKey));

  new InitiationBlock(block.memory).compute(nodeCrypto, 3);
  assert.ok(!holds(identity.privateKey), "the key is wiped when the task ends");
  const [expected] = compute(batch);
  const [opened, ...refused] = count(3).map((i) => block.read(i));
  assert.ok(typeof opened === "object" && typeof expected === "object");
  assert.deepEqual(opened.staticPublicKey, peer.publicKey);
  assert.deepEqual(opened.symmetric, expected.symmetric);
  assert.deepEqual(refused, ["InvalidAeadTag", "WrongKey"]);
  assert.ok(holds(opened.symmetric.chainingKey));
  block.write(batch);
  assert.equal(block.read(0), undefined, "what was asked anew is not answered by what was computed before");
  block.wipe();
  assert.ok(memory.every((byte) => byte === 0));
});
