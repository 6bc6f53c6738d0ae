// The C library's system call wrappers, called by koffi. This is the only file that declares foreign functions.
//
// Pointers are plain numbers: `addressOf(buffer) + offset`. Such a call allocates nothing and costs about 0.3 µs, so the
// datapath's loop can use it per batch. Whoever passes an address keeps the buffer reachable while the kernel may use it.
//
// Every function returns what the C function returns; -1 means failure, and `errno()` right after it tells why. Callers outside
// the hot path wrap the call in `check`, which throws instead. Man pages: section 2 under the functions' names.

import { arch, endianness } from "node:os";
import koffi, { type LibraryHandle } from "koffi";
import { SystemCallError } from "./errno.js";

/** Processors (names of `os.arch()`) whose structure layouts and constants agree with those in this folder: 64 bits, little-endian, asm-generic. */
const SUPPORTED_PROCESSORS = ["x64", "arm64", "riscv64", "loong64"];

/** glibc; musl under its own name, by processor; what a musl development image has. */
const LIBRARY_NAMES = [
  "libc.so.6",
  "libc.musl-x86_64.so.1",
  "libc.musl-aarch64.so.1",
  "libc.musl-riscv64.so.1",
  "libc.musl-loongarch64.so.1",
  "libc.so",
];

function loadLibrary(): LibraryHandle {
  if (process.platform !== "linux" || !SUPPORTED_PROCESSORS.includes(arch()) || endianness() !== "LE")
    throw new Error(`system calls are implemented for 64-bit Linux, not for ${process.platform} on ${arch()}`);
  const failures: string[] = [];
  for (const name of LIBRARY_NAMES) {
    try {
      return koffi.load(name);
    } catch (error) {
      failures.push(error instanceof Error ? error.message : String(error));
    }
  }
  throw new Error(`no C library found: ${failures.join("; ")}`);
}

const library = loadLibrary();

/** `int`, `size_t`, pointer as a number, `unsigned long`, and the signed results of read and write. */
const INT = "int";
const UINT = "unsigned int";
const SIZE = "size_t";
const POINTER = "uintptr_t";
const LONG = "long";
const TEXT = "string";

/** Opens `path`; returns a file descriptor. Flags: {@link O_RDWR} and its neighbours. */
export const open: (path: string, flags: number, mode: number) => number = library.func("open", INT, [TEXT, INT, UINT]);
/** Closes a file descriptor. */
export const close: (fd: number) => number = library.func("close", INT, [INT]);
/** Reads at most `length` bytes to `address`; returns their number. */
export const read: (fd: number, address: number, length: number) => number = library.func("read", LONG, [
  INT,
  POINTER,
  SIZE,
]);
/** Writes `length` bytes from `address`; returns how many were taken. */
export const write: (fd: number, address: number, length: number) => number = library.func("write", LONG, [
  INT,
  POINTER,
  SIZE,
]);
/** Device control. `argument` is an address or a value: the request decides, the C function takes either. */
export const ioctl: (fd: number, request: number, argument: number) => number = library.func("ioctl", INT, [
  INT,
  "unsigned long",
  POINTER,
]);
/** File descriptor control with an integer argument. */
export const fcntl: (fd: number, command: number, argument: number) => number = library.func("fcntl", INT, [
  INT,
  INT,
  LONG,
]);

/** Creates a socket; returns its file descriptor. */
export const socket: (domain: number, type: number, protocol: number) => number = library.func("socket", INT, [
  INT,
  INT,
  INT,
]);
/** Binds a socket to the address structure at `address`. */
export const bind: (fd: number, address: number, length: number) => number = library.func("bind", INT, [
  INT,
  POINTER,
  UINT,
]);
/** Connects a socket to the address structure at `address`. */
export const connect: (fd: number, address: number, length: number) => number = library.func("connect", INT, [
  INT,
  POINTER,
  UINT,
]);
/** Writes a socket's own address to `address`; the 32-bit word at `lengthAddress` holds the room, then the length. */
export const getsockname: (fd: number, address: number, lengthAddress: number) => number = library.func(
  "getsockname",
  INT,
  [INT, POINTER, POINTER],
);
/** Sets a socket option from `length` bytes at `address`. */
export const setsockopt: (fd: number, level: number, option: number, address: number, length: number) => number =
  library.func("setsockopt", INT, [INT, INT, INT, POINTER, UINT]);
