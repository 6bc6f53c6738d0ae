// What the main thread sends itself, through the same sockets and device as the workers: STUN and handshakes, packets that
// waited for a connection, keepalives, answers to the device. A few per second; nothing here waits, what does not fit is counted.

import type { Transmit } from "../base/state-machine.js";
import { Engine } from "../engine/engine.js";
import type { Layout } from "../engine/layout.js";
import type { EngineBuild } from "../engine/module.js";
import type { SharedMemory } from "../engine/webassembly.js";
import { monotonicNow } from "../system/clock.js";
import { Errno, SystemCallError } from "../system/linux/errno.js";
import { addressOf, allocate, errno, write } from "../system/linux/libc.js";
import { VIRTIO_HEADER_LENGTH } from "../system/linux/tun.js";
import { UdpSender } from "../system/linux/udp-message.js";
import { type Assignment, AssignmentFlag, NO_ASSIGNMENT, Statistic } from "./control-block.js";
import { linuxIo } from "./io.js";
import { signalExceptions } from "./signal.js";
import { Transmitter } from "./transmitter.js";

/** Largest IP packet in bytes. */
const MAX_PACKET_LENGTH = 65535;

/** Counts of what the main thread sent itself. */
export interface MainPortCounters {
  /** Datagrams of the control plane that left. */
  controlSent: number;
  /** Lost because the socket was full. */
  controlFull: number;
  /** Refused by the kernel: no route, source address gone, firewall. */
  controlRefused: number;
  /** No socket of that family, or the source port is no longer ours. */
  controlUnsendable: number;
  /** Packets written to the device, and those it refused. */
  tunDelivered: number;
  tunRefused: number;
}

/** The main thread's access to sockets and device, and its own engine (slot 0). */
export class MainPort {
  readonly counters: MainPortCounters = {
    controlSent: 0,
    controlFull: 0,
    controlRefused: 0,
    controlUnsendable: 0,
    tunDelivered: 0,
    tunRefused: 0,
  };
  /** Like a worker's, indexed by {@link Statistic}. */
  readonly statistics = new Float64Array(Statistic.Count);
  readonly #engine: Engine;
  /** Where the engine expects a TUN frame. */
  readonly #frame: Uint8Array;
  readonly #transmitter: Transmitter;
  readonly #sender = new UdpSender();
  readonly #tunFrame = allocate(VIRTIO_HEADER_LENGTH + MAX_PACKET_LENGTH);
  readonly #signal: () => void;
  #assignment: Assignment = NO_ASSIGNMENT;

  private constructor(engine: Engine, frame: Uint8Array, signal: () => void) {
    this.#engine = engine;
    this.#frame = frame;
    this.#signal = signal;
    this.#transmitter = new Transmitter(engine, linuxIo, this.statistics);
  }

  /** Makes the engine of slot 0. */
  static async create(memory: SharedMemory, layout: Layout, build: EngineBuild): Promise<MainPort> {
    const bytes = new Uint8Array(memory.buffer);
    const hostBase = addressOf(bytes);
    const engine = await Engine.create({ memory, layout, slot: 0, hostBase, build });
    const frameOffset = engine.tunReadAddress - hostBase;
    const frame = bytes.subarray(frameOffset, frameOffset + engine.tunReadCapacity);
    return new MainPort(engine, frame, signalExceptions(memory, layout));
  }

  /** Works with these file descriptors from now on. */
  use(assignment: Assignment): void {
    this.#assignment = assignment;
    const segmentation = (assignment.flags & AssignmentFlag.UdpSegmentation) !== 0;
    this.#transmitter.useSockets(assignment.udp4, assignment.udp6, segmentation);
  }

  /** Sends a datagram of the control plane, from exactly its source address if it has one. */
  sendControl(transmit: Transmit): void {
    const { counters } = this;
    const { udp4, udp6, port4, port6 } = this.#assignment;
    const ipv4 = transmit.destination.family === 4;
    const fd = ipv4 ? udp4 : udp6;
    const { source } = transmit;
    if (fd < 0 || (source !== undefined && source.port !== (ipv4 ? port4 : port6))) {
      counters.controlUnsendable++;
      return;
    }
    const code = this.#sender.send(fd, transmit);
    if (code === 0) counters.controlSent++;
    else if (code === Errno.EAGAIN || code === Errno.ENOBUFS) counters.controlFull++;
    else if (code === Errno.EBADF || code === Errno.EFAULT)
      throw new SystemCallError(`sendmsg UDP to ${transmit.destination}`, code);
    else counters.controlRefused++;
  }

  /** Sends an IP packet into the tunnel, as if it had come from the device: routed, sealed, or an exception again. */
  injectPacket(packet: Uint8Array): void {
    if (packet.length > MAX_PACKET_LENGTH) throw new RangeError(`a packet of ${packet.length} bytes`);
    this.#frame.fill(0, 0, VIRTIO_HEADER_LENGTH);
    this.#frame.set(packet, VIRTIO_HEADER_LENGTH);
    this.#engine.outbound(VIRTIO_HEADER_LENGTH + packet.length, monotonicNow());
    this.#flush();
  }

  /** Sends an empty transport message on a connection; whether it has a session and a path. */
  sendKeepalive(connection: number): boolean {
    const sealed = this.#engine.sealKeepalive(connection, monotonicNow());
    this.#flush();
    return sealed;
  }

  /** Sends a packet to the peer of a connection itself, whatever the routes say; whether it has a session and a path. */
  sendToPeer(connection: number, packet: Uint8Array): boolean {
    if (packet.length > MAX_PACKET_LENGTH) throw new RangeError(`a packet of ${packet.length} bytes`);
    this.#frame.set(packet, VIRTIO_HEADER_LENGTH);
    const sealed = this.#engine.sealForPeer(connection, packet.length, monotonicNow());
    this.#flush();
    return sealed;
  }

  /** Writes an IP packet with complete checksums to the device, as if it had come from the tunnel; whether the device took it. */
  deliverToTun(packet: Uint8Array): boolean {
    if (packet.length > MAX_PACKET_LENGTH) throw new RangeError(`a packet of ${packet.length} bytes`);
    const { tun, flags } = this.#assignment;
    this.#tunFrame.bytes.set(packet, VIRTIO_HEADER_LENGTH);
    // The bytes in front are never written to, so they are an empty virtio header where the device wants one.
    const skip = (flags & AssignmentFlag.VirtioHeader) === 0 ? VIRTIO_HEADER_LENGTH : 0;
    const length = VIRTIO_HEADER_LENGTH + packet.length - skip;
    if (tun >= 0 && write(tun, this.#tunFrame.address + skip, length) !== -1) {
      this.counters.tunDelivered++;
      return true;
    }
    if (tun >= 0 && errno() === Errno.EBADF) throw new SystemCallError("write TUN device", errno());
    this.counters.tunRefused++;
    return false;
  }

  #flush(): void {
    this.#transmitter.flush(monotonicNow());
    this.#transmitter.dropBlocked();
    if (this.#engine.exceptionsPending()) this.#signal();
    this.#engine.enterQuiescent();
  }
}
