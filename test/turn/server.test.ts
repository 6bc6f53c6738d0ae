// The relay's state machine: spec 03, sections 2, 3 and 8, with the later behaviour.

import assert from "node:assert/strict";
import { test } from "node:test";
import { toHex } from "../../src/base/bytes.js";
import {
  AdditionalAddressFamily,
  ChannelNumber,
  Data,
  DontFragment,
  EvenPort,
  Lifetime,
  MessageIntegrity,
  Nonce,
  Realm,
  RequestedAddressFamily,
  RequestedTransport,
  Software,
  UnknownAttributes,
  XorMappedAddress,
  XorPeerAddress,
  XorRelayedAddress,
} from "../../src/stun/attributes.js";
import { StunBuilder } from "../../src/stun/builder.js";
import { encodeChannelData } from "../../src/stun/channel-data.js";
import { Method } from "../../src/stun/header.js";
import { parseStunMessage } from "../../src/stun/message.js";
import { nodeCrypto } from "../../src/system/crypto.js";
import { fixedUsers, portalUsers, relayPassword, sharedSecretUsers } from "../../src/turn/credentials.js";
import { NONCE_LIFETIME, Nonces } from "../../src/turn/server/nonces.js";
import { PeerPolicy } from "../../src/turn/server/peer-policy.js";
import { ANSWER_BURST, SourceLimit } from "../../src/turn/server/source-limit.js";
import { seededRandom } from "../support/random.js";
import { at, codeOf, ip, NOW_UNIX, TestClient, TestServer } from "../support/turn.js";

const PEER = at("192.0.2.33:52625");
const PEER6 = at("[2001:db8:33::1]:52625");
const DATA = Uint8Array.of(1, 2, 3, 4);

function bind(client: TestClient, channel: number, peer = PEER) {
  return client.request(Method.ChannelBind, (message) => message.add(ChannelNumber, channel).add(XorPeerAddress, peer));
}

// ---- Credentials

test("spec 03, 8.1.1 and 2.3: passwords of the vectors", () => {
  const secret = "4c98bf59c99b3e467ecd7cf9d6b3e5279645fca59be67bc5bb4af3cf653761ab";
  const vectors = [
    [1892160000, secret, "n23JJ2wKKtt30oXi", "00hqldgk5xLeKKOB+xls9mHMVtgqzie9DulfgQwMv68"],
    [
      1685984278,
      "1cab293a-4032-46f4-862a-40e5d174b0d2",
      "uvdgKvS9GXYZ_vmv",
      "6xUIoZ+QvxKhRasLifwfRkMXl+ETLJUsFkHlXjlHAkg",
    ],
    [4102444800, secret, "n23JJ2wKKtt30oXi", "1PUyI/cuLYrowEvj08mrS8Dzr8IFNcOgFbrsJnrvF64"],
  ] as const;
  for (const [expiry, of, salt, password] of vectors)
    assert.equal(relayPassword(of, expiry, salt, nodeCrypto), password);
  const key = portalUsers(secret, nodeCrypto).key("4102444800:n23JJ2wKKtt30oXi", NOW_UNIX);
  assert.equal(typeof key === "string" ? key : toHex(key), "27d7caf16c6b45a1aee3c5696f7474e9");
});

test("spec 03, 8.1.5: credentials expire, and names that are none are refused, whatever number they begin with", () => {
  const users = portalUsers("secret", nodeCrypto);
  const end = NOW_UNIX / 1000;
  assert.equal(typeof users.key(`${end + 1000}:salt`, NOW_UNIX), "object");
  assert.equal(typeof users.key(`${end}:salt`, NOW_UNIX), "object", "the last second counts");
  assert.equal(users.key(`${end - 1000}:salt`, NOW_UNIX), "expired");
  for (const name of ["foobar", "1:2:3", ":x", "-1:x", "18446744073709551615:x", "99999999999999999999:x", "1e3:x", ""])
    assert.equal(users.key(name, NOW_UNIX), "invalid", name);
});

