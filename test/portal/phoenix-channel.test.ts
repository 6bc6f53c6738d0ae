// The channel in simulated time (spec 01, sections 4, 5, 15.2 to 15.4).

import assert from "node:assert/strict";
import { test } from "node:test";
import { MINUTE, SECOND } from "../../src/base/time.js";
import {
  type ChannelEvent,
  type ConnectFailure,
  HEARTBEAT_INTERVAL,
  JOIN_TIMEOUT,
  PhoenixChannel,
  QUEUE_CAPACITY,
} from "../../src/portal/phoenix-channel.js";
import { seededRandom } from "../support/random.js";

/** A channel with its clock and a portal that does what the test says. */
class Bench {
  now = 0;
  readonly channel: PhoenixChannel;

  constructor(options: { readonly seed?: number; readonly maxPartitionTime?: number } = {}) {
    const { seed = 1, maxPartitionTime } = options;
    this.channel = new PhoenixChannel(
      { topic: "client", joinPayload: null, random: seededRandom(seed), maxPartitionTime },
      this.now,
    );
  }

  take(): ChannelEvent[] {
    const events: ChannelEvent[] = [];
    for (let event = this.channel.pollEvent(); event !== undefined; event = this.channel.pollEvent())
      events.push(event);
    return events;
  }

  types(): string[] {
    return this.take().map(({ type }) => type);
  }

  /** Frames sent since the last call; other events are dropped. */
  sent(): { topic: string; event: string; payload: unknown; ref: number }[] {
    return this.take().flatMap((event) => (event.type === "send" ? [JSON.parse(event.text)] : []));
  }

  /** Lets time pass, deadline by deadline. */
  advance(duration: number): void {
    const end = this.now + duration;
    for (;;) {
      const deadline = this.channel.pollTimeout();
      if (deadline === undefined || deadline > end) break;
      this.now = Math.max(this.now, deadline);
      this.channel.handleTimeout(this.now);
    }
    this.now = end;
  }

  open(): void {
    this.advance(0);
    this.channel.handleOpened(this.now);
  }

  receive(event: string, payload: unknown, ref: number | null = null, topic = "client"): void {
    this.text(JSON.stringify({ topic, event, payload, ref }));
  }

  text(text: string): void {
    this.channel.handleText(text, this.now);
  }

  reply(ref: number | undefined, response: unknown = {}, status = "ok", topic = "client"): void {
    this.receive("phx_reply", { status, response }, ref ?? null, topic);
  }

  /** Connects and joins; nothing is left to take. */
  join(): this {
    this.open();
    const join = this.sent().find(({ event }) => event === "phx_join");
    this.reply(join?.ref);
    assert.ok(this.channel.isJoined);
    this.take();
    return this;
  }

  fail(failure: ConnectFailure): ChannelEvent[] {
    this.advance(2 * MINUTE);
    this.take();
    this.channel.handleFailure(failure, this.now);
    return this.take();
  }
}

test("spec 01, 15.2.7: a push with ref and join_ref null is handed on; unknown members of the envelope are ignored", () => {
  const bench = new Bench().join();
  bench.text('{"topic":"client","event":"init","payload":{"a":1},"ref":null,"join_ref":null,"extra":[{}]}');
  assert.deepEqual(bench.take(), [{ type: "push", event: "init", payload: { a: 1 } }]);
  bench.text('{"topic":"client","event":"init","payload":{"a":1}}');
  assert.deepEqual(bench.types(), ["push"]);
});

test("spec 01, 15.2.8: error replies carry their reason", () => {
  const bench = new Bench().join();
  for (const reason of ["not_found", "invalid_version", "disabled", "offline", "bad reply"]) {
    const ref = bench.channel.send("prepare_connection", {});
    bench.take();
    bench.receive("phx_reply", { status: "error", response: { reason, violated_properties: [] } }, ref);
    assert.deepEqual(bench.take(), [{ type: "error-reply", ref, reason }]);
  }
  bench.receive("phx_reply", { status: "error", response: {} }, 1);
  assert.deepEqual(bench.types(), ["ignored"]);
});

