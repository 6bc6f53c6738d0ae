// The TUN device (spec 05, section 3.1; spec 04, section 8.4) with the offloads of newer kernels: frames carry a virtio network
// header, one read may return up to 64 KiB of TCP or UDP to segment, one write may deliver as much coalesced. What the kernel
// refuses is left out step by step. Kernel documentation: networking/tuntap, include/uapi/linux/if_tun.h, virtio_net.h.
//
//   struct ifreq, 40 bytes:  name 16, zero-terminated | flags u16 | unused
//
// The device lives as long as its file descriptors: when the last one closes, interface, addresses and routes vanish.

import { chmodSync, existsSync, mkdirSync } from "node:fs";
import { dirname } from "node:path";
import { Errno, SystemCallError } from "./errno.js";
import {
  allocate,
  check,
  close,
  deviceNumber,
  errno,
  ioctl,
  mknod,
  type NativeBuffer,
  O_CLOEXEC,
  O_NONBLOCK,
  O_RDWR,
  open,
  S_IFCHR,
} from "./libc.js";

/** Length of `struct virtio_net_hdr` in bytes: in front of every frame when {@link TunOffloads.virtioHeader}. */
export const VIRTIO_HEADER_LENGTH = 10;

/** Size of an interface name with its terminating zero (`IFNAMSIZ`). */
const INTERFACE_NAME_SIZE = 16;

const TUNSETIFF = 0x400454ca;
const TUNGETFEATURES = 0x800454cf;
const TUNSETOFFLOAD = 0x400454d0;

const IFF_TUN = 0x0001;
const IFF_MULTI_QUEUE = 0x0100;
const IFF_NO_PI = 0x1000;
const IFF_VNET_HDR = 0x4000;
const IFF_TUN_EXCL = 0x8000;

const TUN_F_CSUM = 0x01;
const TUN_F_TSO4 = 0x02;
const TUN_F_TSO6 = 0x04;
const TUN_F_USO4 = 0x20;
const TUN_F_USO6 = 0x40;

/** What to create. */
export interface TunOptions {
  /** Interface name, 1 to 15 bytes; `%d` in it: the kernel chooses a number. */
  readonly name: string;
  /** Queues: one per worker. More than one makes the device multi-queue, and exclusive to this process. Default 1. */
  readonly queues?: number;
  /** `false`: plain packets, no virtio header (comparison, tests). Default `true`: whatever the kernel offers. */
  readonly offloads?: boolean;
  /** The clone device, created when it is missing. Default `/dev/net/tun`. */
  readonly clonePath?: string;
}

/** What the kernel offers for frames that cross the device. */
export interface TunOffloads {
  /** Frames start with a virtio network header. Without it all others are false. */
  readonly virtioHeader: boolean;
  /** Frames may have incomplete TCP and UDP checksums. */
  readonly checksum: boolean;
  /** Frames may be TCP to segment, and coalesced TCP may be written. */
  readonly tso: boolean;
  /** The same for UDP (Linux 6.2). */
  readonly uso: boolean;
}

/** An open TUN device. */
export interface TunDevice {
  /** The interface's name as the kernel reports it. */
  readonly name: string;
  /** One non-blocking file descriptor per queue. */
  readonly queues: readonly number[];
  readonly offloads: TunOffloads;
  /** Closes all queues; the interface vanishes. Nobody may use the file descriptors any more. */
  close(): void;
}

/**
 * Creates a TUN interface. It is down and has no addresses.
 *
 * @throws RangeError for an impossible name; {@link SystemCallError} when the kernel refuses: EPERM (no CAP_NET_ADMIN), EBUSY
 *   (somebody else holds the device), ENODEV or ENOENT (no tun driver).
 */
export function openTun(options: TunOptions): TunDevice {
  const queueCount = options.queues ?? 1;
  const nameBytes = checkedName(options.name);
  const clonePath = options.clonePath ?? "/dev/net/tun";
  createCloneDevice(clonePath);

  const queues: number[] = [];
  const closeQueues = () => {
    for (const fd of queues.splice(0)) close(fd);
  };
  try {
    const request = allocate(40);
    request.bytes.set(nameBytes);
    let flags = IFF_TUN | IFF_NO_PI;
    for (let i = 0; i < queueCount; i++) {
      const fd = check(open(clonePath, O_RDWR | O_NONBLOCK | O_CLOEXEC, 0), `open ${clonePath}`, openAdvice());
      queues.push(fd);
      if (i === 0) flags |= featureFlags(fd, queueCount, options.offloads ?? true);
      // Without "exclusive" on its first queue, a multi-queue device of another process would just gain a queue.
      attachQueue(fd, request, i === 0 && queueCount > 1 ? flags | IFF_TUN_EXCL : flags, options.name);
    }
    const name = readName(request);
    const virtioHeader = (flags & IFF_VNET_HDR) !== 0;
    const offloads = virtioHeader ? enableOffloads(queues[0] ?? -1) : NO_OFFLOADS;
    return { name, queues: queues.slice(), offloads, close: closeQueues };
  } catch (error) {
    closeQueues();
    throw error;
  }
}

