import assert from "node:assert/strict";
import { test } from "node:test";
import {
  type Assignment,
  AssignmentFlag,
  createControlBlock,
  Statistic,
  WorkerControl,
  WorkerState,
} from "../../src/datapath/control-block.js";
import { BLOCKED_LIMIT } from "../../src/datapath/transmitter.js";
import { WorkSharing } from "../../src/datapath/work-sharing.js";
import { DRAIN_LIMIT, WorkerLoop } from "../../src/datapath/worker-loop.js";
import { Errno } from "../../src/system/linux/errno.js";
import { FakeEngine, FakeFd, FakeIo, fakeFrame } from "../support/fake-datapath.js";

const ALL_OFFLOADS =
  AssignmentFlag.VirtioHeader |
  AssignmentFlag.TunChecksum |
  AssignmentFlag.TunTso |
  AssignmentFlag.TunUso |
  AssignmentFlag.UdpSegmentation;

const ASSIGNMENT: Assignment = {
  tun: FakeFd.Tun,
  udp4: FakeFd.Udp4,
  udp6: FakeFd.Udp6,
  port4: 51820,
  port6: 51821,
  flags: ALL_OFFLOADS,
};

/** A loop over fakes, with an assignment, past its first turn. */
function setUp(assignment: Assignment = ASSIGNMENT) {
  const engine = new FakeEngine();
  const io = new FakeIo(engine);
  const control = new WorkerControl(createControlBlock(1), 0, 1);
  const state = { now: 1000, signals: 0, tunWriteErrors: 0 };
  const loop = new WorkerLoop({
    engine,
    io,
    control,
    sharing: new WorkSharing({ engine, index: 0, controls: [control], wake: () => undefined }),
    memory: engine.memory,
    hostBase: 0,
    wakeFd: FakeFd.Wake,
    clearWake: () => io.clearWake(),
    now: () => state.now,
    signalExceptions: () => state.signals++,
    countTunWriteError: () => state.tunWriteErrors++,
  });
  control.assign(assignment);
  io.wakeReady = true;
  loop.turn();
  engine.log.length = 0;
  io.log.length = 0;
  return { engine, io, control, state, loop };
}

/** Counts of one statistic. */
function statistic(control: WorkerControl, which: Statistic): number {
  return control.statistics[which] ?? Number.NaN;
}

test("frames go out in order, small ones by one call", () => {
  const { engine, io, loop, control } = setUp();
  io.tunQueue.push(fakeFrame(1, 4), fakeFrame(2, 4), fakeFrame(3, 6), fakeFrame(4, 4));
  loop.turn();
  assert.deepEqual(
    engine.log.filter((entry) => !entry.startsWith("prepare")),
    [
      "outbound 1 110",
      "outbound 2 110",
      "outbound 3 110",
      "outbound 4 110",
      "sent 4 1",
      "sent 4 2",
      "sent 4 4",
      "sent 6 3",
    ],
  );
  assert.deepEqual(
    io.log.filter((entry) => entry.startsWith("send")),
    ["send 94 3", "send 96 1"],
  );
  assert.equal(statistic(control, Statistic.TunReads), 4);
  assert.equal(statistic(control, Statistic.SentMessages), 4);
});

test("a big frame leaves at once, and so does what no longer fits the queue", () => {
  const { engine, io, loop } = setUp();
  io.tunQueue.push(fakeFrame(1, 4, 48, 60000), fakeFrame(2, 4, 48, 60000));
  loop.turn();
  assert.deepEqual(engine.log, ["outbound 1 60010", "sent 4 1", "outbound 2 60010", "sent 4 2"]);
  io.log.length = 0;
  for (let id = 0; id < engine.queueLimit + 1; id++) io.tunQueue.push(fakeFrame(id, 4));
  loop.turn();
  assert.deepEqual(
    io.log.filter((entry) => entry.startsWith("send")),
    [`send 94 ${engine.queueLimit}`, "send 94 1"],
  );
});

