// The way in use by itself: what is told about it, and what waits for it.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { NodeEvent, RelayedPath } from "../../src/connection/events.js";
import { SILENCE } from "../../src/connection/path-liveness.js";
import { MAX_HELD_MESSAGES, SelectedPath } from "../../src/connection/selected-path.js";
import { IceAgent } from "../../src/ice/agent.js";
import { IceDispatcher } from "../../src/ice/dispatcher.js";
import { nodeCrypto } from "../../src/system/crypto.js";
import { seededRandom } from "../support/random.js";
import { at } from "../support/turn.js";

const HOST = at("192.168.0.2:52625");
const RELAYED = at("198.51.100.1:50000");
const SERVER = at("198.51.100.1:3478");
const REMOTE = at("203.0.113.9:52625");
const OTHER = at("203.0.113.10:52625");

/** A path without a connection around it; `ways` says which channel leads from {@link RELAYED} to a peer. */
function harness() {
  const events: NodeEvent[] = [];
  const sent: string[] = [];
  const ways = new Map<string, RelayedPath>();
  const dispatcher = new IceDispatcher();
  const agent = new IceAgent({ role: "controlling", crypto: nodeCrypto, random: seededRandom(1), dispatcher });
  const path = new SelectedPath("c", agent, {
    emit: (event) => events.push(event),
    transmit: ({ source, destination, payload }) => sent.push(`${source}>${destination} ${payload[0]}`),
    relayedPath: (local, peer) => (local.equals(RELAYED) ? ways.get(peer.key) : "direct"),
  });
  return { path, ways, takeEvents: () => events.splice(0), takeSent: () => sent.splice(0) };
}

test("handshake messages wait for a way, the newest of them, and go over it from then on", () => {
  const { path, takeSent } = harness();
  for (let i = 0; i <= MAX_HELD_MESSAGES; i++) path.send(Uint8Array.of(i), 0);
  assert.deepEqual(takeSent(), []);
  assert.equal(path.dropped, 1);
  assert.equal(path.select(HOST, REMOTE, 0), true);
  assert.deepEqual(
    takeSent(),
    Array.from({ length: MAX_HELD_MESSAGES }, (_, i) => `${HOST}>${REMOTE} ${i + 1}`),
  );
  path.send(Uint8Array.of(77), 0);
  assert.deepEqual(takeSent(), [`${HOST}>${REMOTE} 77`]);
});

test("a way is told when it is another one, and when it is lost; it is lost until the next one", () => {
  const { path, takeEvents } = harness();
  assert.equal(path.isLost, false);
  path.select(HOST, REMOTE, 0);
  assert.equal(path.select(HOST, REMOTE, 0), false);
  assert.deepEqual(takeEvents(), [{ type: "path-selected", connection: "c", path: { local: HOST, remote: REMOTE } }]);
  path.lose();
  assert.deepEqual(takeEvents(), [{ type: "path-lost", connection: "c" }]);
  assert.deepEqual([path.current, path.isLost], [undefined, true]);
  assert.equal(path.select(HOST, REMOTE, 0), true);
  assert.deepEqual([path.current?.remote, path.isLost], [REMOTE, false]);
});

test("a relayed way is told again when it has another channel, and only then; without any channel it is none", () => {
  const { path, ways, takeEvents } = harness();
  assert.equal(path.select(RELAYED, REMOTE, 0), false, "no channel yet");
  ways.set(REMOTE.key, { server: SERVER, channel: 0x4000 });
  assert.equal(path.select(RELAYED, REMOTE, 0), true);
  assert.deepEqual(path.current?.relay, { server: SERVER, channel: 0x4000 });
  takeEvents();
  path.handleChannelChanged(REMOTE, 0);
  assert.deepEqual(takeEvents(), [], "the same channel");
  ways.set(REMOTE.key, { server: SERVER, channel: 0x4001 });
  path.handleChannelChanged(OTHER, 0);
  assert.deepEqual(takeEvents(), [], "another peer's");
  path.handleChannelChanged(REMOTE, 0);
  assert.deepEqual(path.current?.relay, { server: SERVER, channel: 0x4001 });
  assert.equal(takeEvents().length, 1);
  ways.delete(REMOTE.key);
  path.handleChannelChanged(REMOTE, 0);
  assert.deepEqual(takeEvents(), [], "the datapath goes on with what it has");
});

test("that the other side's address is a relay's is told when it becomes known, once, and kept", () => {
  const { path, takeEvents } = harness();
  path.select(HOST, REMOTE, 0);
  takeEvents();
  path.addRemoteRelay(OTHER);
  assert.deepEqual(takeEvents(), []);
  path.addRemoteRelay(REMOTE);
  path.addRemoteRelay(REMOTE);
  assert.deepEqual(takeEvents(), [
    { type: "path-selected", connection: "c", path: { local: HOST, remote: REMOTE, remoteIsRelay: true } },
  ]);
  path.select(HOST, OTHER, 0);
  assert.equal(path.current?.remoteIsRelay, true);
});

test("so many of the other side's relays are remembered, and not more", () => {
  const { path } = harness();
  for (let port = 1; port <= 33; port++) path.addRemoteRelay(at(`203.0.113.9:${port}`));
  path.select(HOST, at("203.0.113.9:32"), 0);
  assert.equal(path.current?.remoteIsRelay, true);
  path.select(HOST, at("203.0.113.9:33"), 0);
  assert.equal(path.current?.remoteIsRelay, undefined);
});

test("a new way is watched from its first moment on: what was not heard over the old one is forgotten", () => {
  const { path } = harness();
  assert.equal(path.deadline(0), undefined);
  path.select(HOST, REMOTE, 0);
  path.handleActivity({ sentAt: 1000, sentDataAt: 1000, receivedAt: 0, receivedDataAt: 0 });
  assert.equal(path.deadline(500), 600, "what is sent is to be answered soon");
  path.select(HOST, OTHER, 1000);
  assert.equal(path.deadline(1000), 1000 + SILENCE);
  path.handleCheck(HOST, REMOTE, 1200);
  assert.equal(path.deadline(1200), 1300, "not heard over this way");
  path.handleCheck(HOST, OTHER, 1200);
  assert.equal(path.deadline(1200), 1200 + SILENCE);
});
