// The loop around a state machine, with a machine that writes down what happens to it.

import assert from "node:assert/strict";
import { test } from "node:test";
import { IpAddress, SocketAddress } from "../../src/base/address.js";
import type { StateMachine, Transmit } from "../../src/base/state-machine.js";
import { Driver } from "../../src/programs/common/driver.js";

class Machine implements StateMachine<string> {
  readonly transmits: Transmit[] = [];
  readonly events: string[] = [];
  deadline: number | undefined;
  timeouts = 0;

  handleTimeout(): void {
    this.timeouts++;
    this.deadline = undefined;
    this.events.push("timeout");
  }

  pollTimeout(): number | undefined {
    return this.deadline;
  }

  pollTransmit(): Transmit | undefined {
    return this.transmits.shift();
  }

  pollEvent(): string | undefined {
    return this.events.shift();
  }
}

const TRANSMIT: Transmit = {
  destination: new SocketAddress(IpAddress.fromBytes(Uint8Array.of(192, 0, 2, 1)), 1),
  payload: Uint8Array.of(2),
};

test("what changes the tables happens before anything is sent: a session is installed before the response to its handshake leaves", () => {
  const machine = new Machine();
  const order: string[] = [];
  const driver = new Driver(machine, { transmit: () => order.push("transmit"), event: (event) => order.push(event) });
  driver.input(() => {
    machine.transmits.push(TRANSMIT);
    machine.events.push("session-established", "session-current");
  });
  driver.stop();
  assert.deepEqual(order, ["session-established", "session-current", "transmit"]);
});

test("a due deadline is handled at once, one in the future by a timer, and counters are fed before", async () => {
  const machine = new Machine();
  let observations = 0;
  const order: string[] = [];
  const driver = new Driver(machine, {
    transmit: () => undefined,
    event: (event) => order.push(event),
    beforeTimeout: () => observations++,
  });
  driver.input((now) => {
    machine.deadline = now;
  });
  assert.deepEqual([machine.timeouts, observations, order.length], [1, 1, 1]);
  driver.input((now) => {
    machine.deadline = now + 5;
  });
  assert.equal(machine.timeouts, 1);
  await new Promise((resolve) => setTimeout(resolve, 30));
  assert.equal(machine.timeouts, 2);
  assert.equal(observations, 1, "not again within a quarter of a second");
  driver.stop();
  driver.input(() => assert.fail("a stopped driver takes no input"));
});

test("spec 03, 8.3.34: a timer that is not armed never fires; it fires once, then not until it is armed again; in the past at once", async () => {
  const machine = new Machine();
  const driver = new Driver(machine, { transmit: () => undefined, event: () => undefined });
  const wait = () => new Promise((resolve) => setTimeout(resolve, 30));
  const arm = (delay: number | undefined) =>
    driver.input((now) => {
      machine.deadline = delay === undefined ? undefined : now + delay;
    });
  arm(undefined);
  await wait();
  assert.equal(machine.timeouts, 0, "not armed");
  arm(-10);
  assert.equal(machine.timeouts, 1, "in the past");
  arm(5);
  assert.equal(machine.timeouts, 1);
  await wait();
  await wait();
  assert.equal(machine.timeouts, 2, "once");
  arm(5);
  await wait();
  assert.equal(machine.timeouts, 3, "armed again");
  driver.stop();
});

test("an event that feeds the machine again is drained too, once", () => {
  const machine = new Machine();
  const order: string[] = [];
  const driver: Driver<string> = new Driver(machine, {
    transmit: () => undefined,
    event: (event) => {
      order.push(event);
      if (event === "first") driver.input(() => machine.events.push("second"));
    },
  });
  driver.input(() => machine.events.push("first"));
  driver.stop();
  assert.deepEqual(order, ["first", "second"]);
});
