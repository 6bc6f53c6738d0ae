// Waiting for thousands of file descriptors (epoll(7)), level-triggered, for reading. Descriptors are added and removed by any thread while
// another waits.
//
//   struct epoll_event   events u32 | data u64     packed on x64 (12 bytes), with padding elsewhere (16 bytes)

import { arch } from "node:os";
import { allocate, check, close, epoll_create1, epoll_ctl, epoll_wait } from "./libc.js";

const EPOLL_CLOEXEC = 0o2000000;
const EPOLL_CTL_ADD = 1;
const EPOLL_CTL_DEL = 2;
const EPOLLIN = 1;

const IS_PACKED = arch() === "x64";
const EVENT_SIZE = IS_PACKED ? 12 : 16;
const DATA_OFFSET = IS_PACKED ? 4 : 8;

/** A set of file descriptors, each with a number of the owner's. */
export class Epoll {
  readonly fd = check(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
  readonly #event = allocate(EVENT_SIZE);

  /** Watches a file descriptor. @throws SystemCallError */
  add(fd: number, number: number): void {
    this.#event.view.setUint32(0, EPOLLIN, true);
    this.#event.view.setBigUint64(DATA_OFFSET, BigInt(number), true);
    check(epoll_ctl(this.fd, EPOLL_CTL_ADD, fd, this.#event.address), "epoll_ctl");
  }

  /** Watches it no more. @throws SystemCallError */
  remove(fd: number): void {
    check(epoll_ctl(this.fd, EPOLL_CTL_DEL, fd, this.#event.address), "epoll_ctl");
  }

  close(): void {
    check(close(this.fd), "close epoll");
  }
}

/** One thread's waiting on a set. */
export class EpollWaiter {
  readonly #fd: number;
  readonly #capacity: number;
  readonly #events: ReturnType<typeof allocate>;

  /** @param capacity events at once at most */
  constructor(fd: number, capacity: number) {
    this.#fd = fd;
    this.#capacity = capacity;
    this.#events = allocate(EVENT_SIZE * capacity);
  }

  /** Waits at most `timeout` ms (-1: for ever); returns the number of descriptors that are ready, or -1 with `errno()`. */
  wait(timeout: number): number {
    return epoll_wait(this.#fd, this.#events.address, this.#capacity, timeout);
  }

  /** The number of the `i`-th. */
  number(i: number): number {
    return this.#events.view.getUint32(i * EVENT_SIZE + DATA_OFFSET, true);
  }
}