test("spec 01, 15.2.20: messages have topic, event, payload and an integer ref, in this order", () => {
  const bench = new Bench().join();
  bench.channel.send("broadcast_ice_candidates", { gateway_ids: ["g"], candidates: ["c"] });
  bench.channel.send("prepare_connection", { resource_id: "r", connected_gateway_ids: [] });
  assert.deepEqual(
    bench.take().map((event) => (event.type === "send" ? event.text : "")),
    [
      '{"topic":"client","event":"broadcast_ice_candidates","payload":{"gateway_ids":["g"],"candidates":["c"]},"ref":1}',
      '{"topic":"client","event":"prepare_connection","payload":{"resource_id":"r","connected_gateway_ids":[]},"ref":2}',
    ],
  );
});

test("spec 01, 15.2.21: truncated JSON reconnects; wrong JSON, wrong types and unknown events do not", () => {
  const whole = '{"topic":"client","event":"init","payload":{"text":"a \\"quoted\\" {"},"ref":null}';
  for (const text of ["", " ", ...Array.from(whole.slice(1), (_, i) => whole.slice(0, i + 1))]) {
    const bench = new Bench().join();
    bench.text(text);
    assert.deepEqual(bench.types(), ["disconnect", "hiccup"], text);
  }
  const bench = new Bench().join();
  for (const text of ["{,}", "nonsense", "]", "7", "null", "[]", "{}", '{"event":7,"ref":null}', `${whole}}`]) {
    bench.text(text);
    assert.deepEqual(bench.types(), ["ignored"], text);
  }
  bench.text('{"topic":"client","event":"init","payload":{},"ref":"6"}');
  assert.deepEqual(bench.types(), ["ignored"]);
  bench.receive("never_heard_of", {});
  assert.deepEqual(bench.types(), ["push"]);
  assert.ok(bench.channel.isJoined);
});

test("spec 01, 15.3.23: heartbeats are an interval apart, replies or not", () => {
  const bench = new Bench().join();
  const times: number[] = [];
  for (let i = 0; i < 600; i++) {
    bench.advance(0.1 * SECOND);
    for (const { topic, event, payload, ref } of bench.sent()) {
      assert.deepEqual([topic, event, payload], ["phoenix", "heartbeat", {}]);
      times.push(bench.now);
      bench.reply(ref, {}, "ok", "phoenix");
    }
  }
  assert.equal(times.length, 6);
  times.slice(1).forEach((time, i) => {
    assert.ok(time - (times[i] ?? 0) >= HEARTBEAT_INTERVAL - 1);
  });
});

test("spec 01, 15.3.24 with the later behaviour: three unanswered heartbeats are tolerated, then it reconnects", () => {
  const bench = new Bench().join();
  bench.advance(3 * HEARTBEAT_INTERVAL);
  assert.equal(bench.sent().length, 3);
  bench.advance(HEARTBEAT_INTERVAL - 1);
  assert.deepEqual(bench.types(), []);
  bench.advance(1);
  assert.deepEqual(bench.types(), ["disconnect", "hiccup"]);
});

test("spec 01, 15.3.25: a reply with another ref is no answer to a heartbeat; the right one is", () => {
  const bench = new Bench().join();
  bench.advance(3 * HEARTBEAT_INTERVAL);
  const [, , last] = bench.sent();
  bench.reply(4711, {}, "ok", "phoenix");
  bench.advance(HEARTBEAT_INTERVAL);
  assert.ok(bench.types().includes("disconnect"));

  const other = new Bench().join();
  other.advance(3 * HEARTBEAT_INTERVAL);
  other.take();
  other.reply(last?.ref, {}, "ok", "phoenix");
  other.advance(3 * HEARTBEAT_INTERVAL);
  assert.deepEqual(other.types(), ["send", "send", "send"]);
});

test("spec 01, 15.3.26: an answer to a heartbeat of a lost connection answers nothing", () => {
  const bench = new Bench().join();
  bench.advance(HEARTBEAT_INTERVAL);
  const [heartbeat] = bench.sent();
  bench.channel.reconnect(bench.now);
  bench.join();
  bench.advance(3 * HEARTBEAT_INTERVAL);
  bench.take();
  bench.reply(heartbeat?.ref, {}, "ok", "phoenix");
  bench.advance(HEARTBEAT_INTERVAL);
  assert.ok(bench.types().includes("disconnect"));
});

