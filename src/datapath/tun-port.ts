// The worker's side of the TUN device: reads frames into the engine and writes the engine's frames. The engine always speaks
// frames with a virtio header; on a device without one the header is left out here.

import type { WorkerEngine } from "../engine/engine.js";
import { Errno, SystemCallError } from "../system/linux/errno.js";
import { VIRTIO_HEADER_LENGTH } from "../system/linux/tun.js";
import { AssignmentFlag, Statistic } from "./control-block.js";
import type { DatapathIo } from "./io.js";

/** Attempts to write a frame while the device has no memory for it. */
const WRITE_ATTEMPTS = 8;

/** What the error says that ends a datapath whose interface was removed: all that is left of an error on its way between threads is its message. */
export const INTERFACE_REMOVED = "the interface was removed";

/** Where the type of segmentation is in the virtio header; 0: the frame is one packet. */
const GSO_TYPE_OFFSET = 1;

/** Reads and writes TUN frames for one engine. */
export class TunPort {
  /** -1: no device. */
  fd = -1;
  readonly #engine: WorkerEngine;
  readonly #io: DatapathIo;
  readonly #statistics: Float64Array;
  /** The engine's memory, and the host address of its first byte. */
  readonly #memory: Uint8Array;
  readonly #hostBase: number;
  #flags = 0;
  /** Bytes in front of the engine's packets that this device does not want: the virtio header, or nothing. */
  #skip = 0;
  readonly #countWriteError: () => void;

  /**
   * @param statistics indexed by {@link Statistic}
   * @param countWriteError counts a frame that the device refused
   */
  constructor(
    engine: WorkerEngine,
    io: DatapathIo,
    statistics: Float64Array,
    memory: Uint8Array,
    hostBase: number,
    countWriteError: () => void,
  ) {
    this.#engine = engine;
    this.#io = io;
    this.#statistics = statistics;
    this.#memory = memory;
    this.#hostBase = hostBase;
    this.#countWriteError = countWriteError;
  }

  /** Works on another device from now on; `flags`: {@link AssignmentFlag}. */
  useDevice(fd: number, flags: number): void {
    this.fd = fd;
    this.#flags = flags;
    this.#skip = (flags & AssignmentFlag.VirtioHeader) === 0 ? VIRTIO_HEADER_LENGTH : 0;
    this.#engine.setTunOffloads({
      checksum: (flags & AssignmentFlag.TunChecksum) !== 0,
      tso: (flags & AssignmentFlag.TunTso) !== 0,
      uso: (flags & AssignmentFlag.TunUso) !== 0,
    });
  }

  /** Reads one frame to the engine's place for it; returns its length with virtio header, 0 when none waits. */
  read(): number {
    const skip = this.#skip;
    const address = this.#engine.tunReadAddress;
    // A sum is an object (src/engine/host-addresses.ts).
    const start = skip === 0 ? address : address + skip;
    for (;;) {
      const length = this.#io.read(this.fd, start, this.#engine.tunReadCapacity - skip);
      if (length > 0) {
        if (skip > 0) this.#memory.fill(0, address - this.#hostBase, address - this.#hostBase + skip);
        this.#statistics[Statistic.TunReads] = (this.#statistics[Statistic.TunReads] ?? 0) + 1;
        return length + skip;
      }
      if (length === 0) throw new Error("the TUN device was closed");
      const code = this.#io.errno();
      if (code === Errno.EAGAIN) return 0;
      if (code !== Errno.EINTR) throw deviceError("read", code);
    }
  }

  /** Writes the first `count` frames of the engine, in order; without a device they are lost. */
  writeFrames(count: number): void {
    for (let i = 0; i < count; i++) this.#writeFrame(this.#engine.frameAddress(i), this.#engine.frameLength(i));
  }

  #writeFrame(address: number, length: number): void {
    const skip = this.#skip;
    const start = skip === 0 ? address : address + skip;
    for (let attempt = 1; this.fd >= 0 && attempt <= WRITE_ATTEMPTS; attempt++) {
      if (this.#io.write(this.fd, start, length - skip) !== -1) {
        this.#statistics[Statistic.TunWrites] = (this.#statistics[Statistic.TunWrites] ?? 0) + 1;
        return;
      }
      const code = this.#io.errno();
      if (!isTransientWriteError(code)) {
        this.#handleRefusal(code, address);
        break;
      }
    }
    this.#statistics[Statistic.TunWriteErrors] = (this.#statistics[Statistic.TunWriteErrors] ?? 0) + 1;
    this.#countWriteError();
  }

  #handleRefusal(code: number, address: number): void {
    switch (code) {
      // The interface is down.
      case Errno.EIO:
      case Errno.ENETDOWN:
        return;
      case Errno.EINVAL:
      case Errno.EMSGSIZE:
        if (this.#memory[address - this.#hostBase + GSO_TYPE_OFFSET] !== 0) this.#refuseCoalescing();
        return;
      default:
        throw deviceError("write", code);
    }
  }

  /** The frame is lost, its TCP repeats it; from now on every packet is written by itself. */
  #refuseCoalescing(): void {
    this.#statistics[Statistic.CoalescingRefused] = 1;
    this.useDevice(this.fd, this.#flags & ~(AssignmentFlag.TunTso | AssignmentFlag.TunUso));
  }
}

/** The device has no memory for the frame at the moment, or a signal came. */
function isTransientWriteError(code: number): boolean {
  switch (code) {
    case Errno.EINTR:
    case Errno.EAGAIN:
    case Errno.ENOBUFS:
    case Errno.ENOMEM:
    case Errno.ENOSPC:
      return true;
    default:
      return false;
  }
}

function deviceError(call: string, code: number): SystemCallError {
  return new SystemCallError(`${call} TUN device`, code, code === Errno.EBADFD ? INTERFACE_REMOVED : undefined);
}
