// The process of a link emulator: it stands between two interfaces of its namespace and forwards every frame from one to the other,
// late, twice or not at all, as impairment.ts decides. Started by link-emulator.ts:
//
//   node link-emulator-main.js INTERFACE INTERFACE SEED
//
// A loop without Node's event loop: poll(2) on both interfaces and on standard input, which brings commands, one JSON object per
// line. Each is answered by a line on standard output. The end of standard input ends the process.
//
//   {"impairments": [{…}, {…}]}   for frames from the first interface, from the second   → {"changed": true}
//   {"statistics": true}                                                                → {"statistics": [{…}, {…}]}

import { writeSync } from "node:fs";
import { monotonicNow } from "../../src/system/clock.js";
import { Errno } from "../../src/system/linux/errno.js";
import { allocate, errno, F_GETFL, fcntl, O_NONBLOCK, POLLIN, read } from "../../src/system/linux/libc.js";
import { PollSet } from "../../src/system/linux/poll.js";
import { getLink } from "../../src/system/linux/rtnetlink/links.js";
import { NetlinkSocket } from "../../src/system/linux/rtnetlink/netlink.js";
import { Agenda } from "./agenda.js";
import { type Fate, fateOf, type Impairment, Transmitter } from "./impairment.js";
import { FRAME_HEADER, PacketSocket } from "./packet-socket.js";

/** What happened to the frames of one direction. */
export interface LinkStatistics {
  /** Frames that came in, and those that went out (duplicates included). */
  received: number;
  sent: number;
  /** Frames lost because the seed said so. */
  lost: number;
  /** Frames that arrived twice. */
  duplicated: number;
  /** Frames lost for want of room: on the wire of a link with a rate, in this process, at the interface. */
  queueFull: number;
  tooMany: number;
  refused: number;
}

/** Room of one frame: the header, Ethernet's, and an MTU up to 2000 bytes. */
const SLOT_SIZE = 2048;
/** Frames under way at most: 100 ms of 1 Gbit/s. */
const SLOTS = 8192;
/** Frames read from one interface before the other and the agenda get their turn. */
const BATCH = 64;
/** Milliseconds before its time at which a frame goes out: poll(2) waits in whole milliseconds. */
const EARLY = 0.5;
/** Room for commands. */
const COMMAND_SIZE = 64 * 1024;

interface Direction {
  readonly index: number;
  readonly from: PacketSocket;
  readonly to: PacketSocket;
  readonly transmitter: Transmitter;
  readonly statistics: LinkStatistics;
  impairment: Impairment;
  /** Number of the next frame. */
  next: number;
}

const frames = allocate(SLOT_SIZE * SLOTS);
const free = Array.from({ length: SLOTS }, (_, slot) => slot);
const agenda = new Agenda<{ readonly slot: number; readonly length: number; readonly direction: Direction }>();

/** Reads what has come and decides on it. @returns whether there may be more. */
function receive(direction: Direction): boolean {
  const { statistics } = direction;
  for (let i = 0; i < BATCH; i++) {
    // The last slot stays: without one to read into, frames could not even be thrown away.
    const slot = free.at(-1);
    if (slot === undefined) return false;
    const address = frames.address + slot * SLOT_SIZE;
    const length = direction.from.receive(address, SLOT_SIZE);
    if (length === undefined) return false;
    const now = monotonicNow();
    statistics.received++;
    const { impairment } = direction;
    const fate = isHousekeeping(slot * SLOT_SIZE + FRAME_HEADER)
      ? fateOfHousekeeping(impairment)
      : fateOf(seed, direction.index, direction.next++, impairment);
    if (fate.type === "lost") {
      statistics.lost++;
      continue;
    }
    const sent = direction.transmitter.transmit(now, length - FRAME_HEADER, impairment);
    if (sent === undefined) {
      statistics.queueFull++;
      continue;
    }
    const [first = 0, second] = fate.delays;
    if (second !== undefined) {
      statistics.duplicated++;
      keep(copy(slot, length), length, direction, sent + second);
    }
    if (sent + first <= now && agenda.size === 0) send(direction, address, length);
    else if (free.length === 1) statistics.tooMany++;
    else {
      // A copy took slots from the end of the list meanwhile: this one is found by its number.
      free.splice(free.lastIndexOf(slot), 1);
      agenda.add(sent + first, { slot, length, direction });
    }
  }
  return true;
}

/** EtherTypes, the place of the protocol in an IPv6 frame and of the ICMPv6 type, and the types of neighbour discovery (RFC 4861). */
const ETHERTYPE_ARP = 0x0806;
const ETHERTYPE_IPV6 = 0x86dd;
const IPV6_NEXT_HEADER = 14 + 6;
const ICMPV6_TYPE = 14 + 40;
const ICMPV6 = 58;
const ROUTER_SOLICITATION = 133;
const REDIRECT = 137;

