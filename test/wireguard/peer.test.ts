// Two peers in simulated time: the life of handshakes and sessions.

import assert from "node:assert/strict";
import { test } from "node:test";
import { IpAddress, SocketAddress } from "../../src/base/address.js";
import { viewOf } from "../../src/base/bytes.js";
import { MINUTE, SECOND } from "../../src/base/time.js";
import { nodeCrypto } from "../../src/system/crypto.js";
import { LocalIdentity } from "../../src/wireguard/identity.js";
import { PeerIndices, peerIndexOf } from "../../src/wireguard/indices.js";
import { macFields, parseMessage } from "../../src/wireguard/messages.js";
import { Peer } from "../../src/wireguard/peer.js";
import type { PeerEvent } from "../../src/wireguard/peer-events.js";
import { Tai64nClock } from "../../src/wireguard/tai64n.js";
import { repeated } from "../support/hex.js";
import { seededRandom } from "../support/random.js";
import { type SimulatedPeer, START, WireGuardNetwork } from "../support/wireguard-network.js";

const packet = (number: number) => {
  const bytes = new Uint8Array(32).fill(0x45, 0, 1);
  viewOf(bytes).setUint32(28, number);
  return bytes;
};

const numberOf = (bytes: Uint8Array) => viewOf(bytes).getUint32(28);

const typesOf = (datagrams: readonly Uint8Array[]) => datagrams.map((datagram) => parseMessage(datagram)?.type);

const eventsOf = (side: SimulatedPeer, type: PeerEvent["type"]) => side.events.filter((event) => event.type === type);

/** Hands everything in `from`'s outbox to `to`, at once. */
function pass(network: WireGuardNetwork, from: SimulatedPeer, to: SimulatedPeer): Uint8Array[] {
  const datagrams = from.takeOutbox();
  for (const datagram of datagrams) to.receive(datagram, from.address, network.now);
  return datagrams;
}

test("spec 02, 15.4.1: initiation, response, keepalive; after the keepalive the responder can send", () => {
  const network = new WireGuardNetwork();
  const { left, right } = network;
  assert.equal(left.initiate(network.now), true);
  assert.deepEqual(typesOf(pass(network, left, right)), ["initiation"]);
  assert.equal(right.peer.isConnected, false);
  assert.deepEqual(typesOf(pass(network, right, left)), ["response"]);
  assert.equal(left.peer.isConnected, true);
  right.sendPacket(packet(1), network.now);
  assert.equal(right.peer.isConnected, false, "not before the initiator has shown that it has the keys");
  assert.deepEqual(typesOf(pass(network, left, right)), ["transport"]);
  assert.equal(right.peer.isConnected, true);
  // The packet had to start a handshake of its own, which left before the session was confirmed.
  assert.deepEqual(typesOf(pass(network, right, left)), ["initiation", "transport"]);
  assert.deepEqual(left.delivered.map(numberOf), [1]);
  assert.deepEqual(left.errors, []);
});

test("spec 02, 15.4.2: timers right after a handshake produce nothing", () => {
  const network = new WireGuardNetwork();
  const { left, right } = network;
  left.initiate(network.now);
  network.wait(100);
  const sent = network.sent.length;
  for (const side of [left, right]) {
    side.handleTimeout(network.now);
    assert.deepEqual(side.takeOutbox(), []);
  }
  network.wait(9 * SECOND);
  assert.equal(network.sent.length, sent);
});

test("spec 02, 15.4.3: with one data packet sent, the initiator asks for a new session at 120 s; the responder does not", () => {
  const network = new WireGuardNetwork();
  const { left, right } = network;
  left.sendPacket(packet(1), network.now);
  network.wait(SECOND);
  right.sendPacket(packet(2), network.now);
  network.run(START + 120 * SECOND - 1);
  assert.equal(network.count("initiation"), 1);
  network.run(START + 122 * SECOND);
  assert.equal(network.count("initiation", left), 2);
  assert.equal(network.count("initiation", right), 0);
  assert.equal(left.sessions.length, 2, "the old session still receives");
  network.run(START + 181 * SECOND);
  assert.equal(left.sessions.length, 1);
  assert.equal(right.sessions.length, 1);
});

