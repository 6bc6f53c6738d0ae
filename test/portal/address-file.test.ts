// The tunnel addresses of devices over restarts of the portal.

import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync, rmdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { AddressFile } from "../../src/portal/server/address-file.js";
import { seededRandom } from "../support/random.js";
import { temporaryDirectory } from "../support/temporary-directory.js";

const fail = (error: Error) => assert.fail(error);

test("a new device's address is on disk at once, so that a portal that is killed gives it again", async (context) => {
  const path = join(temporaryDirectory(context), "devices.json");
  const file = new AddressFile(path, seededRandom(1), fail);
  const given = file.addresses.addressesOf("client one");
  await sleep(10);
  // As after a kill: the first one is not closed.
  const next = new AddressFile(path, seededRandom(2), fail);
  assert.deepEqual(next.addresses.addressesOf("client one"), given);
  file.close();
  next.close();
});

test("many new devices are saved together, and a known one not again", async (context) => {
  const path = join(temporaryDirectory(context), "devices.json");
  const file = new AddressFile(path, seededRandom(1), fail);
  for (let i = 0; i < 500; i++) file.addresses.addressesOf(`client ${i}`);
  await sleep(250);
  const first = readFileSync(path, "utf8");
  assert.equal(Object.keys(JSON.parse(first) as object).length, 500);
  file.addresses.addressesOf("client 7");
  file.close();
  assert.equal(readFileSync(path, "utf8"), first);
});

test("a file that cannot be written is reported, and written later", async (context) => {
  const path = join(temporaryDirectory(context), "devices.json");
  const errors: Error[] = [];
  const file = new AddressFile(path, seededRandom(1), (error) => errors.push(error));
  mkdirSync(`${path}.new`);
  file.addresses.addressesOf("client one");
  await sleep(20);
  assert.equal(errors.length, 1);
  assert.ok(!existsSync(path));
  rmdirSync(`${path}.new`);
  file.close();
  assert.ok(existsSync(path));
});
