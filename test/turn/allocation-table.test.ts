// A relay's table of allocations by itself: what it counts, what it gives back, and how long it looks for a port.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { ServerAllocation } from "../../src/turn/server/allocation.js";
import { AllocationTable, type AllocationTableOptions } from "../../src/turn/server/allocation-table.js";
import { seededRandom } from "../support/random.js";
import { at } from "../support/turn.js";

/** A table with ports 49152 to 49161, and those of them that are open. */
function tableWith(options: Partial<AllocationTableOptions>): { table: AllocationTable; open: Set<number> } {
  const open = new Set<number>();
  const ports = { open: (port: number) => Boolean(open.add(port)), close: (port: number) => open.delete(port) };
  const range = { lowestPort: 49152, highestPort: 49161 };
  return { table: new AllocationTable({ ...range, ports, random: seededRandom(1), ...options }), open };
}

function create(table: AllocationTable, client: string, username = "u", mustBeEven = false) {
  const local = at("198.51.100.1:3478");
  const fields = {
    client: at(client),
    local,
    username,
    families: [4] as const,
    now: 0,
    lifetime: 600,
    transaction: "",
  };
  return table.create(fields, { mustBeEven });
}

function created(table: AllocationTable, client: string, username?: string, mustBeEven?: boolean): ServerAllocation {
  const allocation = create(table, client, username, mustBeEven);
  assert.ok(typeof allocation !== "string", String(allocation));
  return allocation;
}

test("an allocation is found by client, port and user, woken for its end, and by nothing after it is removed", () => {
  const { table, open } = tableWith({});
  const allocation = created(table, "203.0.113.7:1");
  const other = created(table, "203.0.113.7:2");
  assert.equal(table.ofClient(at("203.0.113.7:1")), allocation);
  assert.equal(table.atPort(allocation.port), allocation);
  assert.deepEqual(table.ofUser("u"), [allocation, other]);
  assert.deepEqual([...open], [allocation.port, other.port]);
  assert.equal(table.nextDeadline(), 600_000);

  other.expiresAt = 900_000;
  table.reschedule(other);
  assert.deepEqual(table.takeDue(600_000), [allocation]);
  table.remove(allocation);
  assert.equal(table.ofClient(at("203.0.113.7:1")), undefined);
  assert.equal(table.atPort(allocation.port), undefined);
  assert.deepEqual(table.ofUser("u"), [other]);
  assert.deepEqual([...open], [other.port]);
  assert.equal(table.size, 1);
  assert.equal(table.nextDeadline(), 900_000);
  table.remove(other);
  assert.equal(table.nextDeadline(), undefined);
});

test("quotas count by user, by source and in total, and what is removed counts no more", () => {
  const { table } = tableWith({ quotas: { perUser: 2, perSource: 3, total: 4 } });
  const first = created(table, "203.0.113.7:1", "a");
  created(table, "203.0.113.7:2", "a");
  assert.equal(create(table, "203.0.113.8:3", "a"), "quota-reached", "of the user");
  created(table, "203.0.113.7:3", "b");
  assert.equal(create(table, "203.0.113.7:4", "b"), "quota-reached", "of the source");
  const last = created(table, "203.0.113.8:1", "b");
  assert.equal(create(table, "203.0.113.9:1", "c"), "no-capacity");

  table.remove(last);
  assert.equal(create(table, "203.0.113.8:3", "a"), "quota-reached", "there is room, but not for this user");
  table.remove(first);
  created(table, "203.0.113.7:4", "a");
  created(table, "203.0.113.8:3", "b");
});

test("an even port is given to whoever asks for one, while there is any", () => {
  const { table } = tableWith({});
  const ports = [1, 2, 3, 4, 5].map((i) => created(table, `203.0.113.7:${i}`, "u", true).port);
  assert.deepEqual(
    ports.sort((a, b) => a - b),
    [49152, 49154, 49156, 49158, 49160],
  );
  assert.equal(create(table, "203.0.113.7:6", "u", true), "no-capacity");
  created(table, "203.0.113.7:6");
});

test("after 64 ports that somebody else has, the relay has none", () => {
  let attempts = 0;
  const ports = { open: () => ++attempts > 64, close: () => undefined };
  const { table } = tableWith({ ports, highestPort: 65535 });
  assert.equal(create(table, "203.0.113.7:1"), "no-capacity");
  assert.equal(attempts, 64);
  assert.equal(table.size, 0);
});