test("spec 02, 15.4.4: an unanswered initiation is repeated after 5 s and up to 333 ms as a new one, for 90 s", () => {
  const network = new WireGuardNetwork({ loss: 100 });
  const { left } = network;
  left.sendPacket(packet(1), network.now);
  network.run(START + 200 * SECOND);
  const initiations = network.sent.map(({ at, datagram }) => ({ at, message: parseMessage(datagram) }));
  assert.ok(initiations.length >= 17 && initiations.length <= 18, `${initiations.length}`);
  const indices = new Set<number>();
  const ephemerals = new Set<string>();
  for (const [i, { at, message }] of initiations.entries()) {
    assert.ok(message?.type === "initiation");
    indices.add(message.senderIndex);
    ephemerals.add(message.ephemeral.join());
    const before = initiations[i - 1]?.at;
    if (before !== undefined) assert.ok(at - before >= 5000 && at - before <= 5333, `${at - before} ms`);
  }
  assert.equal(indices.size, initiations.length);
  assert.equal(ephemerals.size, initiations.length);
  assert.ok((initiations.at(-1)?.at ?? 0) < START + 90 * SECOND);
  assert.deepEqual(eventsOf(left, "expired"), [{ type: "expired", reason: "no-answer" }]);
  assert.equal(left.peer.droppedPackets, 1, "the waiting packet is dropped and counted");

  // The next packet starts again.
  network.loss = 0;
  left.sendPacket(packet(2), network.now);
  network.wait(SECOND);
  assert.deepEqual(network.right.delivered.map(numberOf), [2]);
});

test("spec 02, 15.6.3: crossing initiations: both sides can send and receive on either session", () => {
  const network = new WireGuardNetwork();
  const { left, right } = network;
  left.initiate(network.now);
  right.initiate(network.now);
  network.wait(50);
  assert.deepEqual([left.sessions.length, right.sessions.length], [2, 2]);
  assert.equal(network.count("response"), 2);
  left.sendPacket(packet(1), network.now);
  right.sendPacket(packet(2), network.now);
  network.wait(4 * MINUTE);
  assert.deepEqual([right.delivered.map(numberOf), left.delivered.map(numberOf)], [[1], [2]]);
  assert.deepEqual([left.errors, right.errors], [[], []]);
});

test("spec 02, 15.6.3: crossing initiations whose answers are lost end in a session all the same", () => {
  for (let seed = 1; seed <= 5; seed++) {
    const network = new WireGuardNetwork({ seed });
    const { left, right } = network;
    left.sendPacket(packet(1), network.now);
    right.sendPacket(packet(2), network.now);
    const [first, second] = [left.takeOutbox(), right.takeOutbox()];
    assert.ok(first[0] && second[0]);
    left.receive(second[0], right.address, network.now);
    right.receive(first[0], left.address, network.now);
    assert.deepEqual(typesOf([...left.takeOutbox(), ...right.takeOutbox()]), ["response", "response"]);
    network.wait(12 * SECOND);
    assert.deepEqual([right.delivered.map(numberOf), left.delivered.map(numberOf)], [[1], [2]], `seed ${seed}`);
  }
});

test("spec 02, 15.6.4: the answer to the initiation before the last completes the handshake; to an older one it does not", () => {
  const network = new WireGuardNetwork();
  const { left, right } = network;
  const initiations: Uint8Array[] = [];
  left.initiate(network.now);
  for (let round = 0; round < 3; round++) {
    initiations.push(...left.takeOutbox());
    network.now += 6 * SECOND;
    left.handleTimeout(network.now);
  }
  initiations.push(...left.takeOutbox());
  assert.deepEqual(typesOf(initiations), ["initiation", "initiation", "initiation", "initiation"]);
  const responses = initiations.map((initiation) => {
    network.now += 100;
    right.receive(initiation, left.address, network.now);
    return right.takeOutbox()[0];
  });
  const [, tooOld, previous, latest] = responses;
  assert.ok(tooOld && previous && latest);

  left.receive(tooOld, right.address, network.now);
  assert.deepEqual(left.errors, ["UnexpectedPacket"]);
  left.receive(previous, right.address, network.now);
  assert.equal(left.peer.isConnected, true);
  left.receive(latest, right.address, network.now);
  assert.deepEqual(left.errors, ["UnexpectedPacket", "UnexpectedPacket"], "both initiations are done with");
  pass(network, left, right);
  assert.equal(right.peer.isConnected, true);
  const count = network.count("initiation");
  network.wait(6 * SECOND);
  assert.equal(network.count("initiation"), count, "nothing is repeated any more");
});

