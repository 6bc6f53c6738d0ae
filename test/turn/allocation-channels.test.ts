// The channels of an allocation's client (spec 03, sections 5.12 and 8.4; spec 02, section 15.2).

import assert from "node:assert/strict";
import { test } from "node:test";
import { MINUTE, SECOND } from "../../src/base/time.js";
import { CHANNEL_MIN } from "../../src/stun/channel-data.js";
import { ChannelTable } from "../../src/turn/allocation/channels.js";
import { AllocationLink, channelOf, PEER, peer } from "../support/allocation-link.js";

/** How many numbers there are: 0x4000 to 0x4FFF (RFC 8656, section 12). */
const COUNT = 4096;

/** A table with this many channels, bound at `now`. */
function bound(count: number, now: number): ChannelTable {
  const table = new ChannelTable();
  for (let i = 0; i < count; i++) table.confirm(begin(table, i, now), now);
  return table;
}

/** Begins to bind a channel to a peer; returns its number. */
function begin(table: ChannelTable, index: number, now: number): number {
  const channel = table.begin(peer(index), now);
  assert.ok(channel, `a channel for peer ${index}`);
  return channel.number;
}

/** Numbers of the channels to be bound again. */
function due(table: ChannelTable, now: number): number[] {
  return table.takeDueForRefresh(now).map(({ number }) => number);
}

test("spec 03, 8.4.40: the first channel is 0x4000", () => {
  assert.equal(begin(new ChannelTable(), 0, 0), 0x4000);
});

test("spec 03, 8.4.41: 4096 channels have consecutive numbers, the 4097th has none; after 15 min the first is free", () => {
  const table = new ChannelTable();
  for (let i = 0; i < COUNT; i++) assert.equal(begin(table, i, 0), CHANNEL_MIN + i);
  assert.equal(table.begin(peer(COUNT), 0), undefined);
  assert.equal(table.begin(peer(COUNT), 15 * MINUTE - 1), undefined);
  assert.equal(begin(table, COUNT, 15 * MINUTE), CHANNEL_MIN);
});

test("spec 03, 8.4.42: numbers that were never used come before those that have ended", () => {
  const table = bound(100, 0);
  assert.equal(begin(table, 1000, 20 * MINUTE), CHANNEL_MIN + 100);
});

test("spec 03, 8.4.43: when all were used, those that have ended are used again, and none that carries data", () => {
  const table = bound(COUNT, 0);
  const last = begin(table, COUNT - 1, 10 * MINUTE);
  assert.equal(last, CHANNEL_MIN + COUNT - 1, "its own");
  table.confirm(last, 10 * MINUTE);
  assert.equal(begin(table, COUNT, 15 * MINUTE), CHANNEL_MIN);
  // Its bind was never answered, so it ends after 15 minutes; until then data came on it.
  table.receive(CHANNEL_MIN, 15 * MINUTE + 1);
  assert.notEqual(begin(table, COUNT + 1, 30 * MINUTE), CHANNEL_MIN);
});

test("spec 03, 8.4.44: data on a channel is its peer's, as soon as it is about to be bound", () => {
  const table = new ChannelTable();
  assert.equal(table.receive(CHANNEL_MIN, 0), undefined);
  begin(table, 1, 0);
  assert.equal(table.receive(CHANNEL_MIN, 1)?.key, peer(1).key);
  table.confirm(CHANNEL_MIN, 2);
  assert.equal(table.receive(CHANNEL_MIN, 3)?.key, peer(1).key);
});

test("spec 03, 8.4.45: a channel that carries data is due for a refresh, unless that is under way", () => {
  const table = new ChannelTable();
  begin(table, 1, 0);
  table.confirm(CHANNEL_MIN, SECOND);
  assert.equal(table.nextRefresh(), undefined);
  table.receive(CHANNEL_MIN, 2 * SECOND);
  assert.equal(table.nextRefresh(), SECOND + 5 * MINUTE);
  assert.deepEqual(due(table, 6 * MINUTE), [CHANNEL_MIN]);
  begin(table, 1, 6 * MINUTE);
  assert.deepEqual(due(table, 6 * MINUTE), []);
  assert.equal(table.nextRefresh(), undefined);
});

test("refreshes come in the order of binding, whatever the order of use; what is gone has none", () => {
  const table = new ChannelTable();
  for (let i = 0; i < 4; i++) table.confirm(begin(table, i, i * SECOND), i * SECOND);
  for (const i of [2, 0, 3, 1]) table.use(peer(i), 10 * SECOND + i);
  assert.equal(table.nextRefresh(), 5 * MINUTE);
  table.remove(CHANNEL_MIN);
  assert.equal(table.nextRefresh(), SECOND + 5 * MINUTE);
  table.use(peer(1), 5 * MINUTE);
  assert.deepEqual(due(table, 2 * SECOND + 5 * MINUTE), [CHANNEL_MIN + 1, CHANNEL_MIN + 2]);
  assert.equal(table.nextRefresh(), 3 * SECOND + 5 * MINUTE);
  begin(table, 3, 4 * MINUTE);
  assert.equal(table.nextRefresh(), undefined, "it is under way");
  table.confirm(CHANNEL_MIN + 3, 4 * MINUTE);
  table.use(peer(3), 5 * MINUTE);
  assert.equal(table.nextRefresh(), 9 * MINUTE);
  table.confirm(CHANNEL_MIN + 3, 6 * MINUTE);
  assert.equal(table.nextRefresh(), undefined, "not used since");
  table.use(peer(3), 7 * MINUTE);
  table.clear();
  assert.equal(table.nextRefresh(), undefined);
});

