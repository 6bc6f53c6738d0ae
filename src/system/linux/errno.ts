// Error numbers of Linux system calls: names, texts and the exception that a failed call at start-up or in the control plane
// becomes. The datapath's loop does not throw: it compares the numbers below. Numbers: errno(3), asm-generic (x86-64, arm64, riscv64).

import { constants } from "node:os";
import { getSystemErrorMap } from "node:util";

/** The error numbers that code of this project tells apart. */
export const Errno = {
  EPERM: 1,
  ENOENT: 2,
  ESRCH: 3,
  EINTR: 4,
  EIO: 5,
  ENXIO: 6,
  EBADF: 9,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EFAULT: 14,
  EBUSY: 16,
  EEXIST: 17,
  ENODEV: 19,
  EINVAL: 22,
  ENOTTY: 25,
  ENOSPC: 28,
  /** What a TUN device answers once its interface was removed. */
  EBADFD: 77,
  EMSGSIZE: 90,
  ENOPROTOOPT: 92,
  EOPNOTSUPP: 95,
  EAFNOSUPPORT: 97,
  EADDRINUSE: 98,
  EADDRNOTAVAIL: 99,
  ENETDOWN: 100,
  ENETUNREACH: 101,
  ENOBUFS: 105,
  ECONNREFUSED: 111,
  EHOSTDOWN: 112,
  EHOSTUNREACH: 113,
} as const;

/** Names that other numbers share; the names of {@link Errno} win. */
const names = new Map<number, string>();
for (const [name, value] of Object.entries(constants.errno)) if (!names.has(value)) names.set(value, name);
for (const [name, value] of Object.entries(Errno)) names.set(value, name);

/** The symbolic name of an error number, `"EAGAIN"`; `"errno 4711"` for one that has none. */
export function errnoName(errno: number): string {
  return names.get(errno) ?? `errno ${errno}`;
}

/** The explanation of an error number in words, `"permission denied"`; its name where the platform has no text. */
export function errnoText(errno: number): string {
  return getSystemErrorMap().get(-errno)?.[1] ?? errnoName(errno);
}

/** A system call failed. `message` reads `ioctl TUNSETIFF: EBUSY, resource busy or locked`, with advice behind it if there is any. */
export class SystemCallError extends Error {
  /** The call, with what it was applied to where that helps: `"bind 0.0.0.0:51820"`. */
  readonly call: string;
  /** The error number. */
  readonly errno: number;
  /** The error's name, as in Node's own errors. */
  readonly code: string;

  constructor(call: string, errno: number, advice?: string) {
    const code = errnoName(errno);
    super(`${call}: ${code}, ${errnoText(errno)}${advice === undefined ? "" : ` (${advice})`}`);
    this.name = "SystemCallError";
    this.call = call;
    this.errno = errno;
    this.code = code;
  }
}