/**
 * Whether the frame at `at` is one by which hosts keep their tables, or to all hosts. When such frames are sent depends on the
 * kernel's timers, so they take no number: the others' fate would not be the same in each run.
 */
function isHousekeeping(at: number): boolean {
  const { bytes, view } = frames;
  if (((bytes[at] ?? 0) & 1) !== 0) return true;
  const type = view.getUint16(at + 12);
  if (type === ETHERTYPE_ARP) return true;
  if (type !== ETHERTYPE_IPV6 || bytes[at + IPV6_NEXT_HEADER] !== ICMPV6) return false;
  const message = bytes[at + ICMPV6_TYPE] ?? 0;
  return message >= ROUTER_SOLICITATION && message <= REDIRECT;
}

/** They are late as all others, and lost on a link that loses everything only. */
function fateOfHousekeeping({ delay = 0, loss = 0 }: Impairment): Fate {
  return loss >= 1 ? { type: "lost" } : { type: "delivered", delays: [delay] };
}

/** A second copy of a frame, in a slot of its own; `undefined` when there is none left. */
function copy(slot: number, length: number): number | undefined {
  if (free.length <= 2) return undefined;
  const [other] = free.splice(free.length - 2, 1);
  if (other === undefined) return undefined;
  frames.bytes.copyWithin(other * SLOT_SIZE, slot * SLOT_SIZE, slot * SLOT_SIZE + length);
  return other;
}

function keep(slot: number | undefined, length: number, direction: Direction, time: number): void {
  if (slot === undefined) direction.statistics.tooMany++;
  else agenda.add(time, { slot, length, direction });
}

function send({ to, statistics }: Direction, address: number, length: number): void {
  switch (to.send(address, length)) {
    case "sent":
      statistics.sent++;
      return;
    case "full":
      statistics.tooMany++;
      return;
    case "refused":
      statistics.refused++;
      return;
  }
}

/** Sends what is due. */
function sendDue(): void {
  for (;;) {
    const due = agenda.takeUntil(monotonicNow() + EARLY);
    if (due === undefined) return;
    send(due.direction, frames.address + due.slot * SLOT_SIZE, due.length);
    free.push(due.slot);
  }
}

const input = allocate(COMMAND_SIZE);
let pending = "";

/** Reads commands and follows them. @returns `false` at the end of the input. */
function obey(): boolean {
  const length = read(0, input.address, COMMAND_SIZE);
  if (length === 0) return false;
  if (length < 0) return errno() === Errno.EAGAIN || errno() === Errno.EINTR;
  const lines = (pending + Buffer.from(input.bytes.subarray(0, length)).toString("utf8")).split("\n");
  pending = lines.pop() ?? "";
  for (const line of lines) {
    const command = JSON.parse(line) as { impairments?: [Impairment, Impairment]; statistics?: true };
    for (const direction of directions)
      direction.impairment = command.impairments?.[direction.index] ?? direction.impairment;
    const answer =
      command.statistics === undefined ? { changed: true } : { statistics: directions.map((d) => d.statistics) };
    writeSync(1, `${JSON.stringify(answer)}\n`);
  }
  return true;
}

function openSocket(name: string | undefined): PacketSocket {
  const netlink = NetlinkSocket.open();
  try {
    return new PacketSocket(getLink(netlink, name ?? "").index);
  } finally {
    netlink.close();
  }
}

const [first, second, seedText] = process.argv.slice(2);
const seed = Number(seedText);
const [one, other] = [openSocket(first), openSocket(second)];
const directions = [
  { from: one, to: other },
  { from: other, to: one },
].map(
  (ends, index): Direction => ({
    ...ends,
    index,
    transmitter: new Transmitter(),
    statistics: { received: 0, sent: 0, lost: 0, duplicated: 0, queueFull: 0, tooMany: 0, refused: 0 },
    impairment: {},
    next: 0,
  }),
);

const F_SETFL = 4;
fcntl(0, F_SETFL, fcntl(0, F_GETFL, 0) | O_NONBLOCK);
const polled = new PollSet(3);
polled.set(0, 0, POLLIN);
polled.set(1, one.fd, POLLIN);
polled.set(2, other.fd, POLLIN);
writeSync(1, `${JSON.stringify({ ready: true })}\n`);

for (let busy = false; ; ) {
  const next = agenda.next;
  const wait = next === undefined ? -1 : Math.max(0, Math.round(next - monotonicNow()));
  polled.wait(busy ? 0 : wait);
  if (polled.ready(0) !== 0 && !obey()) break;
  busy = false;
  for (const direction of directions) {
    if (polled.ready(1 + direction.index) !== 0 && receive(direction)) busy = true;
    sendDue();
  }
}