/** Reads a socket option to `address`; the 32-bit word at `lengthAddress` holds the room, then the length. */
export const getsockopt: (fd: number, level: number, option: number, address: number, lengthAddress: number) => number =
  library.func("getsockopt", INT, [INT, INT, INT, POINTER, POINTER]);
/** Sends `length` bytes from `address` to the address structure at `to` (0 and length 0: connected socket). */
export const sendto: (
  fd: number,
  address: number,
  length: number,
  flags: number,
  to: number,
  toLength: number,
) => number = library.func("sendto", LONG, [INT, POINTER, SIZE, INT, POINTER, UINT]);
/** Receives at most `length` bytes to `address`; the sender's address goes to `from` (0: not wanted). */
export const recvfrom: (
  fd: number,
  address: number,
  length: number,
  flags: number,
  from: number,
  fromLengthAddress: number,
) => number = library.func("recvfrom", LONG, [INT, POINTER, SIZE, INT, POINTER, POINTER]);
/** Sends the message that the `struct msghdr` at `message` describes. */
export const sendmsg: (fd: number, message: number, flags: number) => number = library.func("sendmsg", LONG, [
  INT,
  POINTER,
  INT,
]);
/** Receives one message into the buffers that the `struct msghdr` at `message` describes. */
export const recvmsg: (fd: number, message: number, flags: number) => number = library.func("recvmsg", LONG, [
  INT,
  POINTER,
  INT,
]);
/** Sends up to `count` messages of the `struct mmsghdr` array at `messages`; returns how many left. -1 only if the first one failed. */
export const sendmmsg: (fd: number, messages: number, count: number, flags: number) => number = library.func(
  "sendmmsg",
  INT,
  [INT, POINTER, UINT, INT],
);
/** Receives up to `count` messages into the `struct mmsghdr` array at `messages`; returns how many came. `timeout`: address or 0. */
export const recvmmsg: (fd: number, messages: number, count: number, flags: number, timeout: number) => number =
  library.func("recvmmsg", INT, [INT, POINTER, UINT, INT, POINTER]);

const pollFunction = library.func("poll", INT, [POINTER, "unsigned long", INT]);

/** Waits until one of the `count` entries of the `struct pollfd` array at `entries` is ready; `timeout` in ms, -1: for ever. */
export const poll: (entries: number, count: number, timeout: number) => number = pollFunction;

/** The same in a thread of Node's pool, which is occupied meanwhile; calls `done` with the result in the event loop. Without `errno()`. */
export const pollAsync: (
  entries: number,
  count: number,
  timeout: number,
  done: (error: unknown, result: number) => void,
) => void = pollFunction.async;

/** Creates an epoll instance; see epoll.ts. */
export const epoll_create1: (flags: number) => number = library.func("epoll_create1", INT, [INT]);
/** Adds, changes or removes a descriptor of an epoll instance; `event` is the address of a struct epoll_event. */
export const epoll_ctl: (fd: number, operation: number, target: number, event: number) => number = library.func(
  "epoll_ctl",
  INT,
  [INT, INT, INT, POINTER],
);
/** Waits for events of an epoll instance. */
export const epoll_wait: (fd: number, events: number, count: number, timeout: number) => number = library.func(
  "epoll_wait",
  INT,
  [INT, POINTER, INT, INT],
);
/** Creates an event counter; returns its file descriptor. */
export const eventfd: (initial: number, flags: number) => number = library.func("eventfd", INT, [UINT, INT]);
/** Writes the time of a clock (CLOCK_…) as `struct timespec` to `address`. */
export const clock_gettime: (clock: number, address: number) => number = library.func("clock_gettime", INT, [
  INT,
  POINTER,
]);
/** Moves the calling thread into the namespace that `fd` names; `type` 0 or the kind expected (CLONE_NEW…). */
export const setns: (fd: number, type: number) => number = library.func("setns", INT, [INT, INT]);
/** Gives the calling thread new namespaces of its own (CLONE_NEW…). */
export const unshare: (flags: number) => number = library.func("unshare", INT, [INT]);
/** Sets the process's file mode creation mask; returns the one before. Cannot fail. */
export const umask: (mask: number) => number = library.func("umask", UINT, [UINT]);