test("users without a portal: a shared secret with an end, and fixed ones", () => {
  const shared = sharedSecretUsers("secret", "example.com", nodeCrypto);
  assert.equal(typeof shared.key("4102444800:alice", NOW_UNIX), "object");
  assert.equal(typeof shared.key("4102444800", NOW_UNIX), "object");
  assert.equal(shared.key("1000:alice", NOW_UNIX), "expired");
  const fixed = fixedUsers([{ name: "alice", password: "secret" }], "example.com", nodeCrypto);
  assert.equal(typeof fixed.key("alice", NOW_UNIX), "object");
  assert.equal(fixed.key("bob", NOW_UNIX), "invalid");
});

test("spec 03, 8.1.6 with the later behaviour: a nonce holds for one client, for a time, and cannot be made up", () => {
  const nonces = new Nonces(seededRandom(1), nodeCrypto);
  const client = at("203.0.113.7:1");
  const nonce = nonces.create(client, 0);
  assert.match(nonce, /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
  assert.equal(nonces.check(nonce, client, NONCE_LIFETIME - 1), "valid");
  assert.equal(nonces.check(nonce, client, NONCE_LIFETIME), "stale");
  assert.equal(nonces.check(nonce, at("203.0.113.7:2"), 0), "stale");
  assert.equal(
    nonces.check(
      nonce.replace(/^./, (digit) => (digit === "f" ? "e" : "f")),
      client,
      0,
    ),
    "stale",
  );
  assert.equal(nonces.check("abc", client, 0), "malformed");
});

// ---- Requests

test("spec 03, 8.2.9: a binding is answered with the source address; from port 0 nothing is", () => {
  const server = new TestServer();
  const request = new StunBuilder("request", Method.Binding, new Uint8Array(12)).finish();
  const [answer, ...more] = server.receive(at("203.0.113.7:51820"), request);
  assert.deepEqual(more, []);
  const message = parseStunMessage(answer ?? new Uint8Array());
  assert.ok(typeof message !== "string");
  assert.equal(String(message.get(XorMappedAddress)), "203.0.113.7:51820");
  assert.deepEqual(server.receive(at("203.0.113.7:0"), request), []);
});

test("spec 03, 8.2.10 to 8.2.13: allocate, refresh, end", () => {
  const server = new TestServer();
  const client = new TestClient(server);
  const answer = client.allocate((message) => message.add(Lifetime, 1200));
  const [relayed] = answer.getAll(XorRelayedAddress);
  assert.equal(String(relayed?.ip), "198.51.100.1");
  assert.ok(server.open.has(relayed?.port ?? 0), "the port is open before the answer goes out");
  assert.equal(answer.get(Lifetime), 1200);
  assert.equal(String(answer.get(XorMappedAddress)), "203.0.113.7:51820");
  assert.equal(server.server.pollTimeout(), server.now + 1_200_000);
  server.wait(600_000);
  const refreshed = client.request(Method.Refresh, (message) => message.add(Lifetime, 900));
  assert.equal(refreshed.get(Lifetime), 900);
  server.wait(899_000);
  assert.equal(server.server.allocations, 1, "lifetimes do not add up, nor do they end early");
  server.wait(1000);
  assert.deepEqual(
    server.of("allocation-deleted").map(({ reason }) => reason),
    ["expired"],
  );
  assert.equal(server.open.size, 0);

  client.allocate();
  const ended = client.request(Method.Refresh, (message) => message.add(Lifetime, 0));
  assert.equal(ended.get(Lifetime), 0);
  assert.equal(server.server.allocations, 0);
  assert.equal(server.server.pollTimeout(), undefined);
});

test("spec 03, 8.1.7: lifetimes are capped at an hour, and ten minutes when none is asked for", () => {
  const server = new TestServer();
  const client = new TestClient(server);
  assert.equal(client.allocate().get(Lifetime), 600);
  assert.equal(client.request(Method.Refresh, (message) => message.add(Lifetime, 10_000_000)).get(Lifetime), 3600);
});

test("spec 03, 8.2.11 and 8.2.27: without credentials 401 with nonce and realm; wrong ones 401; a nonce that is none 401, an unknown one 438", () => {
  const server = new TestServer();
  const client = new TestClient(server);
  const challenge = client.challenge();
  assert.deepEqual(challenge.attributeTypes, [Software.type, 0x0009, Realm.type, Nonce.type]);
  assert.equal(challenge.get(Realm), "firezone");
  const forger = new TestClient(server, "203.0.113.8:1", "salt", "wrong");
  forger.challenge();
  const refused = forger.send(Method.Allocate, (message) => message.add(RequestedTransport, 17), true);
  assert.equal(codeOf(refused), 401);
  assert.equal(refused?.has(MessageIntegrity), false);
  client.nonce = "abc";
  assert.equal(codeOf(client.allocate()), 401);
  client.nonce = "f81d4fae-7dec-11d0-a765-00a0c91e6bf6";
  assert.equal(codeOf(client.allocate()), 438);
});

test("issue on relays: the 401 to a signed request without nonce is signed", () => {
  const server = new TestServer();
  const client = new TestClient(server);
  const answer = client.send(Method.Allocate, (message) => message.add(RequestedTransport, 17), true);
  assert.equal(codeOf(answer), 401);
  assert.equal(answer?.has(MessageIntegrity), true);
});

test("spec 03, 8.2.19: address families", () => {
  const families = (options: { ipv4?: boolean; ipv6?: boolean }, add: (message: StunBuilder) => unknown) => {
    const server = new TestServer({
      ipv4: options.ipv4 === false ? undefined : ip("198.51.100.1"),
      ipv6: options.ipv6 === false ? undefined : ip("2001:db8:1::1"),
    });
    const answer = new TestClient(server).allocate(add);
    return (
      codeOf(answer) ||
      answer
        .getAll(XorRelayedAddress)
        .map(({ family }) => family)
        .join("+")
    );
  };
  const none = () => undefined;
  const requested = (family: number) => (message: StunBuilder) => message.add(RequestedAddressFamily, family);
  const additional = (family: number) => (message: StunBuilder) => message.add(AdditionalAddressFamily, family);
  const both = (message: StunBuilder) => message.add(RequestedAddressFamily, 1).add(AdditionalAddressFamily, 2);
  const rows = [none, requested(1), requested(2), additional(2), additional(1), both];
  assert.deepEqual(
    rows.map((add) => families({ ipv6: false }, add)),
    ["4", "4", 440, "4", 400, 400],
  );
  assert.deepEqual(
    rows.map((add) => families({ ipv4: false }, add)),
    [440, 440, "6", "6", 400, 400],
  );
  assert.deepEqual(
    rows.map((add) => families({}, add)),
    ["4", "4", "6", "4+6", 400, 400],
  );
});

test("spec 03, 8.2.21, and RFC 8656, 7.2: a second allocate is 437, a repetition has the same answer; without allocation 437", () => {
  const server = new TestServer();
  const client = new TestClient(server);
  assert.equal(codeOf(client.request(Method.Refresh)), 437);
  assert.equal(codeOf(bind(client, 0x4000)), 437);
  const id = new Uint8Array(12).fill(9);
  const transport = (message: StunBuilder) => message.add(RequestedTransport, 17);
  const first = client.request(Method.Allocate, transport, id);
  const again = client.request(Method.Allocate, transport, id);
  assert.deepEqual(toHex(again.bytes), toHex(first.bytes));
  assert.equal(codeOf(client.allocate()), 437);
  assert.equal(server.server.allocations, 1);
});

test("spec 03, 8.2.22: no port left is 508; ports that others have are passed over", () => {
  const server = new TestServer({ lowestPort: 50_000, highestPort: 50_001 });
  server.taken.add(50_000);
  const one = new TestClient(server, "203.0.113.1:1", "one");
  const two = new TestClient(server, "203.0.113.2:1", "two");
  assert.equal(one.allocate().get(XorRelayedAddress)?.port, 50_001);
  assert.equal(codeOf(two.allocate()), 508);
  one.request(Method.Refresh, (message) => message.add(Lifetime, 0));
  assert.equal(codeOf(two.allocate()), 0);
});

test("spec 03, 8.2.23 and 8.2.26: bad requests", () => {
  const server = new TestServer();
  const client = new TestClient(server);
  const bare = (method: number) => client.send(method, () => undefined, false);
  assert.equal(codeOf(bare(Method.Allocate)), 400);
  assert.equal(bare(Method.Allocate)?.has(Nonce), false);
  assert.equal(codeOf(bare(Method.ChannelBind)), 400);
  assert.equal(codeOf(bare(0x00a)), 400);
  client.challenge();
  assert.equal(codeOf(client.request(Method.Allocate, (message) => message.add(RequestedTransport, 6))), 400);
  const unknown = client.allocate((message) => message.add(DontFragment, true));
  assert.equal(codeOf(unknown), 420);
  assert.deepEqual(unknown.get(UnknownAttributes), [DontFragment.type]);
  assert.equal(codeOf(client.allocate((message) => message.add(EvenPort, 0x80))), 508);
  const even = client.allocate((message) => message.add(EvenPort, 0));
  assert.equal((even.get(XorRelayedAddress)?.port ?? 1) % 2, 0);
});

test("spec 03, 8.2.28: another allocation of the same user replaces the first; the portal's other names for a client do not matter", () => {
  const server = new TestServer();
  const before = new TestClient(server, "203.0.113.7:1");
  before.allocate();
  bind(before, 0x4000);
  new TestClient(server, "203.0.113.7:2").allocate();
  assert.deepEqual(
    server.of("allocation-deleted").map(({ reason }) => reason),
    ["replaced"],
  );
  assert.equal(server.of("channel-unbound").length, 1);
  const renamed = new TestClient(server, "203.0.113.7:2", "other");
  assert.equal(codeOf(renamed.allocate()), 437);
  assert.equal(renamed.request(Method.Refresh, (message) => message.add(Lifetime, 0)).get(Lifetime), 0);
});

test("RFC 8656, 7.2: another user's allocation is 441, one too many is 486", () => {
  const users = fixedUsers(
    [
      { name: "4102444800:alice", password: "a" },
      { name: "4102444800:bob", password: "b" },
    ],
    "firezone",
    nodeCrypto,
  );
  const server = new TestServer({ users: [users], quotas: { perUser: 2, perSource: 3 } });
  const client = (address: string, name: "alice" | "bob") => new TestClient(server, address, name, name[0]);
  assert.equal(codeOf(client("203.0.113.1:1", "alice").allocate()), 0);
  assert.equal(codeOf(client("203.0.113.1:1", "bob").allocate()), 441);
  assert.equal(codeOf(client("203.0.113.1:1", "bob").request(Method.Refresh)), 441);
  assert.equal(codeOf(client("203.0.113.2:2", "alice").allocate()), 0);
  assert.equal(codeOf(client("203.0.113.3:3", "alice").allocate()), 486, "per user");
  for (const port of [2, 3]) assert.equal(codeOf(client(`203.0.113.1:${port}`, "bob").allocate()), 0);
});

// ---- Channels, permissions, data

test("spec 03, 8.2.15: what comes on a channel goes to the peer, and back", () => {
  const server = new TestServer();
  const client = new TestClient(server);
  const port = client.allocate((message) => message.add(Lifetime, 3600)).get(XorRelayedAddress)?.port ?? 0;
  assert.equal(codeOf(bind(client, 0x4000)), 0);
  const [bound] = server.of("channel-bound");
  assert.deepEqual([bound?.channel, String(bound?.peer), bound?.allocationPort], [0x4000, String(PEER), port]);
  server.receive(client.address, encodeChannelData(0x4000, DATA));
  assert.deepEqual(server.of("send-to-peer"), [{ type: "send-to-peer", allocationPort: port, peer: PEER, data: DATA }]);
  server.server.handlePeerData(port, PEER, DATA, server.now);
  assert.deepEqual(server.drain(), [encodeChannelData(0x4000, DATA)]);
});

test("spec 03, 8.2.24: data of strangers, of other channels, or of other clients goes nowhere", () => {
  const server = new TestServer();
  const client = new TestClient(server);
  const port = client.allocate().get(XorRelayedAddress)?.port ?? 0;
  bind(client, 0x4000);
  server.receive(client.address, encodeChannelData(0x4001, DATA));
  server.receive(at("203.0.113.99:1"), encodeChannelData(0x4000, DATA));
  server.server.handlePeerData(port, at("192.0.2.99:1"), DATA, server.now);
  server.server.handlePeerData(port + 1, PEER, DATA, server.now);
  assert.deepEqual(server.drain(), []);
  assert.deepEqual(server.of("send-to-peer"), []);
  assert.equal(server.server.counters.unrelayed, 4);
  // The right address with another port: a channel's permission is for the address, so it comes as an indication.
  server.server.handlePeerData(port, at("192.0.2.33:1"), DATA, server.now);
  assert.equal(server.drain().length, 1);
});

test("spec 03, 8.2.17 and 8.2.18: a channel ends after ten minutes, and number and peer are free after fifteen", () => {
  const server = new TestServer();
  const client = new TestClient(server);
  client.allocate((message) => message.add(Lifetime, 3600));
  bind(client, 0x4000);
  server.wait(599_999);
  assert.equal(server.of("channel-unbound").length, 0);
  server.wait(1);
  assert.equal(server.of("channel-unbound").length, 1);
  server.receive(client.address, encodeChannelData(0x4000, DATA));
  assert.deepEqual(server.of("send-to-peer"), []);
  assert.equal(codeOf(bind(client, 0x4000, at("192.0.2.34:1"))), 400);
  assert.equal(codeOf(bind(client, 0x4001)), 400);
  assert.equal(codeOf(bind(client, 0x4000)), 0, "the same pair");
  server.receive(client.address, encodeChannelData(0x4000, DATA));
  assert.equal(server.of("send-to-peer").length, 1);
  client.request(Method.Refresh, (message) => message.add(Lifetime, 3600));
  server.wait(600_000);
  server.wait(300_000);
  assert.equal(codeOf(bind(client, 0x4000, at("192.0.2.34:1"))), 0);
});

test("spec 03, 8.2.14 and 8.2.20: channels end with their allocation; a peer of the other family is 443", () => {
  const server = new TestServer();
  const client = new TestClient(server);
  client.allocate();
  assert.equal(codeOf(bind(client, 0x4000, PEER6)), 443);
  bind(client, 0x4000);
  assert.equal(server.server.channels, 1);
  client.request(Method.Refresh, (message) => message.add(Lifetime, 0));
  assert.equal(server.server.channels, 0);
  assert.equal(server.of("channel-unbound").length, 1);
});

test("RFC 8656, 9 to 11: permissions let indications through, for five minutes", () => {
  const server = new TestServer();
  const client = new TestClient(server);
  const port = client.allocate().get(XorRelayedAddress)?.port ?? 0;
  const indication = new StunBuilder("indication", Method.Send, new Uint8Array(12))
    .add(XorPeerAddress, PEER)
    .add(Data, DATA)
    .finish();
  server.receive(client.address, indication);
  server.server.handlePeerData(port, PEER, DATA, server.now);
  assert.deepEqual([server.of("send-to-peer").length, server.drain().length], [0, 0]);
  assert.equal(codeOf(client.request(Method.CreatePermission, (message) => message.add(XorPeerAddress, PEER))), 0);
  server.receive(client.address, indication);
  assert.equal(server.of("send-to-peer").length, 1);
  server.server.handlePeerData(port, at("192.0.2.33:9"), DATA, server.now);
  const [sent] = server.drain();
  const message = parseStunMessage(sent ?? new Uint8Array());
  assert.ok(typeof message !== "string" && message.class === "indication" && message.method === Method.Data);
  assert.deepEqual(
    [String(message.get(XorPeerAddress)), toHex(message.get(Data) ?? DATA)],
    ["192.0.2.33:9", toHex(DATA)],
  );
  server.wait(300_000);
  server.receive(client.address, indication);
  assert.equal(server.of("send-to-peer").length, 1);
  assert.equal(codeOf(client.request(Method.CreatePermission)), 400);
});

test("field notes, 4.3: peers that are forbidden, in whatever clothes", () => {
  const policy = new PeerPolicy({
    own: [ip("198.51.100.1"), ip("2001:db8:1::1")],
    lowestPort: 49152,
    highestPort: 65535,
    denyPrivate: false,
  });
  const strict = new PeerPolicy({ own: [], lowestPort: 1, highestPort: 2, denyPrivate: true });
  for (const text of ["192.0.2.1:1", "10.0.0.1:80", "[2001:db8::1]:1", "198.51.100.1:49152", "[64:ff9b::c000:201]:1"])
    assert.equal(policy.allows(at(text)), true, text);
  for (const text of [
    "127.0.0.1:1",
    "0.0.0.0:1",
    "169.254.169.254:80",
    "224.0.0.1:1",
    "255.255.255.255:1",
    "100.100.100.200:80",
    "198.51.100.1:3478",
    "192.0.2.1:0",
    "[::1]:1",
    "[::]:1",
    "[fe80::1]:1",
    "[ff02::1]:1",
    "[fd00:ec2::254]:80",
    "[::ffff:127.0.0.1]:1",
    "[::ffff:169.254.169.254]:80",
    "[::127.0.0.1]:1",
    "[64:ff9b::7f00:1]:1",
    "[64:ff9b::a9fe:a9fe]:80",
    "[2002:7f00:1::]:1",
    "[2001:0:0:0:0:0:80ff:fffe]:1",
    "[::ffff:198.51.100.1]:49152",
    "[2001:db8:1::1]:3478",
  ])
    assert.equal(policy.allows(at(text)), false, text);
  for (const text of ["10.0.0.1:1", "192.168.1.1:1", "172.16.0.1:1", "[fd00::1]:1", "[::ffff:10.0.0.1]:1"])
    assert.equal(strict.allows(at(text)), false, text);
  const server = new TestServer();
  const client = new TestClient(server);
  client.allocate();
  assert.equal(codeOf(bind(client, 0x4000, at("127.0.0.1:1"))), 403);
});

// ---- Hostile input

test("field notes, 4.3: a source that proves nothing has so many answers and no more, and others have theirs", () => {
  const limit = new SourceLimit();
  let answers = 0;
  for (let i = 0; i < 10_000; i++) if (limit.take(ip("203.0.113.1"), 0)) answers++;
  assert.equal(answers, ANSWER_BURST);
  assert.equal(limit.take(ip("203.0.113.2"), 0), true);
  assert.equal(limit.take(ip("203.0.113.1"), 1000), true);

  const server = new TestServer();
  const request = new StunBuilder("request", Method.Allocate, new Uint8Array(12)).add(RequestedTransport, 17).finish();
  for (let i = 0; i < 1000; i++) server.receive(at(`203.0.113.66:${1000 + i}`), request);
  assert.equal(server.server.counters.limited, 1000 - ANSWER_BURST);
  assert.equal(server.server.pollTimeout(), undefined, "nothing is kept");
  assert.equal(codeOf(new TestClient(server).allocate()), 0);
});

test("random and mutated datagrams: nothing throws, and nobody gets an allocation", () => {
  const random = seededRandom(3);
  const server = new TestServer();
  const client = new TestClient(server);
  client.allocate();
  const samples = [
    new StunBuilder("request", Method.Allocate, new Uint8Array(12))
      .add(RequestedTransport, 17)
      .add(Nonce, client.nonce ?? "")
      .finish(),
    new StunBuilder("request", Method.ChannelBind, new Uint8Array(12))
      .add(ChannelNumber, 0x4000)
      .add(XorPeerAddress, PEER)
      .finish(),
    new StunBuilder("indication", Method.Send, new Uint8Array(12)).add(XorPeerAddress, PEER).add(Data, DATA).finish(),
    encodeChannelData(0x4000, DATA),
  ];
  for (let i = 0; i < 20_000; i++) {
    const sample = samples[i % samples.length]?.slice() ?? DATA;
    for (const at of random.bytes(1 + (i % 3))) sample[at % sample.length] = random.bytes(1)[0] ?? 0;
    server.now += 20;
    server.receive(client.address, i % 5 === 0 ? random.bytes(i % 80) : sample);
  }
  assert.equal(server.of("allocation-created").length, 1);
});

test("ten thousand allocations with a channel each: refreshing one costs no more than with ten", () => {
  const time = (count: number) => {
    const server = new TestServer({ lowestPort: 1024, quotas: { perSource: 65_536 } });
    const clients = Array.from(
      { length: count },
      (_, i) => new TestClient(server, `203.0.${i >> 8}.${i & 255}:9`, `salt${i}`),
    );
    for (const client of clients) {
      client.allocate();
      bind(client, 0x4000);
    }
    const [first] = clients;
    assert.ok(first);
    const start = performance.now();
    for (let i = 0; i < 300; i++) first.request(Method.Refresh);
    server.wait(1);
    return performance.now() - start;
  };
  time(10);
  const few = time(10);
  const many = time(10_000);
  assert.ok(many < 5 * few + 50, `${many} ms against ${few} ms`);
});