test("spec 02, 15.6.5: a replayed initiation gives WrongTai64nTimestamp and changes nothing", () => {
  const network = new WireGuardNetwork();
  const { left, right } = network;
  left.initiate(network.now);
  const [initiation] = pass(network, left, right);
  assert.ok(initiation);
  pass(network, right, left);
  pass(network, left, right);
  const { current, sessions } = right;
  network.now += 10 * SECOND;
  right.receive(initiation, left.address, network.now);
  assert.deepEqual(right.errors, ["WrongTai64nTimestamp"]);
  assert.deepEqual(right.takeOutbox(), []);
  assert.deepEqual([right.current, right.sessions], [current, sessions]);
});

test("spec 02, 15.6.5: an initiation from a foreign static key gives WrongKey", () => {
  const network = new WireGuardNetwork();
  const stranger = new LocalIdentity(repeated(9, 32), nodeCrypto);
  const { right } = network;
  const random = seededRandom(9);
  const peer = new Peer(
    {
      identity: stranger,
      remotePublicKey: right.identity.publicKey,
      mayInitiate: true,
      crypto: nodeCrypto,
      random,
      indices: new PeerIndices(random),
      clock: new Tai64nClock(START, 1_724_716_800_000),
    },
    START,
  );
  peer.initiate(START);
  const initiation = peer.pollTransmit();
  assert.ok(initiation);
  right.receive(initiation, network.left.address, network.now);
  assert.deepEqual(right.errors, ["WrongKey"]);
  assert.deepEqual([right.takeOutbox(), right.sessions], [[], []]);
});

test("spec 02, 15.6.5: with another preshared key the responder answers, the initiator refuses with InvalidAeadTag", () => {
  const network = new WireGuardNetwork({
    left: { presharedKey: repeated(1, 32) },
    right: { presharedKey: repeated(2, 32) },
  });
  const { left, right } = network;
  left.initiate(network.now);
  network.wait(100);
  assert.deepEqual(right.errors, []);
  assert.equal(network.count("response"), 1);
  assert.deepEqual(left.errors, ["InvalidAeadTag"]);
  assert.equal(left.peer.isConnected, false);
  // The state is unchanged: a good answer to the same initiation would still be taken, and so it goes on trying.
  network.wait(6 * SECOND);
  assert.equal(network.count("initiation"), 2);

  left.peer.setPresharedKey(repeated(2, 32));
  network.wait(6 * SECOND);
  assert.equal(left.peer.isConnected, true);
});

test("spec 02, 15.6.7: a cookie reply is taken, nothing is sent for it, and the next initiation carries mac2 for 120 s", () => {
  const network = new WireGuardNetwork();
  const { left, right } = network;
  left.initiate(network.now);
  const [first] = left.takeOutbox();
  assert.ok(first);
  assert.ok(macFields(first).mac2.every((byte) => byte === 0));
  // Somebody else keeps the responder busy, from many addresses.
  const message = parseMessage(first);
  assert.ok(message?.type === "initiation");
  overload(network);
  right.receive(first, left.address, network.now);
  const replies = pass(network, right, left);
  assert.deepEqual(typesOf(replies), ["cookie-reply"]);
  assert.deepEqual(left.takeOutbox(), []);

  network.now += 6 * SECOND;
  left.handleTimeout(network.now);
  const [second] = left.takeOutbox();
  assert.ok(second);
  assert.ok(macFields(second).mac2.some((byte) => byte !== 0));
  overload(network);
  right.receive(second, left.address, network.now);
  assert.deepEqual(typesOf(right.takeOutbox()), ["response"], "the cookie opens the door");

  network.loss = 100;
  network.run(network.now + 130 * SECOND);
  left.initiate(network.now);
  const [third] = left.takeOutbox();
  assert.ok(third);
  assert.ok(
    macFields(third).mac2.every((byte) => byte === 0),
    "a cookie is not used for longer than 120 s",
  );

  // The same reply again, and one that nobody asked for.
  const reply = replies[0];
  assert.ok(reply);
  left.receive(reply, right.address, network.now);
  assert.equal(left.errors.at(-1), "WrongIndex");
  assert.equal(new Set(left.errors).size, 1);
});

