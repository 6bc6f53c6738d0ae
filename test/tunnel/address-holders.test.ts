// Whose a tunnel address is while clients come, go and get other ones.

import assert from "node:assert/strict";
import { test } from "node:test";
import { AddressHolders } from "../../src/tunnel/address-holders.js";
import { ipAddress } from "../support/simulated-host.js";

const [A, B, C] = [ipAddress("100.64.0.1"), ipAddress("100.64.0.2"), ipAddress("fd00:2021:1111::3")];

/** What changed, as "address holder". */
const set = (holders: AddressHolders, client: string, ...addresses: readonly (typeof A)[]) =>
  holders.set(client, addresses).map(({ address, holder }) => `${address} ${holder}`);

test("a client's addresses are its own from its coming to its going, and others learn nothing of it", () => {
  const holders = new AddressHolders();
  assert.deepEqual(set(holders, "one", A, C), ["100.64.0.1 one", "fd00:2021:1111::3 one"]);
  assert.deepEqual(set(holders, "two", B), ["100.64.0.2 two"]);
  assert.deepEqual(set(holders, "one", A, C), ["100.64.0.1 one", "fd00:2021:1111::3 one"], "again");
  assert.deepEqual(set(holders, "one"), ["100.64.0.1 undefined", "fd00:2021:1111::3 undefined"]);
  assert.deepEqual(set(holders, "one"), []);
  assert.deepEqual(set(holders, "two", A), ["100.64.0.2 undefined", "100.64.0.1 two"], "another address");
});

test("of several clients with an address the last one to come has it, and those before it when it goes", () => {
  const holders = new AddressHolders();
  set(holders, "one", A);
  assert.deepEqual(set(holders, "two", A), ["100.64.0.1 two"]);
  assert.deepEqual(set(holders, "one", A), ["100.64.0.1 two"], "to stay is not to come");
  set(holders, "three", A);
  assert.deepEqual(set(holders, "two"), ["100.64.0.1 three"]);
  assert.deepEqual(set(holders, "three", B), ["100.64.0.1 one", "100.64.0.2 three"]);
  assert.deepEqual(set(holders, "one"), ["100.64.0.1 undefined"]);
});
