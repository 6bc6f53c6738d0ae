// What the datapath is told of routes: changes only.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { RouteDestination, RouteEvent } from "../../src/tunnel/events.js";
import { RouteTable } from "../../src/tunnel/route-table.js";
import { prefix } from "../support/tunnel-network.js";

const [NET, HOST] = [prefix("10.0.0.0/8"), prefix("10.1.2.3/32")];
const EXCEPTION: RouteDestination = { type: "exception" };
const to = (connection: string): RouteDestination => ({ type: "connection", connection });

const described = (events: readonly RouteEvent[]) =>
  events.map((event) =>
    event.type === "route-removed"
      ? `no ${event.prefix}`
      : `${event.prefix} to ${event.target.type === "connection" ? event.target.connection : event.target.type}`,
  );

test("a route is told once, and again when it leads elsewhere or nowhere", () => {
  const table = new RouteTable();
  assert.deepEqual(described(table.set(NET, to("a"))), ["10.0.0.0/8 to a"]);
  assert.deepEqual(table.set(NET, to("a")), []);
  assert.deepEqual(described(table.set(NET, to("b"))), ["10.0.0.0/8 to b"]);
  assert.deepEqual(described(table.set(NET, EXCEPTION)), ["10.0.0.0/8 to exception"]);
  assert.deepEqual(table.set(NET, EXCEPTION), []);
  assert.deepEqual(described(table.set(NET, undefined)), ["no 10.0.0.0/8"]);
  assert.deepEqual(table.set(NET, undefined), []);
});

test("a table that is replaced tells what is gone, then what is new or leads elsewhere", () => {
  const table = new RouteTable();
  table.replace([
    { prefix: NET, target: EXCEPTION },
    { prefix: HOST, target: to("a") },
  ]);
  const next = [{ prefix: HOST, target: to("b") }];
  assert.deepEqual(described(table.replace(next)), ["no 10.0.0.0/8", "10.1.2.3/32 to b"]);
  assert.deepEqual(table.replace(next), []);
});

test("with a connection its routes are forgotten, and only those that still led there", () => {
  const table = new RouteTable();
  table.set(NET, to("a"));
  table.set(HOST, to("a"));
  table.set(HOST, to("b"));
  table.connectionRemoved("a");
  assert.deepEqual(table.set(HOST, to("b")), [], "still known");
  assert.deepEqual(described(table.set(NET, to("a"))), ["10.0.0.0/8 to a"], "told again");
  table.connectionRemoved("a");
  table.set(NET, to("c"));
  table.connectionRemoved("a");
  assert.deepEqual(table.set(NET, to("c")), [], "another's by now");
  table.connectionRemoved("b");
  table.connectionRemoved("b");
  assert.deepEqual(table.set(HOST, undefined), [], "the datapath has dropped it already");
});