/** Fills the responder's budgets for this second, as a flood from many addresses does. */
function overload({ right, now }: WireGuardNetwork): void {
  const stranger = new WireGuardNetwork({ seed: 99 }).left;
  stranger.initiate(START);
  const [initiation] = stranger.takeOutbox();
  assert.ok(initiation);
  for (let host = 0; host < 200; host++) {
    const source = new SocketAddress(IpAddress.fromBytes(Uint8Array.of(198, 51, 100, host)), 1024);
    right.receiver.admit(initiation, source, now);
  }
}

test("spec 02, 15.6.8: a session of 180 s neither sends nor receives; the next packet starts a handshake and arrives", () => {
  const network = new WireGuardNetwork({ right: { mayInitiate: false } });
  const { left, right } = network;
  left.initiate(network.now);
  network.wait(100);
  right.sendPacket(packet(0), network.now);
  const [late] = right.takeOutbox();
  assert.ok(late);
  network.run(START + 180 * SECOND + 20);
  assert.deepEqual([left.sessions, right.sessions], [[], []]);
  assert.equal(left.peer.isConnected, false);
  left.receive(late, right.address, network.now);
  assert.deepEqual(left.errors, ["NoCurrentSession"]);
  left.sendPacket(packet(1), network.now);
  network.wait(100);
  assert.deepEqual(right.delivered.map(numberOf), [1]);
  assert.equal(network.count("initiation"), 2);
});

test("spec 02, 15.6.9: the 257th waiting packet is dropped, the first 256 arrive in order", () => {
  const network = new WireGuardNetwork();
  const { left, right } = network;
  for (let i = 0; i < 257; i++) left.sendPacket(packet(i), network.now);
  assert.equal(left.peer.droppedPackets, 1);
  network.wait(100);
  assert.deepEqual(
    right.delivered.map(numberOf),
    Array.from({ length: 256 }, (_, i) => i),
  );
  assert.equal(network.count("initiation"), 1);
  assert.equal(left.keepalives, 0, "waiting packets confirm the session, no keepalive is needed");
});

test("spec 02, 11.10: a responder's waiting packets leave as soon as the session is confirmed", () => {
  const network = new WireGuardNetwork({ right: { mayInitiate: false } });
  const { left, right } = network;
  right.sendPacket(packet(7), network.now);
  assert.deepEqual(right.takeOutbox(), []);
  left.initiate(network.now);
  network.wait(100);
  assert.deepEqual(left.delivered.map(numberOf), [7]);
});

test("spec 02, 15.6.22: persistent keepalive: one empty message every 10 to 11 s per side; the session never dies", () => {
  const network = new WireGuardNetwork({
    left: { persistentKeepalive: 10 * SECOND },
    right: { persistentKeepalive: 10 * SECOND, mayInitiate: false },
  });
  const { left, right } = network;
  network.run(START + 11 * SECOND);
  assert.equal(network.count("initiation"), 1, "without a session, the keepalive is a handshake");
  const sinceStart = network.sent.length;
  network.run(START + 111 * SECOND);
  for (const side of [left, right]) {
    const times = network.sent
      .slice(sinceStart)
      .filter(({ from }) => from === side)
      .map(({ at }) => at);
    assert.ok(times.length >= 9 && times.length <= 10, `${side.name}: ${times.length}`);
    for (const [i, at] of times.entries()) {
      const gap = at - (times[i - 1] ?? at - 10 * SECOND);
      assert.ok(gap >= 10 * SECOND && gap <= 11 * SECOND, `${side.name}: ${gap}`);
    }
  }
  // Long idle: sessions are replaced before they are rejected, so that either side can send at any time.
  const established = eventsOf(left, "session-established").length;
  for (let minute = 0; minute < 20; minute++) {
    network.wait(MINUTE);
    assert.ok(left.peer.isConnected && right.peer.isConnected, `minute ${minute}`);
  }
  const renewals = eventsOf(left, "session-established").length - established;
  assert.ok(renewals >= 8 && renewals <= 10, `${renewals}`);
  assert.deepEqual([...left.errors, ...right.errors], []);
});

