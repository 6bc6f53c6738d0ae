// The error numbers that answers of the configuration protocol carry: Linux's errno.h.

/** Error numbers. */
export const ERRNO = {
  ok: 0,
  /** Too many peers or allowed IPs. */
  ENOSPC: 28,
  /** Unexpected failure while carrying out a change. */
  EIO: 5,
  /** Unknown key, or a value that its key does not take. */
  EINVAL: 22,
  /** Not a request of this protocol: no operation, a line that is no `key=value`, too long. */
  EPROTO: 71,
  /** The listen port is taken. */
  EADDRINUSE: 98,
} as const;

/** One of {@link ERRNO}, or another number that the kernel gave. */
export type ErrorNumber = number;
