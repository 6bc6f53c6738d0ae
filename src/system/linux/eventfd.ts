// An event counter in the kernel (eventfd(2)): what wakes a thread that sleeps in poll.

import { Errno, SystemCallError } from "./errno.js";
import { allocate, check, close, errno, eventfd, O_CLOEXEC, O_NONBLOCK, read, write } from "./libc.js";

/** A non-blocking event counter. Its file descriptor is readable while the counter is not 0. */
export class EventCounter {
  /** To be given to `poll`, and to other threads of the process: file descriptors are shared. */
  readonly fd: number;
  readonly #one = allocate(8);

  constructor() {
    this.#one.view.setBigUint64(0, 1n, true);
    this.fd = check(eventfd(0, O_CLOEXEC | O_NONBLOCK), "eventfd");
  }

  /** Makes the counter readable. */
  signal(): void {
    signalEventCounter(this.fd, this.#one.address);
  }

  /** Closes the file descriptor; nobody may poll it any more. */
  close(): void {
    check(close(this.fd), "close eventfd");
  }
}

/** Makes the counter `fd` readable; at `address` lies a u64 of 1. */
export function signalEventCounter(fd: number, address: number): void {
  // EAGAIN: the counter stands at its maximum, so it is readable anyway.
  if (write(fd, address, 8) === -1 && errno() !== Errno.EAGAIN) throw new SystemCallError("write eventfd", errno());
}

/** Sets the counter `fd` back to 0, reading to 8 bytes of scratch at `address`. Harmless when it is 0 already. */
export function clearEventCounter(fd: number, address: number): void {
  if (read(fd, address, 8) === -1 && errno() !== Errno.EAGAIN) throw new SystemCallError("read eventfd", errno());
}
