import assert from "node:assert/strict";
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { clientDeviceId, DeviceIdError, externalId, gatewayDeviceId } from "../../src/programs/common/device-id.js";
import { displayName } from "../../src/programs/common/names.js";
import { temporaryDirectory } from "../support/temporary-directory.js";

const UUID_V4 = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

test("spec 05, 15.9: the first start makes a UUIDv4, the second reads it; the directory has mode 0770", (t) => {
  const path = join(temporaryDirectory(t), "lib", "config", "firezone-id.json");
  const id = clientDeviceId(undefined, path);
  assert.match(id, UUID_V4);
  assert.equal(readFileSync(path, "utf8"), JSON.stringify({ id }));
  assert.equal(statSync(dirname(path)).mode & 0o7777, 0o770);
  assert.equal(clientDeviceId(undefined, path), id);
  assert.equal(clientDeviceId("", path), id);
  assert.equal(clientDeviceId("given", path), "given");
  assert.deepEqual(readdirSync(dirname(path)), ["firezone-id.json"]);
});

test("spec 05, 6.3: the id of a file is used in lower case; an invalid or unreadable file is replaced", (t) => {
  const path = join(temporaryDirectory(t), "firezone-id.json");
  writeFileSync(path, '{"id":"0F0E0D0C-0B0A-4908-8706-050403020100"}');
  assert.equal(clientDeviceId(undefined, path), "0f0e0d0c-0b0a-4908-8706-050403020100");
  for (const invalid of ["", "{", "null", "[]", '{"id":7}', '{"id":"x"}', '"0f0e0d0c-0b0a-4908-8706-050403020100"']) {
    writeFileSync(path, invalid);
    const id = clientDeviceId(undefined, path);
    assert.match(id, UUID_V4, invalid);
    assert.equal(clientDeviceId(undefined, path), id);
  }
  // Root can read everything but this.
  rmSync(path);
  symlinkSync(path, path);
  assert.match(clientDeviceId(undefined, path), UUID_V4);
});

test("spec 05, 6.3: the id that a later version stored is not lost", (t) => {
  const path = join(temporaryDirectory(t), "firezone-id.json");
  const id = externalId("anything");
  writeFileSync(path, JSON.stringify({ id }));
  assert.equal(clientDeviceId(undefined, path), id);
});

test("spec 05, 15.10: the external id is the hexadecimal SHA-256 of the id's text as it is", () => {
  assert.equal(externalId("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  assert.notEqual(externalId("abc"), externalId("ABC"));
  assert.notEqual(externalId("abc"), externalId("abc\n"));
});

test("spec 05, 15.8: an empty id counts as absent; a gateway's made id is reused, and the file holds nothing else", (t) => {
  const path = join(temporaryDirectory(t), "firezone", "gateway_id");
  const id = gatewayDeviceId("", path);
  assert.match(id, UUID_V4);
  assert.equal(readFileSync(path, "utf8"), id);
  assert.equal(gatewayDeviceId(undefined, path), id);
  assert.equal(gatewayDeviceId("given", path), "given");
});

test("spec 05, 9.1: a gateway's id file is used verbatim; an empty one counts as absent", (t) => {
  const path = join(temporaryDirectory(t), "gateway_id");
  writeFileSync(path, " My Gateway\n");
  assert.equal(gatewayDeviceId(undefined, path), " My Gateway\n");
  writeFileSync(path, "");
  assert.match(gatewayDeviceId(undefined, path), UUID_V4);
});

test("spec 05, 9.1: an id that cannot be kept is an error that names the variable and the place", (t) => {
  const directory = temporaryDirectory(t);
  writeFileSync(join(directory, "file"), "");
  const path = join(directory, "file", "id");
  for (const make of [clientDeviceId, gatewayDeviceId])
    assert.throws(
      () => make(undefined, path),
      (error) =>
        error instanceof DeviceIdError && error.message.includes("FIREZONE_ID") && error.message.includes(path),
    );
  // Nothing stays behind when the last step fails.
  const taken = join(directory, "taken");
  mkdirSync(join(taken, "id", "x"), { recursive: true });
  assert.throws(() => clientDeviceId(undefined, join(taken, "id")), DeviceIdError);
  assert.deepEqual(readdirSync(taken), ["id"]);
});

test("spec 05, 1.5: the name is the one given, else the host's", () => {
  assert.equal(displayName("desk"), "desk");
  for (const absent of [undefined, "", " "]) assert.equal(displayName(absent), hostname());
});
