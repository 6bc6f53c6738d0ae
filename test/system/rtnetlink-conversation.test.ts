import assert from "node:assert/strict";
import { test } from "node:test";
import { viewOf } from "../../src/base/bytes.js";
import { Errno, SystemCallError } from "../../src/system/linux/errno.js";
import { NetworkChanges } from "../../src/system/linux/rtnetlink/changes.js";
import {
  ControlType,
  MessageBuilder,
  MessageFlag,
  type NetlinkMessage,
} from "../../src/system/linux/rtnetlink/message.js";
import {
  DUMP_ATTEMPTS,
  DUMP_FLAGS,
  NetlinkSocket,
  requestFlags,
  type Transport,
} from "../../src/system/linux/rtnetlink/netlink.js";
import type { Received } from "../../src/system/linux/rtnetlink/route-socket.js";

const NEW_LINK = 16;

/** A kernel that answers from a script. Entries are answers to the request sent last, or failures of `receive`. */
class ScriptedKernel implements Transport {
  readonly requests: Uint8Array[] = [];
  closed = false;
  readonly #script: ((sequence: number) => Received)[];

  constructor(...script: ((sequence: number) => Received)[]) {
    this.#script = script;
  }

  send(datagram: Uint8Array): number {
    this.requests.push(datagram);
    return 0;
  }

  receive(): Received {
    const sequence = viewOf(this.requests.at(-1) ?? new Uint8Array(16)).getUint32(8, true);
    return this.#script.shift()?.(sequence) ?? { type: "failed", errno: Errno.EAGAIN };
  }

  close(): void {
    this.closed = true;
  }
}

function answer(type: number, payload: readonly number[] = [], flags = 0, sequenceOffset = 0) {
  return (sequence: number): Received => ({
    type: "messages",
    messages: [{ type, flags, sequence: sequence + sequenceOffset, payload: Uint8Array.from(payload) }],
  });
}

function failure(errno: number) {
  return (): Received => ({ type: "failed", errno });
}

/** The payload of an ERROR message, little-endian, followed by the quoted header. */
function errorPayload(errno: number): number[] {
  return [(256 - errno) & 0xff, ...(errno === 0 ? [0, 0, 0] : [255, 255, 255]), ...new Array<number>(16).fill(0)];
}

const acknowledged = answer(ControlType.ERROR, errorPayload(0), MessageFlag.CAPPED);
const done = answer(ControlType.DONE, [0, 0, 0, 0]);

const request = () => new MessageBuilder(19, requestFlags());
const listRequest = () => new MessageBuilder(18, DUMP_FLAGS);

function payloads(messages: readonly NetlinkMessage[]): number[][] {
  return messages.map((message) => [...message.payload]);
}

test("a request ends with its acknowledgement; answers before it are returned, those to other requests are not", () => {
  const kernel = new ScriptedKernel(
    answer(NEW_LINK, [1], 0, -1),
    answer(ControlType.ERROR, errorPayload(Errno.EEXIST), MessageFlag.CAPPED, -1),
    answer(NEW_LINK, [2]),
    answer(ControlType.NOOP),
    acknowledged,
  );
  assert.deepEqual(payloads(new NetlinkSocket(kernel).request(request(), "testing")), [[2]]);
});

test("an error names the attempt, the error and the kernel's words", () => {
  const words = [...new TextEncoder().encode("Nexthop has invalid gateway\0")];
  const details = [4 + words.length, 0, 1, 0, ...words];
  const kernel = new ScriptedKernel(
    answer(
      ControlType.ERROR,
      [...errorPayload(Errno.ENETUNREACH), ...details],
      MessageFlag.CAPPED | MessageFlag.DETAILS,
    ),
  );
  assert.throws(
    () => new NetlinkSocket(kernel).request(request(), "adding route 10.0.0.0/8 to table 0x2021fd00"),
    (error: unknown) => {
      assert.ok(error instanceof SystemCallError);
      assert.equal(error.errno, Errno.ENETUNREACH);
      assert.match(
        error.message,
        /^adding route 10\.0\.0\.0\/8 to table 0x2021fd00: ENETUNREACH, .*\(Nexthop has invalid gateway\)$/,
      );
      return true;
    },
  );
});