test("spec 01, 15.3.27: after a reconnect the first heartbeat comes after a whole interval", () => {
  const bench = new Bench().join();
  bench.advance(HEARTBEAT_INTERVAL - 1);
  bench.channel.reconnect(bench.now);
  bench.join();
  bench.advance(HEARTBEAT_INTERVAL - 1);
  assert.deepEqual(bench.types(), []);
  bench.advance(1);
  assert.deepEqual(bench.types(), ["send"]);
});

test("spec 01, 15.4.28: 401 is the end, and 403 too: the user must sign in; 404 and 422 are the end", () => {
  for (const status of [401, 403, 404, 422]) {
    const bench = new Bench();
    const events = bench.fail({ type: "http", status });
    assert.deepEqual(events.at(-1), {
      type: "failed",
      reason: `HTTP ${status}`,
      authentication: status === 401 || status === 403,
    });
    assert.equal(bench.channel.pollTimeout(), undefined);
    bench.channel.reconnect(bench.now);
    bench.advance(MINUTE);
    assert.deepEqual(bench.take(), []);
  }
});

test("spec 01, 15.4.28: other failures are tried again, after 0.5 to 1.5 times 500 ms · 1.5^n, at most 90 s", () => {
  for (const failure of [
    { type: "http", status: 500 },
    { type: "http", status: 503 },
    { type: "http", status: 429 },
    { type: "transport", reason: "ECONNREFUSED" },
  ] as const)
    for (let seed = 0; seed < 20; seed++) {
      const bench = new Bench({ seed });
      for (let n = 0; n < 20; n++) {
        const [event] = bench.fail(failure);
        assert.ok(event?.type === "hiccup");
        const interval = Math.min(500 * 1.5 ** n, MINUTE);
        assert.ok(event.delay >= 0.5 * interval && event.delay <= 1.5 * interval, `${n}: ${event.delay}`);
        assert.equal(bench.channel.pollTimeout(), bench.now + event.delay);
      }
    }
});

test("spec 01, 3.4: Retry-After is honoured where it is later", () => {
  const [event] = new Bench().fail({ type: "http", status: 429, retryAfter: 100 * SECOND });
  assert.ok(event?.type === "hiccup" && event.delay === 100 * SECOND);
});

test("spec 01, 15.4.29: the limit counts from the first failure, not from the connection", () => {
  const bench = new Bench({ maxPartitionTime: 15 * MINUTE }).join();
  const anHour = () => {
    for (let i = 0; i < 360; i++) {
      bench.advance(10 * SECOND);
      for (const { ref } of bench.sent()) bench.reply(ref, {}, "ok", "phoenix");
    }
  };
  anHour();
  bench.channel.handleClosed("restart", bench.now);
  assert.deepEqual(bench.types(), ["hiccup"]);
  bench.advance(SECOND);
  bench.join();

  anHour();
  bench.channel.handleClosed("gone for good", bench.now);
  const start = bench.now;
  let last = bench.take().at(-1);
  while (last?.type !== "failed") {
    bench.advance(1);
    if (bench.types().includes("connect")) bench.channel.handleFailure({ type: "transport", reason: "x" }, bench.now);
    last = bench.take().at(-1) ?? last;
  }
  assert.match(last.reason, /^max retries reached/);
  const elapsed = bench.now - start;
  assert.ok(elapsed > 13 * MINUTE && elapsed <= 15 * MINUTE, `${elapsed / MINUTE} minutes`);
});

test("spec 01, 15.4.32: phx_error and unmatched topic lead to one join", () => {
  const bench = new Bench().join();
  bench.receive("phx_error", {});
  const [join] = bench.sent();
  assert.equal(join?.event, "phx_join");
  for (const ref of [101, 102, 103]) {
    bench.reply(ref, { reason: "unmatched topic" }, "error");
    assert.deepEqual(bench.types(), ["error-reply"]);
  }
  const ref = bench.channel.send("prepare_connection", {});
  assert.deepEqual(bench.types(), []);
  bench.reply(join?.ref);
  assert.deepEqual(bench.types(), ["joined", "send"]);
  bench.reply(ref, { reason: "unmatched topic" }, "error");
  assert.deepEqual(
    bench.sent().map(({ event }) => event),
    ["phx_join"],
  );
});

test("spec 01, 15.4.33: phx_close reconnects after the first delay", () => {
  const bench = new Bench().join();
  bench.receive("phx_close", {});
  const [first, second] = bench.take();
  assert.equal(first?.type, "disconnect");
  assert.ok(second?.type === "hiccup" && second.delay >= 250 && second.delay <= 750);
  bench.advance(second.delay);
  assert.deepEqual(bench.types(), ["connect"]);
});