test("field notes, 4.3: passive keepalive only after data; two idle peers fall silent", () => {
  const network = new WireGuardNetwork();
  const { left, right } = network;
  left.sendPacket(packet(1), network.now);
  network.run(START + 9 * SECOND);
  const before = network.sent.length;
  network.run(START + 12 * SECOND);
  const keepalives = network.sent.slice(before);
  assert.deepEqual(
    keepalives.map(({ from }) => from.name),
    ["right"],
    "one keepalive answers the data, and no keepalive answers a keepalive",
  );
  network.run(START + 119 * SECOND);
  assert.equal(network.sent.length, before + 1);
  // The session was used, so it is replaced once; the new one is not used, and dies.
  network.run(START + 60 * MINUTE);
  assert.equal(network.count("initiation"), 2);
  assert.equal(network.sent.length, before + 4);
  assert.deepEqual([left.sessions, right.sessions], [[], []]);
  assert.deepEqual(eventsOf(left, "expired"), [{ type: "expired", reason: "no-session" }]);
  assert.equal(left.peer.pollTimeout(), undefined, "nothing is left to wake up for");
});

test("spec 02, 11.8: data that nothing answers start a new handshake after 15 s", () => {
  const network = new WireGuardNetwork();
  const { left, right } = network;
  left.sendPacket(packet(1), network.now);
  network.run(START + 20 * SECOND);
  assert.equal(network.count("initiation"), 1);
  // The other side forgets everything, as after a restart.
  const sentAt = network.now;
  network.loss = 100;
  left.sendPacket(packet(2), network.now);
  network.run(sentAt + 15 * SECOND - 1);
  assert.equal(network.count("initiation"), 1);
  network.run(sentAt + 16 * SECOND + 1);
  assert.equal(network.count("initiation", left), 2);
  network.loss = 0;
  network.run(sentAt + 25 * SECOND);
  assert.equal(right.peer.isConnected, true);
  assert.equal(network.count("initiation", right), 0);
});

test("spec 02, 11.8: only the side that may initiate does; the other waits for it, whatever happens", () => {
  const network = new WireGuardNetwork({ right: { mayInitiate: false } });
  const { left, right } = network;
  left.sendPacket(packet(1), network.now);
  network.wait(SECOND);
  network.loss = 100;
  right.sendPacket(packet(2), network.now);
  network.run(START + 300 * SECOND);
  right.sendPacket(packet(3), network.now);
  network.run(START + 1000 * SECOND);
  assert.equal(network.count("initiation", right), 0);
  assert.deepEqual(eventsOf(right, "expired"), [{ type: "expired", reason: "no-session" }]);
});

test("field notes, 4.3: a responder does not start a handshake of its own after answering", () => {
  const network = new WireGuardNetwork();
  const { left, right } = network;
  left.sendPacket(packet(1), network.now);
  for (let second = 0; second < 100; second++) {
    network.wait(SECOND);
    right.sendPacket(packet(second), network.now);
    left.sendPacket(packet(second), network.now);
  }
  assert.equal(network.count("initiation", right), 0);
  assert.equal(network.count("initiation", left), 1);
});

