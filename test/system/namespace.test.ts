import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync, readlinkSync } from "node:fs";
import { describe, test } from "node:test";
import { NetworkNamespace } from "../../src/system/linux/namespace.js";
import { findLink, getLink } from "../../src/system/linux/rtnetlink/links.js";
import { labSkip } from "../support/lab-skip.js";

const own = () => readlinkSync("/proc/thread-self/ns/net");

describe("network namespaces", { skip: labSkip }, () => {
  test("have a loopback interface that is up and nothing else", () => {
    const namespace = NetworkNamespace.create();
    const netlink = namespace.netlink();
    assert.ok(getLink(netlink, "lo").up);
    assert.equal(findLink(netlink, 2), undefined);
    netlink.close();
    namespace.close();
  });

  test("are entered for the time of a call: programs, devices and kernel parameters are theirs", () => {
    const home = own();
    const namespace = NetworkNamespace.create();
    const [inside, ofChild, interfaces] = namespace.enter(() => [
      own(),
      spawnSync("readlink", ["/proc/self/ns/net"], { encoding: "utf8" }).stdout.trim(),
      readFileSync("/proc/thread-self/net/dev", "utf8").match(/\w+(?=:)/g),
    ]);
    assert.notEqual(inside, home);
    assert.equal(ofChild, inside);
    assert.deepEqual(interfaces, ["lo"]);
    assert.equal(own(), home);
    namespace.close();
  });

  test("are left again when what runs inside throws, and by nested calls one by one", () => {
    const home = own();
    const [outer, inner] = [NetworkNamespace.create(), NetworkNamespace.create()];
    assert.throws(
      () =>
        outer.enter(() => {
          throw new Error("inside");
        }),
      /inside/,
    );
    assert.equal(own(), home);
    outer.enter(() => {
      const before = own();
      assert.notEqual(inner.enter(own), before);
      assert.equal(own(), before);
    });
    assert.equal(own(), home);
    outer.close();
    inner.close();
  });

  test("do not take what continues later, outside", () => {
    const namespace = NetworkNamespace.create();
    assert.throws(() => namespace.enter(async () => undefined), /must not be asynchronous/);
    namespace.close();
  });

  test("are found by path, also by other programs", () => {
    const namespace = NetworkNamespace.create();
    const inside = namespace.enter(own);
    const again = NetworkNamespace.open(namespace.path);
    assert.equal(again.enter(own), inside);
    again.close();
    if (spawnSync("nsenter", ["--version"]).error === undefined) {
      const { stdout } = spawnSync("nsenter", [`--net=${namespace.path}`, "readlink", "/proc/self/ns/net"], {
        encoding: "utf8",
      });
      assert.equal(stdout.trim(), inside);
    }
    assert.throws(() => NetworkNamespace.open("/nonexistent"), { code: "ENOENT", message: /namespace \/nonexistent/ });
    namespace.close();
  });
});