/** Creates a file system node, here: a character device (`mode` with {@link S_IFCHR}, `device` from {@link deviceNumber}). */
export function mknod(path: string, mode: number, device: number): number {
  try {
    return library.func("mknod", INT, [TEXT, UINT, "unsigned long"])(path, mode, device);
  } catch (error) {
    // glibc before 2.33 exports mknod under another name only, with a version number in front and the device by address.
    if (!(error instanceof Error) || !/mknod/.test(error.message)) throw error;
    const word = allocate(8);
    word.view.setBigUint64(0, BigInt(device), true);
    return library.func("__xmknod", INT, [INT, TEXT, UINT, POINTER])(0, path, mode, word.address);
  }
}

/** The error number of the calling thread's last failed call. */
export const errno: () => number = koffi.errno;

/** `result` of the system call `call`, unless it is -1: then throws {@link SystemCallError}. */
export function check(result: number, call: string, advice?: string): number {
  if (result === -1) throw new SystemCallError(call, errno(), advice);
  return result;
}

/**
 * Where the bytes of `bytes` are in this process. Valid as long as its ArrayBuffer lives: V8 does not move them. A view over
 * a shared WebAssembly memory is fine; an empty view has no address and throws.
 */
export function addressOf(bytes: Uint8Array): number {
  const address = Number(koffi.address(bytes));
  if (address === 0) throw new RangeError("an empty buffer has no address");
  return address;
}

/** A zeroed buffer for structures that the kernel reads or writes: the bytes, a view on them and their address. */
export interface NativeBuffer {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly address: number;
}

/** Allocates a {@link NativeBuffer} of `size` bytes, aligned for every C type. */
export function allocate(size: number): NativeBuffer {
  const buffer = new ArrayBuffer(size);
  const bytes = new Uint8Array(buffer);
  return { bytes, view: new DataView(buffer), address: addressOf(bytes) };
}

/** Linux's encoding of a device number of small major and minor (makedev(3)). */
export function deviceNumber(major: number, minor: number): number {
  return major * 256 + minor;
}

/** Open for reading. */
export const O_RDONLY = 0;
/** Open for reading and writing. */
export const O_RDWR = 2;
/** Calls that would wait fail with EAGAIN. */
export const O_NONBLOCK = 0o4000;
/** The file descriptor is closed in programs that this process starts. */
export const O_CLOEXEC = 0o2000000;
/** File type bits of a character device. */
export const S_IFCHR = 0o020000;
/** `fcntl`: read the file status flags. */
export const F_GETFL = 3;
/** `fcntl`: set the file status flags. */
export const F_SETFL = 4;
/** Socket type: byte stream. */
export const SOCK_STREAM = 1;
/** Socket type: datagrams. */
export const SOCK_DGRAM = 2;
/** Socket type: raw (also netlink). */
export const SOCK_RAW = 3;
/** Or-ed to a socket type: {@link O_NONBLOCK}. */
export const SOCK_NONBLOCK = O_NONBLOCK;
/** Or-ed to a socket type: {@link O_CLOEXEC}. */
export const SOCK_CLOEXEC = O_CLOEXEC;
/** Address family: UNIX sockets. */
export const AF_UNIX = 1;
/** Address family: IPv4. */
export const AF_INET = 2;
/** Address family: IPv6. */
export const AF_INET6 = 10;
/** Address family: netlink. */
export const AF_NETLINK = 16;
/** Receive flag: leave the message in the queue. */
export const MSG_PEEK = 2;
/** Receive flag: report the real length of a message that did not fit. */
export const MSG_TRUNC = 0x20;
/** Send and receive flag: fail with EAGAIN rather than wait. */
export const MSG_DONTWAIT = 0x40;
/** Send flag: no SIGPIPE. */
export const MSG_NOSIGNAL = 0x4000;
/** `struct pollfd`: readable. */
export const POLLIN = 1;
/** `struct pollfd`: writable. */
export const POLLOUT = 4;
/** `struct pollfd`: an error is pending (result only). */
export const POLLERR = 8;
/** `struct pollfd`: hung up (result only). */
export const POLLHUP = 16;
/** `struct pollfd`: not an open file descriptor (result only). */
export const POLLNVAL = 32;
/** `setns`, `unshare`: mount namespace. */
export const CLONE_NEWNS = 0x20000;
/** `setns`, `unshare`: network namespace. */
export const CLONE_NEWNET = 0x40000000;
/** `clock_gettime`: time since some moment, without the time spent suspended. */
export const CLOCK_MONOTONIC = 1;
/** `clock_gettime`: the same, with it. */
export const CLOCK_BOOTTIME = 7;
