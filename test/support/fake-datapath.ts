// A packet engine and a kernel for tests of the worker loop: no cryptography, no file descriptors, every outcome scripted.

import type { AddressFamily } from "../../src/base/address.js";
import type { DatapathIo } from "../../src/datapath/io.js";
import type { TunOffloads, WorkerEngine } from "../../src/engine/engine.js";
import { Errno } from "../../src/system/linux/errno.js";
import { POLLIN, POLLOUT } from "../../src/system/linux/libc.js";
import type { PollSet } from "../../src/system/linux/poll.js";

/** Size of the memory that both share; addresses are offsets in it. */
const MEMORY_SIZE = 0x40000;
const TUN_READ = 0x10000;
const FRAMES = 0x30000;

/** A message in a transmit queue. */
export interface FakeMessage {
  /** First byte of the packet it was made of: tests number their packets. */
  readonly id: number;
  /** Datagrams in it. */
  readonly segments: number;
}

/** A frame as the fake reads it: after the virtio header one byte id, then 4 or 6 for the family, then the number of segments. */
export function fakeFrame(id: number, family: AddressFamily, segments = 1, length = 100): Uint8Array {
  const frame = new Uint8Array(10 + length);
  frame.set([id, family, segments], 10);
  return frame;
}

/** Turns frames into messages and messages into frames, remembering everything. */
export class FakeEngine implements WorkerEngine {
  readonly memory = new Uint8Array(MEMORY_SIZE);
  readonly tunReadCapacity = 10 + 65535;
  readonly receiveCapacity: number = 4;
  /** Messages per family that make the queue full. */
  readonly queueLimit = 8;
  readonly queues: Record<AddressFamily, FakeMessage[]> = { 4: [], 6: [] };
  /** What happened, in order: `outbound 1`, `drop 4 1`, `split 4 1`, `inbound 4 2 51820`, `offload off`. */
  readonly log: string[] = [];
  /** Frames that the next calls of `inbound` yield; each with its virtio header. */
  readonly inboundFrames: Uint8Array[][] = [];
  tunOffloads: TunOffloads | undefined;
  quiescent = false;
  exceptions = 0;
  /** The headers of frames as `outboundHeld` saw them. */
  readonly headers: string[] = [];
  /** Frames of at most 2048 bytes that may be held. */
  heldLimit = 2;
  /** Lengths of those that are. */
  readonly #held: number[] = [];
  #frames: { address: number; length: number }[] = [];

  get tunReadAddress(): number {
    return this.#heldAddress(this.#held.length);
  }

  hold(frameLength: number): boolean {
    this.#held.push(frameLength);
    return this.#held.length < this.heldLimit && frameLength <= 2048;
  }

  outboundHeld(): void {
    for (const [i, frameLength] of this.#held.splice(0).entries()) {
      const frame = this.memory.subarray(this.#heldAddress(i));
      const [id = 0, family = 0, segments = 0] = frame.subarray(10, 13);
      this.log.push(`outbound ${id} ${frameLength}`);
      this.headers.push(frame.subarray(0, 10).join(" "));
      this.queues[family === 6 ? 6 : 4].push({ id, segments });
    }
  }

  #heldAddress(i: number): number {
    return TUN_READ + 2048 * i;
  }

  sealKeepalive(connection: number): boolean {
    this.log.push(`keepalive ${connection}`);
    return true;
  }

  sealForPeer(connection: number, length: number): boolean {
    this.log.push(`peer ${connection} ${length}`);
    return true;
  }

  finishSealing(): void {
    this.log.push("finish");
  }

  /** Calls of `shareJobs`, and what `jobsPosted`, `jobsStalled` and `help` return; `help` takes them from the list. */
  sharing = false;
  jobsPosted = 0;
  jobsStalled = 0;
  readonly helped: number[] = [];

  shareJobs(on: boolean): void {
    this.sharing = on;
  }

  help(): number {
    return this.helped.shift() ?? 0;
  }

  get transmitFull(): boolean {
    return this.queues[4].length >= this.queueLimit || this.queues[6].length >= this.queueLimit;
  }

  transmitCount(family: AddressFamily): number {
    return this.queues[family].length;
  }

  transmitMessagesAddress(family: AddressFamily): number {
    return family;
  }

  transmitDone(family: AddressFamily, sent: number): void {
    for (const message of this.queues[family].splice(0, sent)) this.log.push(`sent ${family} ${message.id}`);
  }

  transmitDropFirst(family: AddressFamily): void {
    this.log.push(`drop ${family} ${this.queues[family].shift()?.id}`);
  }

  transmitSplitFirst(family: AddressFamily): void {
    const first = this.queues[family].shift();
    if (first === undefined) throw new Error("nothing to split");
    this.log.push(`split ${family} ${first.id}`);
    this.queues[family].unshift(...Array.from({ length: first.segments }, () => ({ id: first.id, segments: 1 })));
  }

  setSegmentationOffload(on: boolean): void {
    this.log.push(`segmentation ${on ? "on" : "off"}`);
  }