test("a kernel that does not answer is a time-out, not a wait for ever", () => {
  assert.throws(() => new NetlinkSocket(new ScriptedKernel()).request(request(), "testing"), {
    code: "ETIMEDOUT",
    message: /testing: ETIMEDOUT.*no answer from the kernel within 5 s/,
  });
});

test("a malformed outcome and failures of the socket are errors", () => {
  const socket = (script: (sequence: number) => Received) => new NetlinkSocket(new ScriptedKernel(script));
  assert.throws(() => socket(answer(ControlType.ERROR, [1, 2])).request(request(), "testing"), { code: "EBADMSG" });
  assert.throws(() => socket(failure(Errno.ENOBUFS)).request(request(), "testing"), { code: "ENOBUFS" });
});

test("a list may come in many datagrams", () => {
  const kernel = new ScriptedKernel(answer(NEW_LINK, [1]), answer(NEW_LINK, [2]), done);
  assert.deepEqual(payloads(new NetlinkSocket(kernel).dump(listRequest(), "listing")), [[1], [2]]);
});

test("a list that changed while it was written is asked for again, under another sequence number", () => {
  const kernel = new ScriptedKernel(
    answer(NEW_LINK, [1]),
    answer(NEW_LINK, [1], MessageFlag.DUMP_INTERRUPTED),
    done,
    answer(NEW_LINK, [1]),
    answer(ControlType.DONE, [0, 0, 0, 0], MessageFlag.DUMP_INTERRUPTED),
    answer(NEW_LINK, [3]),
    done,
  );
  assert.deepEqual(payloads(new NetlinkSocket(kernel).dump(listRequest(), "listing")), [[3]]);
  assert.equal(new Set(kernel.requests.map((bytes) => viewOf(bytes).getUint32(8, true))).size, 3);
});

test("a list that never stands still is given up", () => {
  const interrupted = answer(ControlType.DONE, [0, 0, 0, 0], MessageFlag.DUMP_INTERRUPTED);
  const kernel = new ScriptedKernel(...new Array(50).fill(interrupted));
  assert.throws(() => new NetlinkSocket(kernel).dump(listRequest(), "listing"), {
    code: "EBUSY",
    message: /kept changing/,
  });
  assert.equal(kernel.requests.length, DUMP_ATTEMPTS);
});

test("a list is asked for again while an earlier one is still under way", () => {
  const busy = answer(ControlType.ERROR, errorPayload(Errno.EBUSY), MessageFlag.CAPPED);
  const kernel = new ScriptedKernel(busy, busy, answer(NEW_LINK, [1]), done);
  assert.deepEqual(payloads(new NetlinkSocket(kernel).dump(listRequest(), "listing")), [[1]]);
});

test("an error that ends a list is an error", () => {
  const kernel = new ScriptedKernel(
    answer(NEW_LINK, [1]),
    answer(ControlType.DONE, errorPayload(Errno.EINVAL).slice(0, 4)),
  );
  assert.throws(() => new NetlinkSocket(kernel).dump(listRequest(), "listing"), { code: "EINVAL" });
});

test("a closed socket is not used any more", () => {
  const kernel = new ScriptedKernel(acknowledged);
  const socket = new NetlinkSocket(kernel);
  socket.close();
  assert.ok(kernel.closed);
  assert.throws(() => socket.request(request(), "testing"), /testing: the netlink socket is closed/);
});

test("changes that were lost or cannot be read are an overrun, and those after them are reported", () => {
  const kernel = new ScriptedKernel(
    failure(Errno.ENOBUFS),
    failure(Errno.EMSGSIZE),
    answer(NEW_LINK, [1, 2, 3]),
    answer(NEW_LINK, [0, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7, 0, 3, 0, 0x6c, 0x6f, 0, 0]),
  );
  const changes = new NetworkChanges(Object.assign(kernel, { fd: -1 }));
  const [first, second, third, ...rest] = changes.read();
  assert.deepEqual([first, second], [{ type: "overrun" }, { type: "overrun" }]);
  assert.ok(third?.type === "link" && third.present && third.link.name === "lo" && third.link.index === 5);
  assert.deepEqual(rest, []);
  assert.deepEqual(changes.read(), []);
});