test("spec 03, 8.4.46: a channel without data is not due", () => {
  assert.deepEqual(due(bound(1, SECOND), 6 * MINUTE), []);
});

test("spec 03, 8.4.47; spec 02, 15.2.1: within its cool-down a channel is bound to the same peer under the same number", () => {
  const table = bound(3, 0);
  assert.equal(table.find(peer(1), 12 * MINUTE), undefined, "it has ended");
  assert.equal(begin(table, 1, 12 * MINUTE), CHANNEL_MIN + 1);
  assert.equal(begin(table, 2, 15 * MINUTE), CHANNEL_MIN + 3, "afterwards another is as good");
});

test("spec 03, 8.4.48; spec 02, 15.2.2: due is what carries data, at five minutes", () => {
  for (const [age, dataAt, isDue] of [
    [4 * MINUTE, undefined, false],
    [4 * MINUTE, 3 * MINUTE, false],
    [6 * MINUTE, undefined, false],
    [6 * MINUTE, 3 * MINUTE, true],
  ] as const) {
    const table = bound(1, 0);
    if (dataAt !== undefined) table.receive(CHANNEL_MIN, dataAt);
    assert.deepEqual(due(table, age), isDue ? [CHANNEL_MIN] : [], `${age} ${dataAt}`);
  }
});

test("spec 03, 8.4.49: a number is not another peer's before 15 min have passed", () => {
  for (const [age, isFree] of [
    [10 * MINUTE + SECOND, false],
    [15 * MINUTE, true],
  ] as const)
    assert.equal(bound(COUNT, 0).begin(peer(COUNT), age) !== undefined, isFree, `${age}`);
});

test("a channel that the relay has refused leaves nothing behind, and its number is not the next", () => {
  const table = new ChannelTable();
  table.remove(begin(table, 1, 0));
  assert.equal(table.find(peer(1), 0), undefined);
  assert.equal(table.receive(CHANNEL_MIN, 0), undefined);
  assert.equal(begin(table, 1, 0), CHANNEL_MIN + 1);
});

test("a channel that data leaves on is bound again every five minutes, under its number, for as long as that goes on", () => {
  const link = AllocationLink.allocated();
  link.do((allocation, now) => allocation.bindChannel(PEER, now));
  for (let minute = 0; minute < 20; minute++) {
    link.run(MINUTE);
    link.do((allocation, now) => allocation.handleChannelActivity(PEER, now));
    assert.equal(link.allocation.channelTo(PEER, link.now)?.channel, CHANNEL_MIN, `minute ${minute}`);
  }
  const binds = link.sent("bind");
  assert.deepEqual(binds.map(channelOf), [CHANNEL_MIN, CHANNEL_MIN, CHANNEL_MIN, CHANNEL_MIN]);
});

test("spec 03, 8.6.86: a channel that is idle for twelve minutes ends, and is bound again under its number when it is needed", () => {
  const link = AllocationLink.allocated();
  link.do((allocation, now) => allocation.bindChannel(PEER, now));
  link.run(12 * MINUTE);
  assert.equal(link.sent("bind").length, 1);
  link.do((allocation, now) => assert.equal(allocation.channelTo(PEER, now)?.channel, CHANNEL_MIN));
  link.run(SECOND);
  assert.deepEqual(link.sent("bind").map(channelOf), [CHANNEL_MIN, CHANNEL_MIN]);
  assert.deepEqual(link.told(), [], "the relay has not refused");
});

test("a refresh of a channel that is lost is repeated; data goes on meanwhile", () => {
  const link = AllocationLink.allocated();
  link.do((allocation, now) => allocation.bindChannel(PEER, now));
  link.run(SECOND);
  link.do((allocation, now) => allocation.handleChannelData(CHANNEL_MIN, now));
  link.take();
  link.lose("bind");
  // A second before the bind was confirmed, 20 ms after it was sent.
  link.run(5 * MINUTE);
  assert.equal(link.sent("bind").length, 1);
  assert.equal(link.allocation.channelTo(PEER, link.now)?.channel, CHANNEL_MIN);
  link.deliver();
  link.run(2 * SECOND);
  assert.equal(link.sent("bind").length, 2);
  link.run(8 * MINUTE);
  assert.equal(link.allocation.channelTo(PEER, link.now)?.channel, CHANNEL_MIN);
});

test("spec 03, 5.12: when all numbers are taken a peer gets none, which is counted, and nothing is sent", () => {
  const link = AllocationLink.allocated();
  for (let i = 0; i < COUNT; i++) {
    link.do((allocation, now) => allocation.bindChannel(peer(i), now));
    // Requests that wait are bounded too.
    if (i % 100 === 99) link.run(100);
  }
  link.run(SECOND);
  link.take();
  link.do((allocation, now) => allocation.bindChannel(peer(COUNT), now));
  assert.deepEqual(link.take(), []);
  assert.equal(link.allocation.counters.noChannel, 1);
});