test("spec 02, 11.7: rotating sessions under load loses no packet, on either side", () => {
  const network = new WireGuardNetwork({ latency: 40 });
  const { left, right } = network;
  let number = 0;
  for (; network.now < START + 10 * MINUTE; number++) {
    left.sendPacket(packet(number), network.now);
    right.sendPacket(packet(number), network.now);
    network.wait(number % 7 === 0 ? 3 : 250);
  }
  network.wait(SECOND);
  assert.equal(left.delivered.length, number);
  assert.equal(right.delivered.length, number);
  assert.deepEqual([left.errors, right.errors], [[], []]);
  assert.ok(network.count("initiation") >= 5 && network.count("initiation") <= 6, `${network.count("initiation")}`);
});

for (const loss of [5, 30]) {
  test(`two peers for 30 minutes with ${loss} % loss: whatever is lost, packets keep arriving`, () => {
    const network = new WireGuardNetwork({ seed: loss, loss, latency: 30 });
    const { left, right } = network;
    let sent = 0;
    while (network.now < START + 30 * MINUTE) {
      left.sendPacket(packet(sent), network.now);
      right.sendPacket(packet(sent), network.now);
      sent++;
      network.wait(777);
    }
    network.wait(SECOND);
    for (const side of [left, right]) {
      const share = side.delivered.length / sent;
      assert.ok(share > 1 - (loss / 100) * 1.25 && share < 1 - (loss / 100) * 0.75, `${side.name}: ${share}`);
      assert.deepEqual(
        side.errors.filter((error) => error !== "UnexpectedPacket"),
        [],
        side.name,
      );
      assert.deepEqual(eventsOf(side, "expired"), []);
      assert.equal(side.peer.droppedPackets, 0);
      assert.ok(side.sessions.length <= 8);
    }
  });
}

test("field notes, 4.3: initiations of one peer that follow each other within 20 ms are dropped", () => {
  const network = new WireGuardNetwork();
  const { left, right } = network;
  left.initiate(network.now);
  pass(network, left, right);
  network.now += 19;
  left.peer.handlePathChanged(network.now);
  left.handleTimeout(network.now);
  assert.deepEqual(left.takeOutbox(), [], "and we do not send them that fast");
  network.now += 3;
  left.handleTimeout(network.now);
  const [second] = left.takeOutbox();
  assert.ok(second);
  right.receive(second, left.address, network.now - 3);
  assert.deepEqual(right.errors, ["InitiationFlood"]);
  right.receive(second, left.address, network.now);
  assert.deepEqual(right.errors, ["InitiationFlood"], "what was refused was not remembered");
  assert.equal(right.sessions.length, 2);
});

test("spec 02, 6.6: when the path changes, a handshake in flight is repeated at once, and either answer is good", () => {
  const network = new WireGuardNetwork();
  const { left, right } = network;
  left.initiate(network.now);
  const [lost] = left.takeOutbox();
  assert.ok(lost);
  network.now += 300;
  left.peer.handlePathChanged(network.now);
  left.handleTimeout(network.now);
  assert.deepEqual(typesOf(pass(network, left, right)), ["initiation"]);
  pass(network, right, left);
  assert.equal(left.peer.isConnected, true);

  // With a session, it starts one, and the old session stays.
  const current = left.current;
  network.now += 300;
  left.peer.handlePathChanged(network.now);
  left.handleTimeout(network.now);
  network.wait(100);
  assert.notEqual(left.current, current);
  assert.equal(left.sessions.length, 2);
});

test("spec 02, 11.7: a peer that asks for ever new sessions has eight at most, and never loses the current one", () => {
  const network = new WireGuardNetwork();
  const { left, right } = network;
  left.initiate(network.now);
  network.wait(100);
  const current = right.current;
  for (let round = 0; round < 300; round++) {
    network.now += 25;
    left.peer.handlePathChanged(network.now);
    left.handleTimeout(network.now);
    pass(network, left, right);
    right.takeOutbox();
  }
  assert.equal(right.sessions.length, 8);
  assert.equal(right.current, current);
  assert.equal(new Set(right.sessions).size, 8);
});