const NO_OFFLOADS: TunOffloads = { virtioHeader: false, checksum: false, tso: false, uso: false };

/** The rules of the kernel's `dev_valid_name`, checked here because the kernel's answer is a bare EINVAL. */
function checkedName(name: string): Uint8Array {
  const bytes = new TextEncoder().encode(name);
  if (bytes.length === 0 || bytes.length >= INTERFACE_NAME_SIZE)
    throw new RangeError(`interface name "${name}" must have 1 to ${INTERFACE_NAME_SIZE - 1} bytes`);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: a zero byte would silently end the name
  if (name === "." || name === ".." || /[/:\s\u0000]/.test(name))
    throw new RangeError(`interface name "${name}" must not contain "/", ":" or white space`);
  return bytes;
}

function createCloneDevice(path: string): void {
  if (existsSync(path)) return;
  const directory = dirname(path);
  if (!existsSync(directory)) {
    mkdirSync(directory, { recursive: true });
    chmodSync(directory, 0o751);
  }
  if (mknod(path, S_IFCHR | 0o600, deviceNumber(10, 200)) === -1 && errno() !== Errno.EEXIST)
    throw new SystemCallError(`mknod ${path}`, errno(), "the device node is missing; creating it needs CAP_MKNOD");
}

/** What to tell about the error that `open` of the clone device just left. */
function openAdvice(): string | undefined {
  switch (errno()) {
    case Errno.ENODEV:
    case Errno.ENXIO:
    case Errno.ENOENT:
      return "the kernel has no tun driver; try: modprobe tun";
    case Errno.EACCES:
    case Errno.EPERM:
      return "no access to the tun driver: that takes root or CAP_NET_ADMIN, and in a container the device must be passed in";
    default:
      return undefined;
  }
}

/** Feature flags for TUNSETIFF that the kernel knows and we want. */
function featureFlags(fd: number, queueCount: number, offloads: boolean): number {
  const word = allocate(8);
  check(ioctl(fd, TUNGETFEATURES, word.address), "ioctl TUNGETFEATURES");
  const known = word.view.getUint32(0, true);
  let flags = offloads ? known & IFF_VNET_HDR : 0;
  if (queueCount > 1) {
    if ((known & IFF_MULTI_QUEUE) === 0)
      throw new Error("the kernel's tun driver has no multi-queue devices: use one worker");
    flags |= IFF_MULTI_QUEUE;
  }
  return flags;
}

/** TUNSETIFF; the kernel writes the name it chose back to `request`, so that further queues join the same device. */
function attachQueue(fd: number, request: NativeBuffer, flags: number, name: string): void {
  request.view.setUint16(INTERFACE_NAME_SIZE, flags, true);
  if (ioctl(fd, TUNSETIFF, request.address) === 0) return;
  const code = errno();
  throw new SystemCallError(`ioctl TUNSETIFF ${name}`, code, attachAdvice(code));
}

function attachAdvice(code: number): string | undefined {
  switch (code) {
    case Errno.EPERM:
      return "creating an interface needs CAP_NET_ADMIN; run as root or grant the capability";
    case Errno.EBUSY:
      return "another process holds this interface";
    case Errno.EINVAL:
      return "an interface of this name exists and is no tun device of the same kind";
    default:
      return undefined;
  }
}

function readName(request: NativeBuffer): string {
  const end = request.bytes.indexOf(0);
  return new TextDecoder().decode(request.bytes.subarray(0, Math.min(end, INTERFACE_NAME_SIZE)));
}

/** Asks for less and less until the kernel accepts; UDP segmentation needs Linux 6.2. */
function enableOffloads(fd: number): TunOffloads {
  const tcp = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6;
  for (const wanted of [tcp | TUN_F_USO4 | TUN_F_USO6, tcp, TUN_F_CSUM]) {
    if (ioctl(fd, TUNSETOFFLOAD, wanted) === 0) {
      return {
        virtioHeader: true,
        checksum: true,
        tso: (wanted & TUN_F_TSO4) !== 0,
        uso: (wanted & TUN_F_USO4) !== 0,
      };
    }
    if (errno() !== Errno.EINVAL) throw new SystemCallError("ioctl TUNSETOFFLOAD", errno());
  }
  return { virtioHeader: true, checksum: false, tso: false, uso: false };
}