  exceptionsPending(): boolean {
    const pending = this.exceptions > 0;
    this.exceptions = 0;
    return pending;
  }

  receiveMessagesAddress(family: AddressFamily): number {
    return family;
  }

  prepareReceive(family: AddressFamily): void {
    this.log.push(`prepare ${family}`);
  }

  inbound(family: AddressFamily, messageCount: number, localPort: number): number {
    this.log.push(`inbound ${family} ${messageCount} ${localPort}`);
    let address = FRAMES;
    this.#frames = (this.inboundFrames.shift() ?? []).map((frame) => {
      const at = address;
      this.memory.set(frame, at);
      address += frame.length;
      return { address: at, length: frame.length };
    });
    return this.#frames.length;
  }

  frameAddress(i: number): number {
    return this.#frames[i]?.address ?? -1;
  }

  frameLength(i: number): number {
    return this.#frames[i]?.length ?? -1;
  }

  setTunOffloads(offloads: TunOffloads): void {
    this.tunOffloads = offloads;
  }

  countDrop(reason: number, count: number): void {
    this.log.push(`count ${reason} ${count}`);
  }

  enterQuiescent(): void {
    this.quiescent = true;
  }

  leaveQuiescent(): void {
    this.quiescent = false;
  }
}

/** File descriptors of the fake kernel. */
export const FakeFd = { Wake: 90, Tun: 91, Udp4: 94, Udp6: 96 } as const;

/** A kernel of scripts. A negative number in a script is an error number; an exhausted script: all goes well, or nothing is there. */
export class FakeIo implements DatapathIo {
  /** Frames in the device's queue, as written by the kernel: with virtio header unless `withoutHeader`. */
  readonly tunQueue: (Uint8Array | number)[] = [];
  /** Frames written to the device. */
  readonly written: Uint8Array[] = [];
  readonly writeScript: number[] = [];
  /** Messages waiting at the sockets: the numbers that receive calls return. */
  readonly receiveQueues: Record<number, number[]> = { [FakeFd.Udp4]: [], [FakeFd.Udp6]: [] };
  readonly sendScript: number[] = [];
  /** Calls in order: `read 91`, `send 94 3`, `wait -1 wake tun udp4`. */
  readonly log: string[] = [];
  wakeReady = false;
  /** Whether full sockets have room again when polled. */
  roomOnPoll = true;
  /** What to do when the loop would sleep for ever. */
  onIdle: () => void = () => {
    throw new Error("the loop sleeps for ever");
  };
  readonly #engine: FakeEngine;
  #errno = 0;

  constructor(engine: FakeEngine) {
    this.#engine = engine;
  }

  read(fd: number, address: number, length: number): number {
    const next = this.tunQueue.shift();
    this.log.push(`read ${fd}`);
    if (next === undefined) return this.#fail(Errno.EAGAIN);
    if (typeof next === "number") return next < 0 ? this.#fail(-next) : next;
    if (next.length > length) throw new Error("frame longer than the room for it");
    this.#engine.memory.set(next, address);
    return next.length;
  }

  write(_fd: number, address: number, length: number): number {
    const outcome = this.writeScript.shift() ?? 0;
    if (outcome < 0) return this.#fail(-outcome);
    this.written.push(this.#engine.memory.slice(address, address + length));
    return length;
  }

  send(fd: number, _messages: number, count: number): number {
    this.log.push(`send ${fd} ${count}`);
    const outcome = this.sendScript.shift() ?? count;
    return outcome < 0 ? this.#fail(-outcome) : outcome;
  }

  receive(fd: number, _messages: number, count: number): number {
    this.log.push(`receive ${fd}`);
    const outcome = this.receiveQueues[fd]?.shift();
    if (outcome === undefined) return this.#fail(Errno.EAGAIN);
    if (outcome > count) throw new Error("more messages than asked for");
    return outcome < 0 ? this.#fail(-outcome) : outcome;
  }

  wait(set: PollSet, timeout: number): number {
    if (!this.#engine.quiescent) throw new Error("asleep while holding table entries");
    let ready = this.#poll(set);
    this.log.push(`wait ${timeout}`);
    if (ready === 0 && timeout === -1) {
      this.onIdle();
      ready = this.#poll(set);
    }
    return ready;
  }

  errno(): number {
    return this.#errno;
  }

  /** Sets back the wake counter. */
  clearWake(): void {
    this.wakeReady = false;
  }

  #poll(set: PollSet): number {
    let ready = 0;
    for (let entry = 0; entry < 4; entry++) {
      const fd = set.fd(entry);
      const readable =
        (fd === FakeFd.Wake && this.wakeReady) ||
        (fd === FakeFd.Tun && this.tunQueue.length > 0) ||
        (this.receiveQueues[fd]?.length ?? 0) > 0;
      const found = set.events(entry) & ((readable ? POLLIN : 0) | (this.roomOnPoll ? POLLOUT : 0));
      set.setReady(entry, found);
      if (found !== 0) ready++;
    }
    return ready;
  }

  #fail(code: number): number {
    this.#errno = code;
    return -1;
  }
}