test("field notes, 4.3: time that goes backwards or jumps ahead breaks nothing", () => {
  const network = new WireGuardNetwork();
  const { left, right } = network;
  left.sendPacket(packet(1), network.now);
  network.wait(5 * SECOND);
  for (const side of [left, right]) {
    side.handleTimeout(START - 5 * SECOND);
    assert.equal(side.sessions.length, 1);
    assert.ok((side.peer.pollTimeout() ?? 0) > network.now);
  }
  network.now += 10 * 60 * MINUTE;
  for (const side of [left, right]) {
    side.handleTimeout(network.now);
    assert.deepEqual(side.sessions, []);
  }
  left.sendPacket(packet(2), network.now);
  network.wait(SECOND);
  assert.deepEqual(right.delivered.map(numberOf), [1, 2]);
});

test("field notes, 4.3: a peer key of low order never gets a handshake", () => {
  const network = new WireGuardNetwork({ left: { remotePublicKey: new Uint8Array(32) } });
  const { left, right } = network;
  left.sendPacket(packet(1), network.now);
  right.initiate(network.now);
  network.wait(100 * SECOND);
  assert.equal(network.count("initiation", left), 0);
  assert.ok(left.errors.every((error) => error === "WrongKey") && left.errors.length > 0);
});

test("spec 02, 11.6: session numbers count up from 1 under a peer index that is random per node and unique in it", () => {
  const network = new WireGuardNetwork({ loss: 100 });
  network.left.initiate(network.now);
  network.wait(20 * SECOND);
  const sessions = network.sent.map(({ datagram }) => {
    const message = parseMessage(datagram);
    assert.ok(message?.type === "initiation");
    assert.equal(peerIndexOf(message.senderIndex), network.left.peer.index);
    return message.senderIndex & 0xff;
  });
  assert.deepEqual(sessions, [1, 2, 3, 4]);

  const starts = new Set(Array.from({ length: 50 }, (_, seed) => new PeerIndices(seededRandom(seed)).allocate()));
  assert.ok(starts.size > 45, "field notes, 4.3: indices are random");
  const indices = new PeerIndices(seededRandom(3));
  const seen = new Uint8Array(2 ** 24);
  const first = indices.allocate();
  seen[first] = 1;
  for (let i = 1; i < 100_000; i++) {
    const index = indices.allocate();
    assert.ok(index < 2 ** 24 && seen[index] === 0);
    seen[index] = 1;
    if (i > 10) indices.release(index);
  }
});

test("a closed peer has removed its sessions, holds no packets and never wakes up", () => {
  const network = new WireGuardNetwork({ left: { persistentKeepalive: 10 * SECOND } });
  const { left } = network;
  left.sendPacket(packet(1), network.now);
  network.wait(SECOND);
  left.peer.close();
  left.handleTimeout(network.now);
  assert.deepEqual(left.sessions, []);
  assert.equal(left.peer.pollTimeout(), undefined);
  assert.equal(left.peer.pollPacket(), undefined);
});

test("a session that the datapath reports as confirmed twice, or does not exist, changes nothing", () => {
  const network = new WireGuardNetwork();
  const { left, right } = network;
  left.initiate(network.now);
  network.wait(100);
  const events = right.events.length;
  const [index = 0] = right.sessions;
  right.peer.handleSessionConfirmed(index, network.now);
  right.peer.handleSessionConfirmed(index ^ 0x80, network.now);
  assert.equal(right.peer.pollEvent(), undefined);
  assert.equal(right.events.length, events);
});

test("packets that the datapath cannot send although there is a session do not go round in circles", () => {
  const network = new WireGuardNetwork();
  const { left } = network;
  left.initiate(network.now);
  network.wait(100);
  // Reported while the session was on its way into the tables: released.
  left.peer.handlePacket(packet(1), network.now);
  assert.equal(numberOf(left.peer.pollPacket() ?? assert.fail()), 1);
  // Reported long after: the tables have no room for the session.
  network.wait(2 * SECOND);
  left.peer.handlePacket(packet(2), network.now);
  assert.equal(left.peer.pollPacket(), undefined);
  assert.equal(left.peer.droppedPackets, 1);
});