test("spec 01, 15.4.34: a token that expires ends it, as a matter of authentication; other disconnects do not", () => {
  const bench = new Bench().join();
  bench.receive("disconnect", { reason: "certificate_revoked" });
  assert.deepEqual(bench.types(), ["ignored"]);
  bench.receive("disconnect", { reason: "token_expired" });
  assert.deepEqual(bench.take(), [
    { type: "disconnect" },
    { type: "failed", reason: "token expired", authentication: true },
  ]);
  assert.equal(bench.channel.pollTimeout(), undefined);
});

test("spec 01, 15.4.35: a join that is refused is the end", () => {
  for (const reason of ["invalid_version", "token_expired"]) {
    const bench = new Bench();
    bench.open();
    const [join] = bench.sent();
    bench.reply(join?.ref, { reason }, "error");
    assert.deepEqual(bench.take(), [
      { type: "disconnect" },
      { type: "failed", reason: `login failed: ${reason}`, authentication: false },
    ]);
  }
});

test("spec 01, 15.4.36: reconnect() connects at once, also during a delay, and starts the delays anew", () => {
  const bench = new Bench();
  for (let n = 0; n < 10; n++) bench.fail({ type: "http", status: 500 });
  bench.channel.reconnect(bench.now);
  bench.advance(0);
  assert.deepEqual(bench.types(), ["connect"]);
  bench.channel.handleFailure({ type: "http", status: 500 }, bench.now);
  const [event] = bench.take();
  assert.ok(event?.type === "hiccup" && event.delay <= 750);

  const joined = new Bench().join();
  joined.channel.reconnect(joined.now);
  joined.advance(0);
  assert.deepEqual(joined.types(), ["disconnect", "connect"]);
});

test("spec 01, 15.4.37: what was sent meanwhile is delivered after the join, in order", () => {
  const bench = new Bench().join();
  bench.channel.handleClosed("restart", bench.now);
  const refs = ["a", "b", "c"].map((event) => bench.channel.send(event, {}));
  bench.advance(SECOND);
  bench.channel.handleOpened(bench.now);
  const [join, ...early] = bench.sent();
  assert.deepEqual(early, []);
  bench.reply(join?.ref);
  assert.deepEqual(
    bench.sent().map(({ event, ref }) => [event, ref]),
    ["a", "b", "c"].map((event, i) => [event, refs[i]]),
  );
});

test("spec 01, 5.3: at most 32 messages wait; the oldest go, and are counted", () => {
  const bench = new Bench();
  for (let i = 0; i < QUEUE_CAPACITY + 5; i++) bench.channel.send(`m${i}`, {});
  assert.equal(bench.channel.dropped, 5);
  bench.open();
  const [join] = bench.sent();
  bench.reply(join?.ref);
  const events = bench.sent().map(({ event }) => event);
  assert.deepEqual([events.length, events[0]], [QUEUE_CAPACITY, "m5"]);
});

test("spec 01, 15.4.38: the first frame of a connection is the join, and refs grow over reconnects", () => {
  const bench = new Bench();
  let last = -1;
  for (let connection = 0; connection < 5; connection++) {
    bench.channel.send("waiting", {});
    bench.open();
    const [join] = bench.sent();
    assert.equal(join?.event, "phx_join");
    bench.reply(join.ref);
    bench.channel.send("joined", {});
    bench.advance(HEARTBEAT_INTERVAL);
    const refs = [join.ref, ...bench.sent().flatMap(({ event, ref }) => (event === "waiting" ? [] : [ref]))];
    assert.equal(refs.length, 3);
    for (const ref of refs) {
      assert.ok(ref > last);
      last = ref;
    }
    bench.channel.handleClosed("again", bench.now);
    bench.advance(SECOND);
    bench.take();
  }
});

test("spec 01, 5.2: a join without answer for 5 s reconnects", () => {
  const bench = new Bench();
  bench.open();
  bench.advance(JOIN_TIMEOUT - 1);
  assert.ok(!bench.types().includes("disconnect"));
  bench.advance(1);
  assert.deepEqual(bench.types(), ["disconnect", "hiccup"]);
});