test("a source is drained up to its limit, then the others have their turn; poll does not sleep meanwhile", () => {
  const { engine, io, loop } = setUp();
  for (let id = 0; id < DRAIN_LIMIT + 5; id++) io.tunQueue.push(fakeFrame(id, 4));
  io.receiveQueues[FakeFd.Udp4]?.push(...Array.from({ length: 6 }, () => 4));
  loop.turn();
  assert.equal(engine.log.filter((entry) => entry.startsWith("outbound")).length, DRAIN_LIMIT);
  assert.equal(engine.log.filter((entry) => entry.startsWith("inbound")).length, DRAIN_LIMIT / 4);
  io.receiveQueues[FakeFd.Udp6]?.push(1);
  engine.log.length = 0;
  io.log.length = 0;
  loop.turn();
  assert.equal(io.log[0], "wait 0");
  assert.deepEqual(
    engine.log.filter((entry) => entry.startsWith("inbound")),
    ["inbound 4 4 51820", "inbound 4 4 51820", "inbound 6 1 51821"],
  );
  assert.equal(engine.log.filter((entry) => entry.startsWith("outbound")).length, 5);
  io.log.length = 0;
  io.onIdle = () => io.tunQueue.push(fakeFrame(99, 4));
  loop.turn();
  assert.equal(io.log[0], "wait -1", "everything was drained");
  assert.ok(engine.log.includes("outbound 99 110"));
});

test("received messages become frames, written in order with their headers", () => {
  const { engine, io, loop, control } = setUp();
  engine.inboundFrames.push([Uint8Array.of(0, 1, 2, 3), Uint8Array.of(0, 5)], [Uint8Array.of(0, 7, 8)]);
  io.receiveQueues[FakeFd.Udp4]?.push(2);
  io.receiveQueues[FakeFd.Udp6]?.push(1);
  loop.turn();
  assert.deepEqual(io.written, [Uint8Array.of(0, 1, 2, 3), Uint8Array.of(0, 5), Uint8Array.of(0, 7, 8)]);
  assert.deepEqual(engine.log, ["prepare 4", "inbound 4 2 51820", "prepare 6", "inbound 6 1 51821"]);
  assert.equal(statistic(control, Statistic.ReceivedMessages), 3);
  assert.equal(statistic(control, Statistic.TunWrites), 3);
});

test("a device without virtio headers gets packets, and the engine sees empty headers", () => {
  const { engine, io, loop } = setUp({ ...ASSIGNMENT, flags: AssignmentFlag.UdpSegmentation });
  assert.deepEqual(engine.tunOffloads, { checksum: false, tso: false, uso: false });
  engine.memory.fill(0xee);
  io.tunQueue.push(fakeFrame(7, 4).subarray(10));
  engine.inboundFrames.push([Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x45, 1)]);
  io.receiveQueues[FakeFd.Udp4]?.push(1);
  loop.turn();
  assert.ok(engine.log.includes("outbound 7 110"));
  assert.deepEqual(engine.headers, ["0 0 0 0 0 0 0 0 0 0"]);
  assert.deepEqual(io.written, [Uint8Array.of(0x45, 1)]);
});

test("a full socket holds up the TUN device but not receiving; order is kept", () => {
  const { engine, io, loop, control } = setUp();
  io.sendScript.push(1, -Errno.EAGAIN);
  io.roomOnPoll = false;
  io.tunQueue.push(fakeFrame(1, 4), fakeFrame(2, 4), fakeFrame(3, 4));
  loop.turn();
  io.tunQueue.push(fakeFrame(4, 4));
  io.receiveQueues[FakeFd.Udp4]?.push(1);
  io.sendScript.push(-Errno.EAGAIN);
  io.log.length = 0;
  loop.turn();
  assert.equal(io.log[0], `wait ${BLOCKED_LIMIT}`);
  assert.ok(engine.log.includes("inbound 4 1 51820"));
  assert.ok(!engine.log.some((entry) => entry.startsWith("outbound 4")));
  io.roomOnPoll = true;
  loop.turn();
  loop.turn();
  assert.deepEqual(
    engine.log.filter((entry) => entry.startsWith("sent") || entry.startsWith("drop")),
    ["sent 4 1", "sent 4 2", "sent 4 3", "sent 4 4"],
  );
  assert.equal(statistic(control, Statistic.SendBlocked), 1);
});

test("a socket that stays full loses what waits for it, counted, and the device is read again", () => {
  const { engine, io, loop, control, state } = setUp();
  io.roomOnPoll = false;
  io.sendScript.push(-Errno.EAGAIN, -Errno.EAGAIN);
  io.tunQueue.push(fakeFrame(1, 4), fakeFrame(2, 4));
  loop.turn();
  state.now += BLOCKED_LIMIT + 1;
  io.tunQueue.push(fakeFrame(3, 4));
  loop.turn();
  loop.turn();
  assert.deepEqual(
    engine.log.filter((entry) => entry.startsWith("sent") || entry.startsWith("drop")),
    ["drop 4 1", "drop 4 2", "sent 4 3"],
  );
  assert.equal(statistic(control, Statistic.SendErrors), 2);
});

