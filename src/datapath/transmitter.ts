// Sends what the engine has sealed: the transmit queues of both families through their sockets, in order, a batch per system
// call. Datagrams never overtake each other: when a socket is full, its queue waits and the caller stops reading the TUN device.

import type { AddressFamily } from "../base/address.js";
import type { Duration, Instant } from "../base/time.js";
import type { WorkerEngine } from "../engine/engine.js";
import { Errno, SystemCallError } from "../system/linux/errno.js";
import { Statistic } from "./control-block.js";
import type { DatapathIo } from "./io.js";

/** The part of an engine that has to do with sending. */
export type TransmitEngine = Pick<
  WorkerEngine,
  | "transmitCount"
  | "transmitMessagesAddress"
  | "transmitDone"
  | "transmitDropFirst"
  | "transmitSplitFirst"
  | "setSegmentationOffload"
>;

/** How long a full socket may hold up the TUN device before what waits for it is dropped. */
export const BLOCKED_LIMIT: Duration = 100;

/** Flushes an engine's transmit queues. */
export class Transmitter {
  readonly #engine: TransmitEngine;
  readonly #io: DatapathIo;
  readonly #statistics: Float64Array;
  /** Whether messages may hold several datagrams. */
  #segmentation = true;
  readonly #ipv4 = new FamilyQueue(4);
  readonly #ipv6 = new FamilyQueue(6);

  /** @param statistics indexed by {@link Statistic} */
  constructor(engine: TransmitEngine, io: DatapathIo, statistics: Float64Array) {
    this.#engine = engine;
    this.#io = io;
    this.#statistics = statistics;
  }

  /** Sends through other sockets from now on (-1: none); `segmentation`: they support UDP_SEGMENT. */
  useSockets(udp4: number, udp6: number, segmentation: boolean): void {
    this.#ipv4.reset(udp4);
    this.#ipv6.reset(udp6);
    this.#segmentation = segmentation;
    this.#engine.setSegmentationOffload(segmentation);
  }

  /** Whether the socket of a family is full and messages wait for it. */
  isBlocked(family: AddressFamily): boolean {
    return this.#queue(family).blocked;
  }

  /** Whether any socket is full: nothing more may be given to the engine. */
  get blocked(): boolean {
    return this.#ipv4.blocked || this.#ipv6.blocked;
  }

  /** Sends as much as the sockets take. Drops what has waited for longer than {@link BLOCKED_LIMIT}. */
  flush(now: Instant): void {
    this.#flushFamily(this.#ipv4, now);
    this.#flushFamily(this.#ipv6, now);
  }

  /** Drops what waits for full sockets. */
  dropBlocked(): void {
    if (this.#ipv4.blocked) this.#dropAll(this.#ipv4);
    if (this.#ipv6.blocked) this.#dropAll(this.#ipv6);
  }

  #queue(family: AddressFamily): FamilyQueue {
    return family === 4 ? this.#ipv4 : this.#ipv6;
  }

  #flushFamily(queue: FamilyQueue, now: Instant): void {
    const engine = this.#engine;
    for (;;) {
      const count = engine.transmitCount(queue.family);
      if (count === 0) break;
      if (queue.fd < 0) {
        this.#dropAll(queue);
        return;
      }
      const sent = this.#io.send(queue.fd, engine.transmitMessagesAddress(queue.family), count);
      if (sent > 0) {
        this.#sent(queue, sent);
        continue;
      }
      const code = this.#io.errno();
      if (code === Errno.EINTR) continue;
      if (code === Errno.EAGAIN) {
        this.#block(queue, now);
        return;
      }
      this.#recover(queue, code);
    }
    queue.blocked = false;
  }

  #sent(queue: FamilyQueue, count: number): void {
    if (queue.splitOnTrial) {
      // What the kernel refused as one it takes in pieces: segmentation is at fault, not the address.
      queue.splitOnTrial = false;
      this.#refuseSegmentation();
    }
    queue.blocked = false;
    this.#engine.transmitDone(queue.family, count);
    this.#count(Statistic.SendCalls, 1);
    this.#count(Statistic.SentMessages, count);
  }

  #block(queue: FamilyQueue, now: Instant): void {
    if (!queue.blocked) {
      queue.blocked = true;
      queue.blockedSince = now;
      this.#count(Statistic.SendBlocked, 1);
    } else if (now - queue.blockedSince > BLOCKED_LIMIT) {
      this.#dropAll(queue);
    }
  }

  /** Makes progress after the first message was refused. */
  #recover(queue: FamilyQueue, code: number): void {
    switch (code) {
      // No checksum offload on the way out: the kernel cannot segment there.
      case Errno.EIO:
        this.#refuseSegmentation();
        this.#splitOrDrop(queue);
        return;
      // Segmentation is refused, or the source address is gone; the pieces will tell.
      case Errno.EINVAL:
        this.#splitOrDrop(queue);
        return;
      // Congestion, firewall, no route, an ICMP error of an earlier datagram, larger than the link: this datagram is lost.
      case Errno.ENOBUFS:
      case Errno.ENOMEM:
      case Errno.EPERM:
      case Errno.EACCES:
      case Errno.ENODEV:
      case Errno.ENETDOWN:
      case Errno.ENETUNREACH:
      case Errno.EHOSTDOWN:
      case Errno.EHOSTUNREACH:
      case Errno.ECONNREFUSED:
      case Errno.EADDRNOTAVAIL:
      case Errno.EMSGSIZE:
        queue.splitOnTrial = false;
        this.#drop(queue);
        return;
      default:
        throw new SystemCallError(`sendmmsg IPv${queue.family} UDP`, code);
    }
  }

  /** Tries the first message in pieces; what was refused in pieces too is lost. */
  #splitOrDrop(queue: FamilyQueue): void {
    if (queue.splitOnTrial) {
      queue.splitOnTrial = false;
      this.#drop(queue);
    } else {
      queue.splitOnTrial = true;
      this.#engine.transmitSplitFirst(queue.family);
    }
  }

  #drop(queue: FamilyQueue): void {
    this.#engine.transmitDropFirst(queue.family);
    this.#count(Statistic.SendErrors, 1);
  }

  #dropAll(queue: FamilyQueue): void {
    while (this.#engine.transmitCount(queue.family) > 0) this.#drop(queue);
    queue.blocked = false;
  }

  #refuseSegmentation(): void {
    if (!this.#segmentation) return;
    this.#segmentation = false;
    this.#engine.setSegmentationOffload(false);
    this.#statistics[Statistic.SegmentationRefused] = 1;
  }

  #count(statistic: Statistic, amount: number): void {
    this.#statistics[statistic] = (this.#statistics[statistic] ?? 0) + amount;
  }
}

/** State of one family's queue. */
class FamilyQueue {
  readonly family: AddressFamily;
  fd = -1;
  /** The socket was full at the last attempt. */
  blocked = false;
  blockedSince: Instant = 0;
  /** The first message was refused, has been split (if it was more than one datagram), and was not tried again yet. */
  splitOnTrial = false;

  constructor(family: AddressFamily) {
    this.family = family;
  }

  reset(fd: number): void {
    this.fd = fd;
    this.blocked = false;
    this.splitOnTrial = false;
  }
}
