// A conversation with the kernel's routing subsystem: requests that wait for their answer (RFC 3549, section 2; netlink(7)). They are
// rare and short, so they are synchronous; no call waits longer than REPLY_TIMEOUT.

import type { Duration } from "../../../base/time.js";
import { monotonicNow } from "../../clock.js";
import { Errno, SystemCallError } from "../errno.js";
import { ControlType, decodeOutcome, type MessageBuilder, MessageFlag, type NetlinkMessage } from "./message.js";
import { EBADMSG, type Received, RouteSocket } from "./route-socket.js";

/** The longest wait for an answer, in milliseconds. The kernel answers at once or is stuck. */
export const REPLY_TIMEOUT: Duration = 5000;

/** How often a list is asked for again when it changed while the kernel wrote it. */
export const DUMP_ATTEMPTS = 10;

/** Size of the receive buffer in bytes. The kernel's list datagrams are at most 32 KiB, unless one object is larger. */
const RECEIVE_BUFFER_LENGTH = 128 * 1024;

/** "Connection timed out", errno(3). */
const ETIMEDOUT = 110;

/** What links, addresses, routes and rules need of a connection to the kernel. */
export interface Netlink {
  /**
   * Sends a request and waits until it is done.
   *
   * @param request with the flags of {@link requestFlags}.
   * @param what names the attempt in errors: "adding route 10.0.0.0/8 to table 254".
   * @returns the messages that came as an answer, none for most requests.
   * @throws SystemCallError with the kernel's error number and words; ETIMEDOUT when it does not answer.
   */
  request(request: MessageBuilder, what: string): readonly NetlinkMessage[];
  /**
   * Asks for a list and waits for all of it. A list that changed meanwhile is asked for again.
   *
   * @param request with {@link DUMP_FLAGS}.
   * @throws SystemCallError as {@link Netlink.request}; EBUSY when the list never stands still.
   */
  dump(request: MessageBuilder, what: string): readonly NetlinkMessage[];
}

/** Flags of a request that is not for a list: `extra` from {@link MessageFlag}. */
export function requestFlags(extra = 0): number {
  return MessageFlag.REQUEST | MessageFlag.ACK | extra;
}

/** Flags of a request for a list. */
export const DUMP_FLAGS = MessageFlag.REQUEST | MessageFlag.DUMP;

/** What a conversation needs of its socket: the part of {@link RouteSocket} that tests replace. */
export type Transport = Pick<RouteSocket, "send" | "receive" | "close">;

/** {@link Netlink} over a socket. */
export class NetlinkSocket implements Netlink {
  readonly #transport: Transport;
  #sequence = 0;
  #open = true;

  /** `transport`: its `receive` waits for {@link REPLY_TIMEOUT}. */
  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Opens a socket in the calling thread's network namespace; it stays there wherever the thread moves later. */
  static open(): NetlinkSocket {
    const capacity = RECEIVE_BUFFER_LENGTH;
    return new NetlinkSocket(RouteSocket.open({ capacity, receiveTimeout: REPLY_TIMEOUT, groups: 0 }));
  }

  request(request: MessageBuilder, what: string): readonly NetlinkMessage[] {
    return this.#exchange(request, what).answers;
  }

  dump(request: MessageBuilder, what: string): readonly NetlinkMessage[] {
    for (let attempt = 1; ; attempt++) {
      try {
        const { answers, interrupted } = this.#exchange(request, what);
        if (!interrupted) return answers;
        if (attempt === DUMP_ATTEMPTS)
          throw new SystemCallError(what, Errno.EBUSY, "the list kept changing while it was read");
      } catch (error) {
        // EBUSY of the kernel: the rest of a list that was given up is still under way.
        const again = error instanceof SystemCallError && error.errno === Errno.EBUSY && attempt < DUMP_ATTEMPTS;
        if (!again) throw error;
      }
    }
  }

  /** Closes the socket. Idempotent. */
  close(): void {
    this.#open = false;
    this.#transport.close();
  }

  #exchange(request: MessageBuilder, what: string): { answers: NetlinkMessage[]; interrupted: boolean } {
    if (!this.#open) throw new Error(`${what}: the netlink socket is closed`);
    // Never 0, which stands in notifications.
    this.#sequence = (this.#sequence % 0xffffffff) + 1;
    const sequence = this.#sequence;
    const failure = this.#transport.send(request.build(sequence));
    if (failure !== 0) throw new SystemCallError(what, failure);

    const answers: NetlinkMessage[] = [];
    let interrupted = false;
    const deadline = monotonicNow() + REPLY_TIMEOUT;
    for (;;) {
      for (const message of messagesOf(this.#transport.receive(), what)) {
        // Answers to a request that was given up.
        if (message.sequence !== sequence) continue;
        if ((message.flags & MessageFlag.DUMP_INTERRUPTED) !== 0) interrupted = true;
        switch (message.type) {
          case ControlType.ERROR:
          case ControlType.DONE: {
            const outcome = decodeOutcome(message);
            if (outcome === undefined) throw new SystemCallError(what, EBADMSG, "the kernel's answer is malformed");
            if (outcome.errno !== 0) throw new SystemCallError(what, outcome.errno, outcome.text);
            return { answers, interrupted };
          }
          case ControlType.NOOP:
            break;
          default:
            answers.push({ ...message, payload: message.payload.slice() });
        }
      }
      if (monotonicNow() > deadline) throw noAnswer(what);
    }
  }
}

function messagesOf(received: Received, what: string): readonly NetlinkMessage[] {
  switch (received.type) {
    case "messages":
      return received.messages;
    case "failed":
      throw received.errno === Errno.EAGAIN ? noAnswer(what) : new SystemCallError(what, received.errno);
  }
}

function noAnswer(what: string): SystemCallError {
  return new SystemCallError(what, ETIMEDOUT, `no answer from the kernel within ${REPLY_TIMEOUT / 1000} s`);
}