for (const code of [
  "ENOBUFS",
  "EPERM",
  "ENETUNREACH",
  "EHOSTUNREACH",
  "EMSGSIZE",
  "ENETDOWN",
  "EADDRNOTAVAIL",
] as const) {
  test(`${code} costs the first message only, and keeps segmentation`, () => {
    const { engine, io, loop, control } = setUp();
    io.sendScript.push(1, -Errno[code]);
    io.tunQueue.push(fakeFrame(1, 4), fakeFrame(2, 4, 5), fakeFrame(3, 4));
    loop.turn();
    assert.deepEqual(engine.log.slice(3), ["sent 4 1", "drop 4 2", "sent 4 3"]);
    assert.equal(statistic(control, Statistic.SendErrors), 1);
    assert.equal(statistic(control, Statistic.SegmentationRefused), 0);
  });
}

test("EIO splits the message and switches segmentation off", () => {
  const { engine, io, loop, control } = setUp();
  io.sendScript.push(-Errno.EIO);
  io.tunQueue.push(fakeFrame(1, 4, 3));
  loop.turn();
  assert.deepEqual(engine.log.slice(1), ["segmentation off", "split 4 1", "sent 4 1", "sent 4 1", "sent 4 1"]);
  assert.equal(statistic(control, Statistic.SegmentationRefused), 1);
});

test("EINVAL splits; segmentation goes off only if the pieces pass", () => {
  const { engine, io, loop, control } = setUp();
  io.sendScript.push(-Errno.EINVAL);
  io.tunQueue.push(fakeFrame(1, 6, 2));
  loop.turn();
  assert.deepEqual(engine.log.slice(1), ["split 6 1", "segmentation off", "sent 6 1", "sent 6 1"]);
  assert.equal(statistic(control, Statistic.SegmentationRefused), 1);
});

test("EINVAL of the pieces too means a source address that is gone: dropped, segmentation stays", () => {
  const { engine, io, loop, control } = setUp();
  io.sendScript.push(-Errno.EINVAL, -Errno.EINVAL, -Errno.EINVAL, -Errno.EINVAL);
  io.tunQueue.push(fakeFrame(1, 4, 2), fakeFrame(2, 4, 2));
  loop.turn();
  assert.deepEqual(
    engine.log.filter((entry) => !entry.startsWith("outbound")),
    ["split 4 1", "drop 4 1", "split 4 1", "drop 4 1", "sent 4 2"],
  );
  assert.equal(statistic(control, Statistic.SegmentationRefused), 0);
});

test("any other error of a socket ends the worker", () => {
  const { io, loop } = setUp();
  io.sendScript.push(-Errno.EBADF);
  io.tunQueue.push(fakeFrame(1, 4));
  assert.throws(() => loop.turn(), /sendmmsg IPv4 UDP: EBADF/);
  const second = setUp();
  second.io.receiveQueues[FakeFd.Udp6]?.push(-Errno.EBADF);
  assert.throws(() => second.loop.turn(), /recvmmsg IPv6 UDP: EBADF/);
});

test("an ICMP error on a socket and an interrupted call disturb nothing", () => {
  const { engine, io, loop } = setUp();
  io.receiveQueues[FakeFd.Udp4]?.push(-Errno.ECONNREFUSED, 1);
  io.tunQueue.push(-Errno.EINTR, fakeFrame(1, 4));
  io.sendScript.push(-Errno.EINTR);
  loop.turn();
  loop.turn();
  assert.ok(engine.log.includes("sent 4 1"));
  assert.ok(engine.log.includes("inbound 4 1 51820"));
});

test("a family without socket loses its messages, counted", () => {
  const { engine, io, loop } = setUp({ ...ASSIGNMENT, udp6: -1, port6: 0 });
  io.tunQueue.push(fakeFrame(1, 6), fakeFrame(2, 4));
  loop.turn();
  assert.deepEqual(engine.log.slice(2), ["sent 4 2", "drop 6 1"]);
});

test("spec 05, 3.1.5: an interface that is down loses frames, counted", () => {
  const { engine, io, loop, control, state } = setUp();
  engine.inboundFrames.push([Uint8Array.of(0, 0, 1), Uint8Array.of(0, 0, 2)]);
  io.writeScript.push(-Errno.EIO);
  io.receiveQueues[FakeFd.Udp4]?.push(1);
  loop.turn();
  assert.deepEqual(io.written, [Uint8Array.of(0, 0, 2)]);
  assert.equal(statistic(control, Statistic.TunWriteErrors), 1);
  assert.equal(state.tunWriteErrors, 1);
});

test("a device without memory is asked again a few times", () => {
  const { engine, io, loop, state } = setUp();
  engine.inboundFrames.push([Uint8Array.of(0, 0, 1), Uint8Array.of(0, 0, 2)]);
  io.writeScript.push(-Errno.EAGAIN, -Errno.ENOBUFS, 0, ...Array.from({ length: 8 }, () => -Errno.EAGAIN));
  io.receiveQueues[FakeFd.Udp4]?.push(1);
  loop.turn();
  assert.deepEqual(io.written, [Uint8Array.of(0, 0, 1)]);
  assert.equal(state.tunWriteErrors, 1);
});

test("EINVAL on a coalesced frame switches coalescing off; on a single packet it only counts", () => {
  const { engine, io, loop, control, state } = setUp();
  engine.inboundFrames.push([Uint8Array.of(1, 0, 9)]);
  io.writeScript.push(-Errno.EINVAL);
  io.receiveQueues[FakeFd.Udp4]?.push(1);
  loop.turn();
  assert.deepEqual(engine.tunOffloads, { checksum: true, tso: true, uso: true });
  engine.inboundFrames.push([Uint8Array.of(1, 1, 9), Uint8Array.of(0, 0, 8)]);
  io.writeScript.push(-Errno.EINVAL);
  io.receiveQueues[FakeFd.Udp4]?.push(1);
  loop.turn();
  assert.deepEqual(engine.tunOffloads, { checksum: true, tso: false, uso: false });
  assert.deepEqual(io.written, [Uint8Array.of(0, 0, 8)]);
  assert.equal(state.tunWriteErrors, 2);
  assert.equal(statistic(control, Statistic.CoalescingRefused), 1);
});

test("removal or end of the device ends the worker with a clear error", () => {
  const { io, loop } = setUp();
  io.tunQueue.push(-Errno.EBADFD);
  assert.throws(() => loop.turn(), /read TUN device: EBADFD.*interface was removed/);
  const second = setUp();
  second.io.tunQueue.push(0);
  assert.throws(() => second.loop.turn(), /TUN device was closed/);
  const third = setUp();
  third.engine.inboundFrames.push([Uint8Array.of(0, 0, 1)]);
  third.io.writeScript.push(-Errno.EBADFD);
  third.io.receiveQueues[FakeFd.Udp4]?.push(1);
  assert.throws(() => third.loop.turn(), /write TUN device: EBADFD/);
});

test("exceptions wake the main thread once per turn", () => {
  const { engine, io, loop, state } = setUp();
  io.receiveQueues[FakeFd.Udp4]?.push(1);
  engine.exceptions = 3;
  loop.turn();
  assert.equal(state.signals, 1);
  io.receiveQueues[FakeFd.Udp4]?.push(1);
  loop.turn();
  assert.equal(state.signals, 1);
});

test("another assignment is adopted before anything else is touched", () => {
  const { engine, io, loop, control } = setUp();
  const generation = control.assign({ ...ASSIGNMENT, udp4: 104, port4: 9, flags: AssignmentFlag.VirtioHeader });
  io.wakeReady = true;
  io.tunQueue.push(fakeFrame(1, 4));
  assert.notEqual(control.adopted, generation);
  loop.turn();
  assert.equal(control.adopted, generation);
  assert.deepEqual(
    engine.log,
    ["segmentation off", "outbound 1 110", "sent 4 1"],
    "adopted at the start of the turn, then used",
  );
  assert.ok(io.log.includes("send 104 1"));
  // Woken in the middle of a turn: the poll's findings belong to the old assignment and are not used.
  io.log.length = 0;
  io.onIdle = () => {
    control.assign(ASSIGNMENT);
    io.wakeReady = true;
    io.tunQueue.push(fakeFrame(2, 4));
  };
  loop.turn();
  assert.deepEqual(io.log, ["wait -1"]);
  loop.turn();
  assert.ok(io.log.includes("send 94 1"));
});

test("messages that wait when sockets are replaced leave by the new ones", () => {
  const { engine, io, loop, control } = setUp();
  io.sendScript.push(-Errno.EAGAIN);
  io.tunQueue.push(fakeFrame(1, 4));
  loop.turn();
  control.assign({ ...ASSIGNMENT, udp4: 104 });
  io.wakeReady = true;
  loop.turn();
  assert.ok(io.log.includes("send 104 1"));
  assert.ok(engine.log.includes("sent 4 1"));
});

test("the loop runs until it is asked to stop", () => {
  const { io, loop, control } = setUp();
  let idle = 0;
  io.onIdle = () => {
    idle++;
    if (idle === 3) control.askToStop();
    io.wakeReady = true;
  };
  loop.run();
  assert.equal(control.state, WorkerState.Stopped);
  assert.equal(idle, 3);
});
